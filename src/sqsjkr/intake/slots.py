"""Slots: how many jobs may run at once, how many do, and how fast they come free."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType

from sqsjkr import clock
from sqsjkr.telemetry.stats import Stats


class Slots:
    """``count`` slots. ``take`` one for each job that starts; it comes free at the end of ``async with slot``.

    ``changed`` is set whenever a slot comes free.
    """

    def __init__(self, count: int, stats: Stats, changed: asyncio.Event) -> None:
        self.count = count
        self.unsettled = 0
        """Jobs that were started and whose messages are not settled yet; the worker keeps it."""
        self.full_since = float("inf")
        """Since when no slot is free, on ``clock.now``; infinity while one is."""
        self._stats = stats
        self._changed = changed
        self._rate = Rate()

    @property
    def free(self) -> int:
        """How many jobs may start now."""
        return self.count - self._stats.busy

    @property
    def busy(self) -> int:
        """How many jobs run now."""
        return self._stats.busy

    @property
    def rate(self) -> float:
        """Completed jobs per second, over about the last second."""
        return self._rate.now()

    def take(self) -> Slot:
        """Occupy a slot. Ask for ``free`` ones first."""
        self._stats.busy += 1
        if not self.free:
            self.full_since = clock.now()
        return Slot(self)

    def release(self) -> None:
        """Free a slot: the end of ``async with slot``."""
        self._stats.busy -= 1
        self.full_since = float("inf")
        self._rate.count()
        self._changed.set()


class Slot:
    """One occupied slot: ``async with slot`` around the time in which a process of the job may run."""

    __slots__ = ("_slots",)

    def __init__(self, slots: Slots) -> None:
        self._slots = slots

    async def __aenter__(self) -> None:
        """It is occupied already, since the worker counts it before the job's task begins."""

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._slots.release()


class Rate:
    """Counts completions per second, over about the last second."""

    def __init__(self, now: Callable[[], float] = clock.now) -> None:
        self._now = now
        self._since = now()
        self._count = 0
        self._rate = 0.0

    def count(self) -> None:
        """Count one completion."""
        self._count += 1

    def now(self) -> float:
        """Return the rate."""
        span = self._now() - self._since
        if span >= 0.5:  # noqa: PLR2004 - short enough to follow, long enough to count
            self._rate, self._count, self._since = self._count / span, 0, self._now()
        return max(self._rate, self._count / max(span, 0.5))
