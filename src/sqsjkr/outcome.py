"""Every way a delivery can end, and what each does to its message. Stats, log levels and docs come from this list."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from enum import Enum


class Settlement(Enum):
    """What becomes of a message."""

    DELETE = "delete"
    """It leaves the queue: its job has ended by itself or was refused for good."""
    RETRY = "retry"
    """It goes back and is delivered again, after a delay."""
    BURY = "bury"
    """It goes to the dead-letter queue with the reason; without one it stays, hidden for an hour at a time."""
    KEEP = "keep"
    """It stays here, hidden from others, and is tried again: its job waits for a lock."""


class Counter(Enum):
    """The three counters of ``/stats/metrics/v2`` with the original's meaning (go-semantics section 6)."""

    SUCCEEDED = "succeeded"
    """The command exited 0."""
    FAILED = "failed"
    """The command was never started and never will be."""
    ERRORED = "errored"
    """The command started and exited non-zero or by a signal of somebody else's."""


class Outcome(Enum):
    """How one delivery ended. An ending cannot be added without deciding the fate of its message."""

    SUCCEEDED = ("succeeded", Settlement.DELETE, Counter.SUCCEEDED, logging.INFO)
    ERRORED = ("errored", Settlement.DELETE, Counter.ERRORED, logging.ERROR)
    EXPIRED = ("expired", Settlement.DELETE, Counter.FAILED, logging.WARNING)
    ABORTED = ("aborted", Settlement.DELETE, Counter.FAILED, logging.WARNING)
    DUPLICATE = ("duplicate", Settlement.DELETE, None, logging.WARNING)
    INVALID = ("invalid", Settlement.BURY, Counter.FAILED, logging.ERROR)
    UNSTARTABLE = ("unstartable", Settlement.BURY, Counter.FAILED, logging.ERROR)
    LOCKED = ("locked", Settlement.KEEP, None, logging.INFO)
    BUSY = ("busy", Settlement.KEEP, None, logging.INFO)
    CROWDED = ("crowded", Settlement.RETRY, None, logging.INFO)
    INTERRUPTED = ("interrupted", Settlement.RETRY, None, logging.WARNING)
    STARVED = ("starved", Settlement.RETRY, None, logging.ERROR)
    BROKEN = ("broken", Settlement.RETRY, None, logging.ERROR)
    UNANSWERED = ("unanswered", Settlement.RETRY, None, logging.DEBUG)

    def __init__(self, label: str, settlement: Settlement, counter: Counter | None, level: int) -> None:
        self.label = label
        self.settlement = settlement
        self.counter = counter
        self.level = level


@dataclass(frozen=True, slots=True)
class Ending:
    """One delivery's outcome, and what is worth saying of it."""

    outcome: Outcome
    detail: str = ""
    """A few words for the log and the dead-letter queue: "exit 3", "lock_id=report is held by ..."."""
    delay: float = 0.0
    """Seconds until the message may be seen again, if it goes back."""
    tail: str = field(default="", repr=False)
    """The last of what the command printed, if that is worth showing."""

    @property
    def is_final(self) -> bool:
        """Will the message never be run again?"""
        return self.outcome.settlement in {Settlement.DELETE, Settlement.BURY}
