"""``sqsjkr web``: the page on loopback, for the browser of the operator who started it."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from contextlib import AsyncExitStack
from dataclasses import dataclass

from sqsjkr.backends import dead_letters_class
from sqsjkr.cli.exit_codes import OK
from sqsjkr.cli.options import add_where
from sqsjkr.cli.viewing import Place, viewing
from sqsjkr.errors import BackendRefused
from sqsjkr.leases.table import Table
from sqsjkr.page.desk import Desk
from sqsjkr.page.server import PageServer
from sqsjkr.views.dead_letters import DeadLetters
from sqsjkr.views.source import Orders

PORT = 8062
_WHERE = ("conf", "local", "profile", "region", "lock_table")

EPILOG = """\
examples:
  sqsjkr web
  sqsjkr web --conf /etc/sqsjkr/config.toml --read-only
  ssh -L 8062:127.0.0.1:8062 host-17 sqsjkr web

Open the address that it prints: its token lets your browser in, and nobody else's. The page has your rights, shows what
ps, runs, explain, locks, fleet, status and dead show, and gives the orders that cancel, locks, fleet and dead give.

exit codes: 0 after a signal, 1 if queue or table refused, or the port is taken, 2 if the command line or the
configuration is wrong
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add where to look, and where to listen."""
    add_where(parser)
    parser.add_argument("--port", metavar="PORT", type=int, default=PORT, help="port on 127.0.0.1 (default: 8062)")
    parser.add_argument("--read-only", action="store_true", help="look only: give no orders")


def execute(arguments: argparse.Namespace) -> int:
    """Serve the page until a signal ends it."""
    return asyncio.run(_serve(arguments))


@dataclass(frozen=True, slots=True)
class _Pens:
    """What orders are written with, open."""

    orders: Orders
    lock_orders: Orders
    rows: Table


async def _serve(arguments: argparse.Namespace) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stop.set)
    async with AsyncExitStack() as stack:
        place = await stack.enter_async_context(viewing(arguments))
        pens = None if arguments.read_only else await _pens(place, stack)
        desk = Desk(place, await _dead_letters(place, stack))
        depth = await place.queue.depth()
        server = PageServer(desk, pens, queue=depth.name, where=_where(arguments), port=arguments.port)
        await server.open()
        stack.push_async_callback(server.close)
        sys.stdout.write(f"{server.way_in}\n")
        sys.stdout.flush()
        await stop.wait()
    return OK


async def _pens(place: Place, stack: AsyncExitStack) -> _Pens:
    rows = place.rows
    await rows.open()
    stack.push_async_callback(rows.close)
    return _Pens(place.orders, place.lock_orders, rows)


async def _dead_letters(place: Place, stack: AsyncExitStack) -> DeadLetters | None:
    dead: DeadLetters = dead_letters_class(place.config).configured(place.connections)
    try:
        await dead.open()
    except BackendRefused:  # there is none, or no right to look into it
        return None
    stack.push_async_callback(dead.close)
    return dead


def _where(arguments: argparse.Namespace) -> list[str]:
    """Return the options that name the queue, as other verbs take them."""
    given = {name: getattr(arguments, name) for name in _WHERE}
    return [word for name, value in given.items() if value for word in (f"--{name.replace('_', '-')}", value)]
