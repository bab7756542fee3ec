"""What the settler tells queue, locker and throttler, and in which order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from memory_queue import SQS, MemoryQueue
from servers import until
from sqsjkr import clock
from sqsjkr.attempt import Attempt
from sqsjkr.errors import BackendUnavailable
from sqsjkr.execution.hook import Hook
from sqsjkr.gate import Gate
from sqsjkr.intake.brake import Brake
from sqsjkr.intake.waiting_room import WaitingRoom
from sqsjkr.job import Job
from sqsjkr.journal import Journal
from sqsjkr.leases.budget import STANDARD, LeaseBudget
from sqsjkr.leases.proof import Proof
from sqsjkr.locker import NoLocker
from sqsjkr.message import Message
from sqsjkr.outcome import Ending, Outcome
from sqsjkr.policy import Limits, Policy
from sqsjkr.settler import Settler
from sqsjkr.telemetry.events import Event
from sqsjkr.telemetry.outage import Outage
from sqsjkr.throttler import Claim, Throttler

HASTY = STANDARD.but(give_back_within=0.01, longest_retry=0.02)


class Table(NoLocker, Throttler):
    """A locker and throttler that answer while ``answers`` is set; ``given_back`` is what was."""

    def __init__(self) -> None:
        self.answers = asyncio.Event()
        self.answers.set()
        self.given_back: list[str] = []

    async def unlock(self, lock_id: str, owner: str) -> None:
        await self.answers.wait()
        self.given_back.append(f"lock {lock_id}")

    async def claim(self, message_id: str, owner: str) -> Claim:
        return Claim.FRESH

    async def confirm(self, message_id: str, owner: str) -> None:
        await self.answers.wait()
        self.given_back.append("claim, done")

    async def forget(self, message_id: str, owner: str) -> None:
        await self.answers.wait()
        self.given_back.append("claim")


class Untold(Hook):
    """No hook at all."""

    def __init__(self) -> None:
        """It needs nothing."""

    def wants(self, attempt: Attempt, ending: Ending) -> bool:
        return False

    async def tell(self, attempt: Attempt, ending: Ending) -> bool:
        return True


class Corner:
    """A settler with a queue, a table and a waiting room."""

    def __init__(self, budget: LeaseBudget) -> None:
        self.sqs = SQS(clock.now)
        self.queue = MemoryQueue(self.sqs, budget=budget)
        self.table = Table()
        self.room = WaitingRoom(bound=10, budget=budget)
        host = Outage("starting jobs", Event.HOST_EXHAUSTED, Event.HOST_RECOVERED)
        table = Outage("the lock table", Event.TABLE_UNREACHABLE, Event.TABLE_RECOVERED)
        brake = Brake(table, host, log=None, table_is_probed=False)
        proof = Proof(self.table, self.table, self.queue.visibility)
        gate = Gate(self.table, self.table, self.room, brake, proof, Policy(Limits()), budget=budget)
        self.settler = Settler(self.queue, gate, self.room, proof, Journal(), Untold(), asyncio.Event(), budget=budget)

    async def attempt(self, *, lock_id: str = "", group: str | None = None) -> Attempt:
        """An attempt at a message that was sent and received just now; it has its lock and its claim."""
        self.sqs.send("{}", group=group)
        (message,) = await self.queue.receive(10, 0.0)
        attempt = Attempt(message, "attempt")
        attempt.job = Job(id=message.id, command="true", event_id=message.id, lock_id=lock_id)
        attempt.locked, attempt.claimed = bool(lock_id), True
        return attempt


@pytest.fixture
async def corner() -> AsyncIterator[Corner]:
    corner = Corner(HASTY)
    await corner.queue.open()
    yield corner
    await corner.queue.close()


async def test_a_table_that_is_silent_keeps_no_message_and_is_given_its_own_later(corner: Corner) -> None:
    attempt = await corner.attempt(lock_id="L")
    corner.table.answers.clear()
    settling = asyncio.create_task(corner.settler.settle(attempt, Ending(Outcome.SUCCEEDED)))
    await until(lambda: corner.sqs.depth == (0, 0), description="the message was deleted")
    assert not settling.done()
    corner.table.answers.set()
    await settling
    assert sorted(corner.table.given_back) == ["claim, done", "lock L"]


async def test_giving_up_waits_for_no_answer_of_a_table_that_is_silent(
    corner: Corner, caplog: pytest.LogCaptureFixture
) -> None:
    attempt = await corner.attempt()
    corner.table.answers.clear()
    settling = asyncio.create_task(corner.settler.settle(attempt, Ending(Outcome.SUCCEEDED)))
    await until(lambda: corner.sqs.depth == (0, 0), description="the message was deleted")
    corner.settler.give_up()
    await until(settling.done, description="the settlement was given up")
    assert settling.result().outcome is Outcome.SUCCEEDED
    assert "no answer before the worker had to stop" in caplog.text


async def test_a_release_that_fails_for_a_moment_is_sent_until_it_is_answered(corner: Corner) -> None:
    attempt = await corner.attempt()
    corner.queue.trouble += [BackendUnavailable("InternalError")] * 2
    await corner.settler.settle(attempt, Ending(Outcome.INTERRUPTED))
    assert corner.sqs.depth == (1, 0)


async def test_a_burial_that_is_not_answered_keeps_no_lock(corner: Corner) -> None:
    """The claim stays until then, or a copy could run elsewhere."""
    attempt = await corner.attempt(lock_id="L")
    corner.queue.no_burials = BackendUnavailable("the dead-letter queue does not answer")
    settling = asyncio.create_task(corner.settler.settle(attempt, Ending(Outcome.UNSTARTABLE)))
    await until(lambda: corner.table.given_back, description="something was given back")
    assert corner.table.given_back == ["lock L"]
    corner.queue.no_burials = None
    await settling
    assert corner.table.given_back == ["lock L", "claim, done"]


async def test_how_long_a_message_waited_is_forgotten_when_it_goes_back(corner: Corner) -> None:
    """Also one that was woken, found no slot and goes back: the next delivery waits its whole time."""
    attempt = await corner.attempt()
    await corner.settler.settle(attempt, Ending(Outcome.BUSY))
    assert len(corner.room) == 1
    assert corner.room.met_copy(attempt.message)
    corner.room.released(f"message {attempt.message.id}")
    assert corner.room.due() == [attempt.message]

    await corner.settler.hand_back([attempt.message], "no slot was free for it")

    assert not corner.room.met_copy(attempt.message)


async def test_what_follows_a_waiting_head_counts_as_waiting_too(corner: Corner) -> None:
    """A FIFO group's messages behind one that waits for a lock are held in memory as well."""
    corner.room = corner.settler._room = WaitingRoom(bound=10, bodies=10)
    corner.sqs.send("{}", group="g")
    corner.sqs.send("follower", group="g")
    (head,) = await corner.queue.receive(10, 0.0)
    attempt = Attempt(head, "attempt")
    attempt.job = Job(id=head.id, command="true", event_id="e", lock_id="L")
    assert (await corner.settler.settle(attempt, Ending(Outcome.LOCKED))).outcome is Outcome.LOCKED
    corner.sqs.send("{}", group="h")
    corner.sqs.send("a follower", group="h")
    (head,) = await corner.queue.receive(10, 0.0)
    attempt = Attempt(head, "attempt")
    attempt.job = Job(id=head.id, command="true", event_id="e", lock_id="L")

    assert (await corner.settler.settle(attempt, Ending(Outcome.LOCKED))).outcome is Outcome.CROWDED

    assert corner.sqs.depth == (2, 2), "the crowded one and its follower went back"
    (waiter,) = corner.room.clear()
    assert waiter.group == "g"


def test_a_message_that_waits_has_the_weight_of_its_own_body_alone_without_a_group() -> None:
    room = WaitingRoom(bound=10, bodies=2)
    message = Message(id="m", body="{}", sent_at=0.0, age=0.0, received_at=0.0)
    assert room.park(message, "lock L", expires=float("inf"))
