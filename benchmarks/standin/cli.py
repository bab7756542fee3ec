"""The command: `python -m benchmarks.standin`."""

import argparse
import asyncio
import gc
import os
import signal
import ssl
import stat
import sys
from functools import partial
from importlib import import_module
from typing import Any

from benchmarks.standin.api import Api
from benchmarks.standin.server import Connection

PARENT_CHECK_SECONDS = 0.5


def main() -> None:
    """Serve until SIGTERM, SIGINT, or the parent (or the pipe on stdin) is gone."""
    parser = argparse.ArgumentParser(prog="standin", description="SQS and DynamoDB in memory, on loopback.")
    parser.add_argument("--port", type=int, default=4580, help="0 takes a free one; it is the first line of output")
    parser.add_argument("--latency", type=float, default=0.0, metavar="MS", help="hold every answer back so long")
    parser.add_argument("--queue", action="append", default=[], metavar="NAME", help="make this queue at the start")
    parser.add_argument("--table", action="append", default=[], metavar="NAME", help="make this lock table")
    parser.add_argument("--tls", metavar="PEM", help="certificate and key: answer CONNECT as a proxy would, with TLS")
    parser.add_argument("--stay", action="store_true", help="go on when the parent is gone")
    options = parser.parse_args()
    with asyncio.Runner(loop_factory=_new_loop) as runner:
        runner.run(_serve(options))


def _new_loop() -> asyncio.AbstractEventLoop:
    try:
        loop: asyncio.AbstractEventLoop = import_module("uvloop").new_event_loop()
    except ImportError:  # asyncio's own will do, at a higher cost of a call
        return asyncio.new_event_loop()
    return loop


async def _serve(options: argparse.Namespace) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    api = Api()
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH) if options.tls else None
    if tls is not None:
        tls.load_cert_chain(options.tls)
    connection = partial(Connection, api, options.latency / 1000, tls)
    server = await loop.create_server(connection, "127.0.0.1", options.port)
    port = server.sockets[0].getsockname()[1]
    api.sqs.base_url = f"http://127.0.0.1:{port}"
    for name in options.queue:
        api.sqs.create_queue({"QueueName": name})
    for name in options.table:
        api.dynamodb.create_table(lock_table(name))
    if not options.stay:
        _follow_parent(loop, stop, os.getppid())
    gc.freeze()
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()
    await stop.wait()
    server.close()


def lock_table(name: str) -> dict[str, Any]:
    """The CreateTable of a lock table as the Go original has it (go-semantics section 7)."""
    key = [{"AttributeName": "Id", "KeyType": "HASH"}, {"AttributeName": "Type", "KeyType": "RANGE"}]
    index = [{"AttributeName": "Type", "KeyType": "HASH"}, {"AttributeName": "Expired", "KeyType": "RANGE"}]
    return {
        "TableName": name,
        "BillingMode": "PAY_PER_REQUEST",
        "KeySchema": key,
        "AttributeDefinitions": [
            {"AttributeName": "Id", "AttributeType": "S"},
            {"AttributeName": "Type", "AttributeType": "S"},
            {"AttributeName": "Expired", "AttributeType": "N"},
        ],
        "GlobalSecondaryIndexes": [
            {"IndexName": "TypeExpiredIndex", "KeySchema": index, "Projection": {"ProjectionType": "ALL"}}
        ],
    }


def _follow_parent(loop: asyncio.AbstractEventLoop, stop: asyncio.Event, parent: int) -> None:
    if stat.S_ISFIFO(os.fstat(0).st_mode):
        # Nothing is ever written to it: it is readable when its other end is closed.
        loop.add_reader(0, stop.set)

    def check() -> None:
        if os.getppid() == parent:
            loop.call_later(PARENT_CHECK_SECONDS, check)
        else:
            stop.set()

    check()
