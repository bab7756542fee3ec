"""What a worker writes beside each heartbeat, and what it does about the orders that come back with it."""

from __future__ import annotations

import heapq
from collections.abc import Collection

from sqsjkr import clock
from sqsjkr.errors import InvalidJob
from sqsjkr.execution.registry import Registry
from sqsjkr.intake.backlog import Backlog
from sqsjkr.intake.brake import Brake
from sqsjkr.intake.slots import Slots
from sqsjkr.intake.waiting_room import WaitingRoom
from sqsjkr.job import decode
from sqsjkr.leases.live import MOST_WAITS, Live, LiveRun, LiveWait, Order, Presence
from sqsjkr.message import Message
from sqsjkr.outcome import Reason
from sqsjkr.telemetry.measures import Measures
from sqsjkr.telemetry.stats import Stats
from sqsjkr.worker import Worker

_REASONS = {"cancel": Reason.CANCEL, "requeue": Reason.REQUEUE}


class WorkerPresence(Presence):
    """One worker, as its session shows it."""

    def __init__(
        self,
        worker: Worker,
        slots: Slots,
        backlog: Backlog,
        room: WaitingRoom,
        brake: Brake,
        registry: Registry,
        stats: Stats,
        measures: Measures,
    ) -> None:
        self.session = ""
        self._worker = worker
        self._slots = slots
        self._backlog = backlog
        self._room = room
        self._brake = brake
        self._registry = registry
        self._stats = stats
        self._orders = measures.orders

    @property
    def held(self) -> str:
        """By which order it takes no new jobs; "" if by none."""
        return self._brake.paused

    def hold(self, why: str) -> None:
        """Take no new jobs until ``go_on``; running ones go on, and what waits here goes back to the queue."""
        self._brake.pause(why)
        self._orders["pause"] += 1

    def go_on(self) -> None:
        """Take new jobs again."""
        self._brake.resume()
        self._orders["resume"] += 1

    def stop(self, why: str) -> bool:
        """Stop in order, as at a signal. False if it is stopping already."""
        if self._worker.stopping.requested:
            return False
        self._worker.stop(why)
        self._orders["drain"] += 1
        return True

    def is_wanted(self) -> bool:
        """While jobs wait here, so that they are seen."""
        return len(self._room) > 0

    def report(self, session: str) -> bytes:
        """Return what is so now. No environment, no body, no command: the claims' rows have the facts of each job."""
        self.session, now = session, clock.now()
        running = [
            LiveRun(
                message_id=attempt.message.id,
                seconds=now - (attempt.begun or now),
                key="" if attempt.claim_key == attempt.message.id else attempt.claim_key,
            )
            for attempt in self._registry.running()
        ]
        longest = heapq.nlargest(MOST_WAITS, self._room.lines(), key=lambda line: line[1])
        waits = [
            LiveWait(key=key, number=number, oldest=oldest.id, seconds=seconds, event=_event_of(oldest))
            for key, number, oldest, seconds in longest
        ]
        return Live(
            worker=self.name,
            slots=self._slots.count,
            busy=self._slots.busy,
            ready=self._backlog.ready,
            parked=len(self._room),
            why=self._brake.paused or self._worker.unhealthy_reason() or "",
            running=tuple(running),
            waits=tuple(waits),
            endings=self._stats.outcomes,
        ).encode()

    def obey(self, orders: Collection[str]) -> None:
        """End the attempts that are to be ended. An order that this release does not know is left alone."""
        for order in filter(None, map(Order.read, orders)):
            self._registry.order(order.attempt, _REASONS[order.verb], order.by)
            self._orders[order.verb] += 1


def _event_of(message: Message) -> str:
    """Return the event id of a message's job; "" if it names none."""
    try:
        event_id = decode(message.body, message.id).event_id
    except InvalidJob:
        return ""
    return "" if event_id == message.id else event_id
