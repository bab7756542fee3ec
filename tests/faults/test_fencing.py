from __future__ import annotations

import os
import signal
from collections.abc import Callable

import servers
from daemons import Daemon
from faults.checker import attempts, fences, overlapping
from faults.history import History
from faults.workers import worker_of
from fleet import Fleet

StartWorker = Callable[..., Daemon]


def test_the_fence_grows_across_workers_and_takeovers(worker: StartWorker, fleet: Fleet, history: History) -> None:
    a = worker("a")
    for job in ("first", "second"):
        fleet.send_job(command=history.command(job), lock_id="L")
        servers.wait_until(lambda job=job: history.has("end", job), description=f"the {job} job ran")
    fleet.send_job(command=history.held("taken"), lock_id="L")
    servers.wait_until(lambda: history.has("begin", "taken"), description="a third job ran")
    a.kill_tree()  # so nobody gives the lock back
    fleet.sqs("PurgeQueue", QueueUrl=fleet.queue_url)
    worker("b")
    fleet.send_job(command=history.command("last"), lock_id="L")

    servers.wait_until(lambda: history.has("end", "last"), description="the lock was taken over")
    ran = attempts(history.notes())
    assert [attempt.begin.fence for attempt in ran] == [1, 2, 3, 4]
    assert not fences(ran)
    assert {note.worker for note in history.notes()} == {"a", "b"}


def test_a_frozen_workers_jobs_end_before_its_lock_is_taken_over(
    worker: StartWorker, fleet: Fleet, history: History
) -> None:
    a = worker("a", max_concurrent_num=1)
    fleet.send_job(command=history.held("frozen", "family"), lock_id="L")
    servers.wait_until(lambda: history.has("beat", "frozen"), description="the job ran")
    process = worker_of(a)
    assert process is not None

    os.kill(process.pid, signal.SIGSTOP)
    worker("b")

    assert a.wait() == 3, "the launcher has ended it"
    history.release("frozen")
    servers.wait_until(lambda: history.has("end", "frozen"), description="the job had run again")
    servers.wait_until(lambda: fleet.depth() == (0, 0, 0), description="the queue was empty")
    ran = attempts(history.notes())
    assert [attempt.begin.worker for attempt in ran] == ["a", "b"]
    assert not overlapping(ran, {"frozen": "L"})
    assert not fences(ran)
