"""How many a second."""

from __future__ import annotations

import time
from collections.abc import Callable


class Rate:
    """Jobs that ended a second, over about the last second."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._since = now()
        self._count = 0
        self._rate = 0.0

    def count(self) -> None:
        """One more has ended."""
        self._count += 1

    def now(self) -> float:
        """The rate."""
        span = self._now() - self._since
        if span >= 0.5:  # noqa: PLR2004 - short enough to follow, long enough to count
            self._rate, self._count, self._since = self._count / span, 0, self._now()
        return max(self._rate, self._count / max(span, 0.5))
