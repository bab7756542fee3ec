"""``sqsjkr status``: is all well? Verdicts, the worst first, each with the next command; and the scaling signal."""

from __future__ import annotations

import argparse
import asyncio

from sqsjkr.cli.options import add_json, add_watch, add_where
from sqsjkr.cli.reporting import complain
from sqsjkr.cli.showing import safe, takes_colours
from sqsjkr.cli.viewing import Shown, show
from sqsjkr.errors import SqsjkrError
from sqsjkr.views import recent
from sqsjkr.views.model import Level, Verdict, as_json
from sqsjkr.views.verdicts import could_run_more, is_stuck, judge, worst
from sqsjkr.views.viewer import Viewer

EPILOG = """\
examples:
  sqsjkr status --conf /etc/sqsjkr/config.toml
  sqsjkr status --json

exit codes: 0 if all is well, 1 if something needs attention, 2 if that cannot be said: the command line or the
configuration is wrong, or queue or table refused or did not answer
"""

ATTENTION, CANNOT_SAY = 1, 2
SECOND_LOOK = 3.0
"""Seconds until the second look, if messages are visible although slots are idle: mostly they are taken by then."""
_COLOURS = {Level.FAIL: "\x1b[1;31m", Level.WARN: "\x1b[33m", Level.OK: "\x1b[32m"}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add where to look."""
    add_where(parser)
    add_json(parser)
    add_watch(parser)


def execute(arguments: argparse.Namespace) -> int:
    """Show the verdicts."""
    try:
        return show(arguments, _look)
    except SqsjkrError as why:
        complain(str(why))
        return CANNOT_SAY


async def _look(viewer: Viewer, _: argparse.Namespace) -> Shown:
    seen = await viewer.picture(most=0)
    stuck = False
    if could_run_more(seen):
        await asyncio.sleep(SECOND_LOOK)
        before, seen = seen, await viewer.picture(most=0)
        stuck = is_stuck(before, seen)
    verdicts = judge(seen, await recent.look(viewer, seen), stuck=stuck)
    value = {"verdicts": as_json(verdicts), **as_json(seen.scale)}
    code = 0 if worst(verdicts) is Level.OK else ATTENTION
    return Shown(lines=[_line(verdict) for verdict in verdicts], values=[value], code=code)


def _line(verdict: Verdict) -> str:
    what = f"{verdict.subject} {verdict.name}".strip()
    after = f"; next: {verdict.next}" if verdict.next else ""
    level = f"{verdict.level.value:<4}"
    if takes_colours():
        level = f"{_COLOURS[verdict.level]}{level}\x1b[0m"
    return f"{level}  {safe(f'{what:<13}  {verdict.text}{after}')}"
