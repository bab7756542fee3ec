"""``sqsjkr fleet``: the workers of the queue; pause them, resume them, drain a host, call the roll."""

from __future__ import annotations

import argparse
import asyncio

from sqsjkr import clock
from sqsjkr.cli.exit_codes import FAILED, OK
from sqsjkr.cli.options import add_json, add_watch, add_where
from sqsjkr.cli.showing import moment, safe, table, write
from sqsjkr.cli.viewing import Place, Shown, show, viewing
from sqsjkr.errors import ConfigError
from sqsjkr.leases.live import Notice
from sqsjkr.views.model import Life, WorkerView, lasting
from sqsjkr.views.picture import ANSWERED_WITHIN, Picture
from sqsjkr.views.viewer import Viewer

EPILOG = """\
examples:
  sqsjkr fleet --conf /etc/sqsjkr/config.toml
  sqsjkr fleet --call
  sqsjkr fleet pause --why 'database migration'
  sqsjkr fleet resume
  sqsjkr fleet drain host-17

exit codes: 0; with --call, 1 if a worker did not answer; 1 if queue or table refused or did not answer; 2 if the
command line or the configuration is wrong
"""

ACTIONS = ("list", "pause", "resume", "drain")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the action and what it is about."""
    add_where(parser)
    parser.add_argument("action", nargs="?", choices=ACTIONS, default="list", help="list is the default")
    parser.add_argument("host", metavar="HOST", nargs="?", help="drain, resume: a host, or a worker's id")
    parser.add_argument("--call", action="store_true", help="list: ask every worker whether it is there, and wait")
    parser.add_argument("--why", metavar="TEXT", default="", help="pause, drain: the reason, for the others")
    add_json(parser)
    add_watch(parser)


def execute(arguments: argparse.Namespace) -> int:
    """Show the workers, or give them an order."""
    action, host = arguments.action, arguments.host
    if (host is None and action == "drain") or (host and action in {"list", "pause"}):
        raise ConfigError(
            "drain: expected a host, as sqsjkr fleet shows it" if host is None else f"unexpected {host!r}"
        )
    if arguments.call and (action != "list" or arguments.watch):
        raise ConfigError("--call: only for list, and without --watch")
    if arguments.why and action not in {"pause", "drain"}:
        raise ConfigError("--why: only for pause and drain")
    if action == "list":
        return show(arguments, _call if arguments.call else _look)
    return asyncio.run(_order(arguments))


async def _look(viewer: Viewer, _: argparse.Namespace) -> Shown:
    seen = await viewer.picture(most=0)
    return Shown(lines=_lines(seen), values=[*seen.workers])


async def _call(place: Place, _: argparse.Namespace) -> Shown:
    before = await place.picture(most=0)
    number = await place.orders.call(place.fleet)
    asked = {worker.worker for worker in before.workers if worker.life is not Life.LOST}
    until = clock.now() + ANSWERED_WITHIN
    while True:
        seen = await place.picture(most=0)
        there = {worker.worker for worker in seen.workers}
        silent = {worker.worker for worker in seen.workers if worker.worker in asked and worker.call < number}
        if not silent or clock.now() > until:
            break
        await asyncio.sleep(1.0)
    lines = [*_lines(seen), f"{len(asked) - len(silent)} of {len(asked)} answered"]
    left = asked - there
    if left:
        lines.append(f"stopped meanwhile: {', '.join(sorted(left))}")
    if silent:
        lines.append(f"no answer within {lasting(ANSWERED_WITHIN)}: {', '.join(sorted(silent))}")
    return Shown(lines=lines, values=[*seen.workers], code=FAILED if silent else OK)


def _lines(seen: Picture) -> list[str]:
    lines = []
    if (paused := seen.queue.paused) is not None:
        since = moment(paused.since_at, seen.at)
        lines.append(safe(f"PAUSED by {paused.by} {since}{f': {paused.why}' if paused.why else ''}"))
    for target, notice in seen.drained.items():
        why = f": {notice.why}" if notice.why else ""
        lines.append(safe(f"{target} drained by {notice.by} {moment(notice.since_at, seen.at)}{why}"))
    if not seen.workers:
        return [*lines, "no workers (those of release 1.0 and of Go do not show themselves)"]
    return [
        *lines,
        *table(
            ["WORKER", "HOST", "PID", "VERSION", "STATE", "SLOTS", "BUSY", "WAITING", "HEARTBEAT", "STARTED", "WHY"],
            [_row(worker, seen.at) for worker in seen.workers],
        ),
    ]


def _row(worker: WorkerView, now: float) -> tuple[str | None, ...]:
    beat = worker.last_heartbeat_at
    return (
        worker.worker,
        worker.host,
        str(worker.pid),
        worker.version,
        worker.life.value,
        str(worker.slots),
        str(worker.busy),
        str(worker.waiting),
        None if beat is None else f"{lasting(now - beat)} ago",
        f"{lasting(now - worker.started_at)} ago",
        worker.reason,
    )


async def _order(arguments: argparse.Namespace) -> int:
    action, host = arguments.action, arguments.host
    async with viewing(arguments) as viewer:
        orders = viewer.orders
        notice = Notice(by=await orders.whoami(), at=viewer.source.now(), why=arguments.why)
        if action == "pause":
            await orders.pause(viewer.fleet, notice)
            write("paused: no worker takes new jobs within 20s; running ones go on; next: sqsjkr fleet resume")
        elif action == "drain":
            await orders.drain(viewer.fleet, host, notice)
            write(f"{safe(host)}: its workers stop within 20s, as at a signal; next: sqsjkr fleet resume {safe(host)}")
        elif host is None:
            await orders.pause(viewer.fleet, None)
            write("resumed: workers take new jobs within 20s")
        elif await orders.undrain(viewer.fleet, host):
            write(f"{safe(host)}: workers that start there take jobs again")
        else:
            write(f"{safe(host)} is not drained")
            return FAILED
    return OK
