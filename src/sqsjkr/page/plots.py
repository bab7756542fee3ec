"""Numbers become the geometry of a plot. The templates draw it as SVG, and show the same numbers as a table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 640.0, 120.0
"""The units of a plot's own coordinates; the page scales it to its column."""

_MINUTE, _HOUR = 60, 3600
_TIMES = (
    *(0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30),
    *(_MINUTE * number for number in (1, 2, 5, 10, 20, 30)),
    *(_HOUR * number for number in (1, 2, 4, 8, 12, 24)),
)
"""Seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One part of a column."""

    x: float
    y: float
    width: float
    height: float
    series: str
    """Names the colour: a class of the style sheet."""
    title: str
    """What a pointer that rests on it is shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A series of points; it is drawn through all that are known."""

    points: str
    series: str


@dataclass(frozen=True, slots=True)
class Key:
    """What a colour means."""

    series: str
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    """One plot, with its table."""

    name: str
    """An id for the document."""
    title: str
    description: str
    """What it shows, for those who don't see it."""
    bars: tuple[Bar, ...] = ()
    lines: tuple[Line, ...] = ()
    keys: tuple[Key, ...] = ()
    nothing: str = "Nothing yet."
    """What stands in the place of an empty plot."""
    top: str
    """The value at the upper edge."""
    left: str
    right: str
    """The ends of the horizontal axis."""
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    """The same numbers; the newest first."""

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to draw."""
        return not self.bars and not any(line.points for line in self.lines)


def ceiling(value: float) -> float:
    """Return a round number that is at least ``value``: 1, 2 or 5 times a power of ten."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 5, 10) if value <= step * power * (1 + 1e-9))


def ceiling_of_time(seconds: float) -> float:
    """Return a duration that reads well and is at least this one: so many seconds, minutes, hours or days."""
    return next((step for step in _TIMES if seconds <= step), None) or (86_400 * ceiling(seconds / 86_400))


def columns(stacks: Sequence[Sequence[tuple[str, float, str]]], *, top: float, gap: float = 0.15) -> tuple[Bar, ...]:
    """Return the bars of stacked columns, from left to right. Each part is (series, value, title)."""
    if not stacks:
        return ()
    each = WIDTH / len(stacks)
    bars = []
    for number, parts in enumerate(stacks):
        base = HEIGHT
        for series, value, title in parts:
            if value <= 0:
                continue
            height = max(1.0, min(value / top, 1.0) * HEIGHT)  # what is there is seen, however little
            base -= height
            bars.append(
                Bar(
                    x=round(number * each + each * gap / 2, 2),
                    y=round(max(0.0, base), 2),
                    width=round(each * (1 - gap), 2),
                    height=round(height, 2),
                    series=series,
                    title=title,
                )
            )
    return tuple(bars)


def line(series: str, points: Sequence[tuple[float, float]], *, left: float, right: float, top: float) -> Line:
    """Return a line through (moment, value) points, between two moments."""
    span = max(right - left, 1e-9)
    drawn = [
        f"{round((moment - left) / span * WIDTH, 1):g},{round(HEIGHT - min(value / top, 1.0) * HEIGHT, 1):g}"
        for moment, value in points
        if left <= moment <= right
    ]
    return Line(points=" ".join(drawn), series=series)
