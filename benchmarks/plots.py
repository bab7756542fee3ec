"""Line plots as SVG: few enough lines of our own that no plotting library is worth its weight."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

from benchmarks.figures import SLOT_STEPS

_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP, _RIGHT = 640, 360, 64, 48, 40, 150
_COLOURS = ("#1f6feb", "#d1590b", "#2e8b57", "#8250df")


@dataclass(frozen=True, slots=True)
class Line:
    """One curve: its name, and for each place on the x axis the lowest, the middle and the highest value."""

    name: str
    points: list[tuple[float, float, float, float]]


def write(folder: Path, samples: Mapping[str, Mapping[str, list[float]]]) -> None:
    """`throughput.svg` and `latency.svg`, as far as they were measured."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, title, unit, curves in (
        ("throughput", "Throughput by slots", "jobs/s", {"slots": "true", "sleep": "sleep 0.2"}),
        ("latency", "Pickup latency by slots, idle daemon", "ms", {"latency_p50": "p50", "latency_p99": "p99"}),
    ):
        lines = [
            Line(f"{subject}: {label}", points)
            for subject, figures in samples.items()
            for key, label in curves.items()
            if (points := _points(figures, key))
        ]
        if lines:
            (folder / f"{name}.svg").write_text(draw(title, "slots", unit, lines))


def _points(figures: Mapping[str, list[float]], key: str) -> list[tuple[float, float, float, float]]:
    found = [(n, figures[f"{key}_{n}"]) for n in SLOT_STEPS if figures.get(f"{key}_{n}")]
    return [(n, min(values), statistics.median(values), max(values)) for n, values in found]


def draw(title: str, x_title: str, y_title: str, lines: list[Line]) -> str:
    """An SVG: logarithmic x, linear y from 0, a line through the medians, a bar from the lowest to the highest."""
    places = sorted({point[0] for line in lines for point in line.points})
    top = _round_up(max(point[3] for line in lines for point in line.points))
    low, high = math.log(places[0]), math.log(places[-1]) if len(places) > 1 else math.log(places[0]) + 1

    def x(value: float) -> float:
        return _LEFT + (math.log(value) - low) / (high - low) * (_WIDTH - _LEFT - _RIGHT)

    def y(value: float) -> float:
        return _HEIGHT - _BOTTOM - value / top * (_HEIGHT - _TOP - _BOTTOM)

    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif" '
        f'font-size="12" role="img"><title>{escape(title)}</title><rect width="100%" height="100%" fill="white"/>'
    )
    parts = [
        head,
        _text(_LEFT, 22, f"{title} ({y_title})", "font-size='15' font-weight='bold'"),
        _text((_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 10, x_title, "text-anchor='middle'"),
    ]
    for step in range(5):
        value = top * step / 4
        parts.append(f'<path d="M{_LEFT} {y(value):.1f}H{_WIDTH - _RIGHT}" stroke="#ddd"/>')
        parts.append(_text(_LEFT - 6, y(value) + 4, f"{value:g}", "text-anchor='end'"))
    parts += [_text(x(place), _HEIGHT - _BOTTOM + 18, f"{place:,.0f}", "text-anchor='middle'") for place in places]
    for number, line in enumerate(lines):
        colour = _COLOURS[number % len(_COLOURS)]
        path = " ".join(f"{x(place):.1f},{y(middle):.1f}" for place, _, middle, _ in line.points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        for place, lowest, middle, highest in line.points:
            parts.append(f'<path d="M{x(place):.1f} {y(lowest):.1f}V{y(highest):.1f}" stroke="{colour}"/>')
            parts.append(f'<circle cx="{x(place):.1f}" cy="{y(middle):.1f}" r="3.5" fill="{colour}"/>')
        parts.append(_text(_WIDTH - _RIGHT + 14, _TOP + 18 * number + 8, line.name, f"fill='{colour}'"))
    return "\n".join([*parts, "</svg>\n"])


def _round_up(value: float) -> float:
    unit = 10 ** math.floor(math.log10(value)) if value > 0 else 1.0
    return float(math.ceil(value / unit * 2) / 2 * unit)


def _text(x: float, y: float, content: str, style: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{escape(content)}</text>'
