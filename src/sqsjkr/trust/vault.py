"""Secrets by reference: looked up when a job starts, kept in memory for minutes, never in an argv or a log.

References stand in the trust file only: in a message, they would let a producer read whatever the worker may read.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from sqsjkr import clock
from sqsjkr.errors import BackendRefused, BackendUnavailable
from sqsjkr.telemetry.events import Event
from sqsjkr.telemetry.outage import Outage

LONGEST = 65_536
"""Bytes of a secret, the most that Secrets Manager keeps (AWS Secrets Manager quotas)."""
FAILED_FOR = 5.0
"""Seconds for which a failure is the answer to further jobs: they must not ask all at once."""


class Shelf(Protocol):
    """Where secrets are kept."""

    async def get(self, name: str) -> str:
        """Return the secret of this name. Raises ``BackendUnavailable`` with the cause."""

    async def close(self) -> None:
        """Let go of what the first ``get`` opened."""


@dataclass(frozen=True, slots=True)
class _Known:
    value: str
    failure: BackendUnavailable | None
    until: float


class Vault:
    """Looks secrets up, each once for many jobs. ``shelves`` by the schemes of their references."""

    def __init__(self, shelves: Mapping[str, Shelf], *, now: Callable[[], float] = clock.now) -> None:
        self._shelves = shelves
        self._now = now
        self._known: dict[str, _Known] = {}
        self._asking: dict[str, asyncio.Task[_Known]] = {}
        self._outages: dict[str, Outage] = {}

    async def values(self, references: Mapping[str, str], *, age: float) -> dict[str, str]:
        """Return the values for these variables; one that is up to ``age`` seconds old is good.

        Raises:
            BackendUnavailable: one of them cannot be looked up; the text names it and the cause.
        """
        self._forget_what_is_old()
        found = await asyncio.gather(*(self._find(reference, age) for reference in references.values()))
        for known in found:
            if known.failure is not None:
                raise known.failure
        return {name: known.value for name, known in zip(references, found, strict=True)}

    async def close(self) -> None:
        """Forget everything, and close the shelves."""
        self._known.clear()
        for task in self._asking.values():
            task.cancel()
        for shelf in self._shelves.values():
            await shelf.close()

    async def _find(self, reference: str, age: float) -> _Known:
        if known := self._known.get(reference):
            return known
        if reference not in self._asking:
            task = asyncio.create_task(self._ask(reference, age))
            self._asking[reference] = task
            task.add_done_callback(lambda _: self._asking.pop(reference, None))
        return await asyncio.shield(self._asking[reference])  # others wait for the same answer

    async def _ask(self, reference: str, age: float) -> _Known:
        scheme, _, name = reference.partition(":")
        outage = self._outages.setdefault(
            reference, Outage(f"secret {reference}", Event.SECRET_UNAVAILABLE, Event.SECRET_AVAILABLE)
        )
        try:
            value = await self._shelves[scheme].get(name)
            if "\0" in value or len(value.encode()) > LONGEST:
                raise BackendRefused(f"it holds a NUL character, or more than {LONGEST} bytes")
        except BackendUnavailable as why:
            outage.failed(why)
            known = _Known("", BackendUnavailable(f"secret {reference}: {why}"), self._now() + FAILED_FOR)
        else:
            outage.ended()
            known = _Known(value, None, self._now() + age)
        self._known[reference] = known
        return known

    def _forget_what_is_old(self) -> None:
        now = self._now()
        for reference in [reference for reference, known in self._known.items() if known.until <= now]:
            del self._known[reference]


def shelves(*, profile: str = "", region: str = "") -> dict[str, Shelf]:
    """Return every place where secrets can be kept, by the scheme of its references."""
    return {
        "file": Files(),
        "ssm": ParameterStore(profile=profile, region=region),
        "secretsmanager": SecretsManager(profile=profile, region=region),
    }


class Files:
    """Secrets in files, such as those that Docker and Kubernetes mount. A line end at the end is no part of one."""

    async def get(self, name: str) -> str:
        """Read the file."""
        return await asyncio.to_thread(_read, name)

    async def close(self) -> None:
        """Nothing is held."""


def _read(path: str) -> str:
    try:
        with Path(path).open("rb") as file:
            content = file.read(LONGEST + 3)
        return content.decode().removesuffix("\n").removesuffix("\r")
    except OSError as why:
        raise BackendUnavailable(f"cannot be read: {(why.strerror or str(why)).lower()}") from None
    except UnicodeDecodeError:
        raise BackendRefused("not UTF-8") from None


class _Service:
    """A service of AWS, connected to at the first secret."""

    def __init__(self, *, profile: str = "", region: str = "") -> None:
        self._profile = profile
        self._region = region
        self._opening = asyncio.Lock()
        self._aws: Any = None

    async def _call(self, service: str, operation: str, request: Mapping[str, object]) -> Mapping[str, object]:
        # Imported where needed: a worker on the embedded store whose secrets are files needs no AWS.
        from sqsjkr.backends.aws.client import AWS  # noqa: PLC0415

        async with self._opening:
            if self._aws is None:
                aws = AWS(profile=self._profile, region=self._region)
                await aws.open()
                self._aws = aws
        answer: Mapping[str, object] = await self._aws.call(service, operation, request)
        return answer

    async def close(self) -> None:
        """Close the connection, if there is one."""
        if self._aws is not None:
            await self._aws.close()


class ParameterStore(_Service):
    """Parameters of AWS Systems Manager; secure ones are decrypted there."""

    async def get(self, name: str) -> str:
        """Get the parameter."""
        answer = await self._call("ssm", "GetParameter", {"Name": name, "WithDecryption": True})
        parameter = answer.get("Parameter")
        return _text(parameter.get("Value") if isinstance(parameter, Mapping) else None)


class SecretsManager(_Service):
    """Secrets of AWS Secrets Manager. ``name#key`` is a key of a secret that is a JSON object."""

    async def get(self, name: str) -> str:
        """Get the secret, or the key of it."""
        secret, hash_sign, key = name.partition("#")
        answer = await self._call("secretsmanager", "GetSecretValue", {"SecretId": secret})
        text = _text(answer.get("SecretString"))
        return _text(_member(text, key)) if hash_sign else text


def _member(text: str, key: str) -> object:
    try:
        secret = json.loads(text)
    except ValueError:
        raise BackendRefused("it is not JSON, so it has no keys") from None
    if not isinstance(secret, dict) or key not in secret:
        raise BackendRefused(f"it has no key {key}")
    return secret[key]


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise BackendRefused("it is not text")
    return value
