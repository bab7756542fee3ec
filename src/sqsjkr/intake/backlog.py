"""The backlog: which message is started next, how many to receive, and which to hand back.

It is pulled: the worker asks for the next message when a slot is free.
"""

from __future__ import annotations

import asyncio
from collections import deque

from sqsjkr import clock
from sqsjkr.errors import BackendUnavailable
from sqsjkr.intake.brake import Brake
from sqsjkr.intake.receives import Receives
from sqsjkr.intake.slots import Slots
from sqsjkr.intake.waiting_room import WaitingRoom
from sqsjkr.leases.budget import LeaseBudget
from sqsjkr.message import Message
from sqsjkr.queue import MAX_BATCH, Queue
from sqsjkr.telemetry.events import Event
from sqsjkr.telemetry.outage import Outage

PREFETCH = 0.25
"""Seconds' worth of jobs, at the rate of the last ones, that are received before there is a slot for them."""


class Backlog:
    """Messages that wait for a slot: woken waiters first, then followers of FIFO groups, then what was received.

    ``changed`` is set whenever ``next`` may have a message. With ``until_empty``, ``fill`` returns once the queue is.
    """

    def __init__(
        self,
        queue: Queue,
        room: WaitingRoom,
        brake: Brake,
        slots: Slots,
        changed: asyncio.Event,
        *,
        budget: LeaseBudget,
        until_empty: bool = False,
    ) -> None:
        self._queue = queue
        self._room = room
        self._brake = brake
        self._slots = slots
        self._changed = changed
        self._budget = budget
        self._until_empty = until_empty
        self._ready: deque[tuple[float, Message]] = deque()
        self.receives = Receives()
        self._outage = Outage(
            "the queue",
            Event.QUEUE_UNREACHABLE,
            Event.QUEUE_RECOVERED,
            longest_pause=budget.longest_outage_pause,
        )

    async def fill(self) -> None:
        """Receive whenever there is room, until cancelled."""
        while True:
            self.receives.came_round = clock.now()
            limit = self._limit()
            if not limit:
                self._changed.clear()
                await self._changed.wait()  # a job has ended, or a tick has passed
                continue
            try:
                wait = 1.0 if self._until_empty else self._budget.long_poll
                messages = await self._queue.receive(limit, wait)
            except BackendUnavailable as why:
                self.receives.failed()
                await asyncio.sleep(self._outage.failed(why))
                continue
            self.receives.answered(len(messages))
            self._outage.ended()
            if messages:
                now = clock.now()
                self._ready.extend((now, message) for message in messages)
                self._changed.set()
            elif self._until_empty and self._is_idle():
                return

    def next(self) -> Message | None:
        """Take the message to start next; None if there is none, or the brake holds."""
        now = clock.now()
        self._ready.extend((now, message) for message in self._queue.followers())
        if not self._brake.allows(1):
            return None
        for message in reversed(self._room.due()):  # they were sent before the others
            self._ready.appendleft((now, message))
        return self._ready.popleft()[1] if self._ready else None

    def overdue(self) -> tuple[list[Message], list[Message]]:
        """Take out what finds no slot here soon: it may find one on another host. (received, waiting for locks).

        That is what was received and found no slot for a while; and all of it, those that wait for locks included, when
        the slots have been full for long or the brake has been held for a while.
        """
        now = clock.now()
        self._brake.look()  # a long poll may last for a while yet
        held = now - self._brake.held_since > self._budget.ready_for
        if self._slots.free and not held:
            return [], []
        longest = 0.0 if held else self._budget.ready_for
        late = [message for since, message in self._ready if now - since > longest]
        self._ready = deque(waiter for waiter in self._ready if now - waiter[0] <= longest)
        full = now - self._slots.full_since > self._budget.full_for
        return late, self._room.clear() if held or full else []

    def clear(self) -> list[Message]:
        """Take everything out: what was received, what waits for locks, what follows in FIFO groups."""
        received = [message for _, message in self._ready]
        self._ready.clear()
        return received + self._room.clear() + self._queue.followers() + self._queue.behind(None)

    @property
    def ready(self) -> int:
        """How many messages wait for a slot."""
        return len(self._ready)

    @property
    def ready_since(self) -> float:
        """Since when the oldest of them waits, on ``clock.now``; infinity if there is none."""
        return min((since for since, _ in self._ready), default=float("inf"))

    @property
    def queue_reason(self) -> str:
        """Why messages can't be received just now, on one line; "" while they can."""
        return self._outage.reason

    @property
    def reason(self) -> str | None:
        """What is wrong with the queue, or why no new jobs are taken just now, on one line; None if all is well."""
        return self._outage.reason or self._brake.reason or self._queue.reason or None

    def notice_unsettled(self, why: str) -> None:
        """Take no new jobs while too many ended ones can't be settled, for ``why``; "" if nothing fails."""
        unsettled = self._slots.unsettled
        too_many = bool(why) and unsettled > _most_unsettled(self._slots.count)
        self._brake.unsettled(f"{unsettled} jobs can't be settled: {why}" if too_many else "")

    def _limit(self) -> int:
        """Return how many messages to ask for now. While jobs are ready, only a full batch is worth a request."""
        self._brake.look()
        room = self._slots.free + self._prefetch() - len(self._ready)
        if room <= 0:
            return 0
        allowed = self._brake.allows(room)
        if allowed < room:
            return allowed
        batch = min(MAX_BATCH, self._slots.count)
        if self._slots.unsettled > _most_unsettled(self._slots.count) or (self._ready and room < batch):
            return 0
        return min(MAX_BATCH, room)

    def _prefetch(self) -> int:
        """Return how many messages to hold beyond the free slots: those that will start within ``PREFETCH`` seconds."""
        return min(2 * self._slots.count, int(self._slots.rate * PREFETCH))

    def _is_idle(self) -> bool:
        return not self._slots.unsettled and not self._ready and not len(self._room)


def _most_unsettled(slots: int) -> int:
    """Return how many jobs may have started here that are not settled yet."""
    return slots + max(100, 4 * slots)
