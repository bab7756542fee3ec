"""Ports: the rows that views are made of, and the rows that orders are written to.

They are not the worker's ``Table``: a viewer needs no right to write, an operator none to take locks or claims.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass

from sqsjkr.leases.live import Board, Entry, Live, Notice
from sqsjkr.leases.table import Row
from sqsjkr.outcome import Outcome
from sqsjkr.runs import Holder, Run

AHEAD = 60.0
"""Seconds that the newest ending may seem to lie ahead: queue and table have clocks of their own, in whole seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionRow:
    """A worker's session, as its newest heartbeat left it."""

    session: str
    beat: int
    at: float | None
    """When it beat: epoch seconds on the table's clock. None for a worker of an earlier release."""
    host: str
    pid: int
    live: Live | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimRow:
    """A claim, with the facts of its run as far as they are known."""

    row: Row
    run: Run


_GOES_ON = frozenset(outcome.label for outcome in (Outcome.INTERRUPTED, Outcome.RETRIED, Outcome.DEFERRED))


def without_claim(past: Sequence[Run]) -> ClaimRow | None:
    """Return the story of a message that has no claim, from the runs that are kept by themselves; None for none."""
    if not past:
        return None
    newest = max(past, key=lambda run: run.ended_at or 0.0)
    if newest.outcome in _GOES_ON:  # it waits for its next attempt
        return ClaimRow(row=Row(owner=None), run=newest.as_waiting.with_past(past))
    return ClaimRow(row=Row(owner=None, done=True), run=newest.with_past(past))


@dataclass(frozen=True, slots=True, kw_only=True)
class LockRow:
    """A lock that is held, or was."""

    lock_id: str
    held: bool
    owner: str | None
    """None: it is free, or a Go daemon holds it."""
    holder: Holder
    fence: int
    last: Holder | None = None
    """Of a free lock: who held it last, as far as that is known; without the event."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Depth:
    """How much is on a queue. Counts of SQS are approximate."""

    name: str
    visible: int
    hidden: int
    dead: int | None
    """None if there is no dead-letter queue."""
    oldest_seconds: float | None = None
    """Age of the oldest visible message; None where the queue does not tell it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OfEvent:
    """What is remembered of an event."""

    endings: Sequence[Run]
    """The newest, newest first."""
    again: Run | None = None
    """The newest attempt whose message went back to the queue: it was cut off, or failed and is tried again."""


class Endings(ABC):
    """What a table remembers of jobs. Every verb may raise ``BackendUnavailable``."""

    @abstractmethod
    async def story(self, message_id: str) -> ClaimRow | None:
        """Return a message's claim with the facts of its run, ``earlier`` attempts included; None if it has none.

        Of a job whose last attempt was cut off, and that waits for the next one, ``run`` has no outcome.
        """

    @abstractmethod
    def endings(self, queue: str, *, since: float, until: float, failed: bool = False) -> AsyncIterator[Run]:
        """Yield the endings of jobs between two times, newest first; with ``failed``, of failures only.

        What a list knows of a run: its message, event, lock, host, outcome, times and exit; of a failure the last line
        of its output. Reads on only as far as the caller does. The last half minute of a worker may be missing.
        """

    @abstractmethod
    async def endings_of(self, event_id: str, limit: int) -> OfEvent:
        """Return the newest endings of an event. Of a busy worker's successes some are missing."""


class Source(Endings):
    """What a table shows. Every verb may raise ``BackendUnavailable``; reads may be a second old."""

    @abstractmethod
    async def open(self) -> None:
        """Raises ``BackendRefused`` if there is no such table or no right to read it."""

    @abstractmethod
    async def close(self) -> None:
        """Called once after the last verb."""

    @abstractmethod
    def now(self) -> float:
        """The time on the table's clock: seconds since 1970."""

    @abstractmethod
    async def fleet(self, fleet: str) -> tuple[Sequence[Entry], Board]:
        """Return the roster and the board."""

    @abstractmethod
    async def sessions(self, names: Collection[str]) -> Mapping[str, SessionRow]:
        """Return the sessions that have beaten, by their names."""

    @abstractmethod
    async def claims(self, message_ids: Collection[str]) -> Mapping[str, ClaimRow]:
        """Return the claims that there are, by their messages' ids."""

    @abstractmethod
    async def locks(self, lock_ids: Collection[str]) -> Mapping[str, LockRow]:
        """Return the locks that there are, by their ids."""


class QueueSource(ABC):
    """What a queue shows without a message being received."""

    @abstractmethod
    async def open(self) -> None:
        """Raises ``BackendRefused`` if there is no such queue or no right to look at it."""

    @abstractmethod
    async def close(self) -> None:
        """Called once after the last verb."""

    @abstractmethod
    async def depth(self) -> Depth:
        """Count what is on the queue and on its dead-letter queue."""

    async def body(self, message_id: str) -> str | None:  # noqa: ARG002 - SQS cannot look one up
        """Return the body of a message that is on the queue; None if it is not, or the queue cannot tell."""
        return None

    async def of_event(self, event_id: str) -> Sequence[str]:  # noqa: ARG002 - SQS cannot look one up
        """Return the messages on the queue whose jobs have this event id, the newest first; [] if it cannot tell."""
        return []


class Orders(ABC):
    """Where an operator's orders are written. Every verb may raise ``BackendUnavailable``, and may be sent twice."""

    @abstractmethod
    async def whoami(self) -> str:
        """Return whose orders these are, as the log and the history of a job will say."""

    @abstractmethod
    async def order(self, session: str, text: str) -> None:
        """Let an order stand on a session's row, until its worker has seen it."""

    @abstractmethod
    async def pause(self, fleet: str, notice: Notice | None) -> None:
        """Let no worker of the fleet take new jobs; None lets them again."""

    @abstractmethod
    async def drain(self, fleet: str, target: str, notice: Notice) -> None:
        """Let the workers on a host (or the one with this id) stop."""

    @abstractmethod
    async def undrain(self, fleet: str, target: str) -> bool:
        """Take a drain back. False if there is none."""

    @abstractmethod
    async def call(self, fleet: str) -> int:
        """Call the roll: every worker that lives answers with the number that is returned."""

    @abstractmethod
    async def free_lock(self, lock: LockRow) -> bool:
        """Free a lock that still is as it was seen. False if it is not."""
