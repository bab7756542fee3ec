"""May this job run now? life_time, lock, claim, in that order. What is taken here is given back here.

A claim is taken after the lock, so that a job that only waits leaves no mark; of what may be a copy, before it.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Awaitable, Callable

from sqsjkr import clock, durations
from sqsjkr.errors import BackendUnavailable
from sqsjkr.intake.waiting_room import LONGEST_STAY, WaitingRoom
from sqsjkr.job import Job
from sqsjkr.locker import Locker
from sqsjkr.message import Message
from sqsjkr.outcome import Ending, Outcome, Settlement
from sqsjkr.supervision.process_tree import MARK
from sqsjkr.throttler import Claim, Throttler

Persist = Callable[[Callable[[], Awaitable[None]]], Awaitable[object]]
"""Sends a verb again until it is answered."""
PAUSE = 30.0
"""Seconds a message is hidden for when nothing can be done with it here and now."""
LONG_PAUSE = 120.0
"""The same for the copy of a job that a live worker runs: each delivery counts towards the dead-letter queue."""
SHORT_PAUSE = 5.0
"""The same when the table did not answer: it may answer soon."""


class Permit:
    """The gate's answer, and what was taken in giving it."""

    __slots__ = ("answered", "claimed", "deleted", "fence", "job", "locked", "message", "owner", "refusal")

    def __init__(self, job: Job, message: Message, owner: str) -> None:
        self.job = job
        self.message = message
        self.owner = owner
        """New for every attempt: two jobs of one worker must not share a lock. Also the mark of its processes."""
        self.refusal: Ending | None = None
        """Why the job may not run now; None if it may."""
        self.fence = 0
        self.locked = False
        """The lock was asked for, and may be ours even if no answer came."""
        self.answered = False
        """A locker or throttler has answered, whatever it said."""
        self.claimed = False
        """The message was claimed, or may be although no answer came."""
        self.deleted = False
        """``ack = "start"``: the message is gone already, so the job is never run again."""

    def variables(self) -> dict[bytes, bytes]:
        """What the job's environment gets beside the daemon's: its own variables, then ours."""
        return {key.encode(): value.encode() for key, value in self.job.env.items() if key} | self.facts()

    def facts(self) -> dict[bytes, bytes]:
        """Our variables alone."""
        job, message = self.job, self.message
        variables = {
            "SQSJKR_JOB_ID": job.id,
            "SQSJKR_EVENT_ID": job.event_id,
            "SQSJKR_RECEIVE_COUNT": str(message.receive_count),
            "SQSJKR_SENT_AT": f"{message.sent_at:.3f}",
            MARK: self.owner,
        }
        if job.lock_id:
            variables |= {"SQSJKR_LOCK_ID": job.lock_id} | ({"SQSJKR_FENCE": str(self.fence)} if self.fence else {})
        return {key.encode(): value.encode() for key, value in variables.items()}


class Gate:
    """Asks the three questions. A guard that cannot be asked has not said yes: the refusal is then UNANSWERED."""

    def __init__(
        self,
        locker: Locker,
        throttler: Throttler,
        room: WaitingRoom,
        *,
        now: Callable[[], float] = clock.now,
    ) -> None:
        self._locker = locker
        self._throttler = throttler
        self._room = room
        self._now = now
        self._locked_here: set[str] = set()
        self._asking: dict[str, asyncio.Future[None]] = {}
        self._prefix = os.urandom(8).hex()
        self._attempts = itertools.count(1)

    async def admit(self, job: Job, message: Message) -> Permit:
        """Ask the three questions in order.

        What is refused for good is claimed too: this may be the copy of a message whose job runs elsewhere at this
        moment, and whoever deletes it would lose the job if that worker died.
        """
        permit = Permit(job, message, f"{self._prefix}{next(self._attempts):08x}")
        try:
            age = message.age_at(self._now())
            if job.expired(age):
                over = f"{durations.format(round(age, 3))} old, life_time {durations.format(job.life_time)}"
                permit.refusal = await self._claim(permit) or Ending(Outcome.EXPIRED, over)
            elif message.receive_count > 1 and job.lock_id:
                # It may be a copy, and a copy must not have the lock, not even until its claim is answered: another
                # job that is to be aborted if locked would give up for nothing.
                permit.refusal = await self._claim(permit) or await self._lock(permit)
            else:
                taken = await self._lock(permit)
                waits = taken is not None and taken.outcome is Outcome.LOCKED
                permit.refusal = taken if waits else await self._claim(permit) or taken
        except BackendUnavailable as trouble:
            permit.refusal = Ending(Outcome.UNANSWERED, str(trouble), SHORT_PAUSE)
        except Exception as bug:  # noqa: BLE001 - a guard fails closed, whatever a locker of the operator's own raises
            permit.refusal = Ending(Outcome.UNANSWERED, f"locker or throttler failed: {bug!r}", SHORT_PAUSE)
        finally:
            self._tell_who_asks(permit)
        return permit

    async def leave(self, permit: Permit, persist: Persist, ending: Ending) -> None:
        """Give back what was taken: the lock always; the claim unless its message is to be deleted.

        Then the job is remembered as run. A message that is buried must not be: it would be deleted unburied if we
        died in between, or, without a dead-letter queue, when it comes back.
        """
        over = permit.deleted or ending.outcome.settlement is Settlement.DELETE
        giving: list[Awaitable[object]] = []
        if permit.locked:
            giving.append(self._unlock(permit, persist))
        if permit.claimed:
            close = self._throttler.confirm if over else self._throttler.forget
            giving.append(persist(lambda: close(permit.message.id, permit.owner)))
        if len(giving) == 1:  # nearly always: a task for it would be a waste
            await giving[0]
        elif giving:
            await asyncio.gather(*giving)

    async def confirm(self, permit: Permit, persist: Persist) -> None:
        """Remember the job as run before it is: for ``ack = "start"``."""
        await persist(lambda: self._throttler.confirm(permit.message.id, permit.owner))

    def proven_until(self, permit: Permit, hidden_until: float) -> float:
        """Until when this job surely runs nowhere else, on ``clock.now``.

        A locked job by its lock's lease alone. Another by its claim or by its hidden message, whichever lasts longer.
        """
        if permit.locked:
            return self._locker.proven_until()
        if permit.deleted:  # nobody can be handed it
            return float("inf")
        return max(self._throttler.proven_until(), hidden_until)

    def is_waiting(self, message: Message) -> bool:
        """Has this message been in the waiting room before?"""
        return self._room.knows(message)

    def wait(self, permit: Permit, ending: Ending) -> bool:
        """Send a refused job's message to the waiting room. False if it cannot wait here."""
        job, message = permit.job, permit.message
        if ending.outcome is not Outcome.LOCKED:  # a copy: whether its job is too old is for the one that runs to say
            return self._room.park(message, f"message {message.id}", expires=float("inf"), stay=LONGEST_STAY)
        expires = message.received_at + job.life_time - message.age if job.life_time else float("inf")
        return self._room.park(message, f"lock {job.lock_id}", expires=expires)

    async def _lock(self, permit: Permit) -> Ending | None:
        job = permit.job
        if not job.lock_id:
            return None
        while job.abort_if_locked and (asking := self._asking.get(job.lock_id)) is not None:
            await asyncio.shield(asking)  # whoever asks now may yet turn out to be a copy that does not run
        older = not job.abort_if_locked and self._room.has_older(f"lock {job.lock_id}", permit.message)
        if job.lock_id in self._locked_here or older:
            return self._taken(job, "on this host")
        self._locked_here.add(job.lock_id)
        self._asking[job.lock_id] = asyncio.get_running_loop().create_future()
        permit.locked = True
        fence = await self._locker.lock(job.lock_id, permit.owner, job.event_id)
        permit.answered = True
        if fence is None:
            self._let_go(job.lock_id)
            permit.locked = False
            return self._taken(job, "elsewhere")
        permit.fence = fence
        return None

    def _tell_who_asks(self, permit: Permit) -> None:
        """Whoever waits for this permit's answer to decide about its own may look again."""
        if permit.locked and permit.refusal is None and (asking := self._asking.pop(permit.job.lock_id, None)):
            asking.set_result(None)

    async def _claim(self, permit: Permit) -> Ending | None:
        permit.claimed = True
        claim = await self._throttler.claim(permit.message.id, permit.owner)
        permit.answered = True
        if claim is Claim.FRESH:
            return None
        permit.claimed = False
        if claim is Claim.DONE:
            return Ending(Outcome.DUPLICATE, "its job has been run already")
        return Ending(Outcome.BUSY, "another worker runs it", LONG_PAUSE)

    async def _unlock(self, permit: Permit, persist: Persist) -> None:
        lock_id = permit.job.lock_id
        try:
            await persist(lambda: self._locker.unlock(lock_id, permit.owner))
        finally:  # whatever a locker of the operator's own raises: nobody here may wait for this for ever
            self._let_go(lock_id)
            self._room.released(f"lock {lock_id}")

    def _let_go(self, lock_id: str) -> None:
        self._locked_here.discard(lock_id)
        if asking := self._asking.pop(lock_id, None):
            asking.set_result(None)

    @staticmethod
    def _taken(job: Job, where: str) -> Ending:
        outcome = Outcome.ABORTED if job.abort_if_locked else Outcome.LOCKED
        return Ending(outcome, f"lock_id={job.lock_id} is held {where}", PAUSE)
