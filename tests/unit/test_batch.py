"""Batches: many calls, few requests, and everyone gets their own answer."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from servers import until
from sqsjkr.batcher import Batcher, ClockedBatcher, side_by_side


class Sent:
    """What was sent, batch by batch; ``failures`` says which items fail, ``gate`` holds the answers back."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.failures: dict[int, Exception] = {}
        self.broken: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self, items: Sequence[int]) -> Sequence[Exception | None]:
        self.batches.append(list(items))
        await self.gate.wait()
        if self.broken:
            raise self.broken
        return [self.failures.get(item) for item in items]


@pytest.fixture
async def sent() -> Sent:
    return Sent()


async def test_calls_of_one_moment_share_a_request(sent: Sent) -> None:
    batcher = Batcher(sent, size=10, linger=0.01)
    await asyncio.gather(*(batcher(number) for number in range(4)))
    assert sent.batches == [[0, 1, 2, 3]]


async def test_a_full_batch_does_not_wait(sent: Sent) -> None:
    batcher = Batcher(sent, size=3, linger=3600.0)
    await asyncio.gather(*(batcher(number) for number in range(6)))
    assert sent.batches == [[0, 1, 2], [3, 4, 5]]


async def test_a_batch_that_is_not_full_waits_for_its_linger_and_no_longer(sent: Sent) -> None:
    batcher = Batcher(sent, size=3, linger=0.01)
    await asyncio.gather(*(batcher(number) for number in range(4)))
    assert sent.batches == [[0, 1, 2], [3]]


async def test_a_call_returns_only_when_its_item_was_sent(sent: Sent) -> None:
    sent.gate.clear()
    call = asyncio.create_task(Batcher(sent, size=1, linger=0.0)(7))
    await until(lambda: sent.batches == [[7]], description="the item was sent")
    assert not call.done()
    sent.gate.set()
    await call


async def test_an_item_that_fails_fails_alone(sent: Sent) -> None:
    sent.failures = {1: ValueError("one")}
    batcher = Batcher(sent, size=3, linger=0.01)
    answers = await asyncio.gather(*(batcher(number) for number in range(3)), return_exceptions=True)
    assert answers == [None, sent.failures[1], None]


async def test_a_request_that_fails_fails_everyone_in_it_and_nobody_else(sent: Sent) -> None:
    sent.broken = OSError("no connection")
    batcher = Batcher(sent, size=2, linger=0.01)
    answers = await asyncio.gather(batcher(0), batcher(1), return_exceptions=True)
    assert answers == [sent.broken] * 2
    sent.broken = None
    await batcher(2)


async def test_a_caller_that_is_gone_does_not_take_the_others_with_it(sent: Sent) -> None:
    batcher = Batcher(sent, size=10, linger=0.02)
    calls = [asyncio.create_task(batcher(number)) for number in range(3)]
    await asyncio.sleep(0)
    calls[1].cancel()
    await asyncio.wait(calls)
    assert sent.batches == [[0, 1, 2]]
    assert calls[0].exception() is None
    assert calls[1].cancelled()
    assert calls[2].exception() is None


async def test_batches_do_not_wait_for_each_other(sent: Sent) -> None:
    sent.gate.clear()
    batcher = Batcher(sent, size=1, linger=0.0)
    calls = [asyncio.create_task(batcher(number)) for number in range(2)]
    await until(lambda: sent.batches == [[0], [1]], description="the second was sent before the first was answered")
    sent.gate.set()
    await asyncio.gather(*calls)


async def test_a_backend_that_answers_for_too_few_leaves_nobody_waiting() -> None:
    async def one_result(items: Sequence[int]) -> Sequence[Exception | None]:
        return [None]

    batcher = Batcher(one_result, size=2, linger=0.01)
    answers = await asyncio.gather(batcher(0), batcher(1), return_exceptions=True)
    assert [str(answer) for answer in answers] == ["1 results for 2 items"] * 2


async def doubled(items: Sequence[int]) -> Sequence[int | Exception]:
    return [2 * item for item in items]


async def test_everyone_gets_their_own_answer() -> None:
    batcher = Batcher(doubled, size=10, linger=0.01)
    assert await asyncio.gather(*(batcher(number) for number in range(3))) == [0, 2, 4]


def clocked(sent: Sent, *, size: int = 10, stuck: float = 3600.0) -> ClockedBatcher[int, None]:
    return ClockedBatcher(sent, size=size, stuck=stuck)


async def test_by_the_clock_of_answers_a_call_alone_goes_at_once(sent: Sent) -> None:
    batcher = clocked(sent)
    await batcher(0)
    await batcher(1)
    assert sent.batches == [[0], [1]]


async def test_by_the_clock_of_answers_calls_of_one_moment_share_a_request(sent: Sent) -> None:
    batcher = clocked(sent, size=3)
    await asyncio.gather(*(batcher(number) for number in range(5)))
    assert sent.batches == [[0, 1, 2], [3, 4]]


async def test_what_arrives_while_a_batch_is_on_its_way_shares_the_next_one(sent: Sent) -> None:
    sent.gate.clear()
    batcher = clocked(sent)
    calls = [asyncio.create_task(batcher(0))]
    await until(lambda: sent.batches == [[0]], description="the first was sent")
    for number in (1, 2):
        calls.append(asyncio.create_task(batcher(number)))
        await asyncio.sleep(0)
    await asyncio.sleep(0.01)
    assert sent.batches == [[0]]
    sent.gate.set()
    await asyncio.gather(*calls)
    assert sent.batches == [[0], [1, 2]]


async def test_a_full_batch_does_not_wait_for_the_one_before_it(sent: Sent) -> None:
    sent.gate.clear()
    batcher = clocked(sent, size=2)
    calls = [asyncio.create_task(batcher(number)) for number in range(4)]
    await until(lambda: sent.batches == [[0, 1], [2, 3]], description="both were sent")
    sent.gate.set()
    await asyncio.gather(*calls)


async def test_batches_keep_their_distance_however_fast_the_answers_are(sent: Sent) -> None:
    batcher = ClockedBatcher(sent, size=10, stuck=3600.0, pace=0.05)
    await batcher(0)
    begun = asyncio.get_running_loop().time()
    calls = [asyncio.create_task(batcher(1))]
    await asyncio.sleep(0.01)
    calls.append(asyncio.create_task(batcher(2)))
    await asyncio.gather(*calls)
    assert sent.batches == [[0], [1, 2]]
    assert asyncio.get_running_loop().time() - begun > 0.03
    await asyncio.sleep(0.06)
    await batcher(3)
    assert sent.batches == [[0], [1, 2], [3]]


async def test_a_full_batch_keeps_no_distance(sent: Sent) -> None:
    batcher = ClockedBatcher(sent, size=2, stuck=3600.0, pace=3600.0)
    await asyncio.gather(batcher(0), batcher(1))
    await asyncio.gather(batcher(2), batcher(3))
    assert sent.batches == [[0, 1], [2, 3]]


async def test_a_batch_that_is_stuck_holds_back_no_other(sent: Sent) -> None:
    sent.gate.clear()
    batcher = clocked(sent, stuck=0.02)
    calls = [asyncio.create_task(batcher(number)) for number in range(2)]
    await until(lambda: sent.batches == [[0, 1]], description="the first was sent")
    calls.append(asyncio.create_task(batcher(2)))
    await until(lambda: sent.batches == [[0, 1], [2]], description="the second did not wait for its answer")
    sent.gate.set()
    await asyncio.gather(*calls)


async def test_a_batch_that_fails_lets_the_next_one_go(sent: Sent) -> None:
    sent.broken = OSError("no connection")
    batcher = clocked(sent)
    assert await side_by_side([batcher(0)]) == [sent.broken]
    sent.broken = None
    await batcher(1)


async def test_what_a_caller_that_is_gone_has_asked_for_is_not_sent(sent: Sent) -> None:
    """Nobody would give it back."""
    sent.gate.clear()
    batcher = clocked(sent)
    calls = [asyncio.create_task(batcher(0))]
    await until(lambda: sent.batches == [[0]], description="the first was sent")
    calls += [asyncio.create_task(batcher(number)) for number in (1, 2)]
    await asyncio.sleep(0)
    calls[1].cancel()
    await asyncio.sleep(0)
    sent.gate.set()
    await asyncio.wait(calls)
    assert sent.batches == [[0], [2]]
