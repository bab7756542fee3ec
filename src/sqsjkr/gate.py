"""May this job run now? life_time, lock, claim, in that order. What is taken here is given back here.

The claim comes after the lock, so that a job that only waits leaves no mark; for a delivery that may be a copy, before
it.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from dataclasses import replace

from sqsjkr import clock, durations
from sqsjkr.attempt import Attempt
from sqsjkr.errors import BackendUnavailable
from sqsjkr.intake.brake import Brake
from sqsjkr.intake.waiting_room import WaitingRoom
from sqsjkr.job import Job
from sqsjkr.leases.budget import LeaseBudget
from sqsjkr.leases.proof import Proof
from sqsjkr.locker import Locker
from sqsjkr.message import Message
from sqsjkr.outcome import Ending, Outcome, Reason, Settlement
from sqsjkr.policy import Policy
from sqsjkr.runs import THIS_WORKER, Holder
from sqsjkr.telemetry.events import Event, emit
from sqsjkr.throttler import Answer, Claim, Throttler

HOLDERS = 1000
"""Locks held elsewhere whose holders are remembered for the log."""
_GOES_FIRST = "goes to an older job of this worker first"


class Gate:
    """Asks the three questions. A guard that can't be asked has not said yes: the refusal is then UNANSWERED."""

    def __init__(
        self,
        locker: Locker,
        throttler: Throttler,
        room: WaitingRoom,
        brake: Brake,
        proof: Proof,
        policy: Policy,
        *,
        budget: LeaseBudget,
        now: Callable[[], float] = clock.now,
    ) -> None:
        self._locker = locker
        self._throttler = throttler
        self._room = room
        self._brake = brake
        self._proof = proof
        self._policy = policy
        self._budget = budget
        self._now = now
        self._holders = _Holders()
        self._copies = _Copies(room, proof, now, longest_stay=budget.longest_stay)
        self._asking: dict[str, asyncio.Future[None]] = {}
        self._closing: Reason | None = None

    async def admit(self, attempt: Attempt) -> Ending | None:
        """Ask the three questions in order. None: the job may start; else why it may not.

        What is refused for good is claimed, too: this may be the copy of a message whose job runs elsewhere at this
        moment. Deleting it would lose the job if that worker died.
        """
        refusal = await self._answer(attempt)
        if refusal is not None and refusal.outcome is Outcome.UNANSWERED:
            self._brake.table_failed(refusal.detail)
        elif attempt.asked:
            self._brake.table_answered()
        if self._closing and (refusal is None or attempt.claimed):
            return Ending(self._closing.outcome, self._closing.text)
        if refusal is None and self._now() >= self._proof.until(
            attempt
        ):  # the answers took longer than the lease lasts
            return Ending(Outcome.UNANSWERED, "its lease lapsed before it could start", self._budget.short_pause)
        if refusal is None:
            self._let_others_decide(_job(attempt).lock_id)
        return refusal

    def close(self, reason: Reason) -> None:
        """Admit no job any more, not even one whose answers are on their way."""
        self._closing = reason

    async def give_back_lock(self, attempt: Attempt) -> None:
        """Unlock on condition of the owner; let waiters of this host try. Raises ``BackendUnavailable``."""
        lock_id, failure = _job(attempt).lock_id, None
        try:
            await self._locker.unlock(lock_id, attempt.id)
        except BackendUnavailable:
            raise
        except Exception as bug:  # noqa: BLE001 - of an operator's own locker: no job here may wait for it forever
            failure = bug
        self._not_locked(attempt)
        emit(Event.LOCK_RELEASED, lambda: f"{attempt.label}: lock_id={lock_id}", about=lambda: attempt.facts)
        self._room.released(f"lock {lock_id}")
        if failure is not None:
            raise failure

    async def give_back_claim(
        self, attempt: Attempt, ending: Ending | None = None, *, done: bool, owed: bool = False
    ) -> None:
        """Remember a job that is ``done``, and its ``ending``; else let its next delivery run, when it is due.

        ``owed``: something is to be done yet before the message leaves the queue. If the daemon is dying around the
        job, its claim is left as it is: whoever takes it over counts a crash. Raises ``BackendUnavailable``.
        """
        if ending is not None and ending.is_crash and self._throttler.remembers and not done:
            return
        if done:
            run = attempt.run(self._now(), ending)
            await self._throttler.end(replace(run, owed=True) if owed else run, attempt.id)
        elif ending is not None and ending.due is not None:
            run = attempt.run(self._now(), ending)
            failures = ending.failures or 0
            await self._throttler.postpone(attempt.claim_key, attempt.id, failures=failures, due=ending.due, run=run)
        else:
            await self._throttler.forget(attempt.claim_key, attempt.id)
        attempt.claimed = False
        put_off = ending is not None and ending.due is not None
        what = "marked as done" if done else "put off" if put_off else "dropped: the next delivery may run"
        emit(Event.CLAIM_CLOSED, lambda: f"{attempt.label}: {what}", about=lambda: attempt.facts)

    async def _answer(self, attempt: Attempt) -> Ending | None:
        try:
            return await self._ask(attempt)
        except BackendUnavailable as outage:
            return Ending(Outcome.UNANSWERED, str(outage), self._budget.short_pause)
        except Exception as bug:  # noqa: BLE001 - a guard fails closed, whatever an operator's own locker raises
            return Ending(Outcome.UNANSWERED, f"locker or throttler failed: {bug!r}", self._budget.short_pause)

    async def _ask(self, attempt: Attempt) -> Ending | None:
        job, message = _job(attempt), attempt.message
        # A copy must not have the lock, not even until its claim is answered: another job with abort_if_locked would
        # give up for nothing.
        may_be_a_copy = self._copies.may_exist(message)
        refusal = attempt.refusal or _wrong_time(job, message, message.age_at(self._now()))
        if refusal is not None and refusal.outcome is Outcome.EARLY:
            return refusal
        if refusal is None and not may_be_a_copy:
            refusal = await self._lock(attempt, job)
        if may_be_a_copy and (gone := await self._copies.gone(message, self._budget)) is not None:
            return gone
        if attempt.rival_key and await _runs_elsewhere(attempt, self._throttler):
            return self._not_fresh(Answer(claim=Claim.BUSY), message, 0.0)
        if refusal is None or refusal.outcome is not Outcome.LOCKED:  # a job that only waits leaves no claim
            refusal = await self._claim(attempt) or refusal
        if refusal is None and may_be_a_copy:
            refusal = await self._lock(attempt, job)
        return refusal

    async def _lock(self, attempt: Attempt, job: Job) -> Ending | None:
        if not job.lock_id:
            return None
        while job.abort_if_locked and (asking := self._asking.get(job.lock_id)) is not None:
            await asyncio.shield(asking)  # the one that asks now may turn out to be a copy that does not run
        if (here := self._holders.here.get(job.lock_id)) is not None:
            return self._taken(attempt, job, f"is {'held' if here.since else 'asked for'} by {here}", here)
        if not job.abort_if_locked and self._room.has_older(f"lock {job.lock_id}", attempt.message):
            seen = self._holders.elsewhere.get(job.lock_id)
            return self._taken(attempt, job, _GOES_FIRST + (f"; it was held by {seen}" if seen else ""), seen)
        self._holders.asks(job, attempt.message)
        self._asking[job.lock_id] = asyncio.get_running_loop().create_future()
        attempt.locked = True
        answer = await self._locker.acquire(job.lock_id, attempt.id, job.event_id, attempt.message.id)
        attempt.asked = True
        if isinstance(answer, Holder):
            self._not_locked(attempt)
            self._holders.refused(job.lock_id, answer)
            return self._taken(attempt, job, f"is held by {answer}", answer)
        attempt.fencing_token = answer
        self._holders.has(job, attempt.message)
        emit(
            Event.LOCK_TAKEN,
            lambda: f"{attempt.label}: lock_id={job.lock_id}, fence {answer}",
            about=lambda: attempt.facts,
        )
        return None

    async def _claim(self, attempt: Attempt) -> Ending | None:
        now = self._now()
        age = attempt.message.age_at(now)
        attempt.claimed, attempt.begun = True, now
        answer = await self._throttler.begin(attempt.run(now), attempt.id, age=age)
        attempt.asked = True
        if answer.claim is Claim.FRESH:
            emit(Event.CLAIM_TAKEN, lambda: f"{attempt.label}: claimed as {attempt.id}", about=lambda: attempt.facts)
            attempt.crashes, attempt.earlier = answer.crashes, answer.earlier
            attempt.failures = answer.failures
            if not self._throttler.remembers:  # at most, and so that it has one try left
                attempt.failures = min(_job(attempt).retries, attempt.message.receive_count - 1)
            return self._policy.exhausted(attempt)
        attempt.claimed, attempt.owed = False, answer.owed
        return self._not_fresh(answer, attempt.message, age)

    def _not_fresh(self, answer: Answer, message: Message, age: float) -> Ending:
        if answer.cancelled_by:
            return Ending(Outcome.CANCELLED, f"by {answer.cancelled_by}, before it started")
        if answer.owed is not None:
            return self._policy.finish(answer.owed)
        if answer.claim is Claim.DONE:
            return Ending(Outcome.DUPLICATE, "its job has run already")
        if answer.claim is Claim.EARLY:
            left = max(0.0, answer.due - age)
            return Ending(Outcome.EARLY, f"it is due in {durations.format(round(left, 3))}", left)
        # The longer a job runs, the rarer the looks: each delivery of a copy counts towards the dead-letter queue. Once
        # a long job's worker is known to live, waiting here would show nothing new.
        pause = min(age / 8, self._budget.longest_pause)
        if answer.alive_at >= message.received_at and pause > self._budget.long_pause:
            text = _runs(answer.holder, "a live worker")
            return Ending(Outcome.BUSY, text, pause, holder=answer.holder, settlement=Settlement.RETRY)
        return Ending(
            Outcome.BUSY, _runs(answer.holder, "another worker"), self._budget.long_pause, holder=answer.holder
        )

    def _not_locked(self, attempt: Attempt) -> None:
        attempt.locked = False
        self._holders.here.pop(_job(attempt).lock_id, None)
        self._let_others_decide(_job(attempt).lock_id)

    def _let_others_decide(self, lock_id: str) -> None:
        """Whether a job runs under the lock is known: those with ``abort_if_locked`` that wait for it may decide."""
        if asking := self._asking.pop(lock_id, None):
            asking.set_result(None)

    def _taken(self, attempt: Attempt, job: Job, why: str, holder: Holder | None) -> Ending:
        """Refuse. A job may give up only for another job's lock, not for that of another delivery of its message."""
        is_other = self._copies.surely_not_hold(attempt.message, job.lock_id, holder)
        outcome = Outcome.ABORTED if job.abort_if_locked and is_other else Outcome.LOCKED
        return Ending(outcome, f"lock_id={job.lock_id} {why}", self._budget.pause, holder=holder)


class _Copies:
    """What is known of other deliveries of a message."""

    def __init__(self, room: WaitingRoom, proof: Proof, now: Callable[[], float], *, longest_stay: float) -> None:
        self._room = room
        self._proof = proof
        self._now = now
        self._longest_stay = longest_stay

    def may_exist(self, message: Message) -> bool:
        """Whether another worker may have, or have had, this message as well."""
        is_visible = self._now() >= self._proof.hidden_until(message)
        return message.receive_count > 1 or self._room.met_copy(message) or is_visible

    async def gone(self, message: Message, budget: LeaseBudget) -> Ending | None:
        """Refuse a copy whose message is done with, before it takes over the claim of a worker that looks dead.

        A worker that can't reach the table can't say that its job has ended, but it deletes the message.
        """
        if not self._room.met_copy(message):
            return None
        try:
            if await self._proof.still_holds(message):
                return None
        except BackendUnavailable as outage:
            return Ending(Outcome.BUSY, f"its message may be gone: {outage}", budget.long_pause)
        return Ending(Outcome.RETURNED, "its message has left the queue, or was delivered to another worker since")

    def surely_not_hold(self, message: Message, lock_id: str, holder: Holder | None) -> bool:
        """Whether the lock is surely not held by another delivery of this message.

        Where the holder's message is unknown (a worker of another release), the lock of a delivery that has ended is
        free a lease later, when its worker is seen dead.
        """
        if holder is not None and holder.message_id:
            return holder.message_id != message.id
        return not self.may_exist(message) or self._room.waited(message, f"lock {lock_id}") >= self._longest_stay


class _Holders:
    """Which jobs of this worker hold a lock or ask for it, and who was last seen to hold the others."""

    def __init__(self) -> None:
        self.here: dict[str, Holder] = {}
        """By lock_id; ``since`` is 0.0 while it is asked for."""
        self.elsewhere: dict[str, Holder] = {}
        """By lock_id, the newest ``HOLDERS``."""

    def asks(self, job: Job, message: Message) -> None:
        """A job of this worker asks for its lock."""
        self.here[job.lock_id] = Holder(event_id=job.event_id, message_id=message.id, note=THIS_WORKER)

    def has(self, job: Job, message: Message) -> None:
        """A job of this worker has its lock."""
        self.here[job.lock_id] = Holder.here(job.event_id, message.id)
        self.elsewhere.pop(job.lock_id, None)

    def refused(self, lock_id: str, holder: Holder) -> None:
        """The lock is held elsewhere."""
        self.elsewhere[lock_id] = holder
        if len(self.elsewhere) > HOLDERS:
            del self.elsewhere[next(iter(self.elsewhere))]


async def _runs_elsewhere(attempt: Attempt, throttler: Throttler) -> bool:
    """Find out whether a copy of a message that is refused here runs under another key.

    The claim that answers this is given back at once. It cannot be kept: a forged copy would use up the key.
    """
    own, attempt.claim_key = attempt.claim_key, attempt.rival_key
    attempt.claimed = True  # until it is surely given back, whatever happens in between
    claim = await throttler.claim(attempt.claim_key, attempt.id)
    attempt.asked = True
    if claim is Claim.FRESH:
        await throttler.forget(attempt.claim_key, attempt.id)
    attempt.claimed, attempt.claim_key = False, own
    return claim is Claim.BUSY


def _runs(holder: Holder, worker: str) -> str:
    if holder.note == THIS_WORKER:
        return f"{THIS_WORKER} runs it"
    return f"{worker} runs it {holder.where}".rstrip()


def _wrong_time(job: Job, message: Message, age: float) -> Ending | None:
    if job.expired(age, sent_at=message.sent_at):
        detail = f"{durations.format(round(age, 3))} old, life_time {durations.format(job.life_time)}"
        return Ending(Outcome.EXPIRED, detail)
    if (wait := job.first_start(message.sent_at) - age) > 0:
        return Ending(Outcome.EARLY, f"not before {durations.format(math.ceil(wait))} from now", wait)
    return None


def _job(attempt: Attempt) -> Job:
    if attempt.job is None:
        raise RuntimeError("an attempt comes here only with a job")
    return attempt.job
