"""The trust file in force: read at the start and when it changes, and asked about each message."""

from __future__ import annotations

import asyncio
import hashlib
import os
from dataclasses import dataclass
from typing import NoReturn

from sqsjkr.attempt import Attempt
from sqsjkr.errors import ConfigError
from sqsjkr.outcome import Ending, Outcome
from sqsjkr.reader import unknown
from sqsjkr.telemetry.events import Event, emit
from sqsjkr.trust import file
from sqsjkr.trust.policy import UNSIGNED, Policy, Verdict

LOOK_EVERY = 10.0
"""Seconds between two looks at the file."""
_REMEMBERED = 10_000

_Stamp = tuple[object, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class InForce:
    """A trust file as it was read, and what tells it from a later one."""

    policy: Policy
    digest: str
    """SHA-256 of the file, in hex."""
    stamps: tuple[_Stamp, ...]
    """Of the file, and of the file of keys."""

    @property
    def text(self) -> str:
        """What the log says of it."""
        policy = self.policy
        mode = "enforced" if policy.enforce else "as warnings only"
        return f"{mode}, producers: {len(policy.producers)}, jobs: {len(policy.jobs)}, SHA-256 {self.digest[:16]}"


class TrustFile:
    """Keeps the file at ``path`` in force. Raises ``ConfigError`` if it is not a good one at the start."""

    def __init__(self, path: str) -> None:
        self._path = path
        self.in_force = _read(path)
        self._seen = self.in_force.stamps
        emit(Event.TRUST_LOADED, f"{path}: {self.in_force.text}", sha256=self.in_force.digest)

    async def watch(self) -> NoReturn:
        """Look every few seconds whether the file has changed, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_EVERY)
            await self.look()

    async def look(self) -> None:
        """Read the file again if it has changed. One that is bad changes nothing, and is complained of once."""
        stamps = await asyncio.to_thread(_stamps, self._path, self.in_force)
        if stamps == self._seen:
            return
        self._seen = stamps
        try:
            self.in_force = await asyncio.to_thread(_read, self._path)
        except ConfigError as mistakes:
            for line in str(mistakes).splitlines():
                emit(Event.TRUST_INVALID, f"{line} (the file of SHA-256 {self.in_force.digest[:16]} stays in force)")
            return
        self._seen = self.in_force.stamps
        emit(Event.TRUST_LOADED, f"{self._path}: {self.in_force.text}", sha256=self.in_force.digest)


class Judge:
    """Applies the trust file in force to each attempt."""

    def __init__(self, trust: TrustFile) -> None:
        self._trust = trust
        self._complained: dict[str, None] = {}

    def judge(self, attempt: Attempt) -> Ending | None:
        """Note what counts for the attempt, and its refusal if it is refused; an ending if it goes back at once."""
        message, job = attempt.message, attempt.job
        if job is None:
            raise RuntimeError("an attempt comes here only with a job")
        policy = self._trust.in_force.policy
        proof = UNSIGNED
        verdict = policy.judge(job, attempt.plan, message.sender, proof)
        attempt.audit = {
            "producer": verdict.producer or None,
            "key": proof.key or None,
            "job": verdict.name or None,
            "sha256": hashlib.sha256(message.body.encode()).hexdigest(),
        }
        if verdict.unknown:
            return unknown(attempt, verdict.complaint)
        if verdict.complaint and (policy.enforce or verdict.job is None):
            attempt.refusal = Ending(Outcome.REFUSED, verdict.complaint)
            return None
        if verdict.complaint:
            self._warn(attempt, verdict)
        attempt.job, attempt.plan = verdict.job, verdict.plan
        return None

    def _warn(self, attempt: Attempt, verdict: Verdict) -> None:
        """Say once of each message what would have been refused."""
        message_id = attempt.message.id
        if message_id in self._complained:
            return
        self._complained[message_id] = None
        if len(self._complained) > _REMEMBERED:
            del self._complained[next(iter(self._complained))]
        emit(
            Event.JOB_UNTRUSTED,
            f"{attempt.label}: it would be refused: {verdict.complaint}",
            **attempt.facts,
            sender=attempt.message.sender or None,
            **attempt.audit,
        )


def _read(path: str) -> InForce:
    stamps = _stamps(path)  # before the content: what changes in between is seen at the next look
    content, found = file.read(path)
    return InForce(policy=found.policy, digest=hashlib.sha256(content).hexdigest(), stamps=stamps)


def _stamps(path: str, _known: InForce | None = None) -> tuple[_Stamp, ...]:
    return (_stamp(path),)


def _stamp(path: str) -> _Stamp:
    """What changes with a file: links are followed, as an update of a config map swaps one."""
    try:
        facts = os.stat(path)  # noqa: PTH116 - pathlib would turn "" into "."
    except OSError as failure:
        return (failure.errno,)
    return (
        facts.st_dev,
        facts.st_ino,
        facts.st_mtime_ns,
        facts.st_size,
        facts.st_mode,
        facts.st_uid,
    )
