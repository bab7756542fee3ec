"""THE MAIN PATH: one message, from its delivery to its settlement. Whoever knows ``kick`` knows the product."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from sqsjkr import clock
from sqsjkr.errors import BackendUnavailable, InvalidJob
from sqsjkr.execution import trigger
from sqsjkr.execution.command import CannotStart, Command
from sqsjkr.execution.output import Output
from sqsjkr.gate import PAUSE, SHORT_PAUSE, Gate, Permit
from sqsjkr.job import Job, decode
from sqsjkr.message import Message
from sqsjkr.outcome import Ending, Outcome, Settlement
from sqsjkr.queue import Queue
from sqsjkr.supervision.shared_state import SharedState
from sqsjkr.telemetry.events import Event, Level, emit, says
from sqsjkr.telemetry.outage import Outage
from sqsjkr.telemetry.stats import Stats

FIRST_RETRY = 0.2
LONGEST_RETRY = 5.0
FENCE_PATIENCE = 4.0
"""Seconds between TERM and KILL, at most, for a job whose lease cannot be proven: another worker is waiting."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What an operator chose for every job."""

    delete_first: bool = False
    """``ack = "start"``: delete the message before the command starts, as the original does: at most once."""
    trigger: str = ""
    """The command that is told of a job whose life_time is over."""
    kill_after: float = 5.0
    """Seconds between TERM and KILL."""
    output_tail: int = 65_536
    output_rate: int = 1_048_576


@dataclass(frozen=True, slots=True)
class _Running:
    permit: Permit
    command: Command


class Kicker:
    """Carries messages through gate and shell, and settles each exactly once."""

    def __init__(
        self, queue: Queue, gate: Gate, stats: Stats, page: SharedState, rules: Rules, trouble: Outage | None = None
    ) -> None:
        self._queue = queue
        self._gate = gate
        self._stats = stats
        self._page = page
        self._rules = rules
        self._environment = dict(os.environb)
        self._running: dict[str, _Running] = {}
        self._closing = ""
        self._lost_since = 0.0
        self._interrupting: tuple[str, float] | None = None
        self._giving_up = asyncio.Event()
        self._settling = Outage("telling what became of jobs", Event.SETTLE_RETRIED, Event.SETTLE_RESUMED)
        self._confirming: set[asyncio.Task[None]] = set()
        if trouble is None:
            trouble = Outage("the lock table", Event.TABLE_UNREACHABLE, Event.TABLE_RECOVERED)
        self.trouble = trouble
        """Begins when the gate gets no answer, ends with the next answer."""
        self.starving = Outage("starting jobs", Event.WORKER_PAUSED, Event.WORKER_RESUMED)
        """Begins when a job cannot be started for want of processes, memory or descriptors."""
        self.pause_until = 0.0
        """While there is either: when it is worth trying again, on ``clock.now``."""

    async def kick(self, message: Message, free_slot: Callable[[], None], gone: Callable[[], None]) -> Ending:
        """Carry one message from delivery to settlement; how it ended.

        ``free_slot`` is called once its slot is free, ``gone`` if the message leaves the queue before its job ends.
        Whatever stops this before the message is settled, the message is delivered again.
        """
        permit = None
        try:
            job = decode(message.body, message.id)
            permit = await self._gate.admit(job, message)
            self._watch_table(permit)
            ending = await self._attempt(permit, gone)
        except InvalidJob as reason:
            ending = Ending(Outcome.INVALID, str(reason))
        except Exception as bug:  # noqa: BLE001 - what was taken must be given back, whatever went wrong
            ending = Ending(Outcome.BROKEN, f"a bug in sqsjkr, please report it: {bug!r}", PAUSE)
        finally:
            free_slot()
        self._tell(message, permit, ending)
        if permit:
            await self._gate.leave(permit, self._persist, ending)
        if not (permit and self._may_wait(ending) and self._gate.wait(permit, ending)):
            ending = self._settled(ending)
            await self._persist(lambda: self._queue.settle(message, ending))
        self._stats.count(ending.outcome)
        return ending

    def close(self, why: str) -> None:
        """Start nothing any more; what is on its way to its start is interrupted."""
        self._closing = why

    def interrupt(self, why: str, *, at_once: bool = False) -> None:
        """End every running job: TERM, then KILL; or KILL at once."""
        self._interrupting = why, 0.0 if at_once else self._rules.kill_after
        for running in self._running.values():
            running.command.interrupt(why, kill_after=self._interrupting[1])

    def give_up(self) -> None:
        """Try nothing again: what is not settled comes back by itself."""
        self._giving_up.set()

    def fence(self, now: float) -> float:
        """End what can no longer be proven to run only here; when that is due next, for whoever watches over us.

        Every process of a locked job is gone before another worker may take its lock over (session.py).
        """
        soonest = float("inf")
        for running in self._running.values():
            proven = self._proven_until(running.permit)
            if running.permit.locked:
                soonest = min(soonest, proven)
            if now >= proven:
                if not running.command.interrupted:
                    what = f"{running.permit.job.event_id} is ended: its lease cannot be proven"
                    emit(Event.LEASE_LOST, what)
                running.command.interrupt("lease lost", kill_after=min(FENCE_PATIENCE, self._rules.kill_after))
        if soonest > float("-inf"):
            self._lost_since = 0.0
            return soonest
        self._lost_since = self._lost_since or now  # lapsed, although a later beat got through: it counts from here
        return self._lost_since

    async def _attempt(self, permit: Permit, gone: Callable[[], None]) -> Ending:
        """Run the job, or the trigger of an expired one, or neither."""
        refusal = permit.refusal
        if self._closing and (refusal is None or permit.claimed):
            return Ending(Outcome.INTERRUPTED, self._closing)
        if refusal is None:
            if clock.now() >= self._proven_until(permit):  # the gate took longer than the lease lasts
                return Ending(Outcome.UNANSWERED, "its lease lapsed before it could start", SHORT_PAUSE)
            if self._rules.delete_first and (trouble := await self._delete_first(permit, gone)):
                return trouble
            ending = await self._run(permit, permit.job.command, permit.variables())
            return _without_return(ending) if permit.deleted else ending
        if refusal.outcome is Outcome.EXPIRED and self._has_trigger(permit.job):
            return await self._trigger(permit, refusal)
        return refusal

    async def _run(
        self, permit: Permit, command: str, variables: Mapping[bytes, bytes], stdin: bytes | None = None
    ) -> Ending:
        output, shell = self._output(permit), Command(permit.owner, self._page)
        self._running[permit.owner] = _Running(permit, shell)
        if self._interrupting:  # it was on its way while the others were ended
            shell.interrupt(self._interrupting[0], kill_after=self._interrupting[1])
        begun = clock.now()
        if stdin is None:
            self._tell_start(permit, command, begun)
        try:
            environment = self._environment | dict(variables)
            end = await shell.run(command, environment, output, stdin=stdin, started=self.starving.over)
        except CannotStart as why:
            if not why.again:
                return Ending(Outcome.UNSTARTABLE, str(why))
            self.pause_until = clock.now() + self.starving.failed(why)
            return Ending(Outcome.STARVED, str(why), PAUSE)
        finally:
            del self._running[permit.owner]
        if end.leftovers:
            emit(Event.PROCESS_LEFT, f"{permit.job.event_id} left something running in the background")
        took = f"in {clock.now() - begun:.2f}s, cpu {end.cpu:.2f}s"
        if end.interrupted:
            return Ending(Outcome.INTERRUPTED, f"{end.interrupted}, {took}")
        if end.status == 0:
            return Ending(Outcome.SUCCEEDED, took)
        how = f"exit status {end.status}" if end.status > 0 else f"signal {-end.status}"
        return Ending(Outcome.ERRORED, f"{how} {took}", tail=output.tail())

    async def _trigger(self, permit: Permit, refusal: Ending) -> Ending:
        """Tell the trigger of the expired job: the original's text on its stdin, the facts as JSON in a variable."""
        job, sent_at = permit.job, permit.message.sent_at
        variables = permit.facts() | {b"SQSJKR_EXPIRED": trigger.facts(job, sent_at).encode()}
        emit(Event.JOB_TRIGGER, f"{job.event_id}: {refusal.detail}", event_id=job.event_id, message_id=job.id)
        ending = await self._run(permit, self._rules.trigger, variables, trigger.text(job, sent_at).encode())
        if ending.outcome in {Outcome.INTERRUPTED, Outcome.STARVED}:
            return ending  # it is told again
        ran = "was run" if ending.outcome is Outcome.SUCCEEDED else "failed:"
        return Ending(Outcome.EXPIRED, f"{refusal.detail}; the trigger {ran} {ending.detail}", tail=ending.tail)

    async def _delete_first(self, permit: Permit, gone: Callable[[], None]) -> Ending | None:
        """``ack = "start"``: what is not surely deleted is not run; what is deleted is run by nobody else."""
        if not await self._persist(lambda: self._queue.settle(permit.message, Ending(Outcome.SUCCEEDED))):
            return Ending(Outcome.UNANSWERED, "the message could not be deleted", SHORT_PAUSE)
        permit.deleted = True
        gone()
        task = asyncio.create_task(self._gate.confirm(permit, self._persist))
        self._confirming.add(task)
        task.add_done_callback(self._confirming.discard)
        if clock.now() >= self._proven_until(permit):  # the delete took longer than the lease lasts
            return Ending(Outcome.ERRORED, "its lease lapsed while its message was being deleted")
        return None

    def _proven_until(self, permit: Permit) -> float:
        return self._gate.proven_until(permit, self._queue.hidden_until(permit.message))

    def _may_wait(self, ending: Ending) -> bool:
        """A worker that stops has emptied its waiting room already: nobody would wake who comes in now."""
        return ending.outcome.settlement is Settlement.KEEP and not self._closing

    def _settled(self, ending: Ending) -> Ending:
        """What cannot wait here goes back to the queue; at once if the worker stops."""
        if ending.outcome.settlement is Settlement.KEEP:
            return Ending(Outcome.CROWDED, ending.detail, 0.0 if self._closing else ending.delay)
        return ending

    async def _persist(self, verb: Callable[[], Awaitable[None]]) -> bool:
        """Send a verb until it is answered: True; or until ``give_up``: False."""
        pause = FIRST_RETRY
        while True:
            try:
                await verb()
            except BackendUnavailable as trouble:
                if self._giving_up.is_set():
                    emit(Event.SETTLE_GIVEN_UP, f"left as it is, it will come back by itself: {trouble}")
                    return False
                self._settling.failed(trouble)
            else:
                self._settling.over()
                return True
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._giving_up.wait(), random.uniform(pause / 2, pause))  # noqa: S311 - jitter
            pause = min(LONGEST_RETRY, pause * 2)

    def _watch_table(self, permit: Permit) -> None:
        refusal = permit.refusal
        if refusal and refusal.outcome is Outcome.UNANSWERED:
            self.pause_until = clock.now() + self.trouble.failed(refusal.detail)
        elif permit.answered:
            self.trouble.over()

    def _has_trigger(self, job: Job) -> bool:
        return bool(self._rules.trigger) and not job.disable_life_time_trigger

    def _output(self, permit: Permit) -> Output:
        name = permit.job.event_id
        facts: dict[str, Any] = {"message_id": permit.message.id, "event_id": name}
        return Output(
            on_line=(lambda line: emit(Event.JOB_OUTPUT, f"{name}: {line}", **facts)) if says("info") else None,
            on_cut=lambda size: emit(Event.JOB_OUTPUT_CUT, f"{name}: {size} bytes came too fast to be logged", **facts),
            rate=self._rules.output_rate,
            tail=self._rules.output_tail,
            now=clock.now,
        )

    def _tell_start(self, permit: Permit, command: str, now: float) -> None:
        job, message = permit.job, permit.message
        emit(
            Event.JOB_STARTED,
            f"{job.event_id}: {shorten(command)} (message {message.id}, waited {message.age_at(now):.1f}s, "
            f"delivery {message.receive_count})",
            message_id=message.id,
            event_id=job.event_id,
            lock_id=job.lock_id or None,
        )

    def _tell(self, message: Message, permit: Permit | None, ending: Ending) -> None:
        name = permit.job.event_id if permit else message.id
        facts: dict[str, Any] = {"message_id": message.id, "event_id": name, "outcome": ending.outcome.label}
        if ending.outcome.settlement is Settlement.KEEP:
            level: Level = "debug" if self._gate.is_waiting(message) else "info"
            emit(Event.JOB_WAITING, f"{name}: {ending.detail}", level=level, **facts)
            return
        emit(Event.JOB_ENDED, f"{name}: {ending.outcome.label} {ending.detail}", level=ending.outcome.level, **facts)
        if ending.tail and not says("info"):  # else its lines stand above already
            for line in ending.tail.splitlines():
                emit(Event.JOB_OUTPUT, f"{name}: {line}", level=ending.outcome.level, **facts)


def _without_return(ending: Ending) -> Ending:
    """``ack = "start"``: the message is deleted, so a job that did not end by itself is lost; it counts as such."""
    lost = {Outcome.INTERRUPTED: Outcome.ERRORED, Outcome.STARVED: Outcome.UNSTARTABLE}
    return replace(ending, outcome=lost.get(ending.outcome, ending.outcome))


def shorten(text: str, most: int = 200) -> str:
    """One line's worth of a command."""
    return text if len(text) <= most else f"{text[:most]}..."
