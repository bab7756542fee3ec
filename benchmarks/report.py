"""The table, and what it was measured on."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import statistics
import time
from collections.abc import Mapping
from pathlib import Path

from benchmarks.figures import FIGURES, QUEUE_STEPS, SLOT_STEPS, Figure

_BEGIN, _END = "<!-- table: python -m benchmarks --page -->", "<!-- end of the table -->"
_PACKAGES = ("sqsjkr", "aiohttp", "botocore", "uvloop")


def machine() -> dict[str, object]:
    """Processor, memory, kernel, versions, load."""
    return {
        "date": time.strftime("%Y-%m-%d"),
        "processor": _line("/proc/cpuinfo", "model name"),
        "cores": len(os.sched_getaffinity(0)),
        "memory_mib": int(_line("/proc/meminfo", "MemTotal").split()[0]) // 1024,
        "kernel": platform.release(),
        "python": platform.python_version(),
        **{name: _version(name) for name in _PACKAGES},
        "load_before": load(),
    }


def load() -> float:
    """The load average of the last minute."""
    return round(os.getloadavg()[0], 2)


def table(
    samples: Mapping[str, Mapping[str, list[float]]], machine: Mapping[str, object], *, runs: int, quick: bool
) -> str:
    """One Markdown table: a line for each figure that was measured, and the machine under it."""
    ours = with_spreads(samples["ours"])
    peer = with_spreads(samples["peer"]) if "peer" in samples else None
    titles = ["figure", "target", "median", "range", ""] + (["peer", "peer range", "ratio"] if peer else [])
    lines = [_row(titles), _row(["---"] * len(titles))]
    lines += [_figure(figure, ours[figure.key], peer) for figure in FIGURES if figure.key in ours]
    about = ", ".join(f"{name} {value}" for name, value in machine.items())
    lines += ["", f"Medians of {runs} runs (the long experiments of fewer). {about}."]
    if quick:
        lines += ["", "A quick run: small numbers, worth nothing as figures."]
    return "\n".join(lines)


def put_into(page: Path, table: str) -> None:
    """Put the table in the place of the one between the page's marks."""
    before, mark, rest = page.read_text().partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not (mark and end):
        raise ValueError(f"{page}: no place for the table, expected the lines {_BEGIN!r} and {_END!r}")
    page.write_text(f"{before}{_BEGIN}\n\n{table}\n\n{_END}{after}")


def with_spreads(samples: Mapping[str, list[float]]) -> dict[str, list[float]]:
    """The samples, and how flat the growing ones are: in percent, from their medians."""
    whole = dict(samples)
    for name, steps in (("slots", SLOT_STEPS), ("queue", QUEUE_STEPS)):
        medians = [statistics.median(samples[f"{name}_{n}"]) for n in steps if samples.get(f"{name}_{n}")]
        if len(medians) == len(steps):
            whole[f"{name}_spread"] = [100 * (1 - min(medians) / max(medians))]
    return whole


def _figure(figure: Figure, values: list[float], peer: Mapping[str, list[float]] | None) -> str:
    median = statistics.median(values)
    theirs = peer.get(figure.key) if peer else None
    target = figure.target(statistics.median(theirs) if theirs else None)
    cells = [figure.title, _bound(target, figure.unit), f"**{_shown(median)}** {figure.unit}".strip(), _range(values)]
    cells.append(_mark(median, target))
    if peer is not None:
        cells += [_shown(statistics.median(theirs)), _range(theirs), _ratio(values, theirs)] if theirs else ["-"] * 3
    return _row(cells)


def _bound(target: tuple[str, float] | None, unit: str) -> str:
    return f"{target[0]} {_shown(target[1])} {unit}".strip() if target else ""


def _mark(median: float, target: tuple[str, float] | None) -> str:
    if target is None:
        return ""
    sign, bound = target
    return "✓" if (median <= bound if sign == "≤" else median >= bound) else "✗"


def _ratio(ours: list[float], theirs: list[float]) -> str:
    """The median of the ratios of runs that took turns, and the lowest and highest of them."""
    ratios = [mine / other for mine, other in zip(ours, theirs, strict=False) if other]
    if not ratios:
        return "-"
    spread = f" ({min(ratios):.2f} to {max(ratios):.2f})" if len(ratios) > 1 else ""
    return f"{statistics.median(ratios):.2f}{spread}"


def _range(values: list[float]) -> str:
    return f"{_shown(min(values))} to {_shown(max(values))}" if len(values) > 1 else "one run"


def _shown(number: float) -> str:
    if number == int(number) or abs(number) >= 100:
        return f"{number:,.0f}"
    return f"{number:.1f}" if abs(number) >= 10 else f"{number:.2f}"


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _line(path: str, name: str) -> str:
    for line in Path(path).read_text().splitlines():
        if line.startswith(name):
            return line.partition(":")[2].strip()
    return "0"


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "none"
