"""How to get to an address from this host: through which proxy, and whose certificates to trust."""

from __future__ import annotations

import os
import ssl
from urllib.request import getproxies, proxy_bypass

from yarl import URL

from sqsjkr.errors import BackendRefused


def proxy_for(url: URL) -> URL | None:
    """The proxy to use for ``url``, by HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY (either case); None for none."""
    if proxy_bypass(url.authority):
        return None
    proxies = getproxies()
    proxy = proxies.get(url.scheme) or proxies.get("all")
    if not proxy:
        return None
    return URL(proxy if "://" in proxy else f"http://{proxy}")


def tls_for(ca_bundle: str, fallback: str) -> ssl.SSLContext | bool:
    """What aiohttp is to check a server against: ``ca_bundle`` (AWS_CA_BUNDLE), else the system's certificates.

    The system's are what the Go original trusts, and SSL_CERT_FILE and SSL_CERT_DIR choose others. A system that has
    none gets those in the file ``fallback``.

    Raises:
        BackendRefused: the file cannot be read.
    """
    if not ca_bundle and _system_has_certificates():
        return True
    path = ca_bundle or fallback
    try:
        return ssl.create_default_context(cafile=path)
    except OSError as error:  # ssl.SSLError is one
        raise BackendRefused(
            f"AWS_CA_BUNDLE or ca_bundle = {path!r}: expected a file of certificates: {error}"
        ) from error


def _system_has_certificates() -> bool:
    paths = ssl.get_default_verify_paths()
    return bool(paths.cafile) or bool(paths.capath and any(os.scandir(paths.capath)))
