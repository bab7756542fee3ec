"""The AWS wire: one call, signed, sent, retried, and answered with a dict or with an error that says what is sure.

botocore knows the account (credentials.py), aiohttp the connection; docs/decisions/0003 says why nothing else is
here. Both services speak JSON: "Making Amazon SQS API requests in AWS JSON protocol", "DynamoDB low-level API".
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import json
import random
import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Any

import aiohttp
from aiohttp import hdrs
from multidict import istr
from yarl import URL

from sqsjkr.backends.aws.credentials import Account
from sqsjkr.backends.aws.errors import (
    Ailment,
    AWSError,
    AWSRefused,
    AWSUnavailable,
    ConditionFailed,
    ailment,
    garbled,
    lost,
    refused,
)
from sqsjkr.backends.aws.signing import Keys, Signer
from sqsjkr.backends.aws.transport import proxy_for, tls_for

__all__ = ["AWS", "AWSError", "AWSRefused", "AWSUnavailable", "ConditionFailed"]

_TARGETS = {"sqs": "AmazonSQS.", "dynamodb": "DynamoDB_20120810."}
_FIRST_PAUSE = 0.05  # seconds; doubled with every attempt
_LONGEST_PAUSE = 5.0
_CONNECT_WITHIN = 3.0  # seconds: a connection that takes longer fails, and is known to have carried nothing
_CLOCKS_AGREE = 2.0  # seconds: less than this is the Date header's own coarseness
_CONNECTIONS = 256
_OK = 200
_CRC = istr("x-amz-crc32")
_encode = json.JSONEncoder(separators=(",", ":")).encode


@dataclass(frozen=True, slots=True)
class _Route:
    """All that is the same for every request to one service at one address."""

    service: str
    url: URL
    signer: Signer
    proxy: URL | None
    tls: Any


class AWS:
    """Calls to SQS and DynamoDB.

    ``profile`` and ``region`` as in ``Account``. Open it in the event loop that will make the calls, close it once.
    """

    def __init__(self, *, profile: str = "", region: str = "") -> None:
        self._account = Account(profile=profile, region=region)
        self._http: aiohttp.ClientSession | None = None
        self._routes: dict[tuple[str, str | None], _Route] = {}
        self._offset = 0.0
        self._date = ""

    @property
    def region(self) -> str:
        """The region, once ``open`` has found it."""
        return self._account.region

    async def open(self) -> None:
        """Find the credentials and the region; no connection is made yet.

        Raises:
            BackendRefused: no credentials, no region, or no such profile; the text says what to do.
            BackendUnavailable: the source of the credentials does not answer.
        """
        await self._account.open()
        # Not trust_env: aiohttp would then read the environment and ~/.netrc in two threads for every request.
        self._http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=_CONNECTIONS),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={
                # Compressed answers would be cheaper to carry, but dearer to read, and x-amz-crc32 counts raw bytes.
                hdrs.ACCEPT_ENCODING: "identity",
                hdrs.USER_AGENT: f"sqsjkr/{importlib.metadata.version('sqsjkr')}",
            },
        )

    async def close(self) -> None:
        """End all connections; calls that are under way fail. Does nothing if it was never opened."""
        await self._account.close()
        if self._http is not None:
            await self._http.close()

    def endpoint(self, service: str) -> str:
        """The address of ``service`` ("sqs", "dynamodb" or "sts").

        Raises:
            BackendRefused: the settings that choose it contradict each other.
        """
        return self._account.endpoint(service).url

    def has_custom_endpoint(self, service: str) -> bool:
        """Whether an operator chose the address (AWS_ENDPOINT_URL and the like), not AWS's rules for the region."""
        return self._account.endpoint(service).custom

    async def whoami(self) -> str:
        """The ARN that AWS knows us by, for ``sqsjkr check``.

        Raises:
            BackendRefused: AWS does not know these credentials.
            BackendUnavailable: STS does not answer.
        """
        return await self._account.whoami()

    def server_offset(self) -> float:
        """AWS's clock minus this host's wall clock, in seconds, by the newest answer; 0.0 if less than 2 or unknown."""
        return self._offset

    async def call(
        self,
        service: str,
        operation: str,
        payload: Mapping[str, object],
        *,
        timeout: float = 5.0,
        attempts: int = 4,
        endpoint: str | None = None,
    ) -> dict[str, Any]:
        """Send ``payload`` to ``operation`` of "sqs" or "dynamodb" and return the answer.

        ``timeout`` is seconds for one attempt, connecting and reading included. What may pass is tried
        ``attempts`` times in all, after pauses with full jitter (AWS: "Retry behavior"; "Timeouts, retries, and
        backoff with jitter"). On top of these come at most two that follow at once, since AWS has not acted: one when
        it found our clock wrong, one when it found the credentials expired. ``endpoint`` is an address to use instead
        of the service's own. Cancelling ends the connection with it, so a long poll that is cut off ends at AWS too.

        Raises:
            AWSUnavailable: no answer, throttled, or a server's error, in every attempt.
            ConditionFailed: DynamoDB's condition does not hold.
            AWSRefused: any other no.
            BackendUnavailable: the credentials have expired and their source does not answer.
        """
        route = self._routes.get((service, endpoint)) or self._add_route(service, endpoint)
        body = _encode(payload).encode()
        cured: set[Ailment] = set()
        ambiguous = False
        failed = 0
        while True:
            keys = await self._account.keys()
            try:
                return await self._exchange(route, operation, body, keys, timeout)
            except AWSError as error:
                error.ambiguous_before = ambiguous
                ambiguous = ambiguous or error.ambiguous
                if await self._cure(error, keys, cured):
                    continue
                failed += 1
                if failed >= attempts or not isinstance(error, AWSUnavailable):
                    raise
            await asyncio.sleep(random.uniform(0, min(_LONGEST_PAUSE, _FIRST_PAUSE * 2 ** (failed - 1))))  # noqa: S311

    async def _exchange(self, route: _Route, operation: str, body: bytes, keys: Keys, timeout: float) -> dict[str, Any]:
        if self._http is None:
            raise RuntimeError("AWS is called before open()")
        headers = route.signer.headers(keys, _TARGETS[route.service] + operation, body, time.time() + self._offset)
        try:
            async with self._http.post(
                route.url,
                data=body,
                headers=headers,
                timeout=_timeouts(timeout),
                allow_redirects=False,
                proxy=route.proxy,
                ssl=route.tls,
            ) as answer:
                raw = await answer.read()
        except (aiohttp.ClientError, OSError) as error:  # OSError: TimeoutError is one
            raise lost(f"{route.service} {operation}", str(route.url), error, timeout) from error
        self._learn_the_time(answer.headers.get(hdrs.DATE, ""))
        crc = answer.headers.get(_CRC)
        if crc is not None and crc != str(zlib.crc32(raw)):
            raise garbled(f"{route.service} {operation}", str(route.url), answer.status, "its checksum is wrong")
        if answer.status != _OK:
            raise refused(f"{route.service} {operation}", str(route.url), answer.status, raw)
        return _decoded(raw, route, operation)

    async def _cure(self, error: AWSError, keys: Keys, cured: set[Ailment]) -> bool:
        """Whether the reason for ``error`` is gone, so that the same call may succeed at once."""
        what = ailment(error)
        if what is None or what in cured:
            return False
        cured.add(what)
        return what is Ailment.CLOCK or await self._account.replace(keys)  # the answer's Date has set the clock

    def _learn_the_time(self, date: str) -> None:
        if date == self._date:  # a header of this second again: parsing it would cost as much as signing
            return
        self._date = date
        try:
            theirs = parsedate_to_datetime(date).timestamp() + 0.5  # Date has whole seconds: half of one on average
        except ValueError:
            return
        offset = theirs - time.time()
        self._offset = offset if abs(offset) > _CLOCKS_AGREE else 0.0

    def _add_route(self, service: str, endpoint: str | None) -> _Route:
        found = self._account.endpoint(service)
        url = URL(endpoint or found.url)
        signer = Signer(service=service, region=found.region, host=url.host_port_subcomponent or "", path=url.raw_path)
        tls = tls_for(self._account.ca_bundle) if url.scheme == "https" else True
        route = _Route(service, url, signer, proxy_for(url), tls)
        self._routes[service, endpoint] = route
        return route


@lru_cache
def _timeouts(seconds: float) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=seconds, sock_connect=min(seconds, _CONNECT_WITHIN))


def _decoded(raw: bytes, route: _Route, operation: str) -> dict[str, Any]:
    if not raw:  # SQS says nothing where there is nothing to say (DeleteMessage)
        return {}
    try:
        answer = json.loads(raw)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise garbled(f"{route.service} {operation}", str(route.url), _OK, "it is no JSON object")
    return answer
