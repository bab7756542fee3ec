"""The embedded store: durable sends alone, and jobs while they are sent one by one."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import time
from pathlib import Path

from benchmarks.experiments import SLOTS, Bench, Sample
from benchmarks.subject import Daemon, Subject
from sqsjkr.backends.sqlite.queue import SQLiteQueue
from sqsjkr.backends.sqlite.store import Store


def embedded(bench: Bench, subject: Subject) -> Sample:
    """Sends a second with one transaction each; jobs a second, queue full; both at once, from two processes."""
    jobs = bench.jobs(2000)
    alone = bench.folder / f"store-{time.monotonic_ns()}"
    begun = time.monotonic()
    asyncio.run(_send(alone, jobs))
    sends = jobs / (time.monotonic() - begun)
    with Daemon(subject, None, bench.folder, slots=SLOTS, local=alone) as daemon:
        begun = daemon.started
        full = jobs / (daemon.wait(jobs) - begun)
    both = bench.folder / f"store-{time.monotonic_ns()}"
    with Daemon(subject, None, bench.folder, slots=SLOTS, local=both) as daemon:
        sender = multiprocessing.get_context("fork").Process(target=_sender, args=(both, jobs))
        before, begun = daemon.cpu(), time.monotonic()
        sender.start()
        done = daemon.wait(jobs)
        sender.join()
        cpu = daemon.cpu() - before
    return {
        "sends": sends,
        "embedded_full": full,
        "embedded": jobs / (done - begun),
        "embedded_cpu": 1000 * cpu / jobs,
    }


def _sender(folder: Path, jobs: int) -> None:
    asyncio.run(_send(folder, jobs))


async def _send(folder: Path, jobs: int) -> None:
    queue = SQLiteQueue(Store(folder))
    await queue.open()
    body = json.dumps({"command": "true"})
    for _ in range(jobs):
        await queue.send([body])
    await queue.close()
