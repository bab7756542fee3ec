"""Signature Version 4 for the one kind of request this daemon makes: a JSON document, posted to one service.

Source of the rules: "Create a signed AWS API request" (IAM User Guide). botocore signs the same request with the
same bytes, ten times as slowly: it derives the key anew each time and must be ready for every service there is.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import time
from typing import NamedTuple, Protocol
from urllib.parse import quote

_VERSION = {"sqs": "1.0", "dynamodb": "1.0"}
"""The version of Amazon's JSON protocol that a service speaks; that of all others is 1.1 (botocore's models)."""
_ALGORITHM = "AWS4-HMAC-SHA256"


class Keys(Protocol):
    """One set of credentials, as botocore's frozen credentials have them. ``token`` is None for a user's own keys."""

    @property
    def access_key(self) -> str:
        """The public half."""

    @property
    def secret_key(self) -> str:
        """The secret half."""

    @property
    def token(self) -> str | None:
        """The session token of temporary credentials."""


class _Day(NamedTuple):
    """What stays the same for a whole day of one secret."""

    secret: str
    date: str
    key: bytes


class Signer:
    """Signs requests for one service at one address.

    ``host`` is the Host header as it will be sent (with the port, unless it is the scheme's own).
    Keeps the derived key of the day and the time stamp of the second, so it serves one event loop, not many threads.
    """

    def __init__(self, *, service: str, region: str, host: str, path: str = "/") -> None:
        self._service = service
        self._region = region
        self._content_type = f"application/x-amz-json-{_VERSION.get(service, '1.1')}"
        canonical = quote(re.sub("/+", "/", path or "/"), safe="/~")
        self._top = f"POST\n{canonical}\n\ncontent-type:{self._content_type}\nhost:{host}\nx-amz-date:"
        self._day = _Day("", "", b"")
        self._second = -1
        self._stamp = ""

    def headers(self, keys: Keys, target: str, body: bytes, at: float) -> dict[str, str]:
        """The headers that make ``body`` a request for ``target`` (``AmazonSQS.SendMessage``), signed by ``keys``.

        ``at`` is the time in seconds since 1970 by AWS's clock: it refuses what is more than a few minutes off.
        """
        stamp = self._stamp_of(int(at))
        date = stamp[:8]
        if self._day.secret != keys.secret_key or self._day.date != date:
            self._day = _Day(keys.secret_key, date, self._derive(keys.secret_key, date))
        headers = {"Content-Type": self._content_type, "X-Amz-Target": target, "X-Amz-Date": stamp}
        if keys.token:
            headers["X-Amz-Security-Token"] = keys.token
            token, signed = (
                f"x-amz-security-token:{' '.join(keys.token.split())}\n",
                "content-type;host;x-amz-date;x-amz-security-token;x-amz-target",
            )
        else:
            token, signed = "", "content-type;host;x-amz-date;x-amz-target"
        body_hash = hashlib.sha256(body).hexdigest()
        request = f"{self._top}{stamp}\n{token}x-amz-target:{target}\n\n{signed}\n{body_hash}"
        scope = f"{date}/{self._region}/{self._service}/aws4_request"
        request_hash = hashlib.sha256(request.encode()).hexdigest()
        to_sign = f"{_ALGORITHM}\n{stamp}\n{scope}\n{request_hash}"
        signature = hmac.digest(self._day.key, to_sign.encode(), "sha256").hex()
        headers["Authorization"] = (
            f"{_ALGORITHM} Credential={keys.access_key}/{scope}, SignedHeaders={signed}, Signature={signature}"
        )
        return headers

    def _stamp_of(self, second: int) -> str:
        if second != self._second:
            self._second = second
            self._stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(second))
        return self._stamp

    def _derive(self, secret: str, date: str) -> bytes:
        key = f"AWS4{secret}".encode()
        for part in (date, self._region, self._service, "aws4_request"):
            key = hmac.digest(key, part.encode(), "sha256")
        return key
