"""Who may use the page: the browser that was given the token, at a loopback address, from the page's own forms.

The page acts with its operator's rights, and other users of the host can reach its port. Four checks keep them, and
other sites in the operator's own browser, out:

- The token in the URL that ``sqsjkr web`` prints becomes a cookie that no script and no other site can use.
- The ``Host`` header must be a loopback name, or a site could let its own name point here (DNS rebinding).
- What another site's page embeds or fetches is refused (``Sec-Fetch-Site``, ``Sec-Fetch-Mode``).
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
    no_cookie: bool = False
    """The browser may have the cookie, and keep it back: an address that another site links to is opened without it."""


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
        return _are_equal(token, self.token)

    def refusal(
        self, method: str, headers: Mapping[str, str], cookies: Mapping[str, str], *, public: bool = False
    ) -> Refusal | None:
        """Say why this request is refused; None if it may come in. What is ``public`` needs no cookie."""
        host = headers.get("Host", "")
        if not _LOOPBACK.fullmatch(host):
            return Refusal(421, "this page answers at a loopback address only, such as 127.0.0.1 or localhost")
        if public:
            return None
        if not _are_equal(cookies.get(self.cookie, ""), self._session):
            why = "open the address that sqsjkr web printed: its token lets this browser in"
            return Refusal(403, why, no_cookie=True)
        if method not in {"GET", "HEAD"}:
            return None if _is_from_here(headers, host) else Refusal(403, "this did not come from the page itself")
        if _is_embedded(headers):
            return Refusal(403, "another site wants to embed this page")
        return None


def _are_equal(given: str, secret: str) -> bool:
    """Compare in a time that says nothing of where they differ. What is given may hold bytes that are no text."""
    return hmac.compare_digest(given.encode(errors="surrogatepass"), secret.encode())


def _is_embedded(headers: Mapping[str, str]) -> bool:
    """Whether a page of another origin asks for this as a part of itself: an image, a script, a frame, by ``fetch``.

    Its browser would not let it read the answer, but how long it took, and that a look hides dead letters for a moment.
    """
    site = headers.get("Sec-Fetch-Site", "none")
    top = headers.get("Sec-Fetch-Mode") == "navigate" and headers.get("Sec-Fetch-Dest", "document") == "document"
    return site not in {"none", "same-origin"} and not top


def _is_from_here(headers: Mapping[str, str], host: str) -> bool:
    """Whether the browser vouches for the page as the origin of a request that changes something."""
    site = headers.get("Sec-Fetch-Site")
    if site is not None:
        return site == "same-origin"
    return headers.get("Origin", "").lower() == f"http://{host}".lower()
