"""What an operator looks at: the read model, seen through one pair of eyes for all browsers that are open."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from sqsjkr import clock
from sqsjkr.page.hour import Hour
from sqsjkr.page.recorder import Recorder
from sqsjkr.runs import Run
from sqsjkr.views import recent
from sqsjkr.views.dead_letters import DeadLetters, Look
from sqsjkr.views.model import Verdict
from sqsjkr.views.picture import Picture
from sqsjkr.views.recent import Recent
from sqsjkr.views.verdicts import is_stuck, judge
from sqsjkr.views.viewer import Viewer

FRESH = 2.0
"""Seconds for which one picture serves all that look: several browsers cost no more than one."""
RECENT = 15.0
"""Seconds for which one look at the newest failures serves."""
SECOND_LOOK = 3.0
"""Seconds between two pictures after which messages that are still visible are not being taken."""


class NoDeadLetters(Exception):
    """The queue has no dead-letter queue."""


class Desk:
    """Looks at the fleet, and into the dead-letter queue (``dead``; None if there is none)."""

    def __init__(self, viewer: Viewer, dead: DeadLetters | None) -> None:
        self.viewer = viewer
        self.recorder = Recorder()
        self._dead = dead
        self._hour = Hour()
        self._picture: Picture | None = None
        self._before: Picture | None = None
        """An earlier picture, ``SECOND_LOOK`` older at least."""
        self._taken_at = 0.0
        self._recent = Recent()
        self._judged_at = -RECENT
        self._taking = asyncio.Lock()
        self._opening = asyncio.Lock()

    async def picture(self) -> Picture:
        """Look at the fleet; what another browser has just seen is good enough."""
        async with self._taking:
            if self._picture is None or clock.now() - self._taken_at > FRESH:
                seen = await self.viewer.picture()
                if self._picture is not None and seen.at - self._picture.at >= SECOND_LOOK:
                    self._before = self._picture
                self._picture = seen
                self._taken_at = clock.now()
                self.recorder.note(seen.at, seen.scale)
            return self._picture

    async def verdicts(self) -> Sequence[Verdict]:
        """Say what is wrong, as ``sqsjkr status`` does."""
        seen = await self.picture()
        if clock.now() - self._judged_at >= RECENT:
            self._recent = await recent.look(self.viewer, seen)
            self._judged_at = clock.now()
        stuck = self._before is not None and is_stuck(self._before, seen)
        return judge(seen, self._recent, stuck=stuck)

    async def hour(self) -> Sequence[Run]:
        """Return the endings of the last hour, the newest first."""
        return await self._hour.runs(self.viewer)

    def forget(self) -> None:
        """Look anew next time: something was ordered."""
        self._taken_at = -FRESH

    @asynccontextmanager
    async def letters(self) -> AsyncIterator[Look]:
        """Look into the dead-letter queue; one look at a time, since each hides what it sees from the others.

        Raises ``NoDeadLetters``.
        """
        if self._dead is None:
            raise NoDeadLetters("the queue has no dead-letter queue; next: sqsjkr setup")
        async with self._opening, Look(self._dead) as look:
            yield look
