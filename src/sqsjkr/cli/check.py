"""``sqsjkr check``: one line for each thing that a worker needs, with the finding and the next step.

Nothing is changed, and no message is received.
"""

from __future__ import annotations

import argparse
import asyncio
import errno
import http.client
import os
import shutil
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TextIO

from sqsjkr.backends.sqlite.queue import SQLiteQueue
from sqsjkr.backends.sqlite.store import Store
from sqsjkr.cli.exit_codes import FAILED, OK, USAGE
from sqsjkr.cli.options import add_stats, add_where
from sqsjkr.cli.settings import configured
from sqsjkr.config import Config, plugins
from sqsjkr.errors import BackendUnavailable, ConfigError
from sqsjkr.locker import Locker
from sqsjkr.provision.finding import Finding, Level
from sqsjkr.throttler import Throttler

EPILOG = """\
examples:
  sqsjkr check --conf /etc/sqsjkr/config.toml
  sqsjkr check --local ./demo

exit codes: 0 if no line says FAIL, 1 if one does, 2 if the configuration is wrong
"""

LITTLE_SPACE = 256 * 1024 * 1024
"""Bytes: with less than this free, the embedded store is worth a warning."""
_PATIENCE = 2.0
"""Seconds to wait for an answer from a listener on the stats address."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what a worker could be given that matters to the check."""
    add_where(parser)
    add_stats(parser)


def execute(arguments: argparse.Namespace) -> int:
    """Print one line for each thing that ``run`` needs."""
    try:
        path, config = configured(arguments)
    except ConfigError as why:
        for line in str(why).splitlines():
            sys.stdout.write(Finding(Level.FAIL, "config", line).text)
        return USAGE
    return OK if look(config, path or "", sys.stdout) else FAILED


def look(config: Config, path: str, out: TextIO) -> bool:
    """Check everything, and write each line as soon as it is known. True if nothing failed."""

    async def write() -> bool:
        good = True
        async for finding in _findings(config, path):
            good = good and finding.level is not Level.FAIL
            out.write(finding.text)
            out.flush()
        return good

    return asyncio.run(write())


async def _findings(config: Config, path: str) -> AsyncIterator[Finding]:
    yield Finding(Level.OK, "config", path or "no file, as --local needs none")
    if config.local:
        async for finding in _embedded(config.local):
            yield finding
    if not config.local or _needs_table(config):
        async for finding in _on_aws(config):
            yield finding
    for finding in _own_classes(config):
        yield finding
    yield _stats(config)


def _needs_table(config: Config) -> bool:
    return "dynamodb" in {config.locker, config.throttler}


async def _on_aws(config: Config) -> AsyncIterator[Finding]:
    # Imported where needed, as in resources.py: the check of an embedded store needs no AWS.
    from sqsjkr.backends.aws.client import AWS  # noqa: PLC0415
    from sqsjkr.backends.sqs.client import QueueClient  # noqa: PLC0415
    from sqsjkr.provision import inspect  # noqa: PLC0415

    aws = AWS(profile=config.profile, region=config.region)
    try:
        await aws.open()
    except BackendUnavailable as why:
        yield Finding(
            Level.FAIL,
            "credentials",
            str(why),
            "correct the credentials, or the network; everything else depends on them",
        )
        return
    try:
        yield await inspect.credentials(aws)
        if not config.local:
            queue = QueueClient(aws, url=config.queue_url, account_id=config.account_id, name=config.queue_name)
            async for finding in inspect.queue_and_graves(aws, queue):
                yield finding
        if _needs_table(config):
            async for finding in inspect.table(aws, config.lock_table):
                yield finding
    finally:
        await aws.close()


async def _embedded(directory: str) -> AsyncIterator[Finding]:
    store = Store(directory)
    place = _nearest_there(store.path.parent)
    if not (place.is_dir() and os.access(place, os.W_OK | os.X_OK)):
        yield Finding(Level.FAIL, "store", f"{place} is not a writable directory", "name another with --local")
        return
    free = shutil.disk_usage(place).free
    found = f"{free / 2**20:,.0f} MiB free for {store.path}"
    if free < LITTLE_SPACE:
        yield Finding(Level.WARN, "disk", found, "make room: a full disk stops new jobs")
    else:
        yield Finding(Level.OK, "disk", found)
    if not store.path.exists():
        yield Finding(Level.OK, "store", f"{store.path} does not exist yet; the first send or run creates it")
        return
    if not os.access(store.path, os.R_OK | os.W_OK):
        yield Finding(Level.FAIL, "store", f"{store.path} cannot be read and written by user id {os.geteuid()}")
        return
    try:
        await store.open()
        visible, hidden, dead = await SQLiteQueue(store).depth()
    except BackendUnavailable as why:
        yield Finding(Level.FAIL, "store", str(why), "if the file is damaged or not a store, move it away")
        return
    finally:
        await store.close()
    yield Finding(Level.OK, "store", str(store.path))
    yield Finding(Level.OK, "messages", f"{visible} waiting, {hidden} in flight or delayed")
    advice = f"look at the table dead_letter in {store.path}" if dead else ""
    yield Finding(Level.WARN if dead else Level.OK, "dead letters", f"{dead} in the store", advice)


def _nearest_there(path: Path) -> Path:
    """Return the directory itself, or the nearest one above it that exists."""
    return path if path.exists() or path == path.parent else _nearest_there(path.parent)


def _own_classes(config: Config) -> Iterator[Finding]:
    """Check that a locker and a throttler of the operator's own can be imported and made."""
    for role, port in (("locker", Locker), ("throttler", Throttler)):
        name = getattr(config, role)
        if ":" in name and not name.startswith("sqlite:"):
            try:
                plugins.load(name, port, role)
            except ConfigError as why:
                yield Finding(Level.FAIL, role, str(why))
            else:
                yield Finding(Level.OK, role, name)


def _stats(config: Config) -> Finding:
    """Check that the stats address is free; a worker that answers there already is only a warning."""
    if not config.stats_socket and not config.stats_port:
        return Finding(Level.OK, "stats", "none; --stats-port or --stats-socket turns them on")
    place = config.stats_socket or f"{config.stats_host}:{config.stats_port}"
    advice = "choose another [kicker] stats_port or stats_socket"
    try:
        taken = _is_taken(config)
    except OSError as why:
        return Finding(Level.FAIL, "stats", f"cannot listen on {place}: {(why.strerror or str(why)).lower()}", advice)
    if not taken:
        return Finding(Level.OK, "stats", f"{place} is free")
    if _is_a_worker(config):
        return Finding(Level.WARN, "stats", f"a worker answers on {place} already", f"for a second one, {advice}")
    return Finding(Level.FAIL, "stats", f"another program listens on {place}", advice)


def _is_taken(config: Config) -> bool:
    """Whether the stats address is in use. Raises OSError if it cannot be used at all."""
    if config.stats_socket:
        path = Path(config.stats_socket)
        if not path.parent.is_dir():
            raise FileNotFoundError(errno.ENOENT, f"no such directory: {path.parent}")
        if path.exists() and not path.is_socket():
            raise FileExistsError(errno.EEXIST, "the file exists and is not a socket")
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(str(path)) not in {errno.ENOENT, errno.ECONNREFUSED}
    family = socket.AF_INET6 if ":" in config.stats_host else socket.AF_INET
    try:
        socket.create_server((config.stats_host, config.stats_port), family=family).close()
    except OSError as why:
        if why.errno == errno.EADDRINUSE:
            return True
        raise
    return False


def _is_a_worker(config: Config) -> bool:
    connection = http.client.HTTPConnection(config.stats_host, config.stats_port or None, timeout=_PATIENCE)
    try:
        if config.stats_socket:
            connection.sock = socket.socket(socket.AF_UNIX)
            connection.sock.settimeout(_PATIENCE)
            connection.sock.connect(config.stats_socket)
        connection.request("GET", "/stats/metrics")
        return b"idle_worker" in connection.getresponse().read(1000)
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
