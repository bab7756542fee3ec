"""The plots of the page, each with its numbers as a table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from statistics import median

from sqsjkr.outcome import Outcome
from sqsjkr.page.plots import Key, Plot, ceiling, ceiling_of_time, columns, line
from sqsjkr.page.recorder import Point
from sqsjkr.page.words import clock_time, exactly, lasting, tone
from sqsjkr.runs import Run

MINUTE = 60.0
MINUTES = 60
"""Of the present, at the right end of a plot."""
LEAST = 1e-9
"""Seconds: a run that took no time is drawn all the same."""
_MOST_ROWS = 60


def slots(points: Sequence[Point], now: float) -> Plot:
    """Plot slots: busy, wanted, and all there are, as far as the page has seen them."""
    left = points[0].at if points else now
    top = ceiling(max((max(point.slots, point.wanted, point.busy) for point in points), default=1))
    drawn = points if len(points) > 1 else []
    series = (
        ("mute", "slots", [(point.at, float(point.slots)) for point in drawn]),
        ("warn", "wanted", [(point.at, float(point.wanted)) for point in drawn]),
        ("busy", "busy", [(point.at, float(point.busy)) for point in drawn]),
    )
    return Plot(
        name="plot-slots",
        title="Slots",
        description="Slots that are busy, that could be used, and all that there are, since this page was opened.",
        lines=tuple(line(name, values, left=left, right=max(now, left + 1), top=top) for name, _, values in series),
        keys=tuple(Key(name, label) for name, label, _ in reversed(series)),
        nothing="Recorded from now on, while this page is open.",
        top=f"{top:g}",
        left=clock_time(left),
        right="now",
        headings=("time", "busy", "wanted", "slots"),
        rows=tuple(
            (clock_time(point.at), str(point.busy), str(point.wanted), str(point.slots))
            for point in list(reversed(points))[:: max(1, len(points) // _MOST_ROWS)]
        ),
    )


def endings(runs: Sequence[Run], now: float) -> Plot:
    """Plot how many jobs ended in each of the last minutes, by how their outcomes read."""
    last = int(now // MINUTE)
    first = last - MINUTES + 1
    by_minute: list[Counter[str]] = [Counter() for _ in range(MINUTES)]
    for run in runs:
        if first <= (minute := int((run.ended_at or 0.0) // MINUTE)) <= last:
            by_minute[minute - first][run.outcome] += 1
    outcomes = _ranked(outcome for counts in by_minute for outcome in counts)
    stacks = []
    for number, counts in enumerate(by_minute):
        when = clock_time((first + number) * MINUTE)
        stacks.append([(tone(name), float(counts[name]), f"{when}: {counts[name]} {name}") for name in outcomes])
    top = ceiling(max((sum(counts.values()) for counts in by_minute), default=1))
    filled = [number for number, counts in enumerate(by_minute) if counts]
    return Plot(
        name="plot-endings",
        title="Endings a minute",
        description=f"How many jobs ended in each of the last {MINUTES} minutes, by outcome.",
        bars=columns(stacks, top=top),
        keys=_keys(outcomes),
        nothing=f"No job ended in the last {MINUTES} minutes. The last half minute is always missing.",
        top=f"{top:g}",
        left=clock_time(first * MINUTE),
        right="now",
        headings=("minute", *outcomes),
        rows=tuple(
            (clock_time((first + number) * MINUTE), *(str(by_minute[number][name]) for name in outcomes))
            for number in reversed(filled)
        ),
    )


def durations(runs: Sequence[Run]) -> Plot:
    """Plot how long the last runs took, the oldest on the left. ``runs``: the newest first."""
    timed = [(run, run.seconds) for run in reversed(runs) if run.seconds is not None]
    top = ceiling_of_time(max((seconds for _, seconds in timed), default=1.0))
    return Plot(
        name="plot-durations",
        title="How long the last runs took",
        description="One column for each run, the oldest on the left; its height is how long it took.",
        bars=columns(
            [
                [(tone(run.outcome), max(seconds, LEAST), _ended(run, f"in {lasting(seconds)}"))]
                for run, seconds in timed
            ],
            top=top,
        ),
        keys=_keys(_ranked(run.outcome for run, _ in timed)),
        nothing="No run with a duration is known.",
        top=lasting(top),
        left="oldest",
        right="newest",
        headings=("ended", "took", "outcome"),
        rows=tuple((exactly(run.ended_at or 0.0), lasting(seconds), run.outcome) for run, seconds in reversed(timed)),
    )


def waits(runs: Sequence[Run]) -> Plot:
    """Plot how long the last runs waited, from being sent to their start. ``runs``: the newest first."""
    known = [(run, waited) for run in reversed(runs) if (waited := waited_seconds(run)) is not None]
    top = ceiling_of_time(max((waited for _, waited in known), default=1.0))
    return Plot(
        name="plot-waits",
        title="How long they had waited",
        description="One column for each run, the oldest on the left; its height is the time from sending to start.",
        bars=columns(
            [[("warn", max(waited, LEAST), _ended(run, f"had waited {lasting(waited)}"))] for run, waited in known],
            top=top,
        ),
        keys=(Key("warn", "waited"),),
        nothing="Of no run it is known how long it had waited.",
        top=lasting(top),
        left="oldest",
        right="newest",
        headings=("ended", "waited", "outcome"),
        rows=tuple((exactly(run.ended_at or 0.0), lasting(waited), run.outcome) for run, waited in reversed(known)),
    )


def times(runs: Sequence[Run], now: float) -> Plot:
    """Plot the median of how long jobs waited and ran, by the minute in which they ended."""
    first = (now // MINUTE - MINUTES + 1) * MINUTE
    waited = _medians([(run.ended_at or 0.0, waited_seconds(run)) for run in runs], first)
    ran = _medians([(run.ended_at or 0.0, run.seconds) for run in runs], first)
    top = ceiling_of_time(max((*waited.values(), *ran.values()), default=1.0))
    return Plot(
        name="plot-times",
        title="Wait and duration",
        description=f"The median, for each of the last {MINUTES} minutes, of how long jobs waited and ran.",
        lines=tuple(
            line(series, _steps(values, now), left=first, right=now, top=top)
            for series, values in (("warn", waited), ("busy", ran))
        ),
        keys=(Key("warn", "waited"), Key("busy", "ran")),
        nothing=f"No job ended in the last {MINUTES} minutes. The last half minute is always missing.",
        top=lasting(top),
        left=clock_time(first),
        right="now",
        headings=("minute", "waited", "ran"),
        rows=tuple(
            (clock_time(each), lasting(waited.get(each)), lasting(ran.get(each)))
            for each in sorted({*waited, *ran}, reverse=True)
        ),
    )


def waited_seconds(run: Run) -> float | None:
    """Return how long a job waited from being sent to its start; None if it never started, or nobody knows."""
    return max(0.0, run.begun_at - run.sent_at) if run.sent_at and run.begun_at is not None else None


def summary(runs: Sequence[Run]) -> str:
    """Say in one sentence how the last runs of an event went. ``runs``: the newest first."""
    if not runs:
        return "No run of it is known."
    good = [run for run in runs if run.outcome == Outcome.SUCCEEDED.label]
    took = [run.seconds for run in good if run.seconds is not None]
    usual = f"; usually it takes {lasting(median(took))}" if took else ""
    row = next((number for number, run in enumerate(runs) if run.outcome != runs[0].outcome), len(runs))
    newest = f", the newest {row} in a row: {runs[0].outcome}" if row > 1 and len(good) < len(runs) else ""
    return f"{len(good)} of the last {len(runs)} succeeded{newest}{usual}."


def _ended(run: Run, how: str) -> str:
    return f"{exactly(run.ended_at or 0.0)}: {run.outcome} {how}"


def _medians(values: Iterable[tuple[float, float | None]], first: float) -> dict[float, float]:
    by_minute: dict[float, list[float]] = {}
    for moment, value in values:
        if value is not None and moment >= first:
            by_minute.setdefault(moment // MINUTE * MINUTE, []).append(value)
    return {moment: median(each) for moment, each in sorted(by_minute.items())}


def _steps(values: Mapping[float, float], now: float) -> list[tuple[float, float]]:
    """Return points that draw each minute as wide as it is: a single one is seen, too."""
    return [point for at, value in values.items() for point in ((at, value), (min(at + MINUTE, now), value))]


def _ranked(outcomes: Iterable[str]) -> list[str]:
    return sorted(set(outcomes), key=lambda name: (_rank(name), name))


_RANKS = {"good": 0, "mute": 1, "warn": 2, "bad": 3}


def _rank(outcome: str) -> int:
    return _RANKS[tone(outcome)]


def _keys(outcomes: Sequence[str]) -> tuple[Key, ...]:
    """One key for each colour, with the outcomes that have it."""
    by_tone: dict[str, list[str]] = {}
    for outcome in outcomes:
        by_tone.setdefault(tone(outcome), []).append(outcome)
    return tuple(Key(name, ", ".join(labels)) for name, labels in by_tone.items())
