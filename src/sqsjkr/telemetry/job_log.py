"""The log lines about jobs: started, what they print, ended, waiting."""

from __future__ import annotations

import logging
from typing import Any

from sqsjkr import clock
from sqsjkr.attempt import Attempt
from sqsjkr.outcome import Ending, Outcome, Settlement
from sqsjkr.runs import Holder
from sqsjkr.telemetry.events import Event, emit, says
from sqsjkr.telemetry.observer import Observer

_WAITERS_REMEMBERED = 10_000
_HOLDER_AGAIN = 60.0
"""Seconds after a waiter's line in which a new holder of its lock gets no line of its own."""


class JobLog(Observer):
    """Writes the lines of docs/reference/log-events.md that begin with ``job.``."""

    def __init__(self) -> None:
        self._waiting: dict[str, tuple[Holder | None, float]] = {}
        """By message id: the holder that was logged last, and when (``clock.now``)."""

    def started(self, attempt: Attempt, command: str) -> None:
        """Log the command, shortened, its lock, and how long its message waited."""
        message, lock_id = attempt.message, attempt.job.lock_id if attempt.job else ""
        waited = message.age_at(clock.now())
        facts = [] if attempt.name == message.id else [f"message {message.id}"]
        facts += [f"lock_id={lock_id}"] if lock_id else []
        facts += [f"waited {waited:.1f}s", f"delivery {message.receive_count}"]
        emit(
            Event.JOB_STARTED,
            f"{attempt.label}: {shorten(command)} ({', '.join(facts)})",
            about=lambda: attempt.facts | {"command": shorten(command, 1000)} | _delivered(attempt, waited),
        )

    def printed(self, attempt: Attempt, line: str) -> None:
        """Log one line of output."""
        emit(Event.JOB_OUTPUT, f"{attempt.label}: {line}", about=lambda: attempt.facts)

    def cut(self, attempt: Attempt, size: int) -> None:
        """Log how much output was not."""
        text = f"{attempt.label}: {size} bytes came too fast to be logged"
        emit(Event.JOB_OUTPUT_CUT, text, **attempt.facts, bytes=size)

    def ended(self, attempt: Attempt, ending: Ending) -> None:
        """Log the outcome, or that a job waits."""
        if ending.settlement is Settlement.KEEP:
            self._waits(attempt, ending)
            return
        outcome, now = ending.outcome, clock.now()
        self._waiting.pop(attempt.message.id, None)
        event = Event.JOB_REFUSED if outcome is Outcome.REFUSED else Event.JOB_ENDED
        text = f"{attempt.label}: {_told(attempt, ending)}"
        emit(event, text, level=outcome.level, about=lambda: _of_end(attempt, ending, now), outcome=outcome.label)
        if ending.tail and not says("info"):  # else its lines stand above already
            for line in ending.tail.splitlines():
                emit(Event.JOB_OUTPUT, f"{attempt.label}: {line}", level=outcome.level, **attempt.facts)

    def _waits(self, attempt: Attempt, ending: Ending) -> None:
        """Log a waiting job at info once, and when the lock has a new holder; at debug in between."""
        now, message = clock.now(), attempt.message
        known, logged = self._waiting.get(message.id, (None, float("-inf")))
        is_news = now - logged > _HOLDER_AGAIN and (logged == float("-inf") or ending.holder != known)
        if is_news:
            self._remember(message.id, ending.holder, now)
        emit(
            Event.JOB_WAITING,
            f"{attempt.label}: {ending.detail}",
            level=None if is_news else logging.DEBUG,
            **attempt.facts,
            outcome=ending.outcome.label,
            **_delivered(attempt, message.age_at(now)),
            **_of_holder(ending.holder),
        )

    def _remember(self, message_id: str, holder: Holder | None, now: float) -> None:
        self._waiting[message_id] = holder, now
        if len(self._waiting) > _WAITERS_REMEMBERED:  # those went back to the queue and ended elsewhere
            del self._waiting[next(iter(self._waiting))]


def _told(attempt: Attempt, ending: Ending) -> str:
    """Return an ending in words; with the whole message id where no ``job.started`` has given it."""
    colon = ":" if ending.outcome is Outcome.REFUSED else ""
    text = f"{ending.outcome.label}{colon} {ending.detail}"
    if ending.exit is not None or attempt.name == attempt.message.id:
        return text
    return f"{text} (message {attempt.message.id})"


def _delivered(attempt: Attempt, waited: float) -> dict[str, Any]:
    message = attempt.message
    return {
        "delivery": message.receive_count,
        "waited": round(waited, 3),
        "sender": message.sender or None,
        **attempt.audit,
    }


def _of_end(attempt: Attempt, ending: Ending, now: float) -> dict[str, Any]:
    """Return what a machine may want to know of an end at ``now``, beside the text."""
    end = ending.exit
    took = end.seconds if end is not None else 0.0
    facts = attempt.facts | _delivered(attempt, attempt.message.age_at(now) - took) | _of_holder(ending.holder)
    if end is not None:
        facts |= {
            "exit_status": end.status if end.status >= 0 else None,
            "signal": -end.status if end.status < 0 else None,
            "seconds": round(end.seconds, 3),
            "cpu_seconds": round(end.cpu, 3),
        }
    return facts


def _of_holder(holder: Holder | None) -> dict[str, Any]:
    """Return who holds the lock, as far as that is known."""
    if holder is None:
        return {}
    return {
        "holder_event_id": holder.event_id or None,
        "holder_message_id": holder.message_id or None,
        "holder_host": holder.host or None,
        "holder_session": holder.session or None,
        "holder_since": holder.since_text or None,
    }


def shorten(text: str, most: int = 200) -> str:
    """Return one line's worth of a command."""
    return text if len(text) <= most else f"{text[:most]}..."
