"""What the last day's endings say of the present: which events fail, how long a job usually runs."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from sqsjkr.outcome import FAILURES, Outcome
from sqsjkr.runs import Run
from sqsjkr.views.model import RunLine
from sqsjkr.views.picture import Picture
from sqsjkr.views.source import AHEAD
from sqsjkr.views.story import line_of
from sqsjkr.views.viewer import Viewer

DAY, HOUR = 86_400.0, 3_600.0
NEWEST_FAILURES = 100
EVENTS = 5
"""Events that are looked at more closely."""
LAST = 20
IN_A_ROW = 3
"""Failures after which an event is named."""
_FAILED = frozenset(outcome.label for outcome in FAILURES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Failing:
    """An event whose jobs fail."""

    event_id: str
    failed: int
    """How many of ``of`` endings."""
    of: int
    in_a_row: bool
    """All of them, up to the newest."""
    since_at: float
    """The oldest of these failures."""
    newest: RunLine


@dataclass(frozen=True, kw_only=True)
class Recent:
    """What was found."""

    failing: tuple[Failing, ...] = ()
    others: int = 0
    """How many jobs failed in the last hour that are of none of these events; of the newest ``NEWEST_FAILURES``."""
    newest_other: RunLine | None = None
    usual: dict[str, float] = field(default_factory=dict)
    """Seconds that jobs of an event usually take: the median of those that succeeded."""


async def look(viewer: Viewer, seen: Picture) -> Recent:
    """Look at the newest failures, and at the events of the locks that jobs wait for.

    It costs one request for the failures, and one for each event that failed often or holds such a lock, ten at most.
    """
    failures: Counter[str] = Counter()
    newest: dict[str, Run] = {}
    lately: list[Run] = []
    looked_at = 0
    async for run in viewer.source.endings(viewer.fleet, since=seen.at - DAY, until=seen.at + AHEAD, failed=True):
        if run.event_id and run.event_id != run.message_id:
            failures[run.event_id] += 1
            newest.setdefault(run.event_id, run)
        if (run.ended_at or 0.0) > seen.at - HOUR:
            lately.append(run)
        looked_at += 1
        if looked_at == NEWEST_FAILURES:
            break
    failing = []
    for event_id, number in failures.most_common(EVENTS):
        if number < IN_A_ROW:
            continue
        if found := _failing(event_id, (await viewer.source.endings_of(event_id, LAST)).endings):
            failing.append(replace(found, newest=line_of(newest[event_id])))
    holders = [lock.event_id for lock in seen.locks if lock.held and lock.waiting and lock.event_id][:EVENTS]
    usual = {}
    for event_id in dict.fromkeys(holders):
        of_event = await viewer.source.endings_of(event_id, LAST)
        seconds = [run.seconds for run in of_event.endings if _counts(run)]
        if seconds:
            usual[event_id] = statistics.median(each for each in seconds if each is not None)
    named = {each.event_id for each in failing}
    others = [run for run in lately if run.event_id not in named]
    newest_other = line_of(others[0]) if others else None
    return Recent(failing=tuple(failing), others=len(others), newest_other=newest_other, usual=usual)


def _failing(event_id: str, runs: Sequence[Run]) -> Failing | None:
    """Judge the newest endings of an event, newest first."""
    bad = [run for run in runs if run.outcome in _FAILED]
    row = next((n for n, run in enumerate(runs) if run.outcome not in _FAILED), len(runs))
    if row >= IN_A_ROW:
        return Failing(
            event_id=event_id,
            failed=row,
            of=row,
            in_a_row=True,
            since_at=runs[row - 1].ended_at or 0.0,
            newest=line_of(runs[0]),
        )
    if len(bad) >= IN_A_ROW and len(bad) > len(runs) / 2:
        return Failing(
            event_id=event_id,
            failed=len(bad),
            of=len(runs),
            in_a_row=False,
            since_at=bad[-1].ended_at or 0.0,
            newest=line_of(bad[0]),
        )
    return None


def _counts(run: Run) -> bool:
    return run.outcome == Outcome.SUCCEEDED.label and run.seconds is not None
