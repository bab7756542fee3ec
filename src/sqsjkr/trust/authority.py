"""The trust file in force: read at the start and when it changes, and asked about each message."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

from sqsjkr.attempt import Attempt
from sqsjkr.errors import BackendUnavailable, ConfigError
from sqsjkr.message import SIGNATURE
from sqsjkr.outcome import Ending, Outcome
from sqsjkr.reader import UNKNOWN_PAUSE, unknown
from sqsjkr.telemetry.events import Event, emit
from sqsjkr.trust import file
from sqsjkr.trust.keys import read_set
from sqsjkr.trust.policy import UNSIGNED, Policy
from sqsjkr.trust.signature import Verifier, claim_key, token_ids
from sqsjkr.trust.vault import Vault

LOOK_EVERY = 10.0
"""Seconds between two looks at the file."""
_REMEMBERED = 10_000

_Stamp = tuple[object, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class InForce:
    """A trust file as it was read, and what tells it from a later one."""

    policy: Policy
    verifier: Verifier | None
    """None without keys: signatures are then not looked at."""
    absent: frozenset[str]
    """The ids of keys that producers name and no key has."""
    digest: str
    """SHA-256 of the file, in hex."""
    files: tuple[str, ...]
    """The file, and those of the keys."""
    stamps: tuple[_Stamp, ...]
    """Of the files."""

    @property
    def text(self) -> str:
        """What the log says of it."""
        policy = self.policy
        mode = "enforced" if policy.enforce else "as warnings only"
        absent = f", no key of id {', '.join(sorted(self.absent))}" if self.absent else ""
        counts = f"producers: {len(policy.producers)}, jobs: {len(policy.jobs)}"
        return f"{mode}, {counts}{absent}, SHA-256 {self.digest[:16]}"


class TrustFile:
    """Keeps the file at ``path`` in force. Raises ``ConfigError`` if it is not a good one at the start.

    ``audience`` is the name of the queue in signatures. ``claims``: whether messages are claimed at all, without which
    a signature could be used again and again.
    """

    def __init__(self, path: str, *, audience: str, claims: bool = True) -> None:
        self._path = path
        self._audience = audience
        self._claims = claims
        self.in_force = self._read()
        self._seen = self.in_force.stamps
        emit(Event.TRUST_LOADED, f"{path}: {self.in_force.text}", sha256=self.in_force.digest)

    async def watch(self) -> NoReturn:
        """Look every few seconds whether the file has changed, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_EVERY)
            try:
                await self.look()
            except Exception as bug:  # noqa: BLE001 - else no later change would ever be seen
                emit(Event.LOG, f"{self._path}: the look at it failed, please report this bug: {bug!r}")

    async def look(self) -> None:
        """Read the file again if it has changed. One that is bad changes nothing, and is complained of once."""
        stamps = await asyncio.to_thread(_stamps, self.in_force.files)
        if stamps == self._seen:
            return
        self._seen = stamps
        try:
            self.in_force = await asyncio.to_thread(self._read)
        except ConfigError as mistakes:
            for line in str(mistakes).splitlines():
                emit(Event.TRUST_INVALID, f"{line} (the file of SHA-256 {self.in_force.digest[:16]} stays in force)")
            return
        self._seen = self.in_force.stamps
        emit(Event.TRUST_LOADED, f"{self._path}: {self.in_force.text}", sha256=self.in_force.digest)

    def _read(self) -> InForce:
        before = _stamp(self._path)  # before the content: what changes in between is seen at the next look
        content, found = file.read(self._path)
        if found.keys and not self._claims:
            raise ConfigError(f'{self._path}: keys: signatures need claims, expected a [kicker] throttler but "none"')
        stamps = before, *_stamps(found.keys)
        keys = read_set(found.keys)
        policy = found.policy
        return InForce(
            policy=policy,
            verifier=Verifier(keys, audience=self._audience, life=policy.signature_life) if keys else None,
            absent=found.listed - keys.keys(),
            digest=hashlib.sha256(content).hexdigest(),
            files=(self._path, *found.keys),
            stamps=stamps,
        )


class Judge:
    """Applies the trust file in force to each attempt."""

    def __init__(self, trust: TrustFile, vault: Vault) -> None:
        self._trust = trust
        self._vault = vault
        self._complained: dict[str, str] = {}

    def judge(self, attempt: Attempt) -> Ending | None:
        """Note what counts for the attempt, and its refusal if it is refused; an ending if it goes back at once."""
        message, job = attempt.message, attempt.job
        if job is None:
            raise RuntimeError("an attempt comes here only with a job")
        in_force = self._trust.in_force
        policy, token, proof = in_force.policy, message.attributes.get(SIGNATURE) or job.signature, UNSIGNED
        if token and in_force.verifier:
            text = message.body if SIGNATURE in message.attributes else job.signed
            proof = in_force.verifier.prove(token, text, message.sent_at)
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
            attempt.rival_key = claim_key(*ids) if (ids := token_ids(token)) else ""
            return None
        if verdict.complaint:
            self._warn(attempt, verdict.complaint)
        elif proof.token:
            attempt.claim_key = claim_key(proof.key, proof.token)
        attempt.job, attempt.plan = verdict.job, verdict.plan
        return None

    async def look_up(self, attempt: Attempt) -> Ending | None:
        """Note the values of the secrets that the plan names; an ending if one cannot be looked up now."""
        age = self._trust.in_force.policy.secrets_age
        try:
            attempt.secrets = await self._vault.values(attempt.plan.secrets, age=age)
        except BackendUnavailable as why:
            return Ending(Outcome.UNANSWERED, str(why), UNKNOWN_PAUSE)
        return None

    def complaint(self, attempt: Attempt) -> str:
        """Return why the attempt, which runs, would have been refused; "" if it would not."""
        return self._complained.get(attempt.message.id, "")

    def _warn(self, attempt: Attempt, complaint: str) -> None:
        """Say once of each message what would have been refused."""
        message_id = attempt.message.id
        if message_id in self._complained:
            return
        self._complained[message_id] = complaint
        if len(self._complained) > _REMEMBERED:
            del self._complained[next(iter(self._complained))]
        emit(
            Event.JOB_UNTRUSTED,
            f"{attempt.label}: it would be refused: {complaint}",
            **attempt.facts,
            sender=attempt.message.sender or None,
            **attempt.audit,
        )


def _stamps(paths: Sequence[str]) -> tuple[_Stamp, ...]:
    return tuple(_stamp(path) for path in paths)


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
