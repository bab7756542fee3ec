"""Every way a delivery can end, and what each does to its message. Stats, log levels and docs follow this list."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from enum import Enum
from typing import cast

from sqsjkr.runs import Holder


class Settlement(Enum):
    """What becomes of a message."""

    DELETE = "delete"
    """It leaves the queue: its job has ended by itself or was refused for good."""
    RETRY = "retry"
    """It goes back and is delivered again, after a delay."""
    BURY = "bury"
    """It goes to the dead-letter queue with the reason; without one it stays, hidden for an hour at a time."""
    KEEP = "keep"
    """It stays here, hidden from other workers, and is tried again: its job waits for a lock."""


class Counter(Enum):
    """The three counters of ``/stats/metrics/v2`` with the original's meaning (go-semantics section 6)."""

    SUCCEEDED = "succeeded"
    """The command exited 0."""
    FAILED = "failed"
    """The command was never started and never will be."""
    ERRORED = "errored"
    """The command started and exited non-zero or by a signal that sqsjkr did not send."""


class Outcome(Enum):
    """How one delivery ended. An ending cannot be added without deciding the fate of its message."""

    SUCCEEDED = ("succeeded", Settlement.DELETE, Counter.SUCCEEDED, logging.INFO)
    ERRORED = ("errored", Settlement.DELETE, Counter.ERRORED, logging.ERROR)
    TIMED_OUT = ("timed_out", Settlement.DELETE, Counter.ERRORED, logging.ERROR)
    DEAD = ("dead", Settlement.BURY, Counter.ERRORED, logging.ERROR)
    EXPIRED = ("expired", Settlement.DELETE, Counter.FAILED, logging.WARNING)
    ABORTED = ("aborted", Settlement.DELETE, Counter.FAILED, logging.WARNING)
    DUPLICATE = ("duplicate", Settlement.DELETE, None, logging.WARNING)
    CANCELLED = ("cancelled", Settlement.DELETE, None, logging.WARNING)
    INVALID = ("invalid", Settlement.BURY, Counter.FAILED, logging.ERROR)
    REFUSED = ("refused", Settlement.BURY, Counter.FAILED, logging.ERROR)
    UNSTARTABLE = ("unstartable", Settlement.BURY, Counter.FAILED, logging.ERROR)
    LOCKED = ("locked", Settlement.KEEP, None, logging.INFO)
    BUSY = ("busy", Settlement.KEEP, None, logging.INFO)
    UNKNOWN = ("unknown", Settlement.RETRY, None, logging.WARNING)
    RETRIED = ("retried", Settlement.RETRY, None, logging.WARNING)
    DEFERRED = ("deferred", Settlement.RETRY, None, logging.INFO)
    EARLY = ("early", Settlement.RETRY, None, logging.DEBUG)
    RETURNED = ("returned", Settlement.RETRY, None, logging.DEBUG)
    CROWDED = ("crowded", Settlement.RETRY, None, logging.INFO)
    INTERRUPTED = ("interrupted", Settlement.RETRY, None, logging.WARNING)
    STARVED = ("starved", Settlement.RETRY, None, logging.ERROR)
    BROKEN = ("broken", Settlement.RETRY, None, logging.ERROR)
    UNANSWERED = ("unanswered", Settlement.RETRY, None, logging.DEBUG)

    __hash__ = object.__hash__  # that of Enum hashes the name, in Python, eight times a job

    def __init__(self, label: str, settlement: Settlement, counter: Counter | None, level: int) -> None:
        self.label = label
        self.settlement = settlement
        self.counter = counter
        self.level = level

    @classmethod
    def of(cls, label: str) -> Outcome | None:
        """Return the outcome of this name; None if there is none, as in a note of another release."""
        return next((outcome for outcome in cls if outcome.label == label), None)


FAILURES = frozenset(
    {
        Outcome.ERRORED,
        Outcome.TIMED_OUT,
        Outcome.DEAD,
        Outcome.EXPIRED,
        Outcome.INVALID,
        Outcome.REFUSED,
        Outcome.UNSTARTABLE,
    }
)
"""The outcomes of a job that was not done and should have been; ``aborted`` and ``cancelled`` are as intended."""


class Reason(Enum):
    """Why sqsjkr ends a command that has not ended by itself, and the outcome that this gives its delivery."""

    STOP = ("the worker is stopping", Outcome.INTERRUPTED)
    LEASE = ("lease lost", Outcome.INTERRUPTED)
    LAUNCHER = ("the launcher is dead", Outcome.INTERRUPTED)
    TIMEOUT = ("its time limit is over", Outcome.TIMED_OUT)
    CANCEL = ("cancelled", Outcome.CANCELLED)
    REQUEUE = ("sent back to the queue", Outcome.INTERRUPTED)

    def __init__(self, text: str, outcome: Outcome) -> None:
        self.text = text
        self.outcome = outcome


@dataclass(slots=True, kw_only=True)
class Exit:
    """How a command ended: what the command itself knows, to which its runner adds the rest."""

    status: int
    """The exit code, or the negative number of the signal that ended it."""
    reason: Reason | None = None
    """Why sqsjkr ended it; None if it ended by itself."""
    by: str = ""
    """The operator by whose order; "" if nobody's."""
    ran: bool = True
    """False if it was ended before it began."""
    seconds: float = 0.0
    """From its start to the end of all that was waited for."""
    cpu: float = 0.0
    """User and system seconds of the command's first process and the children it waited for."""
    max_rss: int = 0
    """Bytes: the most memory that one of them had resident. What sqsjkr itself has is the least that it can say."""
    printed: int = 0
    """Bytes that the command printed until its end."""
    leftovers: bool = False
    """A process in the background still holds the output open."""
    tail: str = field(default="", repr=False)
    """The last of what it printed."""


@dataclass(frozen=True, slots=True)
class NotStarted:
    """A command that could not be started."""

    detail: str
    again: bool
    """The host was short of something, so another try may succeed."""


_BY_OUTCOME = cast("Settlement", None)


@dataclass(frozen=True, slots=True)
class Ending:
    """One delivery's outcome, with details for the log and the dead-letter queue."""

    outcome: Outcome
    detail: str = ""
    """A few words: "exit status 3 in 0.20s", "lock_id=report is held by ..."."""
    delay: float = 0.0
    """Seconds until the message may be delivered again, if it goes back."""
    tail: str = field(default="", repr=False)
    """The last of what the command printed, where that helps."""
    exit: Exit | None = None
    """How the command ended; None if it did not run."""
    failures: int | None = None
    """How often its job has failed by now, if it has been judged."""
    due: float | None = None
    """The age of the message, in seconds, from which the job may run again, if it was put off."""
    holder: Holder | None = None
    """Who holds the lock that the job could not have, if that is known."""
    settlement: Settlement = _BY_OUTCOME
    """What becomes of the message: as the outcome's row says, unless something else is given."""

    def __post_init__(self) -> None:
        """Take the settlement from the outcome's row where none is given."""
        if self.settlement is _BY_OUTCOME:
            object.__setattr__(self, "settlement", self.outcome.settlement)

    @property
    def is_crash(self) -> bool:
        """True if the daemon is dying around its job: whoever takes its claim over will count that."""
        return self.exit is not None and self.exit.reason is Reason.LAUNCHER and self.exit.ran

    @property
    def has_ended(self) -> bool:
        """True if its job never runs again, whatever happens to the message."""
        return self.outcome.settlement is Settlement.DELETE or self.outcome is Outcome.DEAD

    @property
    def is_final(self) -> bool:
        """True if the message leaves the queue for good."""
        return self.settlement is Settlement.DELETE or self.settlement is Settlement.BURY
