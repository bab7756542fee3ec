"""``sqsjkr learn``: a draft of a trust file, from the history of what ran, or from a JSON log."""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

from sqsjkr.cli.exit_codes import FAILED, OK
from sqsjkr.cli.options import add_limit, add_since, add_where
from sqsjkr.cli.reporting import complain
from sqsjkr.cli.viewing import viewing
from sqsjkr.errors import ConfigError
from sqsjkr.trust import learn
from sqsjkr.trust.learn import Asked
from sqsjkr.views.commands import asked_for
from sqsjkr.views.source import AHEAD

EPILOG = """\
examples:
  sqsjkr learn --since 14d >trust.toml
  sqsjkr learn /var/log/sqsjkr.jsonl >trust.toml
  journalctl -u sqsjkr -o cat --since -7d | sqsjkr learn - >trust.toml

Without a log it reads the history in the table, of every host.

exit codes: 0 if a draft was written; 1 if there is no job in history or log, or queue or table refused or did not
answer; 2 if the log cannot be read, or the command line or the configuration is wrong
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add where to look."""
    add_where(parser)
    parser.add_argument("log", metavar="LOG", nargs="?", help='a log with --log-format json; "-" is stdin')
    add_since(parser, "14d")
    add_limit(parser, 10_000)


def execute(arguments: argparse.Namespace) -> int:
    """Write the draft to stdout."""
    if arguments.log is None:
        found, nothing = asyncio.run(_from_history(arguments)), "no endings in the history; try a longer --since"
    else:
        found = _from_log(arguments.log)
        nothing = f"{arguments.log}: no job.started line; the log must be written with --log-format json"
    if not found:
        complain(nothing)
        return FAILED
    sys.stdout.write(learn.draft(found))
    return OK


def _from_log(name: str) -> dict[str, Asked]:
    try:
        with Path("/dev/stdin" if name == "-" else name).open(errors="replace") as log:
            return learn.read(log)
    except OSError as why:
        raise ConfigError(f"{name}: cannot be read: {(why.strerror or str(why)).lower()}") from None


async def _from_history(arguments: argparse.Namespace) -> dict[str, Asked]:
    found = learn.Findings()
    async with viewing(arguments) as viewer:
        now = viewer.source.now()
        since, until = arguments.since(now), now + AHEAD
        async for run in asked_for(viewer, since=since, until=until, limit=arguments.limit):
            found.add(run.sender, run.command, job=run.job, whole=not run.is_cut)
    return found.by_sender
