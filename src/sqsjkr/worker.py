"""N jobs at a time, until told to stop: receive, hand to the kicker, drain."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable

from sqsjkr import clock
from sqsjkr.errors import BackendUnavailable
from sqsjkr.intake.fifo import GroupOrder
from sqsjkr.intake.prefetch import Rate
from sqsjkr.intake.waiting_room import WaitingRoom
from sqsjkr.kicker import Kicker
from sqsjkr.message import Message
from sqsjkr.outcome import Outcome, Settlement
from sqsjkr.queue import MAX_BATCH, Queue
from sqsjkr.supervision.shared_state import SharedState
from sqsjkr.telemetry.events import Event, emit
from sqsjkr.telemetry.outage import Outage
from sqsjkr.telemetry.stats import Stats

LONG_POLL = 20.0
"""Seconds a receive waits for a message: the longest that SQS allows, so the fewest empty answers are paid for."""
TICK = 0.25
READY_FOR = 2.0
"""Seconds a received message waits for a slot before it goes back for another worker to take."""
FULL_FOR = 10.0
"""Seconds without a free slot after which those who wait for locks go back too: others may have room."""
PREFETCH = 0.25
"""Seconds' worth of jobs, at the rate of the last ones, that are received before there is a slot for them."""
FENCE_MARGIN = 6.0
"""Seconds after a lease's fence at which the guard ends locked jobs that we have not ended ourselves."""
LAST_WORDS = 5.0
"""Seconds for settling what has ended, after the last job has."""


class Worker:
    """Receives messages and runs ``slots`` jobs at a time. ``await run()`` once; ``stop()`` from a signal handler."""

    def __init__(
        self,
        queue: Queue,
        kicker: Kicker,
        room: WaitingRoom,
        stats: Stats,
        page: SharedState,
        *,
        slots: int,
        grace: float,
        kill_after: float,
        unwell: Callable[[], str | None],
        until_empty: bool = False,
    ) -> None:
        self._queue = queue
        self._kicker = kicker
        self._room = room
        self._order = GroupOrder()
        self._stats = stats
        self._page = page
        self._slots = slots
        self._free = slots
        self._grace = grace
        self._kill_after = kill_after
        self._log_unwell = unwell
        self._until_empty = until_empty
        self._ready: deque[tuple[float, Message]] = deque()
        self._kicks: set[asyncio.Task[None]] = set()
        self._returning: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        self._stopping = asyncio.Event()
        self._hurry = asyncio.Event()
        self.guard_lost = False
        """The parent that would end our jobs died before us."""
        self._trouble = Outage("the queue", Event.QUEUE_UNREACHABLE, Event.QUEUE_RECOVERED)
        self._pause: str | None = None
        self._rate = Rate()
        self._full_since = 0.0

    async def run(self) -> None:
        """Receive until stopped, then drain: promise 6 of docs/explanation/promises.md."""
        receiving = asyncio.create_task(self._receive())
        ticking = asyncio.create_task(self._tick())
        emit(Event.WORKER_STARTED, f"{self._slots} slots, queue {self._queue.facts.name}")
        try:
            stopped = asyncio.create_task(self._stopping.wait())
            await asyncio.wait({receiving, ticking, stopped}, return_when=asyncio.FIRST_COMPLETED)
            self._kicker.close("the worker is stopping")
            await _cancel(receiving)  # the long poll ends with its connection
            await self._drain()
        finally:
            stopped.cancel()
            await _cancel(ticking)
        for task in (receiving, ticking):  # a bug in one of them must not pass for an orderly stop
            if not task.cancelled() and (bug := task.exception()) is not None:
                raise bug
        emit(Event.WORKER_STOPPED, "stopped")

    def stop(self, why: str) -> None:
        """Take no new jobs; the running ones get the grace period. Called again: they get none."""
        if self._stopping.is_set():
            emit(Event.WORKER_STOPPING, f"{why} again: running jobs are ended now")
            self._hurry.set()
            self._changed.set()
            return
        emit(Event.WORKER_STOPPING, f"{why}: running jobs get {self._grace:g}s, a second signal ends that")
        self._stopping.set()

    def guard_is_lost(self) -> None:
        """The parent that would end our jobs if we died is dead: end them now, while we can."""
        self.guard_lost = True
        self._kicker.close("the guard is dead")
        self._kicker.interrupt("the guard is dead", at_once=True)
        self._stopping.set()
        self._hurry.set()
        self._changed.set()

    def wake(self, message: Message) -> None:
        """A message has left the waiting room: it was sent before the others, so it goes first."""
        self._ready.appendleft((clock.now(), message))
        self._dispatch()

    def left_undone(self) -> int:
        """With ``until_empty``: how many deliveries went back to the queue, so that it was only empty for a moment."""
        back = (outcome.label for outcome in Outcome if outcome.settlement is Settlement.RETRY)
        return 0 if self._stopping.is_set() else sum(self._stats.ended[label] for label in back)

    def unwell(self) -> str | None:
        """Why no new jobs are taken just now, on one line; None if all is well."""
        if self._stopping.is_set():
            return "the worker is stopping"
        if self._trouble:
            return "the queue does not answer"
        if self._kicker.trouble:
            return "the lock table does not answer"
        if self._kicker.starving:
            return "jobs cannot be started"
        return self._log_unwell()

    async def _receive(self) -> None:
        while True:
            room = self._room_for()
            if not room:
                self._changed.clear()
                await self._changed.wait()  # a job has ended, or a tick has passed
                continue
            try:
                wait = 1.0 if self._until_empty else LONG_POLL
                messages = await self._queue.receive(room, wait)
            except BackendUnavailable as why:
                await asyncio.sleep(self._trouble.failed(why))
                continue
            self._trouble.over()
            now = clock.now()
            self._ready.extend((now, message) for message in messages if self._order.may_go(message))
            self._dispatch()
            if self._until_empty and not messages and self._is_idle():
                return

    def _room_for(self) -> int:
        """How many messages to ask for now. While there is something to start, only a batch is worth a request."""
        self._note_health()
        room = self._free + self._prefetch() - len(self._ready)
        if self._pause or room <= 0:
            return 0
        batch = min(MAX_BATCH, self._slots)
        if self._kicker.trouble or self._kicker.starving:
            return 0 if clock.now() < self._kicker.pause_until else min(1, room)
        if len(self._kicks) > self._most_unsettled() or (self._ready and room < batch):
            return 0
        return min(MAX_BATCH, room)

    def _prefetch(self) -> int:
        """Messages to hold beyond the free slots: as many as will be started within ``PREFETCH`` seconds."""
        return min(2 * self._slots, int(self._rate.now() * PREFETCH))

    def _most_unsettled(self) -> int:
        return self._slots + max(100, 4 * self._slots)

    def _note_health(self) -> None:
        pause = self._log_unwell()
        if pause != self._pause:
            if pause:
                emit(Event.WORKER_PAUSED, f"no new jobs: {pause}")
            else:
                emit(Event.WORKER_RESUMED, f"new jobs again: {self._pause} is over")
            self._pause = pause

    def _dispatch(self) -> None:
        while self._free > 0 and self._ready and not self._stopping.is_set():
            _, message = self._ready.popleft()
            self._free -= 1
            self._stats.busy = self._slots - self._free
            task = asyncio.create_task(self._kick(message))
            self._kicks.add(task)
            task.add_done_callback(self._kicked)
        self._full_since = 0.0 if self._free > 0 else (self._full_since or clock.now())

    async def _kick(self, message: Message) -> None:
        try:
            ending = await self._kicker.kick(message, self._release, lambda: self._let_follow(message))
        except Exception as bug:  # noqa: BLE001 - one message's bug must not stop the others; the message comes back
            emit(Event.LOG, f"{message.id} met a bug in sqsjkr, please report it: {bug!r}")
            await self._queue.give_back([message])
            await self._queue.give_back(self._order.returned(message))
            return
        if ending.outcome.settlement is Settlement.KEEP and self._room.knows(message):
            return
        if ending.is_final:
            self._let_follow(message)
        else:
            await self._queue.give_back(self._order.returned(message))
        self._room.settled(message)

    def _kicked(self, task: asyncio.Task[None]) -> None:
        self._kicks.discard(task)
        self._changed.set()

    def _let_follow(self, message: Message) -> None:
        follower = self._order.settled(message)
        if follower is not None:
            self._ready.append((clock.now(), follower))
            self._dispatch()

    def _release(self) -> None:
        self._free += 1
        self._stats.busy = self._slots - self._free
        self._rate.count()
        self._dispatch()
        self._changed.set()

    async def _tick(self) -> None:
        while True:
            now = clock.now()
            fence = self._kicker.fence(now)
            self._page.beat(now, fence + FENCE_MARGIN)
            if not self._stopping.is_set():
                if self._free > 0 and not self._pause:
                    self._room.tick()
                self._give_back_what_waits(now)
            self._changed.set()
            await asyncio.sleep(TICK)

    def _give_back_what_waits(self, now: float) -> None:
        """No slot wasted, on any host: what finds no slot here soon may find one elsewhere.

        Not awaited: the tick must go on while the queue does not answer, or the guard takes the worker for hung.
        """
        if self._free > 0:
            return
        late = [message for since, message in self._ready if now - since > READY_FOR]
        self._ready = deque(waiter for waiter in self._ready if now - waiter[0] <= READY_FOR)
        if now - self._full_since > FULL_FOR:
            late += self._room.clear()
        for message in list(late):
            late += self._order.returned(message)
        if late:
            emit(Event.MESSAGE_RETURNED, f"{len(late)} messages go back: no slot was free for them")
            task = asyncio.create_task(self._queue.give_back(late, Outcome.CROWDED))
            self._returning.add(task)
            task.add_done_callback(self._returning.discard)

    async def _drain(self) -> None:
        """Give back what was not started; let the running jobs end, or end them; settle; leave nothing behind."""
        waiting = [message for _, message in self._ready] + self._room.clear() + self._order.clear()
        self._ready.clear()
        await _within(LAST_WORDS, asyncio.gather(self._queue.give_back(waiting), *self._returning))
        await self._until(lambda: self._free == self._slots or self._hurry.is_set(), self._grace)
        if self._free < self._slots:
            self._kicker.interrupt("the worker is stopping", at_once=self.guard_lost)
            await self._until(lambda: self._free == self._slots, self._kill_after + LAST_WORDS)
        await self._until(lambda: not self._kicks, LAST_WORDS)
        self._kicker.give_up()
        await self._until(lambda: not self._kicks, LAST_WORDS)
        for kick in self._kicks:
            kick.cancel()
        await asyncio.gather(*self._kicks, return_exceptions=True)

    async def _until(self, fact: Callable[[], bool], seconds: float) -> None:
        """Wait until something is so, at most this long. What can make it so sets ``_changed``."""
        until = clock.now() + seconds
        while not fact() and clock.now() < until:
            self._changed.clear()
            with contextlib.suppress(TimeoutError):  # a tick sets it too, unless a bug has ended that
                await asyncio.wait_for(self._changed.wait(), TICK)

    def _is_idle(self) -> bool:
        return not self._kicks and not self._ready and not len(self._room)


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait({task})


async def _within(seconds: float, work: Awaitable[object]) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(work, seconds)
