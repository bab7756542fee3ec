"""Many single calls, few requests."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")

Send = Callable[[Sequence[T]], Awaitable[Sequence[Exception | None]]]
"""Sends one batch; answers for each item, in order, None or why that one failed. Raising fails them all."""


class Batcher(Generic[T]):
    """Gathers calls into batches of at most ``size``; no item waits longer than ``linger`` seconds to be sent."""

    def __init__(self, send: Send[T], *, size: int, linger: float) -> None:
        self._send = send
        self._size = size
        self._linger = linger
        self._waiting: list[tuple[T, asyncio.Future[None]]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._sending: set[asyncio.Task[None]] = set()

    async def __call__(self, item: T) -> None:
        """Send ``item`` with its neighbours. Raises what its part of the batch failed with."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[None] = loop.create_future()
        self._waiting.append((item, answer))
        if len(self._waiting) >= self._size:
            self._flush()
        elif self._timer is None:
            self._timer = loop.call_later(self._linger, self._flush)
        await answer

    def _flush(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        batch, self._waiting = self._waiting[: self._size], self._waiting[self._size :]
        if batch:
            task = asyncio.create_task(self._deliver(batch))
            self._sending.add(task)  # the loop itself keeps only a weak reference
            task.add_done_callback(self._sending.discard)

    async def _deliver(self, batch: list[tuple[T, asyncio.Future[None]]]) -> None:
        results: Sequence[BaseException | None]
        try:
            results = await self._send([item for item, _ in batch])
            if len(results) != len(batch):
                raise ValueError(f"{len(results)} results for {len(batch)} items")  # noqa: TRY301 - for every caller
        except asyncio.CancelledError:
            for _, answer in batch:
                answer.cancel()
            raise
        except Exception as failure:  # noqa: BLE001 - handed to every caller of this batch
            results = [failure] * len(batch)
        for (_, answer), result in zip(batch, results, strict=True):
            if answer.done():  # its caller was cancelled meanwhile
                continue
            if result is None:
                answer.set_result(None)
            else:
                answer.set_exception(result)
