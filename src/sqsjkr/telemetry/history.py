"""History: what is kept of each run, the port of where it is kept, and the observer that passes it on.

Never an environment, never a body. No job waits for it: what cannot be written is dropped, counted, and said once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum

from sqsjkr import clock
from sqsjkr.attempt import Attempt
from sqsjkr.outcome import FAILURES, Ending, Outcome, Settlement
from sqsjkr.runs import Run
from sqsjkr.telemetry.events import Event, emit
from sqsjkr.telemetry.observer import Observer

LONGEST_LAST_LINE = 80
"""Characters of the last line of a failure's output that lists show."""
_AGAIN = frozenset({Outcome.RETRIED, Outcome.DEFERRED})
_FAILED = frozenset(outcome.label for outcome in FAILURES)


class Keep(StrEnum):
    """Of which runs something is kept."""

    ALL = "all"
    FAILURES = "failures"
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What is kept of a run."""

    runs: Keep = Keep.ALL
    """Whose facts."""
    output: Keep = Keep.FAILURES
    """The end of whose output."""
    days: float = 14.0
    """For how long."""

    @property
    def seconds(self) -> float:
        """For how long, in seconds; 0.0 if nothing is kept."""
        return 0.0 if self.runs is Keep.NONE else 86_400.0 * self.days

    def at_claim(self, run: Run) -> Run:
        """Return what is noted of a run that begins."""
        return _bare(run) if self.runs is Keep.NONE else run

    def at_end(self, run: Run) -> Run:
        """Return what is noted of a run that has ended."""
        if not self.keeps(run):
            return _bare(run)
        keeps_output = self.output is Keep.ALL or (self.output is Keep.FAILURES and has_failed(run))
        return run if keeps_output or not run.output else replace(run, output="")

    def keeps(self, run: Run) -> bool:
        """Whether anything is kept of a run that has ended."""
        return self.runs is Keep.ALL or (self.runs is Keep.FAILURES and has_failed(run))


class HistoryStore(ABC):
    """Keeps the endings of jobs for viewers. No verb raises, and none but ``close`` waits."""

    def __init__(self) -> None:
        self.rules = Rules()
        """What is kept; set by the wiring."""
        self.dropped = 0
        """Entries that could not be written, each after one retry."""
        self._missing = 0

    @abstractmethod
    def ended(self, run: Run, *, claimed: bool = True, confirmed: bool = False) -> None:
        """Keep how a job has ended; its claim, if it is ``claimed``, gets the facts, too.

        But not if that was ``confirmed`` before the end.
        """

    @abstractmethod
    def went_back(self, run: Run) -> None:
        """Keep an attempt that was cut off: its job runs again, and its claim's row is gone."""

    @abstractmethod
    def tried(self, run: Run) -> None:
        """Keep that an attempt has failed and its job is tried again, so that the job is found by its name meanwhile.

        Its claim's row has the rest.
        """

    async def open(self) -> None:
        """Called once, when the table is open."""

    @abstractmethod
    async def close(self) -> None:
        """Write what was not written yet, as far as that goes at once."""

    def lost(self, number: int, why: object) -> None:
        """Count entries that could not be written; say so at the first of them."""
        self.dropped += number
        if not self._missing:
            text = f"endings are missing in the history, jobs are not affected: {why}"
            emit(Event.HISTORY_DROPPED, " ".join(text.split()))
        self._missing += number

    def written(self) -> None:
        """Note that an entry could be written."""
        if self._missing:
            emit(Event.HISTORY_RECOVERED, f"the history is written again; {self._missing} entries are missing")
            self._missing = 0


class NoHistory(HistoryStore):
    """Keeps nothing: for a worker whose throttler is not a table."""

    def ended(self, run: Run, *, claimed: bool = True, confirmed: bool = False) -> None:
        """Forget it."""

    def went_back(self, run: Run) -> None:
        """Forget it."""

    def tried(self, run: Run) -> None:
        """Forget it."""

    async def close(self) -> None:
        """There is nothing to write."""


class History(Observer):
    """Has each job's ending kept once, and each attempt that was cut off."""

    def __init__(self, store: HistoryStore, *, now: Callable[[], float] = clock.now) -> None:
        self._store = store
        self._now = now

    def ended(self, attempt: Attempt, ending: Ending) -> None:
        """Keep an end of a job, or of an attempt; of what is only settled (a copy, or an end told late), nothing."""
        if ending.outcome is Outcome.DUPLICATE or attempt.owed is not None:
            return
        cut_off = ending.outcome is Outcome.INTERRUPTED and ending.exit is not None
        goes_on = cut_off or ending.outcome in _AGAIN
        if not (goes_on or ending.has_ended or ending.settlement is Settlement.BURY):
            return
        run = self._store.rules.at_end(attempt.run(self._now(), ending))
        if not run.outcome:  # nothing is to be kept of it
            return
        if cut_off:
            self._store.went_back(run)
        elif goes_on:
            self._store.tried(run)
        else:
            self._store.ended(run, claimed=attempt.begun is not None, confirmed=attempt.deleted)


def has_failed(run: Run) -> bool:
    """Whether a run has ended as a failure: what should have been done was not (``outcome.FAILURES``)."""
    return run.outcome in _FAILED


def last_line(output: str) -> str:
    """Return the last line of an output that is not empty, as far as a list shows it."""
    lines = output[-4 * LONGEST_LAST_LINE :].rstrip().splitlines()
    return lines[-1].strip()[:LONGEST_LAST_LINE] if lines else ""


def _bare(run: Run) -> Run:
    return Run(message_id=run.message_id, claim_key=run.claim_key)
