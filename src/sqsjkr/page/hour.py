"""The endings of the last hour, for plots. Read once, and after that only what is new."""

from __future__ import annotations

import asyncio

from sqsjkr import clock
from sqsjkr.runs import Run
from sqsjkr.views.viewer import Viewer

KEPT = 3600.0
"""Seconds."""
FRESH = 15.0
"""Seconds for which nothing is read: a worker writes its lists twice a minute."""
LATE = 120.0
"""Seconds by which an ending may appear after others that are newer."""
MOST = 20_000
"""Endings that are kept; of a fleet that ends more of them in an hour, the newest."""


class Hour:
    """Keeps the endings of the last hour."""

    def __init__(self) -> None:
        self._runs: dict[tuple[str, float], Run] = {}
        self._until = 0.0
        """Up to where it has been read, on the table's clock."""
        self._read_at = -FRESH
        self._reading = asyncio.Lock()

    async def runs(self, viewer: Viewer) -> list[Run]:
        """Return the endings, the newest first. Raises ``BackendUnavailable``."""
        async with self._reading:
            if clock.now() - self._read_at >= FRESH:
                await self._read(viewer)
                self._read_at = clock.now()
            return list(self._runs.values())

    async def _read(self, viewer: Viewer) -> None:
        now = viewer.source.now()
        since = max(now - KEPT, self._until - LATE)
        found = 0
        async for run in viewer.source.endings(viewer.fleet, since=since, until=now):
            self._runs[run.message_id, run.ended_at or 0.0] = run
            found += 1
            if found == MOST:
                break
        self._until = now
        newest = sorted(self._runs, key=lambda key: key[1], reverse=True)[:MOST]
        self._runs = {key: self._runs[key] for key in newest if key[1] >= now - KEPT}
