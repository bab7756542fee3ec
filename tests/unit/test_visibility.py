"""The queue's rules, on an SQS in memory with time in the hands of the test."""

from __future__ import annotations

import pytest

from memory_queue import SQS, MemoryQueue
from sqsjkr import clock
from sqsjkr.errors import BackendUnavailable
from sqsjkr.leases.budget import STANDARD
from sqsjkr.message import Message
from sqsjkr.queue import Burial


class Time:
    """The time on the server's clock and on every worker's."""

    now = 1_000.0


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    time = Time()
    monkeypatch.setattr(clock, "now", lambda: time.now)
    return time


@pytest.fixture
def sqs(time: Time) -> SQS:
    return SQS(lambda: time.now)


@pytest.fixture
def queue(sqs: SQS) -> MemoryQueue:
    return MemoryQueue(sqs)


async def receive_one(queue: MemoryQueue) -> Message:
    (message,) = await queue.receive(1, 0.0)
    return message


async def test_a_delay_beyond_twelve_hours_ends_with_them(time: Time, sqs: SQS, queue: MemoryQueue) -> None:
    """SQS refuses a longer one, and the message would be visible at once instead of late."""
    sqs.send("x")
    message = await receive_one(queue)
    sqs.messages[message.id].visible = time.now + 43_200.0  # as it is after some thousand extensions
    time.now += 42_000.0
    await queue.release(message, 3_600.0)
    assert sqs.messages[message.id].visible == pytest.approx(time.now + 1_000.0)


async def test_a_delay_after_twelve_hours_is_none(time: Time, sqs: SQS, queue: MemoryQueue) -> None:
    sqs.send("x")
    message = await receive_one(queue)
    time.now += 43_100.0
    await queue.release(message, 3_600.0)
    assert [entry.seconds for entry in queue.hidings] == [0.0]


async def test_a_release_that_failed_for_a_moment_can_be_sent_again(sqs: SQS, queue: MemoryQueue) -> None:
    sqs.send("x")
    message = await receive_one(queue)
    queue.trouble.append(BackendUnavailable("InternalError"))
    with pytest.raises(BackendUnavailable, match="InternalError"):
        await queue.release(message)
    assert sqs.depth == (0, 1)
    await queue.release(message)
    assert sqs.depth == (1, 0)


async def test_the_queue_says_whether_a_delivery_is_still_ours(time: Time, sqs: SQS, queue: MemoryQueue) -> None:
    sqs.send("x")
    message = await receive_one(queue)
    time.now += 9.0
    assert await queue.visibility.still_holds(message)
    assert queue.visibility.hidden_until(message) == time.now + STANDARD.hiding
    sqs.messages.clear()
    time.now += 1.0
    assert not await queue.visibility.still_holds(message)
    assert not await queue.visibility.still_holds(message)
    assert len(queue.hidings) == 2, "what is void is not asked for again"


async def test_a_queue_that_does_not_answer_says_nothing_about_a_delivery(sqs: SQS, queue: MemoryQueue) -> None:
    sqs.send("x")
    message = await receive_one(queue)
    queue.trouble.append(BackendUnavailable("no answer"))
    with pytest.raises(BackendUnavailable):
        await queue.visibility.still_holds(message)
    assert await queue.visibility.still_holds(message)


async def test_a_verb_about_an_earlier_delivery_leaves_a_later_one_alone(sqs: SQS, queue: MemoryQueue) -> None:
    """The answer to a release was lost, and the message came back here before the release was sent again."""
    sqs.send("x")
    first = await receive_one(queue)
    queue.lost.append(BackendUnavailable("connection reset"))
    with pytest.raises(BackendUnavailable):
        await queue.release(first)
    second = await receive_one(queue)
    assert (second.id, second.receive_count) == (first.id, 2)

    await queue.release(first)
    await queue.bury(first, Burial(reason="it was invalid"))
    await queue.delete(first)

    assert sqs.depth == (0, 1), "the later delivery is hidden"
    assert queue.visibility.hidden_until(second) == second.received_at + STANDARD.first_hiding
    assert queue.visibility.hidden_until(first) == 0.0
    await queue.delete(second)
    assert sqs.depth == (0, 0)
