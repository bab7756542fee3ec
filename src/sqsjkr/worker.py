"""The worker: a number of jobs at a time, until it is asked to stop; then the drain."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqsjkr import clock
from sqsjkr.intake.backlog import Backlog
from sqsjkr.intake.slots import Slot, Slots
from sqsjkr.kicker import Kicker
from sqsjkr.leases.budget import LeaseBudget
from sqsjkr.message import Message
from sqsjkr.outcome import Reason
from sqsjkr.supervision.shared_state import SharedState
from sqsjkr.telemetry.events import Event, emit

_GARBAGE = 20_000
"""New objects after which Python looks for cycles among them. A job leaves none, and its objects are thousands: to look
after each 700, as Python does, is a twentieth of a job's time, and now and then a pause of ten milliseconds."""
_NAMED = 3
"""Messages that are named, of those that go back at once; at debug each has a line of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grace:
    """How running jobs are treated at a stop. Seconds."""

    period: float
    """How long they may go on."""
    kill_after: float
    """Between TERM and KILL, after that."""


class Worker:
    """Starts what the backlog has next whenever a slot is free. ``await run()`` once; ``stop()`` from a signal handler.

    ``changed`` is set by slots, settler and backlog when there may be something to start.
    """

    def __init__(
        self,
        backlog: Backlog,
        kicker: Kicker,
        slots: Slots,
        shared: SharedState,
        changed: asyncio.Event,
        *,
        grace: Grace,
        budget: LeaseBudget,
    ) -> None:
        self._backlog = backlog
        self._kicker = kicker
        self._slots = slots
        self._shared = shared
        self._changed = changed
        self._grace = grace
        self._budget = budget
        self._tasks: set[asyncio.Task[None]] = set()
        self._returning: set[asyncio.Task[None]] = set()
        self.stopping = _Stop()

    async def run(self, description: str, **facts: Any) -> None:
        """Start jobs until stopped, then drain: promise 6 of docs/explanation/promises.md.

        The log says ``description`` and ``facts`` of the worker when it is ready.
        """
        filling = asyncio.create_task(self._backlog.fill())
        starting = asyncio.create_task(self._start_jobs())
        ticking = asyncio.create_task(self._tick())
        stopped = asyncio.create_task(self.stopping.wait())
        emit(Event.WORKER_STARTED, description, **facts)
        _keep_what_is_there()
        try:
            await asyncio.wait({filling, starting, ticking, stopped}, return_when=asyncio.FIRST_COMPLETED)
            self._kicker.close(Reason.LAUNCHER if self.stopping.launcher_lost else Reason.STOP)
            await _cancelled(filling)  # the long poll ends with its connection
            await _cancelled(starting)
            await self._drain()
        finally:
            stopped.cancel()
            await _cancelled(ticking)
        for task in (filling, starting, ticking):  # a bug in one of them must not pass for an orderly stop
            if not task.cancelled() and (bug := task.exception()) is not None:
                raise bug
        emit(Event.WORKER_STOPPED, "stopped")

    def stop(self, why: str) -> None:
        """Take no new jobs; the running ones get the grace period. A second call ends that."""
        if self.stopping.has_deadline:
            emit(Event.WORKER_STOPPING, f"{why} again: ending running jobs now")
            self.stopping.force()
        else:
            emit(Event.WORKER_STOPPING, f"{why}: running jobs get {self._grace.period:g}s, a second signal ends that")
            self.stopping.request(self._grace.period)
        self._changed.set()

    def finish(self, why: str) -> None:
        """Take no new jobs, and let the running ones end by themselves, however long that takes."""
        emit(Event.WORKER_STOPPING, f"{why}: no new jobs; running jobs go on to their end")
        self.stopping.request(float("inf"))
        self._changed.set()

    def launcher_is_lost(self) -> None:
        """End all jobs now, while we can: the launcher that would end them if we died is dead."""
        self.stopping.launcher_lost = True
        self._kicker.close(Reason.LAUNCHER)
        self._kicker.end_all(Reason.LAUNCHER, at_once=True)
        self.stopping.request(0.0)
        self.stopping.force()
        self._changed.set()

    def unhealthy_reason(self) -> str | None:
        """Return what is wrong or why no new jobs are taken just now, on one line; None if all is well."""
        if self.stopping.requested:
            return "the worker is stopping"
        return self._backlog.reason or self._kicker.reason or None

    def stuck_reason(self) -> str | None:
        """Return what a restart would cure, on one line; None if it would cure nothing.

        An outage, a pause and a stop are no reasons: the worker goes on by itself when they are over.
        """
        idle = clock.now() - self._backlog.receives.came_round
        if self.stopping.requested or idle < self._budget.stuck_after:
            return None
        return f"the worker has not asked for messages for {idle:.0f}s, and nothing holds it back"

    async def _start_jobs(self) -> None:
        while True:
            while not self.stopping.requested and self._slots.free and (message := self._backlog.next()):
                self._slots.unsettled += 1
                task = asyncio.create_task(self._kick(message, self._slots.take()))
                self._tasks.add(task)
            self._changed.clear()
            await self._changed.wait()

    async def _kick(self, message: Message, slot: Slot) -> None:
        try:
            await self._kicker.kick(message, slot)
        except Exception as bug:  # noqa: BLE001 - one message's bug must not stop the others; the message comes back
            emit(Event.LOG, f"{message.id} met a bug in sqsjkr, please report it: {bug!r}")
            await self._kicker.hand_back([message], "it met a bug")
        finally:
            self._slots.unsettled -= 1
            self._changed.set()
            if (task := asyncio.current_task()) is not None:
                self._tasks.discard(task)

    async def _tick(self) -> None:
        while True:
            now = clock.now()
            self._shared.heartbeat(now, self._kicker.end_overdue(now) + self._budget.guard_margin)
            if not self.stopping.requested:
                self._backlog.notice_unsettled(self._kicker.reason)
                received, waiting = self._backlog.overdue()
                self._hand_back(received, "no slot was free for it", 0.0)
                self._hand_back(waiting, "it waits for a lock, and no slot is free here", self._budget.pause)
            self._changed.set()
            await asyncio.sleep(self._budget.tick)

    def _hand_back(self, messages: list[Message], why: str, delay: float) -> None:
        """Not awaited: the tick must go on while the queue does not answer, or the worker is taken for hung."""
        if messages:
            many = "a message goes" if len(messages) == 1 else f"{len(messages)} messages go"
            which = ", ".join(message.id for message in messages[:_NAMED])
            more = f" and {len(messages) - _NAMED} more" if len(messages) > _NAMED else ""
            emit(Event.MESSAGE_RETURNED, f"{many} back to the queue: {why} ({which}{more})", messages=len(messages))
            task = asyncio.create_task(self._kicker.hand_back(messages, why, delay))
            self._returning.add(task)
            task.add_done_callback(self._returning.discard)

    async def _drain(self) -> None:
        """Hand back what was not started; let the running jobs end, or end them; settle; leave nothing behind."""
        words, slots = self._budget.last_words, self._slots
        self._hand_back(self._backlog.clear(), "the worker is stopping", 0.0)
        # What has ended is settled in the grace period, too: if neither queue nor table answers, it would run again.
        while (slots.busy or self._kicker.unsettled) and (grace := self.stopping.grace_left()) > 0:
            await self._wait(lambda: not (slots.busy or self._kicker.unsettled), min(grace, self._budget.tick))
        if slots.busy:
            self._kicker.end_all(Reason.STOP, at_once=self.stopping.launcher_lost)
            await self._wait(lambda: not slots.busy, self._grace.kill_after + words)
        await self._wait(lambda: not (slots.unsettled or self._returning), words)
        self._kicker.give_up()
        await self._wait(lambda: not (slots.unsettled or self._returning), words)
        await _cancelled(*self._tasks, *self._returning)

    async def _wait(self, fact: Callable[[], bool], seconds: float) -> None:
        """Wait until something is so, at most this long. What can make it so sets ``changed``."""
        until = clock.now() + seconds
        while not fact() and clock.now() < until:
            self._changed.clear()
            with contextlib.suppress(TimeoutError):  # a tick sets it, too, unless a bug has ended that
                await asyncio.wait_for(self._changed.wait(), self._budget.tick)


class _Stop:
    """What was asked of the worker: nothing yet, a stop with so much grace, or an end without."""

    def __init__(self) -> None:
        self._requested = asyncio.Event()
        self._grace_ends = float("inf")
        self.launcher_lost = False

    @property
    def requested(self) -> bool:
        """Has a stop been asked for?"""
        return self._requested.is_set()

    @property
    def has_deadline(self) -> bool:
        """Must running jobs end at some time?"""
        return self._grace_ends < float("inf")

    def request(self, grace: float) -> None:
        """Stop; running jobs may go on for ``grace`` seconds, or less if an earlier request gave them less."""
        self._grace_ends = min(self._grace_ends, clock.now() + grace)
        self._requested.set()

    def force(self) -> None:
        """End the grace period."""
        self._grace_ends = float("-inf")

    def grace_left(self) -> float:
        """Return how many seconds running jobs may still go on."""
        return self._grace_ends - clock.now()

    async def wait(self) -> None:
        """Wait for a request."""
        await self._requested.wait()


async def _cancelled(*tasks: asyncio.Task[None]) -> None:
    """Cancel tasks and wait for their ends; what they raise is theirs to keep."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _keep_what_is_there() -> None:
    """Have the garbage collector pass over modules and settings from now on: they stay as long as the process does."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_GARBAGE)
