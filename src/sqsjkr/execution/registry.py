"""The registry of running attempts: what has a reason to end, ends here, and nowhere else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from sqsjkr.attempt import Attempt
from sqsjkr.leases.budget import LeaseBudget
from sqsjkr.leases.proof import Proof
from sqsjkr.outcome import Reason
from sqsjkr.telemetry.events import Event, emit

ORDERS = 100
"""Orders that are remembered for attempts that do not run yet."""


class Endable(Protocol):
    """A command, as far as the registry knows it."""

    @property
    def interrupted(self) -> Reason | None:
        """Why it is being ended; None if it is not."""

    def interrupt(self, reason: Reason, *, kill_after: float) -> None:
        """Send TERM now, and KILL after ``kill_after`` seconds; called again, it can only be hurried."""


@dataclass(frozen=True, slots=True)
class _Running:
    attempt: Attempt
    command: Endable
    deadline: float


class Registry:
    """Every attempt whose command runs. Ends them all for one reason, or each when its lease or its time is over."""

    def __init__(self, proof: Proof, *, budget: LeaseBudget, kill_after: float) -> None:
        self._proof = proof
        self._budget = budget
        self._kill_after = kill_after
        self._running: dict[Attempt, _Running] = {}
        self._ending: tuple[Reason, float] | None = None
        self._ordered: dict[str, tuple[Reason, str]] = {}
        self._lost_since = 0.0

    def enter(self, attempt: Attempt, command: Endable, *, deadline: float = float("inf")) -> None:
        """Add an attempt whose command is about to start, to be ended at ``deadline`` (``clock.now``) at the latest."""
        self._running[attempt] = _Running(attempt, command, deadline)
        if self._ending:  # it was on its way while the others were ended
            command.interrupt(self._ending[0], kill_after=self._ending[1])
        elif attempt.id in self._ordered:
            self.order(attempt.id, *self._ordered.pop(attempt.id))

    def order(self, attempt_id: str, reason: Reason, by: str) -> None:
        """End one attempt by an operator's order; one whose command has not started yet, when it does."""
        for attempt, running in self._running.items():
            if attempt.id == attempt_id:
                if running.command.interrupted is None:
                    attempt.ordered_by = by
                    text = f"{attempt.name}: {reason.text} by {by}"
                    emit(Event.ORDER_OBEYED, text, message_id=attempt.message.id, event_id=attempt.name, by=by)
                running.command.interrupt(reason, kill_after=self._kill_after)
                return
        self._ordered[attempt_id] = reason, by
        if len(self._ordered) > ORDERS:  # of attempts that had ended
            del self._ordered[next(iter(self._ordered))]

    def running(self) -> list[Attempt]:
        """Return every attempt whose command runs, in the order of their starts."""
        return list(self._running)

    def leave(self, attempt: Attempt) -> None:
        """Remove an attempt whose command has ended."""
        del self._running[attempt]

    def end_all(self, reason: Reason, *, at_once: bool = False) -> None:
        """End every running command, and what is on its way to its start: TERM, then KILL; or KILL at once."""
        self._ending = reason, 0.0 if at_once else self._kill_after
        for running in self._running.values():
            running.command.interrupt(reason, kill_after=self._ending[1])

    def end_overdue(self, now: float) -> float:
        """End what can no longer be proven to run only here, and what has run out of time.

        Returns when the next locked job is due, for the launcher: every process of a locked job must be gone before
        another worker may take its lock over (docs/explanation/leases.md).
        """
        soonest = float("inf")
        for running in self._running.values():
            proven = self._proof.until(running.attempt)
            if running.attempt.locked:
                soonest = min(soonest, proven)
            if now >= proven:
                self._end_unproven(running)
            elif now >= running.deadline:
                running.command.interrupt(Reason.TIMEOUT, kill_after=self._kill_after)
        if soonest > float("-inf"):
            self._lost_since = 0.0
            return soonest
        self._lost_since = self._lost_since or now  # lapsed, although a later beat got through: it counts from here
        return self._lost_since

    def _end_unproven(self, running: _Running) -> None:
        command = running.command
        is_new = command.interrupted is None
        command.interrupt(Reason.LEASE, kill_after=min(self._budget.kill_patience, self._kill_after))
        if is_new and command.interrupted is not None:  # else it has ended by itself, and that is not reported yet
            attempt = running.attempt
            text = f"{attempt.label}: ending it, since its lease can't be proven any more"
            emit(Event.LEASE_LOST, text, **attempt.facts)
