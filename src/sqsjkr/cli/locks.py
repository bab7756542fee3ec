"""``sqsjkr locks``: which locks are held and waited for, by whom and since when; and a way to break one."""

from __future__ import annotations

import argparse
import asyncio
import sys

from sqsjkr.cli.exit_codes import FAILED, OK, USAGE
from sqsjkr.cli.options import add_json, add_limit, add_watch, add_where, add_yes
from sqsjkr.cli.parts import confirmed
from sqsjkr.cli.showing import moment, safe, table, write
from sqsjkr.cli.viewing import Shown, show, viewing
from sqsjkr.errors import ConfigError
from sqsjkr.leases.budget import STANDARD
from sqsjkr.views.model import LockView, lasting
from sqsjkr.views.source import LockRow
from sqsjkr.views.viewer import Viewer

EPILOG = """\
examples:
  sqsjkr locks
  sqsjkr locks list report
  sqsjkr locks free report

Listed are the locks that running jobs hold or that jobs wait for; one that is named is shown anyway.

exit codes: 0; 1 if the lock is not held, its worker lives, or queue or table refused or did not answer; 2 if the
command line or the configuration is wrong or the question was not answered with yes
"""

ACTIONS = ("list", "free")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the action, the locks, and how much to show."""
    add_where(parser)
    parser.add_argument("action", nargs="?", choices=ACTIONS, default="list", help="list is the default")
    parser.add_argument("ids", metavar="LOCK_ID", nargs="*", help="locks to show; the lock to free")
    add_yes(parser)
    add_json(parser)
    add_limit(parser, 50)
    add_watch(parser)


def execute(arguments: argparse.Namespace) -> int:
    """Show the locks, or free one."""
    if arguments.action == "list":
        return show(arguments, _look)
    if len(arguments.ids) != 1:
        raise ConfigError("free: expected one lock id, as sqsjkr locks shows it")
    return asyncio.run(_free(arguments))


async def _look(viewer: Viewer, arguments: argparse.Namespace) -> Shown:
    seen, locks = await viewer.locks(arguments.ids, most=arguments.limit)
    if not locks:
        if arguments.ids:
            unknown = ", ".join(map(safe, arguments.ids))
            return Shown(lines=[f"{unknown}: never taken, or not for a year"], code=FAILED)
        return Shown(lines=["no lock is held for long or waited for"])
    lines = table(
        ["LOCK", "HELD BY", "HOST", "SINCE", "WORKER", "WAITING", "OLDEST"], [_row(lock, seen.at) for lock in locks]
    )
    lines += [text for lock in locks if (text := _last(lock, seen.at))]
    return Shown(lines=lines, values=[*locks])


def _last(lock: LockView, now: float) -> str:
    if (last := lock.last) is None:
        return ""
    where = f" on {last.host}" if last.host else ""
    since = f", taken {moment(last.since_at, now)}" if last.since_at is not None else ""
    held = f", held for {lasting(last.seconds)}" if last.seconds is not None else ""
    how = f": {last.outcome}" if last.outcome else ""
    name = f"{last.event_id} ({last.message_id})" if last.event_id else last.message_id
    return safe(f"{lock.lock_id} was last held by {name}{where}{since}{held}{how}")


def _row(lock: LockView, now: float) -> tuple[str | None, ...]:
    worker = f"{lock.worker} ({lock.worker_life.value})" if lock.worker and lock.worker_life else None
    return (
        lock.lock_id,
        (lock.event_id or "an unknown job") if lock.held else "free",
        "a Go daemon" if lock.of_go else lock.host,
        None if lock.since_at is None or not lock.held else lasting(now - lock.since_at),
        worker,
        str(lock.waiting),
        None if lock.oldest_at is None else lasting(now - lock.oldest_at),
    )


async def _free(arguments: argparse.Namespace) -> int:
    """Break the row that is shown: after a question, and never one whose worker lives."""
    (lock_id,) = arguments.ids
    async with viewing(arguments) as viewer:
        lock = (await viewer.lock_rows([lock_id])).get(lock_id)
        if lock is None or not lock.held:
            write(f"{safe(lock_id)} is free")
            return FAILED
        write(_story(lock, viewer.source.now()))
        if lock.owner is not None and not await _worker_is_dead(viewer, lock):
            write("not freed: its worker lives; to end the job that holds it: sqsjkr cancel --lock " + safe(lock_id))
            return FAILED
        warning = "If that daemon is alive, two jobs may run at once. " if lock.owner is None else ""
        if not confirmed(f"{warning}Free {safe(lock_id)}?", yes=arguments.yes):
            return USAGE
        if not await viewer.lock_orders.free_lock(lock):
            write(f"not freed: {safe(lock_id)} has changed meanwhile; look again")
            return FAILED
        write(f"{safe(lock_id)} is free")
    return OK


def _story(lock: LockRow, now: float) -> str:
    holder = lock.holder
    since = f", taken {moment(holder.since, now)}" if holder.since else ""
    where = f" on {holder.host}" if holder.host else ""
    by = "a Go daemon (or release 1.0 without an owner)" if lock.owner is None else f"owner {lock.owner}"
    return safe(f"{lock.lock_id} is held for {holder.event_id or 'an unknown job'}{where}{since}, by {by}")


async def _worker_is_dead(viewer: Viewer, lock: LockRow) -> bool:
    sys.stderr.write(f"watching the heartbeat of its worker for {STANDARD.lease:g}s ...\n")
    return await viewer.is_dead(lock)
