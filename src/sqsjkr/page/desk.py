"""What an operator looks at: the read model, seen through one pair of eyes for all browsers that are open."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqsjkr import clock
from sqsjkr.page.recorder import Recorder
from sqsjkr.views.dead_letters import DeadLetters, Look
from sqsjkr.views.picture import Picture
from sqsjkr.views.viewer import Viewer

FRESH = 2.0
"""Seconds for which one picture serves all that look: several browsers cost no more than one."""


class NoDeadLetters(Exception):
    """The queue has no dead-letter queue."""


class Desk:
    """Looks at the fleet, and into the dead-letter queue (``dead``; None if there is none)."""

    def __init__(self, viewer: Viewer, dead: DeadLetters | None) -> None:
        self.viewer = viewer
        self.recorder = Recorder()
        self._dead = dead
        self._picture: Picture | None = None
        self._taken_at = 0.0
        self._taking = asyncio.Lock()
        self._opening = asyncio.Lock()

    async def picture(self) -> Picture:
        """Look at the fleet; what another browser has just seen is good enough."""
        async with self._taking:
            if self._picture is None or clock.now() - self._taken_at > FRESH:
                self._picture = await self.viewer.picture()
                self._taken_at = clock.now()
                self.recorder.note(self._picture.at, self._picture.scale)
            return self._picture

    def forget(self) -> None:
        """Look anew next time: something was ordered."""
        self._picture = None

    @asynccontextmanager
    async def letters(self) -> AsyncIterator[Look]:
        """Look into the dead-letter queue; one look at a time, since each hides what it sees from the others.

        Raises ``NoDeadLetters``.
        """
        if self._dead is None:
            raise NoDeadLetters("the queue has no dead-letter queue; next: sqsjkr setup")
        async with self._opening, Look(self._dead) as look:
            yield look
