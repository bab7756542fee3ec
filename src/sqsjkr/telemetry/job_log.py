"""The log lines about jobs: started, what they print, ended, waiting, returned."""

from __future__ import annotations

import logging
from typing import Any

from sqsjkr import clock
from sqsjkr.attempt import Attempt
from sqsjkr.outcome import Ending, Outcome, Settlement
from sqsjkr.telemetry.events import Event, emit, says
from sqsjkr.telemetry.observer import Observer

_WAITERS_REMEMBERED = 10_000


class JobLog(Observer):
    """Writes the lines of docs/reference/log-events.md that begin with ``job.``."""

    def __init__(self) -> None:
        self._waiting: dict[str, None] = {}

    def started(self, attempt: Attempt, command: str) -> None:
        """Log the command, shortened, and how long its message waited."""
        message = attempt.message
        waited = message.age_at(clock.now())
        emit(
            Event.JOB_STARTED,
            f"{attempt.name}: {shorten(command)} (message {message.id}, waited {waited:.1f}s, "
            f"delivery {message.receive_count})",
            message_id=message.id,
            event_id=attempt.name,
            lock_id=(attempt.job.lock_id if attempt.job else "") or None,
            sender=message.sender or None,
            **attempt.audit,
        )

    def printed(self, attempt: Attempt, line: str) -> None:
        """Log one line of output."""
        emit(
            Event.JOB_OUTPUT,
            f"{attempt.name}: {line}",
            message_id=attempt.message.id,
            event_id=attempt.name,
        )

    def cut(self, attempt: Attempt, size: int) -> None:
        """Log how much output was not."""
        text = f"{attempt.name}: {size} bytes came too fast to be logged"
        emit(Event.JOB_OUTPUT_CUT, text, message_id=attempt.message.id, event_id=attempt.name)

    def ended(self, attempt: Attempt, ending: Ending) -> None:
        """Log the outcome; of a job that waits, at info once and at debug from then on."""
        outcome, message_id = ending.outcome, attempt.message.id
        if ending.settlement is Settlement.KEEP:
            level = logging.DEBUG if message_id in self._waiting else None
            self._remember(message_id)
            emit(
                Event.JOB_WAITING,
                f"{attempt.name}: {ending.detail}",
                level=level,
                message_id=message_id,
                event_id=attempt.name,
                outcome=outcome.label,
            )
            return
        self._waiting.pop(message_id, None)
        refused = outcome is Outcome.REFUSED
        emit(
            Event.JOB_REFUSED if refused else Event.JOB_ENDED,
            f"{attempt.name}: {outcome.label}{':' if refused else ''} {ending.detail}",
            level=outcome.level,
            message_id=message_id,
            event_id=attempt.name,
            outcome=outcome.label,
            **_facts(attempt, ending),
        )
        if ending.tail and not says("info"):  # else its lines stand above already
            for line in ending.tail.splitlines():
                emit(
                    Event.JOB_OUTPUT,
                    f"{attempt.name}: {line}",
                    level=outcome.level,
                    message_id=message_id,
                    event_id=attempt.name,
                )

    def _remember(self, message_id: str) -> None:
        self._waiting[message_id] = None
        if len(self._waiting) > _WAITERS_REMEMBERED:  # those went back to the queue and ended elsewhere
            del self._waiting[next(iter(self._waiting))]


def _facts(attempt: Attempt, ending: Ending) -> dict[str, Any]:
    """Return what a machine may want to know of an end, beside the text."""
    message, end = attempt.message, ending.exit
    facts: dict[str, Any] = {
        "lock_id": (attempt.job.lock_id if attempt.job else "") or None,
        "delivery": message.receive_count,
        "sender": message.sender or None,
        **attempt.audit,
    }
    if end is not None:
        facts |= {
            "exit_status": end.status if end.status >= 0 else None,
            "signal": -end.status if end.status < 0 else None,
            "seconds": round(end.seconds, 3),
            "cpu_seconds": round(end.cpu, 3),
            "waited": round(message.age_at(clock.now()) - end.seconds, 3),
        }
    return facts


def shorten(text: str, most: int = 200) -> str:
    """Return one line's worth of a command."""
    return text if len(text) <= most else f"{text[:most]}..."
