from __future__ import annotations

import json
import signal
from collections.abc import Callable

import servers
from daemons import Daemon
from faults.checker import Sent, check
from faults.history import History
from faults.mischief import WEATHER
from faults.proxy import Proxy
from fleet import Fleet

StartWorker = Callable[..., Daemon]


def storm(proxy: Proxy) -> None:
    """A fifth of all calls fails, some of them after the server has acted."""
    for fault, probability, more in WEATHER:
        proxy.add(fault, probability=probability, **more)


def send_many(fleet: Fleet, jobs: list[dict[str, str]]) -> None:
    for start in range(0, len(jobs), 10):
        entries = [{"Id": str(n), "MessageBody": json.dumps(job)} for n, job in enumerate(jobs[start : start + 10])]
        fleet.sqs("SendMessageBatch", QueueUrl=fleet.queue_url, Entries=entries)


def test_in_bad_weather_nothing_is_lost_or_run_twice_and_nothing_overlaps(
    worker: StartWorker, proxy: Proxy, fleet: Fleet, history: History
) -> None:
    sent = [Sent(job=f"job{number}", lock_id=f"L{number % 40}" if number < 160 else "") for number in range(400)]
    for name in ("a", "b"):
        worker(name, scale=0.2, max_concurrent_num=10)
    storm(proxy)
    send_many(fleet, [{"command": history.command(each.job), "lock_id": each.lock_id} for each in sent])

    servers.wait_until(lambda: len(set(history.jobs("end"))) == 400, description="all jobs had ended")
    proxy.clear()
    servers.wait_until(lambda: fleet.depth() == (0, 0, 0), description="the queue was empty")
    assert check(history.notes(), sent, []) == []
    assert sum(proxy.faults.values()) > 100


def test_a_stop_in_the_middle_of_bad_weather_ends_although_its_jobs_do_not(
    worker: StartWorker, proxy: Proxy, fleet: Fleet, history: History
) -> None:
    a = worker("a", max_concurrent_num=6)
    send_many(fleet, [{"command": history.held(f"job{n}", "stubborn")} for n in range(6)])
    servers.wait_until(lambda: len(history.jobs("begin")) == 6, description="the jobs ran")
    storm(proxy)
    proxy.cut("a", "dynamodb")

    a.signal(signal.SIGTERM)

    assert a.wait() == 0
    assert "end" not in {note.event for note in history.notes()}
