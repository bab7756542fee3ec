"""Port: the table of locks, claims and beats. Rows change on a condition, atomically.

Rows are those of the original (go-semantics section 7); ``Owner`` is ours: ``session/attempt``. A row without ``Owner``
was written by a Go daemon: its throttle row means done, its lock is never taken over.

A claim's row is *missing*, *held* by an owner, *done*, or *free* between two attempts: then it says how often the job
has failed and when it may run again. To a worker of another release, and to a Go daemon, a free row is as good as none:
they run the job, if need be too early, and never take it for done.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from sqsjkr.runs import Earlier, Holder, Run
from sqsjkr.telemetry.history import Rules


class Heartbeat(NamedTuple):
    """What stands in a session's row."""

    beats: int
    """How often the session has beaten."""
    host: str = ""
    """Where its worker runs, "" if unknown."""
    pid: int = 0
    """The worker's process there, 0 if unknown."""


BATCH = 25
"""Claims or unlocks that are asked for at once: the most that DynamoDB takes in one request."""
STUCK = 0.1
"""Seconds after which claims and unlocks no longer wait for the answer to those before them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What stands in a row; ``holder`` of a lock's, all that follows ``owner`` but for that of a claim's."""

    owner: str | None
    """``session/attempt``. None: of a lock, a Go daemon wrote the row; of a claim, it is free or done."""
    done: bool = False
    """Its job has ended by itself, or never starts."""
    holder: Holder = field(default_factory=Holder)
    """Of a lock: who holds it."""
    failures: int = 0
    """How often the job has failed."""
    crashes: int = 0
    """How many workers have died while they ran it."""
    due: float | None = None
    """Of a free row: the age of the message, in seconds, before which it is not taken."""
    stop: str = ""
    """Of a row that is held: the operator whose order it is to end the job."""
    owed: str = ""
    """Of a row that is done: the facts of the run, as ``runs.to_note`` writes them, while something is owed for it."""
    cancelled_by: str = ""
    """Of a row that is done: the operator by whose order."""
    run: Run | None = field(default=None, compare=False)
    """The facts of the attempt that holds the claim, or ended it, as far as they were noted."""

    @property
    def session(self) -> str | None:
        """The session part of the owner."""
        return self.owner.split("/", 1)[0] if self.owner else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Claiming:
    """A request for a claim."""

    run: Run
    """The facts that are noted with it; whose message is claimed."""
    owner: str
    age: float
    """Seconds since the message was sent, when it was asked: a request that arrives late takes no row that became free
    meanwhile and is due later."""
    over: str | None = None
    """The owner that may be taken over from, exactly."""
    crashes: int | None = None
    """The row's new ``crashes``, for a take-over from a dead worker. Absolute, as the request may be sent twice."""


class LockRows(ABC):
    """The rows of locks."""

    @abstractmethod
    async def take_lock(
        self, lock_id: str, owner: str, event_id: str, *, over: str | None, message_id: str = ""
    ) -> int | Row:
        """Take a free lock, or one whose owner is exactly ``over``. The new fencing token, or the row that was there.

        An owner that has released the lock as its newest owner cannot take it again: that would be a late echo. The
        row shows event, message, host and time of the taking for as long as the lock is held.
        """

    @abstractmethod
    async def release_lock(self, lock_id: str, owner: str) -> None:
        """Free the lock if it is ``owner``'s; keep its fencing token."""

    @abstractmethod
    async def release_locks(self, locks: Sequence[tuple[str, str]]) -> Sequence[Exception | None]:
        """Free up to ``BATCH`` (lock_id, owner) locks, as ``release_lock`` does, in as few requests as possible."""


class ClaimRows(ABC):
    """The rows of claims."""

    retention: float = 1_209_600.0
    """Seconds a claim's row is kept, the queue's retention at least; set by the wiring. No delivery outlives it."""
    history = Rules()
    """What is noted of a run with its claim; set by the wiring."""

    @abstractmethod
    async def take_claim(self, claiming: Claiming) -> Row:
        """Claim a message whose row is missing or free and due, or held by ``over`` without an order to stop.

        Returns the row as it is then: taken if ``owner`` is its owner and it is not done.
        """

    @abstractmethod
    async def take_new_claims(self, claims: Sequence[Claiming]) -> Sequence[Row | Exception | None]:
        """Claim messages that have no row, up to ``BATCH`` of them in one request, each by itself.

        Returns for each the row as it is then; None if another row is there, or was asked for in the same request:
        ``take_claim`` is the one to ask then. Nothing else is asked of it than of ``take_claim``: if no answer comes,
        each of them may have been taken, or may be taken later.
        """

    @abstractmethod
    async def finish_claims(self, claims: Sequence[tuple[Run, str]]) -> Sequence[Exception | None]:
        """Mark the (run, owner) claims as done, even if they have another owner by now: their jobs have ended.

        A row gets a note of its run if something is ``owed`` for it.
        """

    @abstractmethod
    async def drop_claim(self, message_id: str, owner: str) -> None:
        """Free the claim if it is ``owner``'s and not done: its job may run at once.

        A row with failures or crashes stays, free; another is removed. With an order to stop it becomes done.
        """

    @abstractmethod
    async def postpone_claim(
        self, message_id: str, owner: str, *, failures: int, due: float | None, earlier: Sequence[Earlier] = ()
    ) -> None:
        """Free the claim as ``drop_claim`` does, and note all this in its row; absolute, as it may be sent twice."""

    @abstractmethod
    async def cancel_claim(self, message_id: str, by: str, *, over: str | None = None) -> Row:
        """Mark the job as done before it starts, if its row is missing, free, or held by exactly ``over``.

        ``by``: whose order it is. Returns the row as it is then: every later delivery finds the job done, or the row is
        still held.
        """

    @abstractmethod
    async def cancelled_by(self, message_id: str) -> str:
        """Return by whose order a message was cancelled before its job started; "" if by nobody's. Never stale."""

    @abstractmethod
    async def stop_claim(self, message_id: str, by: str) -> Row | None:
        """Note on a claim that is held that its job is to be ended, by whose order: ``by``.

        The order stands until the job is done; if its worker dies first, nobody runs the job again. Returns the row as
        it is then; None if there is none. It is not ordered if the row is free or done.
        """


class Table(LockRows, ClaimRows):
    """Rows that change on a condition, atomically. Every verb may raise ``BackendUnavailable``.

    Each verb may be sent twice (its first answer may be lost): the second time must find what the first one did.
    """

    @abstractmethod
    async def open(self) -> None:
        """Raises ``BackendRefused`` if there is no such table or no right to use it."""

    @abstractmethod
    async def close(self) -> None:
        """Called once after the last verb."""

    @abstractmethod
    async def beat(self, session_id: str, live: bytes = b"", seen: Collection[str] = ()) -> Collection[str]:
        """Add one to the session's beat, note ``live`` beside it, and remove the orders that were ``seen``.

        Returns the orders that stand on the session's row.
        """

    @abstractmethod
    async def read_beat(self, session_id: str) -> Heartbeat | None:
        """The session's heartbeat, strongly consistent; None if it has never beaten."""
