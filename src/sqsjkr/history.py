"""Port: where the endings of jobs are kept, and what is kept of each. Never an environment, never a body.

History is an observer: no job waits for it, and what cannot be written is dropped, counted, and said.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from sqsjkr.outcome import FAILURES
from sqsjkr.runs import Run

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

    def at_claim(self, run: Run) -> Run:
        """Return what is noted of a run that begins."""
        return _bare(run) if self.runs is Keep.NONE else run

    def at_end(self, run: Run) -> Run:
        """Return what is noted of a run that has ended."""
        if not self.keeps(run):
            return _bare(run)
        if self.output is Keep.NONE or (self.output is Keep.FAILURES and not has_failed(run)):
            return replace(run, output="")
        return run

    def keeps(self, run: Run) -> bool:
        """Whether anything is kept of a run that has ended."""
        return self.runs is Keep.ALL or (self.runs is Keep.FAILURES and has_failed(run))


def has_failed(run: Run) -> bool:
    """Whether a run has ended as a failure: what should have been done was not (``outcome.FAILURES``)."""
    return run.outcome in _FAILED


def _bare(run: Run) -> Run:
    return Run(message_id=run.message_id, claim_key=run.claim_key)
