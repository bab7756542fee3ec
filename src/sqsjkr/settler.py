"""Settlement: gives back what the gate took and tells the queue what becomes of the message, until both answer."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Sequence
from enum import Enum
from functools import partial

from sqsjkr import clock, policy
from sqsjkr.attempt import Attempt
from sqsjkr.errors import BackendUnavailable
from sqsjkr.execution.hook import Hook
from sqsjkr.gate import Gate
from sqsjkr.intake.waiting_room import WaitingRoom
from sqsjkr.journal import Journal
from sqsjkr.leases.budget import LeaseBudget
from sqsjkr.leases.proof import Proof
from sqsjkr.message import Message
from sqsjkr.outcome import Ending, Outcome, Settlement
from sqsjkr.queue import Burial, Queue
from sqsjkr.telemetry.events import Event, emit
from sqsjkr.telemetry.outage import Outage

FIRST_RETRY = 0.2


class Settler:
    """The one place that settles messages. ``changed`` is set after each: a message may follow, or a waiter try."""

    def __init__(
        self,
        queue: Queue,
        gate: Gate,
        room: WaitingRoom,
        proof: Proof,
        journal: Journal,
        hook: Hook,
        changed: asyncio.Event,
        *,
        budget: LeaseBudget,
    ) -> None:
        self._queue = queue
        self._gate = gate
        self._room = room
        self._proof = proof
        self._journal = journal
        self._hook = hook
        self._changed = changed
        self._budget = budget
        self._persistence = _Persistence(budget)
        self._confirming: set[asyncio.Task[bool]] = set()
        self._unsettled: set[Attempt] = set()
        self._closing = False

    async def settle(self, attempt: Attempt, ending: Ending) -> Ending:
        """Settle one message: give back lock and claim, then wait here, or delete or release it.

        Returns the ending as it was settled: a job that can't wait here ends as CROWDED. What a lock or claim table
        does not answer in time is given back after the message is settled: a table that is out must not keep the
        message from other workers. A job that was refused keeps its claim until its message is buried, and for good
        once that has left the queue: else a copy of it could run meanwhile on a worker with another policy. A hook is
        told in between: what is owed to it stands with the claim by then, and the message is still there.
        """
        self._unsettled.add(attempt)
        within = self._budget.give_back_within
        keeps_claim = ending.settlement is Settlement.BURY and not ending.has_ended
        try:
            given_back = await self._give_back(attempt, None if keeps_claim else ending, within)
            if not await self._hook.tell(attempt, ending):
                ending = policy.tell_elsewhere(ending, 0.0 if self._closing else self._budget.short_pause)
            if not (ending.settlement is Settlement.KEEP and self._park(attempt, ending)):
                ending = await self._tell_queue(attempt, ending)
            if keeps_claim:
                given_back = await self._give_back(attempt, ending, within)
        finally:
            self._unsettled.discard(attempt)
        self._journal.settled(attempt, ending)
        self._changed.set()
        if not given_back:
            await self._give_back(attempt, ending)
            self._changed.set()
        return ending

    async def delete_first(self, attempt: Attempt) -> Ending | None:
        """Delete the message before its job starts (``ack = "start"``). None: it is deleted, and the job may start.

        What is not surely deleted does not run.
        """
        delete = partial(self._queue.delete, attempt.message)
        if not await self._persistence.until_answered(_Chore.DELETE, attempt, delete):
            return Ending(Outcome.UNANSWERED, "the message could not be deleted", self._budget.short_pause)
        attempt.deleted = True
        self._changed.set()
        confirm = partial(self._gate.give_back_claim, attempt, done=True)
        task = asyncio.create_task(self._persistence.until_answered(_Chore.DONE, attempt, confirm))
        self._confirming.add(task)
        task.add_done_callback(self._confirming.discard)
        if clock.now() >= self._proof.until(attempt):  # the delete took longer than the lease lasts
            return Ending(Outcome.ERRORED, "its lease lapsed while its message was being deleted")
        return None

    async def hand_back(self, messages: Sequence[Message], why: str, delay: float = 0.0) -> None:
        """Settle messages whose jobs were not started: visible again in ``delay`` seconds."""
        ending = Ending(Outcome.RETURNED, why, delay)
        await asyncio.gather(*(self.settle(Attempt(message, ""), ending) for message in messages))

    @property
    def reason(self) -> str:
        """Why messages can't be settled just now, on one line; "" while they can."""
        return self._persistence.reason

    @property
    def unsettled(self) -> int:
        """How many messages have ended here and are not settled yet; what is given back after that does not count."""
        return len(self._unsettled)

    def close(self) -> None:
        """Let no message wait here any more: no slot will come free for it."""
        self._closing = True

    def give_up(self) -> None:
        """Retry nothing any more, and wait for no answer that is on its way: what is unsettled comes back by itself."""
        self._persistence.give_up()

    async def _give_back(self, attempt: Attempt, ending: Ending | None, within: float | None = None) -> bool:
        """Give back the lock, and the claim if there is an ``ending``, at the same time.

        False if that was not answered ``within`` so many seconds.
        """
        chores: list[tuple[_Chore, Callable[[], Awaitable[None]]]] = []
        if attempt.locked:
            chores.append((_Chore.UNLOCK, partial(self._gate.give_back_lock, attempt)))
        if attempt.claimed and ending is not None:
            done = attempt.deleted or ending.has_ended
            owed = ending.outcome is Outcome.DEAD or self._hook.wants(attempt, ending)
            give_back = partial(self._gate.give_back_claim, attempt, ending, done=done, owed=owed)
            chores.append((_Chore.DONE if done else _Chore.FORGET, give_back))
        if not chores:
            return True
        try:
            async with asyncio.timeout(within):
                persist = self._persistence.until_answered
                if len(chores) == 1:  # nearly always: a task for it would be a waste
                    (chore, verb), *_ = chores
                    return await persist(chore, attempt, verb)
                return all(await asyncio.gather(*(persist(chore, attempt, verb) for chore, verb in chores)))
        except TimeoutError:
            return False

    def _park(self, attempt: Attempt, ending: Ending) -> bool:
        """Let a refused job's message wait here. False if it can't."""
        job, message = attempt.job, attempt.message
        if self._closing or job is None:
            return False
        weight = len(message.body) + self._queue.weight_behind(message)
        if ending.outcome is Outcome.LOCKED:
            expires = message.received_at + job.latest_start(message.sent_at) - message.age
            return self._room.park(message, f"lock {job.lock_id}", weight=weight, expires=expires)
        # A copy: whether its job is too old is for the one that runs to say.
        stay = self._budget.longest_stay
        return self._room.park(message, f"message {message.id}", weight=weight, expires=float("inf"), stay=stay)

    async def _tell_queue(self, attempt: Attempt, ending: Ending) -> Ending:
        message = attempt.message
        self._room.forget(message)
        if ending.settlement is Settlement.DELETE:
            chore, verb = _Chore.DELETE, partial(self._queue.delete, message)
        elif ending.settlement is Settlement.BURY:
            chore, verb = _Chore.BURY, partial(self._bury, attempt, ending)
        else:
            if ending.settlement is Settlement.KEEP:
                ending = policy.settle_elsewhere(ending, closing=self._closing)
            chore, verb = _Chore.RELEASE, partial(self._queue.release, message, ending.delay)
        await self._persistence.until_answered(chore, attempt, verb)
        if not ending.is_final and (behind := self._queue.behind(message)):
            await self.hand_back(behind, "it follows a message of its group that went back")
        return ending

    async def _bury(self, attempt: Attempt, ending: Ending) -> None:
        reason = f"{ending.outcome.label}: {ending.detail}"
        burial = Burial(reason=reason, event_id=attempt.name, failures=ending.failures, output=ending.tail)
        left = await self._queue.bury(attempt.message, burial)
        attempt.deleted = attempt.deleted or left


class _Chore(Enum):
    """What is asked of queue or table when an attempt has ended. Each needs a right of its own, so each can fail alone.

    Its name in the log, and what follows if the worker stops before it is done.
    """

    DELETE = ("deleting messages", "its message is not deleted, and is delivered again")
    RELEASE = ("giving messages back to the queue", "its message is visible again only after {hiding:g}s")
    BURY = ("moving messages to the dead-letter queue", "its message is not moved, and is delivered again")
    UNLOCK = ("giving locks back", "its lock is taken over after the lease of {lease:g}s")
    FORGET = ("giving claims back", "its claim is taken over after the lease of {lease:g}s")
    DONE = ("marking jobs as done", "its job is not marked as done, and may run again if its message comes again")

    __hash__ = object.__hash__  # as in Outcome

    def __init__(self, subject: str, undone: str) -> None:
        self.subject = subject
        self.undone = undone


class _Persistence:
    """Sends a request until it is answered, or until it is time to give up."""

    def __init__(self, budget: LeaseBudget) -> None:
        self._budget = budget
        self._outages = {chore: _outage(chore.subject, budget) for chore in _Chore}
        self._longest_pause = budget.longest_retry
        self._giving_up = asyncio.Event()
        self._on_their_way: set[asyncio.Task[object]] = set()

    def give_up(self) -> None:
        """Try nothing a second time, and wait for no answer that is on its way."""
        self._giving_up.set()
        for task in self._on_their_way:
            task.cancel()

    @property
    def reason(self) -> str:
        """What fails, and why, on one line; "" while nothing does."""
        return "; ".join(outage.reason for outage in self._outages.values() if outage)

    async def until_answered(self, chore: _Chore, attempt: Attempt, verb: Callable[[], Awaitable[None]]) -> bool:
        """Send a request until it is answered: True; or until ``give_up``: False."""
        outage, pause = self._outages[chore], FIRST_RETRY
        while True:
            try:
                await self._once(verb)
            except BackendUnavailable as trouble:
                if self._giving_up.is_set():
                    undone = chore.undone.format(lease=self._budget.lease, hiding=self._budget.hiding)
                    why = "" if self.reason else f" ({trouble})"  # else the first line of the outage has said why
                    emit(Event.SETTLE_GIVEN_UP, f"{attempt.label}: {undone}{why}", **attempt.facts)
                    return False
                if not any(other.has_said(trouble) for other in self._outages.values() if other is not outage):
                    outage.failed(trouble)  # a burial deletes, too: one missing right is said once
            else:
                outage.ended()
                return True
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._giving_up.wait(), random.uniform(pause / 2, pause))  # noqa: S311 - jitter
            pause = min(self._longest_pause, pause * 2)

    async def _once(self, verb: Callable[[], Awaitable[None]]) -> None:
        """One try. ``give_up`` cuts it off: a table that is silent must not keep the message on the queue."""
        task = asyncio.current_task()
        if task is None or self._giving_up.is_set():
            await verb()
            return
        self._on_their_way.add(task)
        try:
            await verb()
        except asyncio.CancelledError:
            if not self._giving_up.is_set():
                raise
            task.uncancel()
            raise BackendUnavailable("no answer before the worker had to stop") from None
        finally:
            self._on_their_way.discard(task)


def _outage(what: str, budget: LeaseBudget) -> Outage:
    longest = budget.longest_outage_pause
    return Outage(what, Event.SETTLE_RETRIED, Event.SETTLE_RESUMED, over="works again", longest_pause=longest)
