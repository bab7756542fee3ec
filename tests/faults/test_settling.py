"""What becomes of a job's message when table or queue fail while it is settled."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

import servers
from daemons import Daemon
from faults.history import History
from faults.proxy import Proxy
from faults.rules import Fault
from faults.workers import now
from fleet import Fleet
from sqsjkr.leases.budget import STANDARD

StartWorker = Callable[..., Daemon]
SHOWN = '"VisibilityTimeout": 0}'


def released(proxy: Proxy) -> list[dict[str, Any]]:
    """Every entry that asked for a message to be visible at once."""
    calls = proxy.seen("ChangeMessageVisibilityBatch")
    return [entry for call in calls for entry in call.payload["Entries"] if entry["VisibilityTimeout"] == 0]


def test_a_table_that_does_not_answer_keeps_no_finished_job_on_the_queue(
    worker: StartWorker, proxy: Proxy, fleet: Fleet, history: History
) -> None:
    a = worker("a")
    fleet.send_job(command=history.held("job"))
    servers.wait_until(lambda: history.has("begin", "job"), description="the job ran")
    proxy.cut("a", "dynamodb")
    history.release("job")

    servers.wait_until(lambda: fleet.depth() == (0, 0, 0), description="the message was deleted")
    assert proxy.seen("BatchWriteItem", fault="cut"), "while its claim could not be marked done"
    a.signal(signal.SIGTERM)
    assert a.wait() == 0
    assert "settle.given_up" in a.stderr, "an operator learns that a claim was left"


def test_a_job_that_ends_during_a_stop_without_the_table_does_not_run_again(
    worker: StartWorker, proxy: Proxy, fleet: Fleet, history: History
) -> None:
    a = worker("a", grace_period="60s")
    fleet.send_job(command=history.held("job"))
    servers.wait_until(lambda: history.has("begin", "job"), description="the job ran")
    proxy.cut("a", "dynamodb")
    a.signal(signal.SIGTERM)
    a.wait_for_line("worker.stopping")
    history.release("job")

    assert a.wait() == 0
    assert fleet.depth() == (0, 0, 0), "its message was deleted before it left"
    assert history.jobs("begin") == ["job"]


def test_a_job_that_ends_in_an_outage_of_both_has_the_grace_period_to_be_settled(
    worker: StartWorker, proxy: Proxy, fleet: Fleet, history: History
) -> None:
    a = worker("a", grace_period="86400s")
    fleet.send_job(command=history.held("job"))
    servers.wait_until(lambda: history.has("begin", "job"), description="the job ran")
    proxy.cut("a")
    a.signal(signal.SIGTERM)
    a.wait_for_line("worker.stopping")
    history.release("job")
    servers.wait_until(lambda: history.has("end", "job"), description="the job ended")
    ended = now()
    servers.wait_until(lambda: now() - ended > 4 * STANDARD.last_words * 0.2, description="no last words would do")
    proxy.heal("a")

    assert a.wait() == 0
    worker("b")  # the message was visible meanwhile: where the server took no late delete, it finds the job settled
    servers.wait_until(lambda: fleet.depth() == (0, 0, 0), description="the message left the queue")
    assert history.jobs("begin") == ["job"]


def test_a_second_signal_ends_jobs_at_once_although_the_queue_takes_nothing_back(
    worker: StartWorker, proxy: Proxy, fleet: Fleet, history: History
) -> None:
    fleet.put({"Id": "L", "Type": "lock", "EventId": "an event of a Go daemon"})
    a = worker("a", options=("--last_words=3600",), max_concurrent_num=1, grace_period="86400s")
    fleet.send_job(command=history.command("waiter"), lock_id="L")
    a.wait_for_line("job.waiting")
    fleet.send_job(command=history.held("job"))
    servers.wait_until(lambda: history.has("begin", "job"), description="the job ran")
    showing = proxy.add(Fault.HANG, operation="ChangeMessageVisibilityBatch", text=SHOWN)

    for _ in range(2):
        a.signal(signal.SIGTERM)
        servers.wait_until(lambda: showing.hits, description="the waiter was to go back")

    a.wait_for_line("interrupted")
    proxy.release(showing)
    assert a.wait() == 0
    assert fleet.depth() == (2, 0, 0)


def test_a_release_that_sqs_refuses_for_a_moment_is_sent_again(
    worker: StartWorker, proxy: Proxy, fleet: Fleet, history: History
) -> None:
    proxy.add(Fault.PART, operation="ChangeMessageVisibilityBatch", text=SHOWN, code="InternalError", limit=1)
    a = worker("a", scale=1, max_concurrent_num=1, grace_period="0s")
    fleet.send_job(command=history.held("job"))
    servers.wait_until(lambda: history.has("begin", "job"), description="the job ran")

    a.signal(signal.SIGTERM)

    assert a.wait() == 0
    assert len(released(proxy)) == 2
    assert fleet.depth() == (1, 0, 0), "the second one was answered"


def test_a_trigger_that_hangs_is_ended_and_holds_its_slot_no_longer(
    worker: StartWorker, fleet: Fleet, history: History
) -> None:
    sent = now()
    fleet.send_job(command=history.command("stale"), life_time="1s")
    servers.wait_until(lambda: now() - sent > 2, description="the life_time was over, however a Date header is read")
    trigger = history.held("trigger")
    a = worker("a", options=("--trigger=2",), max_concurrent_num=1, life_time_trigger=trigger)
    servers.wait_until(lambda: history.has("begin", "trigger"), description="the trigger ran")

    fleet.send_job(command=history.command("next"))

    servers.wait_until(lambda: history.has("end", "next"), description="the slot was free again")
    assert not history.has("end", "trigger")
    a.wait_for_line("the trigger was ended after 2s")
    servers.wait_until(lambda: fleet.depth() == (0, 0, 0), description="the stale message was deleted")
