"""Rights that a worker does not have: each is named once, with action and resource, in the log and in /healthz."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import servers
from daemons import Daemon
from faults.history import History
from faults.proxy import Proxy
from faults.rules import Fault
from fleet import Fleet

StartWorker = Callable[..., Daemon]


def deny(proxy: Proxy, operation: str) -> None:
    """Refuse an operation as its service does to callers without the right."""
    code = "AccessDeniedException" if operation in {"UpdateItem", "BatchWriteItem"} else "AccessDenied"
    proxy.add(Fault.REFUSE, operation=operation, code=code)


def is_said_once(a: Daemon, event: str, action: str) -> None:
    """Wait for the one line about the missing right, and for /healthz to give it as well."""
    line = a.wait_for_line(lambda line: f" ERROR {event} " in line)
    servers.wait_until(lambda: a.get("/healthz")[0] == 503, description="it was unhealthy")
    for text in (line, a.get("/healthz")[1]):
        assert f"{action}: access denied (AccessDenied" in text
    assert a.stderr.count(f" {event} ") == 1


@pytest.mark.parametrize(
    ("operation", "action", "event"),
    [
        ("ReceiveMessage", "sqs:ReceiveMessage", "queue.unreachable"),
        ("ChangeMessageVisibilityBatch", "sqs:ChangeMessageVisibility", "visibility.failed"),
        ("DeleteMessageBatch", "sqs:DeleteMessage", "settle.retried"),
        ("SendMessage", "sqs:SendMessage", "job.buried"),
        ("UpdateItem", "dynamodb:UpdateItem", "table.unreachable"),
        ("BatchWriteItem", "dynamodb:BatchWriteItem", "settle.retried"),
    ],
)
def test_a_missing_right_is_said_once_with_action_and_resource(
    worker: StartWorker, proxy: Proxy, fleet: Fleet, history: History, operation: str, action: str, event: str
) -> None:
    deny(proxy, operation)
    a = worker("a")
    fleet.send_job(command=history.held("long"))
    fleet.send_job(command="true", lock_id="L")
    fleet.send("no job")

    resource = f"{proxy.listen('a')}/000000000000/{fleet.name}" if action.startswith("sqs") else fleet.table
    is_said_once(a, event, f"{action} on {resource}{'-dead' if operation == 'SendMessage' else ''}")


@pytest.mark.parametrize(
    ("operation", "action"), [("GetQueueAttributes", "sqs:GetQueueAttributes"), ("GetItem", "dynamodb:GetItem")]
)
def test_a_right_that_the_start_needs_ends_it_in_one_line(
    worker: StartWorker, proxy: Proxy, operation: str, action: str
) -> None:
    deny(proxy, operation)
    a = worker("a", ready=False)

    assert a.wait() == 1
    assert a.lines[-1].startswith(f"sqsjkr: {action} on ")
    assert "access denied" in a.lines[-1]


def test_what_still_works_does_not_say_that_the_rest_works_again(
    worker: StartWorker, proxy: Proxy, fleet: Fleet, history: History
) -> None:
    deny(proxy, "BatchWriteItem")
    a = worker("a")
    for number in range(3):  # each has its lock given back, which works
        fleet.send_job(command=history.command(f"job{number}"), lock_id=f"L{number}")

    servers.wait_until(lambda: fleet.depth() == (0, 0, 0), description="all were deleted")
    servers.wait_until(lambda: proxy.seen("BatchWriteItem")[6:], description="it was tried again")
    assert a.stderr.count("settle.retried") == 1
    assert "settle.resumed" not in a.stderr


def test_a_worker_whose_results_can_not_be_recorded_says_that_it_takes_no_more_and_goes_on_with_the_right(
    worker: StartWorker, proxy: Proxy, fleet: Fleet
) -> None:
    denied = proxy.add(Fault.REFUSE, operation="BatchWriteItem")
    a = worker("a")
    for _ in range(15):
        fleet.send(*['{"command": "true"}'] * 10)

    paused = a.wait_for_line("worker.paused")
    assert f"jobs can't be settled: marking jobs as done: dynamodb:BatchWriteItem on {fleet.table}" in paused
    assert "marking jobs as done: dynamodb:BatchWriteItem" in a.get("/healthz")[1]
    proxy.release(denied)
    a.wait_for_line("worker.resumed")
    a.wait_for_line("settle.resumed")
    servers.wait_until(lambda: a.stats()["invocations"]["succeeded"] == 150, description="all ran")
    assert a.get("/healthz") == (200, "ok\n")


@pytest.mark.parametrize(
    ("operation", "left"),
    [
        ("BatchWriteItem", "its job is not marked as done"),
        ("DeleteMessageBatch", "its message is not deleted, and is delivered again"),
    ],
)
def test_what_is_left_undone_at_a_stop_is_said_of_each_message(
    worker: StartWorker, proxy: Proxy, fleet: Fleet, operation: str, left: str
) -> None:
    deny(proxy, operation)
    a = worker("a")
    message_id = fleet.send_job(command="true", event_id="job")
    a.wait_for_line("settle.retried")
    a.signal(15)

    assert a.wait() == 0
    [line] = [line for line in a.lines if "settle.given_up" in line]
    assert f"job[{message_id[:8]}]: {left}" in line
    assert "settle.resumed" not in a.stderr


def test_an_entry_that_fails_alone_names_action_and_queue(worker: StartWorker, proxy: Proxy, fleet: Fleet) -> None:
    proxy.add(Fault.PART, operation="DeleteMessageBatch", code="InternalError", limit=2)
    a = worker("a")
    fleet.send_job(command="true")

    line = a.wait_for_line("settle.retried")
    assert f"sqs:DeleteMessage on {proxy.listen('a')}/000000000000/{fleet.name}: InternalError" in line
    a.wait_for_line("settle.resumed")
