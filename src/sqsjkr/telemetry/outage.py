"""One log line when trouble begins, one when it is over, and a growing pause in between."""

from __future__ import annotations

import random
from collections.abc import Callable

from sqsjkr import clock
from sqsjkr.telemetry.events import Event, emit

FIRST_PAUSE = 0.5
LONGEST_PAUSE = 20.0


class Outage:
    """A run of failures of one thing (a queue, a table, a disk)."""

    def __init__(
        self,
        what: str,
        begins: Event,
        ends: Event,
        *,
        now: Callable[[], float] = clock.now,
        jitter: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._what = what
        self._begins = begins
        self._ends = ends
        self._now = now
        self._jitter = jitter
        self._failures = 0
        self._since = 0.0

    def failed(self, why: object) -> float:
        """Count a failure; the seconds to wait before the next try (full jitter, 0.25 s to 20 s)."""
        if not self._failures:
            self._since = self._now()
            emit(self._begins, f"{self._what}: {why} (tried again with growing pauses until it answers)")
        self._failures += 1
        most = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(self._failures, 10))
        return self._jitter(most / 4, most)

    def over(self) -> None:
        """It answered. Says so if it had not before."""
        if self._failures:
            took = self._now() - self._since
            emit(self._ends, f"{self._what}: answers again after {took:.1f}s and {self._failures} failures")
            self._failures = 0

    def __bool__(self) -> bool:
        return self._failures > 0
