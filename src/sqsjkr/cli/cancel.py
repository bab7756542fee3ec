"""``sqsjkr cancel``: keep a job from starting, or end it where it runs. It returns when that is true."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import uuid
from collections.abc import Sequence

from sqsjkr import clock
from sqsjkr.cli.exit_codes import FAILED, OK, USAGE
from sqsjkr.cli.options import add_json, add_where, add_yes
from sqsjkr.cli.parts import confirmed, opened
from sqsjkr.cli.reporting import complain
from sqsjkr.cli.showing import safe, table, write, write_json
from sqsjkr.cli.viewing import viewing
from sqsjkr.errors import ConfigError
from sqsjkr.views.cancelling import Canceller, Step, Target
from sqsjkr.views.model import lasting

EPILOG = """\
examples:
  sqsjkr cancel 5fea7756-0ea4-451a-a703-a558b933e274
  sqsjkr cancel --event nightly-report
  sqsjkr cancel --lock report --requeue
  sqsjkr cancel --event nightly-report --yes --json

A job that has not started never will, and its message leaves the queue. One that runs gets TERM within 6 seconds, and
KILL after [kicker] kill_after; all of its processes end. The order outlives the worker: whoever takes the job over ends
it instead of running it.

exit codes: 0 once the job is cancelled (or sent back), 1 if it ended by itself or there is none, or queue or table
refused or did not answer, 2 if the command line is wrong or the question was not answered with yes
"""

LOOK_EVERY = 0.5
"""Seconds between two looks at a job that is being ended."""
SAY_EVERY = 10.0
"""Seconds between two lines about it."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add which job, and what is to become of it."""
    add_where(parser)
    parser.add_argument("id", metavar="ID", nargs="?", help="the id of its message, as send prints it")
    parser.add_argument("--event", metavar="EVENT_ID", help="every job of this event that runs")
    parser.add_argument("--lock", metavar="LOCK_ID", help="the job that holds this lock")
    parser.add_argument("--requeue", action="store_true", help="end it, and let it run again from its beginning")
    add_yes(parser)
    add_json(parser)


def execute(arguments: argparse.Namespace) -> int:
    """Find the jobs, ask if there are several, and cancel them."""
    if sum(bool(given) for given in (arguments.id, arguments.event, arguments.lock)) != 1:
        raise ConfigError("expected one of: the id of a message, --event, --lock")
    if arguments.id and not _is_uuid(arguments.id):
        raise ConfigError(f"{arguments.id!r} is not the id of a message; for a job's event id: --event")
    return asyncio.run(_execute(arguments))


async def _execute(arguments: argparse.Namespace) -> int:
    given = {
        "message_id": (arguments.id or "").lower(),
        "event_id": arguments.event or "",
        "lock_id": arguments.lock or "",
    }
    async with viewing(arguments) as place:
        targets = await place.targets(**given)
        if not targets:
            what = f"of event {arguments.event} runs" if arguments.event else f"is known to hold lock {arguments.lock}"
            complain(f"no job {safe(what)}; one that waits on the queue is cancelled by the id of its message")
            return FAILED
        if len(targets) > 1 and not (arguments.json and arguments.yes):
            if arguments.json:
                raise ConfigError(f"{len(targets)} jobs match: with --json, --yes must answer; sqsjkr ps lists them")
            write(*table(["MESSAGE", "EVENT", "HOST", "SINCE", "COMMAND"], _rows(targets, place.source.now())))
            if not confirmed(f"Cancel these {len(targets)} jobs?", yes=arguments.yes):
                return USAGE
        orders, rows = place.orders, place.rows
        async with opened(rows):
            by = await orders.whoami()
            canceller = Canceller(place.source, rows, orders, place.fleet, by=by, requeue=arguments.requeue)
            steps = await asyncio.gather(*(_cancel(canceller, target, quiet=arguments.json) for target in targets))
            if arguments.json:
                write_json(canceller.outcome(step) for step in steps)
    return OK if all(step.done for step in steps) else FAILED


async def _cancel(canceller: Canceller, target: Target, *, quiet: bool) -> Step:
    """Cancel one job, and say how far it is, unless ``quiet``, until nothing more can happen."""
    step = await canceller.order(target)
    say_at = clock.now()
    while not step.over:
        if clock.now() >= say_at and not quiet:
            write(safe(f"{target.name}: ordered; {await canceller.waits_for(step)}"))
            say_at = clock.now() + SAY_EVERY
        await asyncio.sleep(LOOK_EVERY)
        step = await canceller.look(step)
    if not quiet:
        write(safe(f"{target.name}: {step.text}"))
    return step


def _rows(targets: Sequence[Target], now: float) -> list[tuple[str | None, ...]]:
    return [
        (
            target.message_id,
            target.event_id or None,
            target.host or None,
            None if target.since is None else lasting(now - target.since),
            target.command or None,
        )
        for target in targets
    ]


def _is_uuid(text: str) -> bool:
    with contextlib.suppress(ValueError):
        return str(uuid.UUID(text)) == text.lower()
    return False
