"""Many single calls, few requests."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Generic, TypeAlias, TypeVar

T = TypeVar("T")
R = TypeVar("R")

Send = Callable[[Sequence[T]], Awaitable[Sequence[R | Exception]]]
"""Sends one batch; returns for each item, in order, its answer or why that one failed. Raising fails them all."""

_Batch: TypeAlias = list[tuple[T, asyncio.Future[R]]]


class _Gathering(ABC, Generic[T, R]):
    """Calls that wait for their batch, and batches on their way."""

    def __init__(self, send: Send[T, R], *, size: int) -> None:
        self._send = send
        self._size = size
        self._waiting: _Batch[T, R] = []
        self._sending: set[asyncio.Task[None]] = set()

    async def __call__(self, item: T) -> R:
        """Send ``item`` with its neighbours; return its own answer, or raise what its part of the batch failed with."""
        answer: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, answer))
        self._arrived()
        return await answer

    @abstractmethod
    def _arrived(self) -> None:
        """One more item waits."""

    def _came_back(self, batch: _Batch[T, R]) -> None:
        """A batch is answered; nobody in it knows yet."""

    def _flush(self) -> _Batch[T, R]:
        """Send what waits, up to a full batch."""
        batch, self._waiting = self._waiting[: self._size], self._waiting[self._size :]
        if batch:
            task = asyncio.create_task(self._deliver(batch))
            self._sending.add(task)  # the loop itself keeps only a weak reference
            task.add_done_callback(self._sending.discard)
        return batch

    async def _deliver(self, batch: _Batch[T, R]) -> None:
        results: Sequence[R | BaseException]
        try:
            results = await self._send([item for item, _ in batch])
            if len(results) != len(batch):
                raise ValueError(f"{len(results)} results for {len(batch)} items")  # noqa: TRY301 - for every caller
        except asyncio.CancelledError:
            for _, answer in batch:
                answer.cancel()
            self._came_back(batch)
            raise
        except Exception as failure:  # noqa: BLE001 - handed to every caller of this batch
            results = [failure] * len(batch)
        self._came_back(batch)
        for (_, answer), result in zip(batch, results, strict=True):
            if answer.done():  # its caller was cancelled meanwhile
                continue
            if isinstance(result, BaseException):
                answer.set_exception(result)
            else:
                answer.set_result(result)


class Batcher(_Gathering[T, R]):
    """Gathers calls for a while. No item waits longer than ``linger`` seconds to be sent; a full batch goes at once.

    For what no job waits for.
    """

    def __init__(self, send: Send[T, R], *, size: int, linger: float) -> None:
        super().__init__(send, size=size)
        self._linger = linger
        self._timer: asyncio.TimerHandle | None = None

    def _arrived(self) -> None:
        if len(self._waiting) >= self._size:
            self._flush()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._linger, self._flush)

    def _flush(self) -> _Batch[T, R]:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        return super()._flush()


class ClockedBatcher(_Gathering[T, R]):
    """Gathers calls while a batch is on its way: alone, an item goes at once; under load the answers set the pace.

    For what a job waits for. Batches that are not full leave ``pace`` seconds apart at least: a server that answers
    faster than that would get each item by itself. A batch whose answer takes longer than ``stuck`` seconds holds back
    no others.
    """

    def __init__(self, send: Send[T, R], *, size: int, stuck: float, pace: float = 0.0) -> None:
        super().__init__(send, size=size)
        self._stuck = stuck
        self._pace = pace
        self._sent = float("-inf")
        """When the last batch left, by the loop's clock."""
        self._expected: _Batch[T, R] | None = None
        """The batch on its way that the others wait for."""
        self._timer: asyncio.TimerHandle | None = None
        self._looking = False

    def _arrived(self) -> None:
        if len(self._waiting) >= self._size:
            self._next()
        elif self._expected is None:
            self._look_soon()

    def _look_soon(self) -> None:
        """Send what waits when the pace allows it, with all that arrive until then, in this same moment at least."""
        if self._looking:
            return
        self._looking = True
        loop = asyncio.get_running_loop()
        if (left := self._sent + self._pace - loop.time()) > 0:
            loop.call_later(left, self._look)
        else:
            loop.call_soon(self._look)

    def _look(self) -> None:
        self._looking = False
        if self._expected is None and self._waiting:
            self._next()

    def _next(self) -> None:
        self._sent = asyncio.get_running_loop().time()
        # What a caller that is gone has asked for is not asked for: nobody would give it back.
        self._waiting = [(item, answer) for item, answer in self._waiting if not answer.done()]
        self._expected = self._flush()
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(self._stuck, self._came_back, self._expected)

    def _came_back(self, batch: _Batch[T, R]) -> None:
        """Send the next batch, before those of this one go on: what they do next may take its time."""
        if self._expected is not batch:
            return
        self._expected = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if len(self._waiting) >= self._size or asyncio.get_running_loop().time() >= self._sent + self._pace:
            self._look()
        elif self._waiting:
            self._look_soon()


async def side_by_side(calls: Iterable[Awaitable[R]]) -> list[R | Exception]:
    """Make the calls at the same time; return for each, in order, its answer or why it failed."""
    answers = await asyncio.gather(*calls, return_exceptions=True)
    return [answer if not isinstance(answer, BaseException) else _failure(answer) for answer in answers]


def _failure(error: BaseException) -> Exception:
    if not isinstance(error, Exception):
        raise error
    return error
