"""The values that an operator sees. The names of their fields are the keys of ``--json``: they stay.

A time ends in ``_at`` and is seconds since 1970 by the backend's clock; in JSON it is RFC 3339 in UTC. A duration ends
in ``seconds``. None is what is not known, or does not apply.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

SURELY_WHOLE = 57
"""Bytes below which no event id is cut anywhere: lists keep 60, and a character has four at most."""


class State(StrEnum):
    """Where a job is."""

    QUEUED = "queued"
    """On the queue; no worker has it."""
    WAITING = "waiting"
    """With a worker, without a slot: for its lock, or for a verdict about another worker's claim."""
    RUNNING = "running"
    """Its command runs."""
    ENDED = "ended"
    """It has an outcome and does not run again."""
    UNKNOWN = "unknown"
    """The table knows nothing of it: it is on the queue, was deleted, or never was."""


class Life(StrEnum):
    """What can be said of a worker from its heartbeats alone."""

    BUSY = "busy"
    """Its heartbeat goes on."""
    IDLE = "idle"
    """It holds nothing, so it does not beat. ``sqsjkr fleet --call`` asks whether it is there."""
    SILENT = "silent"
    """It holds jobs, and its heartbeat stands still."""
    LOST = "lost"
    """It is dead, or did not answer a call."""

    @property
    def may_be_dead(self) -> bool:
        """Whether what it holds may have to be taken over. An idle worker may have taken a job since it last beat."""
        return self in {Life.SILENT, Life.LOST}


class Level(StrEnum):
    """How bad a verdict is; the worst first."""

    FAIL = "FAIL"
    """Jobs fail or do not run."""
    WARN = "warn"
    """Look at it soon."""
    OK = "ok"
    """As it should be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PastAttempt:
    """An earlier attempt of a job that ended without an outcome of its own: interrupted, crashed, requeued."""

    host: str | None
    began_at: float | None
    ended_at: float | None
    outcome: str | None
    detail: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobStory:
    """The story of one job: the object that ``sqsjkr explain --json`` prints."""

    message_id: str | None
    """None only of an event of which nothing is known."""
    event_id: str | None = None
    lock_id: str | None = None
    command: str | None = None
    """At most 200 characters."""
    queue: str | None = None
    host: str | None = None
    state: State
    outcome: str | None = None
    exit_status: int | None = None
    signal: int | None = None
    detail: str | None = None
    sent_at: float | None = None
    began_at: float | None = None
    ended_at: float | None = None
    seconds: float | None = None
    cpu_seconds: float | None = None
    max_rss_bytes: int | None = None
    printed_bytes: int | None = None
    receive_count: int | None = None
    fence: int | None = None
    output: str | None = None
    """The last of what it printed, as far as it was kept."""
    attempts: tuple[PastAttempt, ...] = ()
    """Earlier ones, oldest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunLine:
    """One ending in a list."""

    ended_at: float
    message_id: str
    event_id: str | None = None
    lock_id: str | None = None
    command: str | None = None
    queue: str | None = None
    host: str | None = None
    outcome: str
    exit_status: int | None = None
    signal: int | None = None
    seconds: float | None = None
    detail: str | None = None
    last_line: str | None = None
    """The last line that a failed job printed, at most 80 characters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A job that a worker has claimed and runs. One that began less than a heartbeat ago may be missing."""

    message_id: str
    claim: str
    """The id of its claim's row: mostly that of its message; of a signed job, that of its token."""
    event_id: str | None = None
    lock_id: str | None = None
    command: str | None = None
    queue: str
    host: str
    worker: str
    worker_life: Life = Life.BUSY
    """``silent`` or ``lost``: it was running there, and no other worker has taken it over yet."""
    began_at: float
    seconds: float
    """Since it began."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """The jobs that one worker keeps for one lock."""

    lock_id: str | None
    """None: they wait for a verdict about the claim of ``oldest_message_id``, which another worker made."""
    waiting: int
    """How many."""
    oldest_message_id: str
    oldest_event_id: str | None = None
    oldest_at: float
    """Since when the oldest one waits."""
    queue: str
    host: str
    worker: str
    held_by_host: str | None = None
    held_by_event_id: str | None = None
    held_by_message_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LastHold:
    """The last hold of a lock that is free."""

    message_id: str
    event_id: str | None
    host: str | None
    since_at: float | None
    ended_at: float | None
    """When its job ended, as long as that is known."""
    seconds: float | None
    """How long the lock was held."""
    outcome: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LockView:
    """A lock that is held, or waited for, or asked for by name."""

    lock_id: str
    held: bool
    owner: str | None = None
    """``session/attempt``; None if it is free, or a Go daemon holds it."""
    event_id: str | None = None
    message_id: str | None = None
    host: str | None = None
    worker: str | None = None
    worker_life: Life | None = None
    since_at: float | None = None
    fence: int | None = None
    waiting: int = 0
    oldest_at: float | None = None
    """Since when the oldest job waits for it."""
    last: LastHold | None = None
    """Only of a free lock that was asked for by name."""

    @property
    def of_go(self) -> bool:
        """Held by a Go daemon: nobody but an operator frees it if that one died."""
        return self.held and self.owner is None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerView:
    """One worker of the queue."""

    worker: str
    """Its id, new with every start."""
    queue: str
    host: str
    pid: int
    version: str
    started_at: float
    life: Life
    reason: str | None = None
    """Why it takes no new jobs, in its words; None if it does."""
    slots: int
    busy: int
    ready: int
    """Received, and waiting for a slot."""
    waiting: int
    """Received, and waiting for locks or verdicts."""
    last_heartbeat_at: float | None = None
    """None if it has held nothing long enough to beat."""
    session: str | None = None
    call: int = 0
    """The last roll call that it answered."""
    endings: dict[str, int] = dataclasses.field(default_factory=dict)
    """How many deliveries ended in each outcome since it started, up to its last heartbeat."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """What an operator ordered for the whole queue or for a host, and stands."""

    by: str
    since_at: float
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueView:
    """The queue, as far as it can be counted. Counts of SQS are approximate."""

    name: str
    visible: int
    hidden: int
    """With workers, running or waiting; or delayed."""
    dead: int | None
    """On the dead-letter queue; None if there is none."""
    oldest_seconds: float | None = None
    """Age of the oldest visible message, where the backend can tell."""
    paused: Notice | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """A message on the dead-letter queue."""

    id: str
    """Its id there: what ``show``, ``redrive`` and ``drop`` take."""
    message_id: str | None
    """The id that it had on the job queue, if it is known."""
    reason: str
    sender: str | None = None
    """Which identity sent it, as the queue says."""
    sent_at: float | None
    """When its producer sent it."""
    died_at: float | None
    receive_count: int | None
    failures: int | None = None
    """How often its job has failed, if it has run."""
    output: str | None = None
    """The last of what its job printed, without the values of its variables."""
    event_id: str | None
    lock_id: str | None
    command: str | None
    """At most 200 characters; None if the body is not a job."""
    body_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One line of ``sqsjkr status``."""

    level: Level
    subject: str
    """``event``, ``jobs``, ``lock``, ``worker``, ``queue``, ``dead letters``, ``fleet``."""
    name: str
    """Which one; "" where there is only one."""
    text: str
    """What, since when, how far from usual."""
    next: str | None = None
    """The command to run next."""


class Result(StrEnum):
    """What became of a job that was to be cancelled."""

    CANCELLED = "cancelled"
    """It has not started and never will, or was ended where it ran."""
    REQUEUED = "requeued"
    """It is on the queue and runs from its beginning."""
    ENDED = "ended"
    """It had ended by itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancellation:
    """What became of one job: the object that ``sqsjkr cancel --json`` prints."""

    message_id: str
    event_id: str | None
    host: str | None
    """Where it ran, as far as it is known."""
    result: Result
    by: str
    """Whose order it was."""
    detail: str
    """A few words."""
    seconds: float
    """From the order until this was so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaleSignal:
    """How many slots the queue could use now: what is visible, and what runs. Jobs that wait for locks do not count."""

    visible: int
    busy: int
    waiting: int
    slots: int
    workers: int
    wanted_slots: int
    wanted_workers: int

    @classmethod
    def of(cls, *, visible: int, busy: int, waiting: int, slots: int, workers: int) -> ScaleSignal:
        """Compute what is wanted, for workers of the present average size."""
        wanted = visible + busy
        each = slots / workers if workers else 0.0
        wanted_workers = math.ceil(wanted / each) if each else min(wanted, 1)
        return cls(
            visible=visible,
            busy=busy,
            waiting=waiting,
            slots=slots,
            workers=workers,
            wanted_slots=wanted,
            wanted_workers=wanted_workers,
        )


def as_json(value: Any) -> Any:
    """Return what ``json.dumps`` writes for a value of this module: its fields by name, times as RFC 3339 in UTC."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: timestamp(content) if field.name.endswith("_at") else as_json(content)
            for field in dataclasses.fields(value)
            for content in (getattr(value, field.name),)
        }
    if isinstance(value, list | tuple):
        return [as_json(each) for each in value]
    if isinstance(value, float):
        return round(value, 3)
    return value.value if isinstance(value, StrEnum) else value


def is_event(known: str | None, wanted: str) -> bool:
    """Whether an event is the one that is wanted; of a long name, lists and heartbeats keep the beginning only."""
    if known is None or known == wanted:
        return known is not None
    return len(known.encode()) >= SURELY_WHOLE and wanted.startswith(known)


def timestamp(seconds: float | None) -> str | None:
    """Return a time as RFC 3339 in UTC with milliseconds: ``2026-11-21T03:00:00.123Z``; None for None."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(round(seconds, 3), UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def lasting(seconds: float) -> str:
    """Return a duration in two units at most: "42s", "3m12s", "3h12m", "4d2h"."""
    whole = max(0, int(seconds))
    for unit, name, part, lesser in ((86_400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s")):
        if whole >= unit:
            rest = whole % unit // part
            return f"{whole // unit}{name}{rest}{lesser}" if rest else f"{whole // unit}{name}"
    return f"{whole}s"
