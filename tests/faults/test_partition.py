from __future__ import annotations

import time
from collections.abc import Callable

import pytest

import servers
from daemons import Daemon
from faults.checker import attempts, overlapping
from faults.history import History
from faults.proxy import Proxy
from faults.workers import LEASE
from fleet import Fleet

SCALE = 0.2
StartWorker = Callable[..., Daemon]


def run_both_at(worker: StartWorker, fleet: Fleet, history: History, *, beats: int | None = None) -> Daemon:
    """A locked and an unlocked job, begun by the worker `a`; they live until they are released, or so many beats."""

    def command(job: str) -> str:
        return history.held(job, "family") if beats is None else history.command(job, "family", beats)

    a = worker("a", scale=SCALE)
    fleet.send_job(command=command("locked"), lock_id="L")
    fleet.send_job(command=command("free"))
    for job in ("locked", "free"):
        servers.wait_until(lambda job=job: history.has("beat", job), description=f"the {job} job ran")
    return a


def last_beat(history: History, job: str) -> float:
    return max(note.time for note in history.notes() if note.job == job)


def test_a_worker_cut_off_from_the_table_ends_its_locked_jobs_only_and_before_another_may_start(
    worker: StartWorker, proxy: Proxy, fleet: Fleet, history: History
) -> None:
    a = run_both_at(worker, fleet, history)
    proxy.cut("a", "dynamodb")
    worker("b", scale=SCALE)
    fleet.send_job(command=history.command("next", beats=3), lock_id="L")

    # Which of the two b starts first is open: the interrupted job came back, and the other one waits for the same lock.
    servers.wait_until(
        lambda: history.has("begin", "locked", 2) or history.has("end", "next"),
        description="another worker had the lock",
    )
    a.wait_for_line("lease.lost")
    history.release("locked", "free")
    servers.wait_until(lambda: history.has("end", "next"), description="the next job had the lock")
    servers.wait_until(lambda: history.has("end", "free"), description="the unlocked job went on to its end")
    proxy.heal("a", "dynamodb")

    a.wait_for_line("table.recovered" if "table.unreachable" in a.stderr else "job.ended")
    servers.wait_until(lambda: history.has("end", "locked"), description="the locked job had run again")
    servers.wait_until(lambda: fleet.depth() == (0, 0, 0), description="the queue was empty")
    assert history.jobs("begin").count("free") == 1
    assert not overlapping(attempts(history.notes()), {"locked": "L", "next": "L"})

    fleet.send_job(command=history.command("later"), lock_id="M")
    servers.wait_until(lambda: history.has("end", "later"), description="locks are taken again")


def test_a_worker_cut_off_from_the_queue_ends_nothing(
    worker: StartWorker, proxy: Proxy, fleet: Fleet, history: History
) -> None:
    a = run_both_at(worker, fleet, history, beats=int(1.5 * LEASE * SCALE * 10))
    proxy.cut("a", "sqs")
    worker("b", scale=SCALE)

    for job in ("locked", "free"):
        servers.wait_until(lambda job=job: history.has("end", job), description=f"the {job} job ended")
    proxy.heal("a", "sqs")
    fleet.send_job(command=history.command("later"))

    servers.wait_until(lambda: fleet.depth() == (0, 0, 0), description="the queue was empty")
    assert sorted(history.jobs("begin")) == ["free", "later", "locked"]
    assert "lease.lost" not in a.stderr


def test_a_full_worker_cut_off_from_the_queue_ends_nothing_although_it_cannot_give_back_who_waits(
    worker: StartWorker, proxy: Proxy, fleet: Fleet, history: History
) -> None:
    fleet.put({"Id": "L", "Type": "lock", "EventId": "an event of a Go daemon"})
    a = worker("a", scale=SCALE, max_concurrent_num=1)
    fleet.send_job(command=history.command("waiter"), lock_id="L")
    a.wait_for_line("job.waiting")
    fleet.send_job(command=history.held("long"))
    servers.wait_until(lambda: history.has("begin", "long"), description="the long job took the slot")
    proxy.cut("a", "sqs")

    a.wait_for_line("no slot is free here")
    history.release("long")
    servers.wait_until(lambda: history.has("end", "long"), description="the long job ended by itself")
    assert "guard.killed" not in a.stderr
    assert a.is_running()


def test_a_worker_cut_off_from_both_ends_all_its_jobs_and_they_run_again(
    worker: StartWorker, proxy: Proxy, fleet: Fleet, history: History
) -> None:
    run_both_at(worker, fleet, history)
    worker("b", scale=SCALE)
    proxy.cut("a")

    for job in ("locked", "free"):
        servers.wait_until(lambda job=job: history.has("begin", job, 2), description=f"the {job} job ran again")
    history.release("locked", "free")
    for job in ("locked", "free"):
        servers.wait_until(lambda job=job: history.has("end", job), description=f"the {job} job ended")
    proxy.heal("a")

    servers.wait_until(lambda: fleet.depth() == (0, 0, 0), description="the queue was empty")
    assert not overlapping(attempts(history.notes()), {"locked": "L"}), "not even a job with itself"
    assert sorted(note.worker for note in history.notes() if note.event == "end") == ["b", "b"]


def test_an_outage_of_the_table_is_probed_without_taking_messages(
    worker: StartWorker, proxy: Proxy, fleet: Fleet, history: History
) -> None:
    a = worker("a", scale=SCALE, max_concurrent_num=1)  # so no poll is under way while the job's claim is asked for
    proxy.cut("a", "dynamodb")
    fleet.send_job(command=history.command("job"))
    a.wait_for_line("table.unreachable")
    servers.wait_until(lambda: fleet.depth() == (1, 0, 0), description="the message was back")
    received, probed = len(proxy.seen("ReceiveMessage", worker="a")), len(proxy.seen("UpdateItem", worker="a"))

    servers.wait_until(lambda: len(proxy.seen("UpdateItem", worker="a")) > probed + 4, description="heartbeats tried")
    assert len(proxy.seen("ReceiveMessage", worker="a")) == received
    assert fleet.depth() == (1, 0, 0), "any other worker may have it"
    proxy.heal("a", "dynamodb")
    servers.wait_until(lambda: history.has("end", "job"), description="the job ran")


@pytest.mark.parametrize(("service", "refuse"), [("sqs", False), ("dynamodb", True)])
def test_a_service_that_is_down_at_the_start_is_waited_for(
    service: str, refuse: bool, worker: StartWorker, proxy: Proxy, fleet: Fleet, history: History
) -> None:
    fleet.send_job(command=history.command("job"), lock_id="L")
    proxy.cut("a", service, refuse=refuse)

    a = worker("a", scale=SCALE, ready=False)
    event = "queue.unreachable" if service == "sqs" else "table.unreachable"
    a.wait_for_line(event)
    before, begun = len(proxy.calls), time.monotonic()
    servers.wait_until(lambda: time.monotonic() > begun + 2, description="two seconds had passed")
    asked, took = len(proxy.calls) - before, time.monotonic() - begun
    assert asked <= 7.5 * took, "no hot loop"
    assert a.is_running()
    proxy.heal("a", service)

    servers.wait_until(lambda: history.has("end", "job"), description="the job ran")
    assert a.stderr.count(event) == 1, "one line a streak"


@pytest.mark.parametrize(("service", "refuse", "trouble"), [("sqs", True, "queue"), ("dynamodb", False, "table")])
def test_a_service_that_is_down_for_a_while_costs_one_line_and_few_requests(
    service: str, trouble: str, refuse: bool, worker: StartWorker, proxy: Proxy, fleet: Fleet, history: History
) -> None:
    a = worker("a", scale=SCALE)
    proxy.cut("a", service, refuse=refuse)
    for number in range(5):
        fleet.send_job(command=history.command(f"job{number}"))

    a.wait_for_line(f"{trouble}.unreachable")
    before, begun = len(proxy.calls), time.monotonic()
    servers.wait_until(lambda: time.monotonic() > begun + 2, description="two seconds had passed")
    asked, took = len(proxy.calls) - before, time.monotonic() - begun
    proxy.heal("a", service)

    a.wait_for_line(f"{trouble}.recovered")
    servers.wait_until(lambda: len(history.jobs("end")) == 5, description="all jobs had run")
    assert asked <= 75 * took, "no hot loop"
    assert a.stderr.count(f"{trouble}.unreachable") == 1, "one line a streak"
    assert sorted(history.jobs("begin")) == [f"job{number}" for number in range(5)]
