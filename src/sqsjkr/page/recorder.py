"""What the page has seen while it ran: slots over the last hour. The table keeps no such history, and needs none."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from sqsjkr.views.model import ScaleSignal

KEPT = 3600.0
"""Seconds."""
EVERY = 4.0
"""Seconds between two points at least: several browsers may look at the same time."""


@dataclass(frozen=True, slots=True)
class Point:
    """The fleet's slots at one moment (seconds since 1970)."""

    at: float
    busy: int
    slots: int
    wanted: int


class Recorder:
    """Keeps a point for each look, for an hour."""

    def __init__(self) -> None:
        self._points: deque[Point] = deque()

    def note(self, at: float, signal: ScaleSignal) -> None:
        """Keep what was seen, unless the last point is younger than ``EVERY``."""
        if self._points and at - self._points[-1].at < EVERY:
            return
        self._points.append(Point(at, signal.busy, signal.slots, signal.wanted_slots))
        while self._points and self._points[0].at < at - KEPT:
            self._points.popleft()

    @property
    def points(self) -> list[Point]:
        """All that is kept, the oldest first."""
        return list(self._points)
