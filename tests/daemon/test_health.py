"""The two questions of a probe to a real worker: can it work, and would a restart help?"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

from daemons import Daemon
from servers import clean_environment, until, wait_until
from sqsjkr.app import build_worker
from sqsjkr.backends.sqlite.queue import SQLiteQueue
from sqsjkr.config import Config
from sqsjkr.leases.budget import STANDARD
from sqsjkr.resources import Resources
from sqsjkr.supervision.shared_state import SharedState
from sqsjkr.telemetry.stats import Stats

DEAF = """
import asyncio, sys
from sqsjkr.backends.sqlite.queue import SQLiteQueue
from sqsjkr.cli.main import main
from sqsjkr.leases.budget import STANDARD

async def never(*_):
    await asyncio.Event().wait()

SQLiteQueue._receive = never
budget = STANDARD.but(long_poll=1.0, answer=0.5, longest_outage_pause=0.5, stuck_after=2.5)
sys.exit(main(["run", *sys.argv[1:]], budget=budget))
"""
"""A worker with a bug: its first receive never ends."""


def test_a_worker_that_waits_for_an_outage_to_end_needs_no_restart(daemon: Callable[..., Daemon]) -> None:
    with socket.socket() as closed:  # bound and not listening: every connection is refused
        closed.bind(("127.0.0.1", 0))
        nowhere = f"http://127.0.0.1:{closed.getsockname()[1]}"
        queue = '[account]\nid = "1"\nregion = "us-east-1"\n[sqs]\nqueue_name = "jobs"\n'
        worker = daemon(config=queue, env={"AWS_ENDPOINT_URL": nowhere})
        worker.wait_for_line("queue.unreachable")
        status, reason = worker.get("/healthz")
        assert (status, reason[:11]) == (503, "the queue: ")
        assert worker.get("/livez") == (200, "ok\n")


def test_a_worker_that_receives_no_more_needs_a_restart(tmp_path: Path) -> None:
    command = (sys.executable, "-c", DEAF)
    with Daemon("--local", str(tmp_path / "store"), command=command, env=clean_environment()) as worker:
        worker.wait_for_line("worker.started")
        wait_until(lambda: worker.get("/livez")[0] == 503, description="the worker was found stuck")
        assert worker.get("/livez")[1].startswith("the worker has not asked for messages for ")
        assert worker.get("/healthz") == (200, "ok\n"), "nothing is wrong with queue and table"


async def test_a_worker_whose_slots_are_full_is_not_stuck(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        config, stats = Config(local=str(tmp_path), max_concurrent_num=1), Stats(slots=1)
        resources = Resources(config, stack)
        await resources.open()
        queue = resources.queue
        assert isinstance(queue, SQLiteQueue)
        await queue.send([json.dumps({"command": "sleep 60"})])
        worker = build_worker(config, resources, stats, SharedState(), budget=STANDARD)
        running = asyncio.create_task(worker.run("a worker of a test"))
        await until(lambda: stats.busy, description="the job ran")
        before = worker._backlog.receives.came_round
        await until(lambda: worker._backlog.receives.came_round > before, description="the loop came round")
        assert worker.stuck_reason() is None
        worker.stop("the test is over")
        worker.stop("the test is over")
        await running
