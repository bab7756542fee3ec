"""A world in which the real lock code runs: hosts, a table, a network between them, and jobs that can overlap.

Session, TableLocker, TableThrottler, Proof, and the Registry that ends jobs are the product's own. The model is of what
surrounds them: the table (memory_table.py, held to the tables' contract), the network, and the launcher.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from memory_table import MemoryTable
from model.hosts import Host
from model.network import PLANS, SIGNATURE, Request, Verb, Weather, Wire
from sqsjkr.attempt import Attempt
from sqsjkr.errors import BackendUnavailable
from sqsjkr.execution.registry import Registry
from sqsjkr.leases.budget import STANDARD, LeaseBudget
from sqsjkr.leases.locker import TableLocker
from sqsjkr.leases.proof import Proof
from sqsjkr.leases.session import Session
from sqsjkr.leases.table import Table
from sqsjkr.leases.throttler import TableThrottler
from sqsjkr.message import Message
from sqsjkr.outcome import Reason
from sqsjkr.throttler import Claim

TICK = 1.0
"""Seconds between two looks of the kicker at its leases: four times what it takes in truth."""
CLEANING = 5.0
"""Seconds a dead worker's jobs may live on until the launcher has killed them (promise 4)."""
KILL_AFTER = 60.0
"""Seconds between TERM and KILL that the operator allows; a lost lease allows fewer."""
AT_ONCE = STANDARD.but(claim_pace=0.0)


class Breach(AssertionError):
    """A promise was broken."""


@dataclass(eq=False)
class Job:
    """One attempt; ``alive`` while a process of it may run."""

    worker: Worker
    lock_id: str | None
    message_id: str
    owner: str
    ended: asyncio.Future[str]
    alive: bool = False
    fence: int = 0
    outcome: str = ""
    interrupted: Reason | None = None

    @property
    def attempt(self) -> Attempt:
        """What the registry knows of it."""
        message = Message(id=self.message_id, body="", sent_at=0.0, age=0.0, received_at=0.0)
        attempt = Attempt(message, self.owner)
        attempt.locked = bool(self.lock_id)
        return attempt

    def interrupt(self, reason: Reason, *, kill_after: float) -> None:
        """A job that ignores TERM: it is gone when it is killed."""
        if self.interrupted is None:
            self.interrupted = reason
            self.outcome = "interrupted"
            self.worker.host.call_later(kill_after, self.worker.end, self, reason.text)


class Worker:
    """One worker process and its launcher, as far as locks are concerned: gate, kicker and page in a few lines."""

    def __init__(self, world: World, name: str, *, rate: float, offset: float) -> None:
        self.world = world
        self.name = name
        self.host = Host(rate=rate, offset=offset)
        self.weather = Weather.FAIR
        self.frozen = False
        self.suspended = False
        self.dead = False
        self.jobs: list[Job] = []
        self.waiting = 0
        self.hides = False
        """Does the queue keep its messages hidden, whatever becomes of the table? Then jobs without a lock go on."""
        self.is_unguarded = False
        self.hangs_until = float("-inf")
        """Until when, on the host's clock, the kicker does not come to look at its leases."""
        self._attempts = itertools.count(1)
        table = Wire(world.table, lambda act, patience: world.send(self, act, patience))
        self.budget = world.budget
        self.session = world.make_session(table, now=self.host.time, budget=self.budget)
        self.locker = TableLocker(table, self.session, budget=self.budget)
        self.throttler = TableThrottler(table, self.session, budget=self.budget)
        self.proof = Proof(self.locker, self.throttler, self)
        self.registry = Registry(self.proof, budget=self.budget, kill_after=KILL_AFTER)
        self.pulse, self.fence = self.host.clock, float("inf")
        self.host.start(self._live())
        self.host.run()

    def run(self, lock_id: str | None, message_id: str) -> Job:
        """A message has been received: carry its job through the gate, and to its end. One attempt."""
        job = self._attempt(lock_id, message_id)
        self.host.start(self._kick(job))
        return job

    def wait(self, lock_id: str | None, message_id: str) -> None:
        """The same, but attempt after attempt until the job has run or is known to be done."""
        self.waiting += 1
        self.host.start(self._kick_until_done(lock_id, message_id))

    def end(self, job: Job, why: str = "by itself") -> None:
        """The job's processes are gone."""
        if not job.ended.done():
            job.alive = False
            job.ended.set_result(why)

    def crash(self) -> None:
        """The worker is gone; the launcher kills what its jobs consist of within ``CLEANING`` seconds."""
        self.dead = True
        self.world.after(CLEANING, self._clean)

    def watch(self) -> None:
        """What the launcher does, which is not frozen with its worker."""
        clock = self.host.clock
        if self.dead or self.suspended or self.is_unguarded:
            return
        if clock > self.fence + self.budget.guard_margin or clock - self.pulse > self.budget.guard_silence:
            self.dead = True
            self._clean()

    def _clean(self) -> None:
        for job in self.jobs:
            job.alive = False

    async def _live(self) -> None:
        await self.locker.open()
        await self.throttler.open()
        while True:
            self.pulse, self.fence = self.host.clock, self.registry.end_overdue(self.host.clock)
            await asyncio.sleep(max(TICK, self.hangs_until - self.host.clock))

    async def still_holds(self, message: Message) -> bool:
        """The same: a message of this world is deleted by nobody else."""
        return True

    def hidden_until(self, message: Message) -> float:
        """The queue's part of the proof."""
        return float("inf") if self.hides else float("-inf")

    def _attempt(self, lock_id: str | None, message_id: str) -> Job:
        owner = self.world.make_owner(self, next(self._attempts))
        return Job(self, lock_id, message_id, owner, self.host.create_future())

    async def _kick_until_done(self, lock_id: str | None, message_id: str) -> None:
        while True:
            job = self._attempt(lock_id, message_id)
            await self._kick(job)
            if job.outcome in {"ran", "done"} or self.world.is_ending:
                break
            await asyncio.sleep(self.budget.waiter_retry)
        self.waiting -= 1

    async def _kick(self, job: Job) -> None:
        over = False
        try:
            if await self._admit(job):
                self.world.begin(job)
                attempt = job.attempt
                self.registry.enter(attempt, job)
                over = await job.ended == "by itself"
                self.registry.leave(attempt)
                job.outcome = "ran" if over else "interrupted"
        except BackendUnavailable:
            job.outcome = "unanswered"
        if job.lock_id:
            lock_id = job.lock_id
            await self._persist(lambda: self.locker.unlock(lock_id, job.owner))
        if over:
            await self._persist(lambda: self.throttler.confirm(job.message_id, job.owner))
            self.world.confirmed.add(job.message_id)
        else:
            await self._persist(lambda: self.throttler.forget(job.message_id, job.owner))
        self.jobs = [other for other in self.jobs if other is not job]

    async def _admit(self, job: Job) -> bool:
        if job.lock_id:
            fence = await self.locker.lock(job.lock_id, job.owner, "event")
            if fence is None:
                job.outcome = "locked"
                return False
            job.fence = fence
        claim = await self.throttler.claim(job.message_id, job.owner)
        if claim is not Claim.FRESH:
            job.outcome = claim.value
            return False
        if self.world.gates_check and self.host.clock >= self.proof.until(job.attempt):
            raise BackendUnavailable("the lease was over before the job could begin")
        return True

    @staticmethod
    async def _persist(verb: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                return await verb()
            except BackendUnavailable:
                await asyncio.sleep(1.0)


@dataclass
class World:
    """All hosts, the table, and the time that passes for all of them."""

    table: Table = field(default_factory=MemoryTable)
    make_session: type[Session] = Session
    budget: LeaseBudget = AT_ONCE
    """All that happens at one moment happens in one request; no time passes before the next one."""
    make_owner: Callable[[Worker, int], str] = field(default=lambda worker, number: f"{worker.name}{number}")
    time: float = 0.0
    workers: list[Worker] = field(default_factory=list)
    under_way: list[Request] = field(default_factory=list)
    late: list[Request] = field(default_factory=list)
    """Requests that may still arrive, or arrive a second time."""
    running: list[Job] = field(default_factory=list)
    begun: int = 0
    fences: dict[str, int] = field(default_factory=dict)
    confirmed: set[str] = field(default_factory=set)
    gates_check: bool = True
    """Does a gate look at the lease once more when all has been answered?"""
    is_ending: bool = False
    """Nobody waits any longer."""
    _later: list[tuple[float, Callable[[], None]]] = field(default_factory=list)

    def add(self, name: str, *, rate: float = 1.0, offset: float = 0.0) -> Worker:
        worker = Worker(self, name, rate=rate, offset=offset)
        self.workers.append(worker)
        return worker

    def close(self) -> None:
        """End every task of every host."""
        for worker in self.workers:
            worker.host.close()

    def after(self, seconds: float, do: Callable[[], None]) -> None:
        self._later.append((self.time + seconds, do))

    def begin(self, job: Job) -> None:
        """A job's processes start: the one moment at which "never two at once" can be broken."""
        self.running = [other for other in self.running if other.alive]
        for other in [other for other in self.running if not other.worker.suspended]:
            if job.lock_id and other.lock_id == job.lock_id:
                raise Breach(f"two at once: {job.owner} began under {job.lock_id} while {other.owner} may be alive")
            if other.message_id == job.message_id:
                raise Breach(f"twice at once: {job.owner} began {job.message_id} while {other.owner} may be alive")
        if job.message_id in self.confirmed:
            raise Breach(f"run again: {job.owner} began {job.message_id}, which is done")
        if job.lock_id:
            if job.fence <= self.fences.get(job.lock_id, 0):
                raise Breach(f"the fencing token of {job.lock_id} did not grow: {job.fence}")
            self.fences[job.lock_id] = job.fence
        job.alive = True
        job.worker.jobs.append(job)
        self.running.append(job)
        self.begun += 1

    async def send(self, worker: Worker, act: Verb, patience: float, weather: Weather | None = None) -> Any:
        until_acted, until_answered = PLANS[weather or worker.weather]
        request = Request(
            worker,
            act,
            worker.host.create_future(),
            self.time,
            self.time + until_acted,
            self.time + until_answered,
            self.time + patience,
        )
        self.under_way.append(request)
        self.late.append(request)
        return await request.answer

    def arrive(self, request: Request) -> None:
        """A request arrives late, or again; nobody waits for its answer any more."""
        self.late.remove(request)
        _acted(request.act())

    def freeze(self, worker: Worker, *, suspend: bool = False) -> None:
        """The worker stands still (SIGSTOP), its jobs and its launcher do not; or its whole host does."""
        worker.frozen, worker.suspended = True, suspend

    def thaw(self, worker: Worker) -> None:
        worker.frozen = worker.suspended = False
        self.settle()

    def advance(self, seconds: float) -> None:
        """Let time pass, and do what falls due in its order."""
        until = self.time + seconds
        while True:
            self.settle()
            step = min(self._next_event(), until - self.time)
            if step <= 0 and self.time >= until:
                return
            self.time += step
            for worker in self.workers:
                worker.host.pass_time(step)

    def settle(self) -> None:
        """Do everything that is due now."""
        while True:
            for worker in self.workers:
                worker.watch()
                if not (worker.dead or worker.frozen):
                    worker.host.run()
                    if worker.host.troubles:
                        raise worker.host.troubles[0]
            if not self._deliver():
                break
        due = [do for when, do in self._later if when <= self.time]
        self._later = [(when, do) for when, do in self._later if when > self.time]
        for do in due:
            do()
        self.late = [request for request in self.late if self.time - request.sent < SIGNATURE]

    def _deliver(self) -> bool:
        """Let requests act, be answered and give up, each when it is due. Has anything happened?"""
        before = len(self.under_way)
        for request in list(self.under_way):
            if request.act_at <= self.time:
                request.act_at = float("inf")
                request.result = _acted(request.act())
            if not request.answer.done() and min(request.answer_at, request.fail_at) <= self.time:
                if request.answer_at <= request.fail_at:
                    request.answer.set_result(request.result)
                else:
                    request.answer.set_exception(BackendUnavailable("no answer"))
            if request.answer.done() and request.act_at == float("inf"):
                self.under_way.remove(request)
        return len(self.under_way) < before

    def _next_event(self) -> float:
        times = [r.act_at - self.time for r in self.under_way]
        times += [min(r.answer_at, r.fail_at) - self.time for r in self.under_way if not r.answer.done()]
        times += [when - self.time for when, _ in self._later]
        times += [w.host.next_timer() for w in self.workers if not (w.dead or w.frozen)]
        times += [1.0 for w in self.workers if w.frozen and not w.dead]
        return max(0.0, min(times, default=float("inf")))


def _acted(act: Coroutine[Any, Any, Any]) -> Any:
    """Run a verb of the memory table, which never waits."""
    try:
        act.send(None)
    except StopIteration as answer:
        return answer.value
    raise AssertionError("the memory table waited for something")
