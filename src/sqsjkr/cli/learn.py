"""``sqsjkr learn``: a draft of a trust file, from the JSON log of what ran."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from sqsjkr.cli.exit_codes import FAILED, OK
from sqsjkr.cli.reporting import complain
from sqsjkr.errors import ConfigError
from sqsjkr.trust import learn

EPILOG = """\
examples:
  sqsjkr learn /var/log/sqsjkr.jsonl >trust.toml
  journalctl -u sqsjkr -o cat --since -7d | sqsjkr learn - >trust.toml

exit codes: 0 if a draft was written, 1 if the log has no job, 2 if it cannot be read
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the log."""
    parser.add_argument("log", metavar="LOG", help='a log with --log-format json; "-" is stdin')


def execute(arguments: argparse.Namespace) -> int:
    """Write the draft to stdout."""
    try:
        with Path("/dev/stdin" if arguments.log == "-" else arguments.log).open(errors="replace") as log:
            found = learn.read(log)
    except OSError as why:
        raise ConfigError(f"{arguments.log}: cannot be read: {(why.strerror or str(why)).lower()}") from None
    if not found:
        complain(f"{arguments.log}: no job.started line; the log must be written with --log-format json")
        return FAILED
    sys.stdout.write(learn.draft(found))
    return OK
