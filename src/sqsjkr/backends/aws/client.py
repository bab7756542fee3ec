"""Calls to AWS: each is signed, sent and retried, and ends with a dict or an error that says whether AWS has acted.

botocore finds the account (credentials.py), aiohttp the connections; docs/decisions/0003 gives the reasons.
Both services speak JSON: "Making Amazon SQS API requests in AWS JSON protocol", "DynamoDB low-level API".
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
import orjson
from aiohttp import hdrs
from multidict import istr
from yarl import URL

from sqsjkr import clock
from sqsjkr.backends.aws.credentials import Account
from sqsjkr.backends.aws.errors import (
    AWSError,
    AWSRefused,
    AWSUnavailable,
    Call,
    ConditionFailed,
    Remedy,
    garbled,
    lost,
    refused,
    remedy_for,
)
from sqsjkr.backends.aws.server_clock import ServerClock
from sqsjkr.backends.aws.signing import Keys, Signer
from sqsjkr.backends.aws.transport import proxy_for, tls_for
from sqsjkr.telemetry.requests import Requests

__all__ = ["AWS", "AWSError", "AWSRefused", "AWSUnavailable", "ConditionFailed"]

_TARGETS = {
    "sqs": "AmazonSQS.",
    "dynamodb": "DynamoDB_20120810.",
    "kms": "TrentService.",
    "secretsmanager": "secretsmanager.",
    "ssm": "AmazonSSM.",
}
_FIRST_PAUSE = 0.05  # seconds; doubled with every attempt
_LONGEST_PAUSE = 5.0
_CONNECTING = 0.6  # of the patience: a connection that takes longer fails, and is known to have carried nothing
_CONNECTIONS = 256
_OK = 200
_CRC = istr("x-amz-crc32")
_encode_anything = json.JSONEncoder(separators=(",", ":")).encode


@dataclass(frozen=True, slots=True)
class _Route:
    """Everything that all requests to one service at one address share."""

    service: str
    url: URL
    signer: Signer
    proxy: URL | None
    tls: Any


@dataclass(frozen=True, slots=True)
class _Request:
    """One request, as it is sent in every attempt. ``timeout`` is seconds for one attempt."""

    route: _Route
    operation: str
    payload: Mapping[str, object]
    body: bytes
    timeout: float

    @property
    def call(self) -> Call:
        return Call.of(self.route.service, self.operation, self.payload, str(self.route.url))


class AWS:
    """Calls to SQS and DynamoDB, to KMS, Secrets Manager and Systems Manager.

    ``profile`` and ``region`` as in ``Account``, unless there is an ``account``. ``patience`` is the seconds that one
    answer may take, connecting included and a long poll's own wait excluded. ``requests`` counts what is sent. Open it
    in the event loop that will make the calls, close it once.
    """

    def __init__(
        self,
        *,
        profile: str = "",
        region: str = "",
        account: Account | None = None,
        patience: float = 5.0,
        requests: Requests | None = None,
    ) -> None:
        self._account = account or Account(profile=profile, region=region, patience=patience)
        self.patience = patience
        self._requests = requests or Requests()
        self._http: aiohttp.ClientSession | None = None
        self._routes: dict[tuple[str, str | None], _Route] = {}
        self._clock = ServerClock()
        self._date = ""
        self._date_seconds = 0.0

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
                # Reading compressed answers costs more time than it saves, and x-amz-crc32 counts raw bytes.
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
        """The ARN of these credentials, for ``sqsjkr check``.

        Raises:
            BackendRefused: AWS rejects these credentials.
            BackendUnavailable: STS does not answer.
        """
        return await self._account.whoami()

    def server_offset(self) -> float:
        """AWS's clock minus this host's wall clock, in seconds; 0.0 before the first answer.

        At most about half a second off after one answer, and a round trip off after some more.
        """
        return self._clock.offset(monotonic=clock.now(), wall=time.time())

    async def call(
        self,
        service: str,
        operation: str,
        payload: Mapping[str, object],
        *,
        timeout: float | None = None,
        waiting: float = 0.0,
        attempts: int = 4,
        endpoint: str | None = None,
    ) -> dict[str, Any]:
        """Send ``payload`` to ``operation`` of a service ("sqs", "dynamodb", "kms", ...) and return the answer.

        ``timeout`` is seconds for one attempt, connecting and reading included; None for the patience of this
        object. ``waiting`` is added to it: the seconds that a long poll waits by itself. A call that fails for a
        passing cause is attempted ``attempts`` times in all, after pauses with full jitter (AWS: "Retry behavior";
        "Timeouts, retries, and backoff with jitter"). At most two more attempts follow at once, since AWS has not
        acted: one after it found our clock wrong, one after it found the credentials expired. ``endpoint`` is an
        address to use instead of the service's own. Cancelling closes the connection, which ends a long poll at AWS.

        Raises:
            AWSUnavailable: no answer, throttled, or a server error, in every attempt.
            ConditionFailed: DynamoDB's condition does not hold.
            AWSRefused: AWS refused the call for any other reason.
            BackendUnavailable: the credentials have expired and could not be renewed.
        """
        route = self._routes.get((service, endpoint)) or self._add_route(service, endpoint)
        seconds = (self.patience if timeout is None else timeout) + waiting
        request = _Request(route, operation, payload, _encoded(payload), seconds)
        applied: set[Remedy] = set()
        ambiguous = False
        failed = 0
        while True:
            keys = await self._account.keys()
            try:
                with self._requests.one(service, operation, timed=not waiting):
                    return await self._exchange(request, keys)
            except AWSError as error:
                error.ambiguous_before = ambiguous
                ambiguous = ambiguous or error.ambiguous
                if await self._remedied(error, keys, applied):
                    continue
                failed += 1
                if failed >= attempts or not isinstance(error, AWSUnavailable):
                    raise
            await asyncio.sleep(random.uniform(0, min(_LONGEST_PAUSE, _FIRST_PAUSE * 2 ** (failed - 1))))  # noqa: S311

    async def _exchange(self, request: _Request, keys: Keys) -> dict[str, Any]:
        if self._http is None:
            raise RuntimeError("AWS is called before open()")
        route, body, sent = request.route, request.body, clock.now()
        now = time.time() + self.server_offset()
        headers = route.signer.headers(keys, _TARGETS[route.service] + request.operation, body, now)
        try:
            async with self._http.post(
                route.url,
                data=body,
                headers=headers,
                timeout=_timeouts(request.timeout, self.patience * _CONNECTING),
                allow_redirects=False,
                proxy=route.proxy,
                ssl=route.tls,
            ) as answer:
                received = clock.now()
                raw = await answer.read()
        except (aiohttp.ClientError, OSError) as error:  # OSError: TimeoutError is one
            raise lost(request.call, error, request.timeout) from error
        self._observe(answer.headers.get(hdrs.DATE, ""), sent, received)
        crc = answer.headers.get(_CRC)
        if crc is not None and crc != str(zlib.crc32(raw)):
            raise garbled(request.call, answer.status, "its checksum is wrong")
        if answer.status != _OK:
            raise refused(request.call, answer.status, raw)
        return _decoded(raw, request)

    async def _remedied(self, error: AWSError, keys: Keys, applied: set[Remedy]) -> bool:
        """Whether the cause of ``error`` is gone, so that the same call may succeed at once."""
        remedy = remedy_for(error)
        if remedy is None or remedy in applied:
            return False
        applied.add(remedy)
        return remedy is Remedy.CLOCK or await self._account.replace(keys)  # the answer's Date has set the clock

    def _observe(self, date: str, sent: float, received: float) -> None:
        if date != self._date:  # parsing costs as much as signing, and a second's answers have the same header
            try:
                self._date_seconds = parsedate_to_datetime(date).timestamp()
            except ValueError:
                return
            self._date = date
        if self._date:
            self._clock.observe(self._date_seconds, sent=sent, received=received)

    def _add_route(self, service: str, endpoint: str | None) -> _Route:
        found = self._account.endpoint(service)
        url = URL(endpoint or found.url)
        signer = Signer(service=service, region=found.region, host=url.host_port_subcomponent or "", path=url.raw_path)
        tls = tls_for(*self._account.certificates) if url.scheme == "https" else True
        route = _Route(service, url, signer, proxy_for(url), tls)
        self._routes[service, endpoint] = route
        return route


@lru_cache
def _timeouts(seconds: float, connecting: float) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=seconds, sock_connect=min(seconds, connecting))


def _encoded(payload: Mapping[str, object]) -> bytes:
    try:
        return orjson.dumps(payload)
    except TypeError:  # half a surrogate pair, which JSON can say and UTF-8 can't
        return _encode_anything(payload).encode()


def _decoded(raw: bytes, request: _Request) -> dict[str, Any]:
    if not raw:  # SQS answers DeleteMessage with an empty body
        return {}
    try:
        answer = orjson.loads(raw)
    except ValueError:
        try:
            answer = json.loads(raw)  # the same, in a message that must not make all those beside it unreadable
        except ValueError:
            answer = None
    if not isinstance(answer, dict):
        raise garbled(request.call, _OK, "not a JSON object")
    return answer
