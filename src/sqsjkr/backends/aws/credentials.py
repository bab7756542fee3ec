"""The operator's AWS account, as botocore finds it: credentials, region, endpoints.

botocore itself works in a process of its own (``lookup.py``). Nothing in this module waits inside the event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqsjkr import clock
from sqsjkr.backends.aws.lookup import Lookup
from sqsjkr.backends.aws.signing import Keys
from sqsjkr.errors import BackendRefused, BackendUnavailable

_LOOK_EVERY = 1.0  # seconds between two looks at the expiry
_RENEW_BEFORE = 900.0  # seconds before the expiry from which on keys are renewed: botocore's advisory window
_LAST_MOMENT = 60.0  # seconds before the expiry from which on a request waits for new keys
_RENEW_EVERY = 30.0  # seconds between two renewals: EC2 hands out the old keys until shortly before they expire
_RETRY_EVERY = 5.0  # seconds between two renewals when one failed
_REPLACE_EVERY = 10.0  # seconds between two replacements of keys that AWS refuses: wrong keys stay wrong
_WAITING = 0.6  # of the patience: a beat that waits longer for credentials would end the worker's locked jobs
_NO_CREDENTIALS = "cannot get AWS credentials"
_GET_CALLER_IDENTITY = "sts:GetCallerIdentity"


class _Keys(NamedTuple):
    """As ``signing.Keys``; two sets with the same content are equal."""

    access_key: str
    secret_key: str
    token: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where a service is. ``region`` is the one to sign for; ``custom`` says that an operator chose the address."""

    url: str
    region: str
    custom: bool


class Certificates(NamedTuple):
    """Files of certificates. ``bundle`` is AWS_CA_BUNDLE or the profile's; empty for the system's.

    ``fallback`` comes with botocore, for a system that has none.
    """

    bundle: str
    fallback: str


class _Found(NamedTuple):
    """What a lookup found. ``expires`` is seconds since 1970, infinity for keys that last."""

    keys: _Keys
    expires: float
    region: str
    endpoints: Mapping[str, Mapping[str, Any]]
    certificates: Certificates

    def good_for(self) -> float:
        """Seconds for which the keys are still good."""
        return self.expires - time.time()


class Account:
    """The operator's account: keys that are valid now, the region, the services' addresses.

    ``profile`` and ``region`` override the environment and the shared files when they are not empty. An explicit
    profile also overrules keys in the environment, as with AWS's own tools. ``region`` falls back to AWS_REGION,
    then to AWS_DEFAULT_REGION and the profile.

    Keys that expire are renewed from botocore's advisory window on (15 minutes before), while requests go on with the
    old ones; only in the last minute does a request wait, for three fifths of ``patience`` (seconds) at most. A renewal
    reads all settings anew. A source that hangs holds up neither the loop nor a stop.
    """

    def __init__(self, *, profile: str = "", region: str = "", patience: float = 5.0) -> None:
        self._profile = profile
        self._patience = patience * _WAITING
        self.region = region
        self._begun: Lookup | None = None
        self._found: _Found | None = None
        self._look_at = 0.0
        self._renewal: asyncio.Task[None] | None = None
        self._renew_at = 0.0
        self._replace_at = 0.0
        self._trouble: BackendUnavailable | None = None

    def begin(self) -> None:
        """Start to look for what ``open`` waits for, while the caller does something else. Needs no event loop."""
        with contextlib.suppress(BackendUnavailable):  # open tries again, and says why it fails
            self._begun = self._begun or _lookup(self._profile, self.region)

    async def open(self) -> None:
        """Find the keys and the region.

        Raises:
            BackendRefused: there are none, or the shared files are wrong; the text names places and next step.
            BackendUnavailable: the source of the keys does not answer, or the host cannot start a process.
        """
        lookup, self._begun = self._begun or _lookup(self._profile, self.region), None
        self._found = _found(await lookup.answer())
        self.region = self._found.region

    async def close(self) -> None:
        """End a lookup that is under way."""
        lookup, self._begun = self._begun, None
        if lookup is not None:
            await lookup.end()
        if self._renewal is not None:
            self._renewal.cancel()
            await asyncio.wait([self._renewal])

    async def keys(self) -> Keys:
        """Keys to sign with now. Cheap: looks nothing up unless they are about to expire.

        Raises:
            BackendUnavailable: they have expired and could not be renewed.
        """
        if clock.now() >= self._look_at:
            await self._look()
        return self._opened().keys

    async def replace(self, refused: Keys) -> bool:
        """AWS refused these keys: look everything up again. True if there are others now (a file was changed, say)."""
        if self._opened().keys == refused and clock.now() >= self._replace_at:
            self._replace_at = clock.now() + _REPLACE_EVERY
            await self._renew(self._patience)
        return self._opened().keys != refused

    def endpoint(self, service: str) -> Endpoint:
        """Where ``service`` (sqs, dynamodb, sts, kms, secretsmanager, ssm) is, by environment, profile and AWS's rules.

        Raises:
            BackendRefused: the settings contradict each other or name something that is not there.
        """
        found = self._opened().endpoints[service]
        if "error" in found:
            raise BackendRefused(found["error"])
        return Endpoint(url=found["url"], region=found["region"], custom=found["custom"])

    @property
    def certificates(self) -> Certificates:
        """Which certificates to trust."""
        return self._opened().certificates

    async def whoami(self) -> str:
        """The ARN of these credentials (sts:GetCallerIdentity). May take 20 seconds; not for the hot path.

        Raises:
            BackendRefused: AWS rejects these keys.
            BackendUnavailable: STS does not answer.
        """
        keys = self._opened().keys._asdict()
        lookup = Lookup(_GET_CALLER_IDENTITY, task="identity", profile=self._profile, region=self.region, keys=keys)
        return str((await lookup.answer())["arn"])

    def _opened(self) -> _Found:
        if self._found is None:
            raise RuntimeError("the AWS account is used before open()")
        return self._found

    async def _look(self) -> None:
        now, good_for = clock.now(), self._opened().good_for()
        if good_for < _LAST_MOMENT:
            if self._renewal is not None or now >= self._renew_at:
                await self._renew(self._patience)
            if self._opened().good_for() < 0:
                why = self._trouble or "their source does not answer"
                raise BackendUnavailable(f"the AWS credentials have expired: {why}") from self._trouble
        elif good_for < _RENEW_BEFORE and now >= self._renew_at and self._renewal is None:
            await self._renew(0)
        self._look_at = now + _LOOK_EVERY

    async def _renew(self, patience: float) -> None:
        """Wait so many seconds for the renewal under way, or for a new one. It goes on when a caller gives up."""
        self._renewal = self._renewal or asyncio.create_task(self._fetch())
        await asyncio.wait([self._renewal], timeout=patience)

    async def _fetch(self) -> None:
        try:
            self._found = _found(await _lookup(self._profile, self.region).answer())
        except BackendUnavailable as error:
            self._trouble = error
        else:
            self._trouble = None
        finally:
            self._renew_at = clock.now() + (_RENEW_EVERY if self._trouble is None else _RETRY_EVERY)
            self._renewal = None


def _lookup(profile: str, region: str) -> Lookup:
    return Lookup(_NO_CREDENTIALS, task="account", profile=profile, region=region)


def _found(answer: Mapping[str, Any]) -> _Found:
    try:
        expires = answer["expires"]
        return _Found(
            keys=_Keys(**answer["keys"]),
            expires=float("inf") if expires is None else expires,
            region=answer["region"],
            endpoints=answer["endpoints"],
            certificates=Certificates(**answer["certificates"]),
        )
    except (KeyError, TypeError) as error:
        why = "the answer is another version's: sqsjkr was updated while it ran; restart it"
        raise BackendUnavailable(f"{_NO_CREDENTIALS}: {why}") from error
