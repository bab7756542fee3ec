from __future__ import annotations

import signal
from collections.abc import Callable

import pytest

import servers
from daemons import Daemon
from faults.checker import attempts, fences, overlapping
from faults.history import History
from faults.proxy import Proxy
from faults.rules import Fault
from faults.workers import worker_of
from fleet import Fleet


def kill_worker(daemon: Daemon) -> None:
    process = worker_of(daemon)
    assert process is not None
    process.kill()
    assert daemon.wait() == 3


def emptied(fleet: Fleet) -> None:
    servers.wait_until(lambda: fleet.depth() == (0, 0, 0), description="the queue was empty")


def test_a_job_runs_once_although_its_worker_died_between_claim_and_start(
    worker: Callable[..., Daemon], proxy: Proxy, fleet: Fleet, history: History
) -> None:
    proxy.add(Fault.LATE, worker="a", operation="UpdateItem", text='"throttle"', seconds=60)
    a = worker("a")
    fleet.send_job(command=history.command("job"))
    servers.wait_until(lambda: fleet.rows("throttle"), description="the message was claimed")

    kill_worker(a)
    worker("b")

    servers.wait_until(lambda: history.has("end", "job"), description="another worker had run the job")
    emptied(fleet)
    assert history.jobs("begin") == ["job"]


def test_a_job_runs_again_if_its_worker_died_before_its_end_was_noted(
    worker: Callable[..., Daemon], proxy: Proxy, fleet: Fleet, history: History
) -> None:
    proxy.add(Fault.HANG, worker="a", operation="BatchWriteItem")
    proxy.add(Fault.HANG, worker="a", operation="DeleteMessageBatch")  # a table that is out keeps no message
    a = worker("a")
    fleet.send_job(command=history.command("job"))
    servers.wait_until(lambda: proxy.seen("BatchWriteItem"), description="the end was to be noted")

    kill_worker(a)
    worker("b")

    servers.wait_until(lambda: history.has("end", "job", 2), description="the job had run again")
    emptied(fleet)


def test_a_job_whose_end_was_noted_does_not_run_again_if_its_worker_died_before_the_delete(
    worker: Callable[..., Daemon], proxy: Proxy, fleet: Fleet, history: History
) -> None:
    proxy.add(Fault.HANG, worker="a", operation="DeleteMessageBatch")
    a = worker("a")
    fleet.send_job(command=history.command("job"))
    servers.wait_until(lambda: proxy.seen("DeleteMessageBatch"), description="the message was to be deleted")

    kill_worker(a)
    b = worker("b")

    b.wait_for_line("duplicate")
    emptied(fleet)
    assert history.jobs("begin") == ["job"]


@pytest.mark.parametrize("victim", ["worker", "launcher"])
def test_a_dead_workers_lock_is_taken_over_when_its_processes_are_gone(
    victim: str, worker: Callable[..., Daemon], fleet: Fleet, history: History
) -> None:
    a = worker("a", max_concurrent_num=1)
    fleet.send_job(command=history.held("first", "family"), lock_id="L")
    servers.wait_until(lambda: history.has("beat", "first"), description="the first job ran")
    worker("b")
    fleet.send_job(command=history.command("second"), lock_id="L")

    if victim == "worker":
        kill_worker(a)
    else:
        a.signal(signal.SIGKILL)

    servers.wait_until(lambda: len(history.jobs("begin")) > 1, description="the lock was taken over")
    first, second = attempts(history.notes())[:2]
    assert first.begin.worker != second.begin.worker
    assert not overlapping([first, second], {"first": "L", "second": "L"})
    assert second.begin.fence > first.begin.fence > 0
    assert not fences(attempts(history.notes()))
