"""One log line when trouble begins, one when it is over, and growing pauses in between."""

from __future__ import annotations

import random
from collections.abc import Callable

from sqsjkr import clock
from sqsjkr.telemetry.events import Event, emit

FIRST_PAUSE = 0.5


class Outage:
    """A run of failures of one thing: a queue, a table, the start of jobs. True while it lasts.

    The log says once that ``subject`` fails, and once that it works again, in the words of ``over``.
    """

    def __init__(
        self,
        subject: str,
        begins: Event,
        ends: Event,
        *,
        over: str = "answers again",
        longest_pause: float = 20.0,
        now: Callable[[], float] = clock.now,
        jitter: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._subject = subject
        self._begins = begins
        self._ends = ends
        self._over = over
        self._longest_pause = longest_pause
        self._now = now
        self._jitter = jitter
        self._failures = 0
        self._why = ""
        self.since = 0.0
        """When it began, on ``clock.now``."""

    @property
    def reason(self) -> str:
        """What failed and why, on one line; "" while nothing does."""
        return f"{self._subject}: {self._why}" if self._failures else ""

    def has_said(self, why: object) -> bool:
        """Return whether it lasts, and for just this reason."""
        return bool(self._failures) and self._why == _on_one_line(why)

    def failed(self, why: object) -> float:
        """Count a failure; return the seconds to wait before the next try (full jitter, growing to the longest)."""
        self._why = _on_one_line(why)
        self._failures += 1
        if self._failures == 1:
            self.since = self._now()
            emit(self._begins, f"{self.reason}; retrying with growing pauses")
        most = min(self._longest_pause, FIRST_PAUSE * 2 ** min(self._failures, 10))
        return self._jitter(most / 4, most)

    def ended(self) -> None:
        """End the outage, if there is one, and log that."""
        if self._failures:
            tries = "1 failure" if self._failures == 1 else f"{self._failures} failures"
            emit(self._ends, f"{self._subject} {self._over} after {self._now() - self.since:.1f}s ({tries})")
            self._failures = 0

    def __bool__(self) -> bool:
        return self._failures > 0


def _on_one_line(why: object) -> str:
    return " ".join(str(why).split())
