"""Who may use the page: the browser that was given the token, at a loopback address, from the page's own forms.

The page acts with its operator's rights, and other users of the host can reach its port. Three checks keep them, and
other sites in the operator's own browser, out:

- The token in the URL that ``sqsjkr web`` prints becomes a cookie that no script and no other site can use.
- The ``Host`` header must be a loopback name, or a site could let its own name point here (DNS rebinding).
- What changes anything is a POST that the browser says comes from this page (``Sec-Fetch-Site``, W3C "Fetch Metadata
  Request Headers"), or whose ``Origin`` is this page.
"""

from __future__ import annotations

import hmac
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass

_LOOPBACK = re.compile(r"(localhost|127(\.\d{1,3}){3}|\[::1\])(:\d{1,5})?", re.IGNORECASE)

HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    # Not "no-referrer": with that, a browser sends "Origin: null" with this page's own forms.
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
"""On every answer. Nothing is inline, nothing comes from elsewhere, nobody may frame it."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is not answered."""

    status: int
    reason: str


class Door:
    """Lets requests in, or says why not. ``port`` names the cookie: cookies are shared by all ports of a host."""

    def __init__(self, port: int, *, token: str = "") -> None:
        self.token = token or secrets.token_urlsafe(32)
        self.cookie = f"sqsjkr_{port}"
        self._session = secrets.token_urlsafe(32)

    @property
    def cookie_value(self) -> str:
        """What the browser gets for the token. Not the token itself: that one may be in a browser's history."""
        return self._session

    def opens(self, token: str) -> bool:
        """Whether this is the token."""
        return hmac.compare_digest(token.encode(), self.token.encode())

    def refusal(
        self, method: str, headers: Mapping[str, str], cookies: Mapping[str, str], *, public: bool = False
    ) -> Refusal | None:
        """Say why this request is refused; None if it may come in. What is ``public`` needs no cookie."""
        host = headers.get("Host", "")
        if not _LOOPBACK.fullmatch(host):
            return Refusal(421, "this page answers at a loopback address only, such as 127.0.0.1 or localhost")
        if public:
            return None
        if not hmac.compare_digest(cookies.get(self.cookie, "").encode(), self._session.encode()):
            return Refusal(403, "open the address that sqsjkr web printed: its token lets this browser in")
        if method not in {"GET", "HEAD"} and not _is_from_here(headers, host):
            return Refusal(403, "this did not come from the page itself")
        return None


def _is_from_here(headers: Mapping[str, str], host: str) -> bool:
    """Whether the browser vouches for the page as the origin of a request that changes something."""
    site = headers.get("Sec-Fetch-Site")
    if site is not None:
        return site == "same-origin"
    return headers.get("Origin", "").lower() == f"http://{host}".lower()
