"""``sqsjkr runs``: how jobs ended, newest first, on every host."""

from __future__ import annotations

import argparse
from collections.abc import Iterable

from sqsjkr.cli.options import add_json, add_limit, add_since, add_watch, add_where
from sqsjkr.cli.showing import local, table
from sqsjkr.cli.viewing import Shown, show
from sqsjkr.views.endings import Filter, find
from sqsjkr.views.model import RunLine, lasting
from sqsjkr.views.source import AHEAD
from sqsjkr.views.viewer import Viewer

EPILOG = """\
examples:
  sqsjkr runs --failed
  sqsjkr runs --event 'nightly-*' --since 7d
  sqsjkr runs --host ip-10-0-12-34 --json

An ending appears in the list within half a minute; sqsjkr explain knows it at once.

exit codes: 0; 1 if queue or table refused or did not answer; 2 if the command line or the configuration is wrong
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add where to look, and for what."""
    add_where(parser)
    parser.add_argument("--failed", action="store_true", help="only failures")
    parser.add_argument("--event", metavar="GLOB", default="", help="only of this event; * and ? stand for others")
    parser.add_argument("--lock", metavar="LOCK_ID", default="", help="only of this lock")
    parser.add_argument("--host", metavar="HOST", default="", help="only on this host")
    add_since(parser, "24h")
    add_json(parser)
    add_limit(parser, 50)
    add_watch(parser)


def execute(arguments: argparse.Namespace) -> int:
    """List endings."""
    return show(arguments, _look)


async def _look(viewer: Viewer, arguments: argparse.Namespace) -> Shown:
    now = viewer.source.now()
    wanted = Filter(failed=arguments.failed, event=arguments.event, lock=arguments.lock, host=arguments.host)
    found = await find(viewer, wanted, since=arguments.since(now), until=now + AHEAD, limit=arguments.limit)
    if not found.lines and found.reached is None:
        return Shown(lines=["no endings; try a longer --since"])
    headings = ["ENDED", "OUTCOME", "TOOK", "HOST", "EVENT", "MESSAGE", "DETAIL"]
    events = [None if line.event_id == line.message_id else line.event_id for line in found.lines]
    rows = [(*row[:4], event, *row[4:]) for row, event in zip(rows_of(found.lines), events, strict=True)]
    lines = table(headings, rows)
    if found.reached is not None:
        lines.append(f"... looked back to {local(found.reached)} only: name an event, or a shorter --since")
    return Shown(lines=lines, values=[*found.lines])


def rows_of(lines: Iterable[RunLine]) -> list[tuple[str | None, ...]]:
    """Return endings as rows: when, outcome, how long, host, message, and the last line or a few words."""
    return [
        (
            local(line.ended_at),
            line.outcome,
            None if line.seconds is None else lasting(line.seconds) if line.seconds >= 1 else f"{line.seconds:.2f}s",
            line.host,
            line.message_id,
            line.last_line or line.detail or _exit(line),
        )
        for line in lines
    ]


def _exit(line: RunLine) -> str | None:
    if line.signal is not None:
        return f"signal {line.signal}"
    return None if line.exit_status is None else f"exit status {line.exit_status}"
