"""What the verbs that look have in common: where they look, and looking again and again."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from sqsjkr.backends import (
    Connections,
    Name,
    fleet_of,
    orders_class,
    parse,
    queue_source_class,
    source_class,
    table_class,
)
from sqsjkr.cli.exit_codes import OK
from sqsjkr.cli.parts import opened
from sqsjkr.cli.settings import configured
from sqsjkr.cli.showing import json_line, write
from sqsjkr.config import Config
from sqsjkr.errors import ConfigError
from sqsjkr.leases.table import Table
from sqsjkr.views.source import Orders, QueueSource, Source
from sqsjkr.views.viewer import Viewer

_CLEAR = "\x1b[H\x1b[2J"


@dataclass(frozen=True, kw_only=True)
class Place(Viewer):
    """A viewer, and what an operator's orders are written with."""

    config: Config
    connections: Connections
    table: Name
    """The table of the claims."""

    @property
    def orders(self) -> Orders:
        """Where orders are written."""
        orders: Orders = orders_class(self.table.table).configured(self.connections, self.table.place)
        return orders

    @property
    def lock_orders(self) -> Orders:
        """Where a lock is freed: in the table of the locks."""
        name = parse(self.config.locker) or self.table
        orders: Orders = orders_class(name.table).configured(self.connections, name.place)
        return orders

    @property
    def rows(self) -> Table:
        """The claims, to be cancelled. Not opened."""
        rows: Table = table_class(self.table.table).configured(self.connections, self.table.place)
        return rows


@dataclass(frozen=True, kw_only=True)
class Shown:
    """What one look shows, and the exit code that it means."""

    lines: list[str] = field(default_factory=list)
    """For eyes."""
    values: list[object] = field(default_factory=list)
    """For machines: one JSON object a line."""
    code: int = OK


Look = Callable[[Place, argparse.Namespace], Awaitable[Shown]]


@asynccontextmanager
async def viewing(arguments: argparse.Namespace) -> AsyncIterator[Place]:
    """Open what the options name, for looking only.

    Raises:
        ConfigError: the configuration is wrong, or its throttler keeps no table of ours.
        BackendUnavailable: queue or table do not answer, or refuse.
    """
    _, config = configured(arguments)
    table = parse(config.throttler)
    if table is None or not table.table:
        raise ConfigError(
            f"throttler = {config.throttler!r}: what runs is seen, and orders are given, in the table of locks and "
            'claims; only "dynamodb" and "sqlite" keep one'
        )
    connections = Connections(config)
    connections.begin(config.locker, config.throttler)
    source: Source = source_class(table.table).configured(connections, table.place)
    queue: QueueSource = queue_source_class(config).configured(connections)
    locks = _lock_source(config, table, source, connections)
    async with opened(connections, source, *([locks] if locks not in {None, source} else []), queue):
        yield Place(
            source=source,
            lock_source=locks,
            queue=queue,
            fleet=fleet_of(config),
            config=config,
            connections=connections,
            table=table,
        )


def _lock_source(config: Config, table: Name, source: Source, connections: Connections) -> Source | None:
    name = parse(config.locker)
    if name is None or not name.table:
        return None
    if name == table:
        return source
    other: Source = source_class(name.table).configured(connections, name.place)
    return other


def show(arguments: argparse.Namespace, look: Look) -> int:
    """Look once and write what is shown, or with ``--watch`` until a signal ends it. Returns the exit code."""
    try:
        return asyncio.run(_show(arguments, look))
    except KeyboardInterrupt:
        if getattr(arguments, "watch", None) is None:
            raise
        return OK


async def _show(arguments: argparse.Namespace, look: Look) -> int:
    every = getattr(arguments, "watch", None)
    async with viewing(arguments) as viewer:
        while True:
            shown = await look(viewer, arguments)
            lines = [json_line(value) for value in shown.values] if arguments.json else shown.lines
            if every is not None and sys.stdout.isatty() and not arguments.json:
                lines = [_CLEAR + (lines[0] if lines else ""), *lines[1:]]
            write(*lines)
            if every is None:
                return shown.code
            await asyncio.sleep(every)
