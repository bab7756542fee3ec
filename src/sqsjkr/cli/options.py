"""The options that verbs share. ``settings`` makes the configuration of them."""

from __future__ import annotations

import argparse
from collections.abc import Callable

DEFAULT_FILE = "/etc/sqsjkr/config.toml"


def add_where(parser: argparse.ArgumentParser, *, table: bool = True) -> None:
    """Add the options that say which queue; ``--lock-table`` only for verbs that use the table."""
    where = parser.add_argument_group("which queue")
    where.add_argument("--conf", metavar="FILE", help=f"configuration (default: {DEFAULT_FILE}; none with --local)")
    where.add_argument("--local", metavar="DIR", help="use the embedded store in this directory instead of AWS")
    where.add_argument("--profile", metavar="NAME", help="profile in the AWS configuration files")
    where.add_argument("--region", metavar="NAME", help="AWS region (default: as the file or AWS_REGION says)")
    if table:
        where.add_argument(
            "--lock-table", metavar="NAME", help="DynamoDB table for locks and throttle rows (default: sqsjkr)"
        )


def add_stats(parser: argparse.ArgumentParser) -> None:
    """Add the options that say where the stats are."""
    parser.add_argument(
        "--stats-port", metavar="PORT", type=_number, help="TCP port of the stats (default: 8061; none with --local)"
    )
    parser.add_argument("--stats-socket", metavar="PATH", help="Unix socket of the stats, instead of a port")


def add_json(parser: argparse.ArgumentParser) -> None:
    """Add the option that makes the output one for machines."""
    parser.add_argument("--json", action="store_true", help="one JSON object a line, with times in UTC")


def add_watch(parser: argparse.ArgumentParser) -> None:
    """Add the option that looks again and again."""
    parser.add_argument(
        "--watch",
        metavar="SECONDS",
        nargs="?",
        type=_seconds,
        const=5.0,
        help="look again every 5 seconds, or so many",
    )


def add_since(parser: argparse.ArgumentParser, default: str) -> None:
    """Add the option that says how far back to look. Its value is a function of the present time, in epoch seconds."""
    parser.add_argument(
        "--since",
        metavar="WHEN",
        type=_moment,
        default=_moment(default),
        help=f"how long ago (2h, 7d), or a time (2026-11-21T03:00); default: {default}",
    )


def add_limit(parser: argparse.ArgumentParser, default: int) -> None:
    """Add the option that says how many lines to show."""
    parser.add_argument(
        "--limit", metavar="N", type=_count, default=default, help=f"show N at most (default: {default})"
    )


def add_yes(parser: argparse.ArgumentParser) -> None:
    """Add the option that answers the question of a verb that changes something."""
    parser.add_argument("--yes", action="store_true", help="do not ask")


def _count(text: str) -> int:
    if text.isascii() and text.isdigit() and int(text) > 0:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r}: expected a number above 0")


def _moment(text: str) -> Callable[[float], float]:
    from sqsjkr import durations  # noqa: PLC0415 - imported where needed, as in _seconds

    try:
        durations.since(text, 0.0)
    except ValueError as why:
        raise argparse.ArgumentTypeError(f"{text!r}: {why}") from None
    return lambda now: durations.since(text, now)


def _seconds(text: str) -> float:
    # Imported where needed: the launcher of sqsjkr run keeps in memory what is imported at the top.
    from sqsjkr import durations  # noqa: PLC0415

    try:
        seconds = durations.parse(text if text[-1:].isalpha() else f"{text}s")
    except ValueError as why:
        raise argparse.ArgumentTypeError(f"{text!r}: {why}, expected seconds, or a duration such as 1m") from None
    if seconds < 1.0:
        raise argparse.ArgumentTypeError(f"{text!r}: expected at least 1 second")
    return seconds


def _number(text: str) -> int | str:
    """Read a number. Anything else is left as it is, for the configuration's own check to name."""
    return int(text) if text.isascii() and text.isdigit() else text
