"""Endings in a list, with filters; bounded, whatever is asked for."""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass

from sqsjkr.runs import Run
from sqsjkr.views.model import RunLine, is_event
from sqsjkr.views.story import line_of
from sqsjkr.views.viewer import Viewer

MOST_LOOKED_AT = 100_000
"""Endings that a search reads at most."""
_GLOB = frozenset("*?[")


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which endings are wanted; "" is any. ``event`` may hold ``*``, ``?`` and ``[...]``."""

    failed: bool = False
    event: str = ""
    lock: str = ""
    host: str = ""

    def lets_through(self, run: Run) -> bool:
        """Whether an ending is wanted."""
        return (
            (not self.event or fnmatch.fnmatchcase(run.event_id, self.event) or is_event(run.event_id, self.event))
            and (not self.lock or run.lock_id == self.lock)
            and (not self.host or run.host == self.host)
        )


@dataclass(frozen=True, kw_only=True)
class Found:
    """The endings that were found, newest first."""

    lines: tuple[RunLine, ...]
    reached: float | None = None
    """How far back the search went before it gave up; None if it found all there is, or as many as were wanted."""


async def find(viewer: Viewer, wanted: Filter, *, since: float, until: float, limit: int) -> Found:
    """Return the newest endings between two times that are wanted.

    An event that is named in full is asked for by its name, which is quick; anything else reads the lists.
    """
    found: list[RunLine] = []
    looked_at = 0
    if wanted.event and not _GLOB & set(wanted.event) and not wanted.failed:
        runs = (await viewer.source.endings_of(wanted.event, limit)).endings
        within = (run for run in runs if since <= (run.ended_at or 0.0) <= until)
        return Found(lines=tuple(line_of(run) for run in within if wanted.lets_through(run)))
    async for run in viewer.source.endings(viewer.fleet, since=since, until=until, failed=wanted.failed):
        looked_at += 1
        if wanted.lets_through(run):
            found.append(line_of(run))
        if len(found) == limit:
            break
        if looked_at == MOST_LOOKED_AT:
            return Found(lines=tuple(found), reached=run.ended_at)
    return Found(lines=tuple(found))
