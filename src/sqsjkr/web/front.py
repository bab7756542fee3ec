"""What others may ask about a worker over HTTP, from the first moment of its start."""

from __future__ import annotations

from typing import Protocol

from sqsjkr.metrics.board import Board


class Health(Protocol):
    """The part of a worker that knows how it is. Each answer is on one line."""

    def unhealthy_reason(self) -> str | None:
        """Why it can't work just now; None if it can."""

    def stuck_reason(self) -> str | None:
        """What a restart would cure; None if it would cure nothing."""


class Start(Protocol):
    """The part of a start that knows how it goes."""

    @property
    def waits_for(self) -> str:
        """What does not answer yet and why, on one line; "" if nothing failed."""


class Front:
    """Answers for the worker; before there is one, for its start. Holds the board on which its metrics are read."""

    def __init__(self, start: Start) -> None:
        self._start = start
        self.worker: Health | None = None
        self.board = Board()

    def unhealthy_reason(self) -> str | None:
        """Return why no jobs are taken just now; None if they are."""
        if self.worker is None:
            return self._start.waits_for or "the worker is starting"
        return self.worker.unhealthy_reason()

    def stuck_reason(self) -> str | None:
        """Return what a restart would cure; None if nothing: a new process would wait for the same answers."""
        return self.worker.stuck_reason() if self.worker else None
