"""Hosts in a model: each has a clock and an event loop that move only when the test says so."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any


class Host(asyncio.AbstractEventLoop):
    """One host. Its event loop is real enough for tasks, futures and sleep; there is no network and no thread.

    ``rate``: seconds its clock counts in one second of the world. ``offset``: what it showed when the world began.
    """

    def __init__(self, *, rate: float = 1.0, offset: float = 0.0) -> None:
        self.clock = offset
        self.troubles: list[BaseException] = []
        self._tasks: set[asyncio.Task[Any]] = set()
        self._rate = rate
        self._ready: deque[asyncio.Handle] = deque()
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._number = itertools.count()

    def pass_time(self, seconds: float) -> None:
        """Seconds of the world pass; nothing runs yet."""
        self.clock += seconds * self._rate

    def next_timer(self) -> float:
        """Seconds of the world until something is due."""
        return max(0.0, (self._timers[0][0] - self.clock) / self._rate) if self._timers else float("inf")

    def run(self) -> None:
        """Run all that is due at this moment, and all that follows from it without time passing."""
        asyncio._set_running_loop(self)
        try:
            while True:
                while self._timers and self._timers[0][0] <= self.clock + 1e-9:
                    self._ready.append(heapq.heappop(self._timers)[2])
                if not self._ready:
                    return
                handle = self._ready.popleft()
                if not handle.cancelled():
                    handle._run()
        finally:
            asyncio._set_running_loop(None)

    def start(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Make a task of it, from inside or outside the loop."""
        return self.create_task(work)

    def close(self) -> None:
        """End every task; the model is over. One that is cancelled may wait for others that are, too."""
        for _ in range(10):
            for task in list(self._tasks):
                task.cancel()
            self.run()

    def time(self) -> float:
        return self.clock

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(self, coro: Any, *, name: str | None = None, context: Context | None = None) -> asyncio.Task[Any]:
        task = asyncio.Task(coro, loop=self, name=name, context=context)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def call_soon(self, callback: Callable[..., Any], *args: Any, context: Context | None = None) -> asyncio.Handle:  # type: ignore[override]
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self.clock + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        heapq.heappush(self._timers, (when, next(self._number), handle))
        return handle

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self.troubles.append(context.get("exception") or AssertionError(context["message"]))

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (trouble := task.exception()):
            self.troubles.append(trouble)

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Cancelled timers are skipped when they are due."""
