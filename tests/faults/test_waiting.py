from __future__ import annotations

import json
from collections.abc import Callable

import servers
from daemons import Daemon
from faults.history import History
from fleet import Fleet
from sqsjkr.intake.waiting_room import WaitingRoom
from sqsjkr.leases.budget import STANDARD
from sqsjkr.message import Message

StartWorker = Callable[..., Daemon]
HELD = {"Id": "held", "Type": "lock", "EventId": "an event of a Go daemon"}  # by nobody who would ever release it


def test_one_slot_and_a_hundred_waiters_still_run_every_free_job(
    worker: StartWorker, fleet: Fleet, history: History
) -> None:
    fleet.put(HELD)
    waiters = [{"command": history.command(f"waiter{n}"), "lock_id": "held"} for n in range(100)]
    for start in range(0, 100, 10):
        entries = [{"Id": str(n), "MessageBody": json.dumps(waiters[start + n])} for n in range(10)]
        fleet.sqs("SendMessageBatch", QueueUrl=fleet.queue_url, Entries=entries)
    a = worker("a", scale=1, max_concurrent_num=1)
    servers.wait_until(lambda: a.stderr.count("job.waiting") == 100, description="all waited")

    for number in range(5):
        fleet.send_job(command=history.command(f"free{number}"))

    servers.wait_until(lambda: len(history.jobs("end")) == 5, description="the free jobs ran")
    assert sorted(history.jobs("begin")) == [f"free{number}" for number in range(5)]


def test_the_oldest_waiter_is_next(worker: StartWorker, fleet: Fleet, history: History) -> None:
    jobs = [f"job{number}" for number in range(6)]
    a = worker("a", scale=1, max_concurrent_num=2)
    fleet.send_job(command=history.held(jobs[0]), lock_id="L")
    servers.wait_until(lambda: history.has("begin", jobs[0]), description="the first job ran")
    for job in jobs[1:]:
        fleet.send_job(command=history.command(job), lock_id="L")
    servers.wait_until(lambda: a.stderr.count("job.waiting") >= 5, description="the others waited")
    history.release(jobs[0])

    servers.wait_until(lambda: len(history.jobs("end")) == 6, description="all had their turn")
    assert history.jobs("begin") == jobs


def test_the_end_of_its_life_time_ends_the_wait(worker: StartWorker, fleet: Fleet, history: History) -> None:
    fleet.put(HELD)
    a = worker("a", scale=1)
    fleet.send_job(command=history.command("job"), lock_id="held", life_time="20s")

    a.wait_for_line("job.waiting")
    a.wait_for_line("expired")
    servers.wait_until(lambda: fleet.depth() == (0, 0, 0), description="the message was deleted")
    assert not history.jobs("begin")


def test_the_wait_for_a_verdict_begins_when_the_wait_for_the_lock_is_over() -> None:
    time = [0.0]
    room = WaitingRoom(bound=10, now=lambda: time[0])
    message = Message(id="m", body="", sent_at=0.0, age=0.0, received_at=0.0)
    stay = STANDARD.longest_stay
    assert room.park(message, "lock L", expires=float("inf"))
    time[0] = 2 * stay
    assert room.due() == [message]

    assert room.park(message, "message m", expires=float("inf"), stay=stay)
    time[0] += stay + 1
    assert room.due() == [message]
    assert not room.park(message, "message m", expires=float("inf"), stay=stay)
