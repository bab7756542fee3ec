"""The brake: the one place that knows why no new jobs are taken just now.

The gate pulls it when locks and claims can't be checked, the runner when the host can't start processes; the log's disk
and the launcher are looked at. The backlog asks it how much may be taken, ``/healthz`` asks it why nothing is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from sqsjkr import clock
from sqsjkr.telemetry.events import Event, emit
from sqsjkr.telemetry.outage import Outage


class Health(Protocol):
    """What the brake looks at: the log, and what starts the jobs' processes."""

    @property
    def failure(self) -> str | None:
        """Why it does not do its work, on one line; None while it does."""


class Brake:
    """Holds new jobs back for as long as one of its reasons lasts.

    ``table`` is the outage of whatever keeps locks and claims. If ``table_is_probed``, heartbeats find out when it is
    over, and no message is taken meanwhile; else one message at a time must find out.
    """

    def __init__(
        self,
        table: Outage,
        host: Outage,
        *,
        log: Health | None,
        table_is_probed: bool,
        spawner: Health | None = None,
    ) -> None:
        self._table = table
        self._host = host
        self._log = log
        self._spawner = spawner
        self._table_is_probed = table_is_probed
        self._log_pause = _Pause()
        self._spawner_pause = _Pause()
        self._settling = _Pause()
        self._retry_at = 0.0
        self._paused_at = 0.0
        self.paused = ""
        """Why an operator holds new jobs back, on one line; "" if none does. The worker is well meanwhile."""

    def pause(self, why: str) -> None:
        """Hold, until ``resume``: an operator has ordered it."""
        self._paused_at = self._paused_at if self.paused else clock.now()
        self.paused = why

    def resume(self) -> None:
        """Go on: no operator's order holds new jobs back."""
        self.paused = ""

    def table_failed(self, why: object) -> None:
        """Hold: a lock or claim could not be checked."""
        self._retry_at = clock.now() + self._table.failed(why)

    def table_answered(self) -> None:
        """Go on: locks and claims can be checked."""
        self._table.ended()

    def host_failed(self, why: object) -> None:
        """Hold: the host could not start a process."""
        self._retry_at = clock.now() + self._host.failed(why)

    def host_recovered(self) -> None:
        """Go on: the host started a process."""
        self._host.ended()

    def look(self) -> None:
        """Notice whether the log can be written and the launcher answers, and say so when that changes."""
        self._log_pause.because(_failure_of(self._log) or "")
        self._spawner_pause.because(_failure_of(self._spawner) or "")

    def unsettled(self, why: str) -> None:
        """Hold while too many ended jobs can't be recorded in queue or table, ``why``; go on for ""."""
        self._settling.because(why)

    @property
    def reasons(self) -> Mapping[str, str | None]:
        """Everything that may hold jobs back, and why it does, on one line; "" or None for what does not."""
        spawn = self._host.reason or _failure_of(self._spawner)
        return {"table": self._table.reason, "spawn": spawn, "log": _failure_of(self._log)}

    @property
    def reason(self) -> str | None:
        """Why no new jobs are taken, on one line; None if they are."""
        return next(filter(None, (*self.reasons.values(), self._settling.reason)), None)

    @property
    def held_since(self) -> float:
        """Since when jobs are held back, on ``clock.now``; infinity if they are not."""
        causes = self._table, self._host, self._log_pause, self._spawner_pause, self._settling
        since = [cause.since for cause in causes if cause] + ([self._paused_at] if self.paused else [])
        return min(since, default=float("inf"))

    def allows(self, messages: int) -> int:
        """Return how many of these messages may be asked for now."""
        pauses = self.paused, self._log_pause, self._spawner_pause, self._settling
        if any(pauses) or (self._table and self._table_is_probed):
            return 0
        if self._table or self._host:
            return min(messages, 1) if clock.now() >= self._retry_at else 0
        return messages


def _failure_of(what: Health | None) -> str | None:
    return what.failure if what else None


class _Pause:
    """A time in which no new jobs are taken, logged when it begins and when it is over. True while it lasts."""

    def __init__(self) -> None:
        self.reason = ""
        self.since = 0.0

    def because(self, reason: str) -> None:
        """Begin for a reason, or end for none."""
        was, self.reason = self.reason, reason
        if reason and not was:
            self.since = clock.now()
            emit(Event.WORKER_PAUSED, f"no new jobs: {reason}")
        elif was and not reason:
            emit(Event.WORKER_RESUMED, f"new jobs again after {clock.now() - self.since:.1f}s; it was: {was}")

    def __bool__(self) -> bool:
        return bool(self.reason)
