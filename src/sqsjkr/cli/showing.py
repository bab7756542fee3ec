"""How values are shown: as a table for eyes, or as one JSON object a line for machines. Nothing in them is obeyed."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from sqsjkr.views.model import as_json, lasting

_WIDE = 100_000
"""Columns of a pipe: nothing is cut or folded there."""


def safe(text: str) -> str:
    r"""Return the text on one line, with everything that a terminal could obey escaped: "\x1b[2J", "\n", "\u202e"."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode("ascii") for c in text)


def json_line(value: Any) -> str:
    """Return a value of the read model, or a plain one, as one line of ASCII JSON."""
    return json.dumps(as_json(value), separators=(", ", ": "))


def write_json(values: Iterable[Any]) -> None:
    """Write one JSON object a line."""
    sys.stdout.writelines(f"{json_line(value)}\n" for value in values)
    sys.stdout.flush()


def table(headings: Sequence[str], rows: Iterable[Sequence[str | None]]) -> list[str]:
    """Return rows below headings, folded to the terminal's width; in a pipe each row is one line. None is a dash."""
    # Imported where needed: a script that wants JSON does not wait for it.
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    drawn = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        drawn.add_column(heading, overflow="fold")
    for row in rows:
        drawn.add_row(*(Text("-" if cell is None else safe(cell)) for cell in row))
    console = Console(file=sys.stdout, width=None if sys.stdout.isatty() else _WIDE)
    with console.capture() as capture:
        console.print(drawn)
    return [line.rstrip() for line in capture.get().splitlines()]


def write(*lines: str) -> None:
    """Write lines. What is in them is ours, or was made ``safe``."""
    sys.stdout.writelines(f"{line}\n" for line in lines)
    sys.stdout.flush()


def moment(at: float, now: float) -> str:
    """Return a time for eyes: how long ago, and exactly, in this host's time zone."""
    return f"{lasting(now - at)} ago ({local(at)})"


def local(at: float) -> str:
    """Return a time as the log has it, to the second: "2026-11-21T15:05:04+09:00"."""
    return datetime.fromtimestamp(int(at)).astimezone().isoformat()


def takes_colours() -> bool:
    """Whether stdout is a terminal that shows colours, unless NO_COLOR is set (no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM", "dumb") != "dumb"
