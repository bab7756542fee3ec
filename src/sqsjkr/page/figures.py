"""The plots of the page, each with its numbers as a table."""

from __future__ import annotations

from collections.abc import Sequence

from sqsjkr.page.plots import Key, Plot, ceiling, line
from sqsjkr.page.recorder import Point
from sqsjkr.page.words import clock_time

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
