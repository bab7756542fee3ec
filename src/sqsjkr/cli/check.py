"""``sqsjkr check``: one line for each thing that a worker needs, with the finding and the next step.

Nothing is changed, and no message is received.
"""

from __future__ import annotations

import argparse
import asyncio
import errno
import http.client
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path, PurePosixPath
from typing import TextIO

from sqsjkr.backends import Connections, needs_aws, parse, tables
from sqsjkr.cli.exit_codes import FAILED, OK, USAGE
from sqsjkr.cli.options import add_stats, add_where
from sqsjkr.cli.settings import configured
from sqsjkr.config import Config, plugins
from sqsjkr.errors import BackendUnavailable, ConfigError
from sqsjkr.locker import Locker
from sqsjkr.provision import demands, embedded
from sqsjkr.provision.finding import Finding, Level
from sqsjkr.throttler import Throttler

EPILOG = """\
examples:
  sqsjkr check --conf /etc/sqsjkr/config.toml
  sqsjkr check --local ./demo

exit codes: 0 if no line says FAIL, 1 if one does, 2 if the configuration is wrong
"""

_OTHER_USERS = frozenset({"sudo", "su", "doas", "runuser"})
"""Programs that become another user: neither a stop nor a lost lock could end such a job."""
_PATIENCE = 2.0
"""Seconds to wait for an answer from a listener on the stats address."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what a worker could be given that matters to the check."""
    add_where(parser)
    add_stats(parser)
    one = parser.add_argument_group("one message")
    one.add_argument("--message", metavar="FILE", help='say what would become of the message in FILE; "-" is stdin')
    one.add_argument("--sender", metavar="ID", default="", help="who sent it, as SQS says (SenderId)")
    one.add_argument("--signature", metavar="TOKEN", default="", help="its attribute sqsjkr.signature")


def execute(arguments: argparse.Namespace) -> int:
    """Print one line for each thing that ``run`` needs, or what would become of one message."""
    if arguments.message is not None:
        # Imported where needed: it is no part of the check of a worker.
        from sqsjkr.cli import trial  # noqa: PLC0415

        attempt = trial.attempt_at(arguments.message, sender=arguments.sender, signature=arguments.signature)
        return trial.execute(configured(arguments)[1], attempt)
    if arguments.sender or arguments.signature:
        raise ConfigError("--sender and --signature: only with --message FILE")
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
        async for finding in embedded.store(config.local):
            yield finding
    if needs_aws(config.local, config.locker, config.throttler):
        async for finding in _on_aws(config):
            yield finding
    for finding in (*_trust(config), *_own_classes(config), *demands.against_host(config.jobs, wrapper=config.wrapper)):
        yield finding
    yield _stats(config)


async def _on_aws(config: Config) -> AsyncIterator[Finding]:
    connections = Connections(config)
    connections.begin(config.locker, config.throttler)
    # Imported where needed, as in resources.py: the check of an embedded store needs no AWS.
    from sqsjkr.backends.aws.connection import connection  # noqa: PLC0415
    from sqsjkr.backends.sqs.client import QueueClient  # noqa: PLC0415
    from sqsjkr.provision import inspect  # noqa: PLC0415

    aws = connection(connections)
    try:
        await aws.open()
    except BackendUnavailable as why:
        advice = "correct the credentials or the network, then check again: nothing on AWS was looked at"
        yield Finding(Level.FAIL, "credentials", str(why), advice)
        return
    try:
        yield await inspect.credentials(aws)
        if not config.local:
            async for finding in inspect.queue(
                QueueClient.configured(connections), ack=config.ack, jobs=config.jobs, max_timeout=config.max_timeout
            ):
                yield finding
        if "dynamodb" in tables(config.locker, config.throttler):
            async for finding in inspect.table(aws, config.lock_table):
                yield finding
    finally:
        await aws.close()


def _trust(config: Config) -> Iterator[Finding]:
    """Check the trust file, and say where it is weak."""
    if not config.trust:
        found = "none: whoever can send to the queue may run any shell command"
        yield Finding(Level.NOTE, "trust", found, "to close it: [kicker] trust")
        return
    # Imported where needed: without a trust file nobody needs it.
    from sqsjkr.trust.authority import TrustFile  # noqa: PLC0415

    try:
        trust = TrustFile(config.trust, audience=config.audience, claims=config.throttler != "none").in_force
    except ConfigError as why:
        for line in str(why).splitlines():
            yield Finding(Level.FAIL, "trust", line)
        return
    yield Finding(Level.OK, "trust", f"{config.trust}: {trust.text}")
    if not trust.policy.enforce:
        yield Finding(Level.NOTE, "trust", 'mode is "warn": what it does not allow runs all the same')
    for name in sorted(trust.absent):
        yield Finding(Level.WARN, "trust", f"no file of keys has the key {name}", "its producer's jobs are refused")
    for name, job in trust.policy.jobs.items():
        if job.run and PurePosixPath(job.run[0].filled({})).name in _OTHER_USERS:
            found = f"job {name} becomes another user, whose processes the worker may not end"
            yield Finding(Level.FAIL, "trust", found, "run a worker of its own for that user")


def _own_classes(config: Config) -> Iterator[Finding]:
    """Check that a locker and a throttler of the operator's own can be imported and made."""
    for role, port in (("locker", Locker), ("throttler", Throttler)):
        name = getattr(config, role)
        named = parse(name)
        if named is not None and named.plugin:
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
