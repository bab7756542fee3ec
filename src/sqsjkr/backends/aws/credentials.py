"""The operator's AWS account, as botocore finds it: credentials, region, endpoints.

Every source that AWS's own tools read is read here, by botocore itself (environment, shared files, profiles, assumed
roles, web identity, SSO, processes, ECS, EC2), in its order. Nothing in this module waits inside the event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, TypeVar

from botocore.config import Config
from botocore.configprovider import ConfiguredEndpointProvider
from botocore.credentials import RefreshableCredentials
from botocore.endpoint_provider import EndpointProvider
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    EndpointResolutionError,
    InvalidRegionError,
    ProfileNotFound,
)
from botocore.session import Session
from botocore.utils import validate_region_name

from sqsjkr import clock
from sqsjkr.backends.aws.botocore_errors import explained, shorten_logs
from sqsjkr.backends.aws.errors import Call
from sqsjkr.backends.aws.signing import Keys
from sqsjkr.errors import BackendRefused, BackendUnavailable

_LOOK_EVERY = 1.0  # seconds between two looks at the expiry: a look costs as much as a tenth of a request
_LAST_MOMENT = 60.0  # seconds before the expiry from which on a request waits for new keys
_RENEW_EVERY = 30.0  # seconds between two renewals: EC2 hands out the old keys until shortly before they expire
_RETRY_EVERY = 5.0  # seconds between two renewals when one failed
_REPLACE_EVERY = 10.0  # seconds between two replacements of keys that AWS refuses: wrong keys stay wrong
_NO_CREDENTIALS = "cannot get AWS credentials"
_BROKEN = (BotoCoreError, ClientError, OSError, ValueError, KeyError, RuntimeError)  # everything a source can raise

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where a service is. ``region`` is the one to sign for; ``custom`` says that an operator chose the address."""

    url: str
    region: str
    custom: bool


class _Found(NamedTuple):
    session: Any
    credentials: Any
    keys: Keys


class Account:
    """The operator's account: keys that are valid now, the region, the services' addresses.

    ``profile`` and ``region`` override the environment and the shared files when they are not empty. An explicit
    profile also overrules keys in the environment, as with AWS's own tools. ``region`` falls back to AWS_REGION,
    then to AWS_DEFAULT_REGION and the profile.

    Keys that expire are renewed from botocore's advisory window on (15 minutes before), while requests go on with the
    old ones; only in the last minute does a request wait, for ``patience`` seconds at most. A source that hangs holds
    up neither the loop nor a stop.
    """

    def __init__(self, *, profile: str = "", region: str = "", patience: float = 3.0) -> None:
        shorten_logs()
        self._profile = profile
        self._patience = patience
        self.region = region
        self._found: _Found | None = None
        self._endpoints: dict[str, Endpoint] = {}
        self._look_at = 0.0
        self._renewal: asyncio.Task[None] | None = None
        self._renew_at = 0.0
        self._replace_at = 0.0
        self._trouble: BackendUnavailable | None = None

    async def open(self) -> None:
        """Find the keys and the region.

        Raises:
            BackendRefused: there are none, or the shared files are wrong; the text names places and next step.
            BackendUnavailable: the source of the keys does not answer.
        """
        self._found = await _in_thread(partial(_resolve, self._profile, self.region))
        self.region = self._found.session.get_config_variable("region")

    async def close(self) -> None:
        """Cancel a renewal that is under way."""
        if self._renewal is not None:
            self._renewal.cancel()
            await asyncio.wait([self._renewal])

    async def keys(self) -> Keys:
        """Keys to sign with now. Cheap: reads no source unless they are about to expire.

        Raises:
            BackendUnavailable: they have expired and could not be renewed.
        """
        if clock.now() >= self._look_at:
            await self._look()
        return self._opened().keys

    async def replace(self, refused: Keys) -> bool:
        """AWS refused these keys: look everything up again. True if there are others now (a file was changed, say)."""
        if self._opened().keys is refused and clock.now() >= self._replace_at:
            self._replace_at = clock.now() + _REPLACE_EVERY
            await self._renew(partial(_resolve, self._profile, self.region))
        return self._opened().keys != refused

    def endpoint(self, service: str) -> Endpoint:
        """Where ``service`` (sqs, dynamodb, sts) is, by environment, profile and botocore's rules for the region.

        Raises:
            BackendRefused: the settings contradict each other or name something that is not there.
        """
        if service not in self._endpoints:
            try:
                self._endpoints[service] = _find_endpoint(self._opened().session, self.region, service)
            except (BotoCoreError, EndpointResolutionError) as error:
                raise BackendRefused(f"no address for {service} in region {self.region!r}: {error}") from error
        return self._endpoints[service]

    @property
    def ca_bundle(self) -> str:
        """The file of certificates to trust, from AWS_CA_BUNDLE or the profile; empty for the system's."""
        return self._opened().session.get_config_variable("ca_bundle") or ""

    async def whoami(self) -> str:
        """The ARN of these credentials (sts:GetCallerIdentity). May take 20 seconds; not for the hot path.

        Raises:
            BackendRefused: AWS rejects these keys.
            BackendUnavailable: STS does not answer.
        """
        return await _in_thread(partial(_ask_sts, self._opened().session))

    def _opened(self) -> _Found:
        if self._found is None:
            raise RuntimeError("the AWS account is used before open()")
        return self._found

    async def _look(self) -> None:
        now = clock.now()
        credentials = self._opened().credentials
        if not isinstance(credentials, RefreshableCredentials) or not credentials.refresh_needed():
            self._look_at = now + _LOOK_EVERY
            return
        if credentials.refresh_needed(_LAST_MOMENT):
            if self._renewal is not None or now >= self._renew_at:
                await self._renew(partial(_refresh, self._opened()))
            if self._opened().credentials.refresh_needed(0):
                why = self._trouble or "their source does not answer"
                raise BackendUnavailable(f"the AWS credentials have expired: {why}") from self._trouble
        elif now >= self._renew_at and self._renewal is None:
            self._start(partial(_refresh, self._opened()))
        self._look_at = now + _LOOK_EVERY

    async def _renew(self, source: Callable[[], _Found]) -> None:
        """Wait a little for the renewal under way, or for a new one. It goes on when a caller gives up."""
        await asyncio.wait([self._renewal or self._start(source)], timeout=self._patience)

    def _start(self, source: Callable[[], _Found]) -> asyncio.Task[None]:
        self._renewal = asyncio.create_task(self._fetch(source))
        return self._renewal

    async def _fetch(self, source: Callable[[], _Found]) -> None:
        try:
            self._found = await _in_thread(source)
        except BackendUnavailable as error:
            self._trouble = error
        else:
            self._trouble = None
        finally:
            self._renew_at = clock.now() + (_RENEW_EVERY if self._trouble is None else _RETRY_EVERY)
            self._renewal = None


# From here on: in a thread of its own.


def _resolve(profile: str, region: str) -> _Found:
    session = Session(profile=profile or None)
    try:
        session.set_config_variable("region", _find_region(session, region))
        credentials = session.get_credentials()
        if credentials is None:
            raise BackendRefused(
                "no AWS credentials: looked at AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, the profile "
                f"{_profile_name(session)!r} in {_shared_files(session)}, and the roles of ECS and EC2; "
                "set one of them up, or name another profile"
            )
        return _Found(session, credentials, credentials.get_frozen_credentials())
    except ProfileNotFound as error:
        raise BackendRefused(
            f"no AWS profile {_profile_name(session)!r} in {_shared_files(session)}: "
            "correct the name (--profile, AWS_PROFILE) or add it there"
        ) from error
    except _BROKEN as error:
        raise explained(error, _NO_CREDENTIALS) from error


def _refresh(found: _Found) -> _Found:
    try:
        return found._replace(keys=found.credentials.get_frozen_credentials())
    except _BROKEN as error:
        raise explained(error, _NO_CREDENTIALS) from error


def _find_region(session: Any, given: str) -> str:
    region = given or os.environ.get("AWS_REGION") or session.get_config_variable("region")
    if not region:
        raise BackendRefused(
            f"no AWS region: set AWS_REGION, --region, or region for the profile {_profile_name(session)!r} "
            f"in {_shared_files(session)}"
        )
    try:
        validate_region_name(region)
    except InvalidRegionError as error:
        raise BackendRefused(f"AWS region {region!r}: not a region's name, expected one like us-east-1") from error
    return str(region)


def _profile_name(session: Any) -> str:
    return session.get_config_variable("profile") or "default"


def _find_endpoint(session: Any, region: str, service: str) -> Endpoint:
    if not session.get_config_variable("ignore_configured_endpoint_urls"):
        url = ConfiguredEndpointProvider(session.full_config, session.get_scoped_config(), service).provide()
        if url:
            return Endpoint(url=url, region=region, custom=True)
    loader = session.get_component("data_loader")
    rules = loader.load_service_model(service, "endpoint-rule-set-1")
    found = EndpointProvider(rules, loader.load_data("partitions")).resolve_endpoint(
        Region=region,
        UseDualStack=bool(session.get_config_variable("use_dualstack_endpoint")),
        UseFIPS=bool(session.get_config_variable("use_fips_endpoint")),
    )
    schemes = found.properties.get("authSchemes") or [{}]
    return Endpoint(url=found.url, region=schemes[0].get("signingRegion", region), custom=False)


def _ask_sts(session: Any) -> str:
    limits = Config(connect_timeout=5, read_timeout=5, retries={"total_max_attempts": 2})
    try:
        sts = session.create_client("sts", config=limits)
        return str(sts.get_caller_identity()["Arn"])
    except _BROKEN as error:
        call = Call("sts:GetCallerIdentity")
        raise explained(error, call.action, call) from error


def _shared_files(session: Any) -> str:
    names = (session.get_config_variable("config_file"), session.get_config_variable("credentials_file"))
    return " and ".join(map(str, names))


async def _in_thread(work: Callable[[], T]) -> T:
    """``work()`` in a daemon thread: unlike the executor's, a hanging one does not keep the process from ending."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def tell(result: T | None, error: Exception | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        result, error = None, None
        try:
            result = work()
        except Exception as caught:  # noqa: BLE001 - all of it is raised where it is awaited
            error = caught
        with contextlib.suppress(RuntimeError):  # the loop has gone, and with it the caller
            loop.call_soon_threadsafe(tell, result, error)

    threading.Thread(target=run, name="aws-account", daemon=True).start()
    return await future
