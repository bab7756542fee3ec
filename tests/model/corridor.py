"""A fleet in simulated time: real workers, from the receive to the settlement, on hosts of the model.

All between queue and shell is the product's own, wired by ``build_worker``. The model is of what surrounds it: table
(memory_table.py), queue (memory_queue.py), a network to each, commands, the guard, signals, and time. Minutes of a
fleet pass in a fraction of a second, and the same seed gives the same run.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

from memory_queue import SQS, MemoryQueue, Stored, delivery
from memory_table import MemoryTable
from model.hosts import Host
from model.network import FATES, PATIENCE, Verb, Weather, Wire
from model.world import CLEANING, Breach, World
from sqsjkr import clock
from sqsjkr.app import build_worker
from sqsjkr.config import Config
from sqsjkr.execution import runner
from sqsjkr.gate import Gate
from sqsjkr.intake.waiting_room import WaitingRoom
from sqsjkr.leases.budget import STANDARD, LeaseBudget
from sqsjkr.leases.locker import TableLocker
from sqsjkr.leases.session import Session
from sqsjkr.leases.throttler import TableThrottler
from sqsjkr.message import Message
from sqsjkr.outcome import Exit, Reason
from sqsjkr.queue import Delivery, Hiding, QueueFacts
from sqsjkr.resources import Resources
from sqsjkr.telemetry.events import LOGGER
from sqsjkr.telemetry.history import History
from sqsjkr.telemetry.outage import Outage
from sqsjkr.telemetry.stats import Stats

EPOCH = 1_600_000_000.0
GRACE, KILL_AFTER = 15.0, 5.0
"""Seconds, as an operator may set them."""
LONGEST_HOLD = 75.0
"""Seconds that a worker without its table may keep a message whose job does not run: until its lease has lapsed and its
requests were given up."""
LOOK = 0.5
"""Seconds between two looks of a long poll at the queue."""


@dataclass(eq=False)
class Run:
    """One command: an attempt at a job. ``alive`` while a process of it may run."""

    worker: Daemon
    message_id: str
    lock_id: str
    fence: int
    ended: asyncio.Future[None]
    owner: str
    begun: float
    alive: bool = True
    by_itself: bool = False
    """It came to its own end."""
    over: float = float("inf")
    """When it was over."""

    def end(self, *, by_itself: bool) -> None:
        """Its last process is gone."""
        if self.alive:
            self.alive, self.by_itself, self.over = False, by_itself, self.worker.sim.time
            if not self.ended.done():
                self.ended.set_result(None)


class Command:
    """Stands for a real command: lives as long as its job says, unless it is ended before."""

    def __init__(self, mark: str, _shared: object) -> None:
        self._daemon = SimHost.running().daemon
        self._mark = mark
        self._run: Run | None = None
        self._deaf = False
        self.interrupted: Reason | None = None

    def interrupt(self, reason: Reason, *, kill_after: float) -> None:
        """TERM, which a deaf job ignores, and KILL."""
        self.interrupted = self.interrupted or reason
        if run := self._run:
            self._daemon.sim.after(kill_after if self._deaf else 0.05, lambda: run.end(by_itself=False))

    async def run(self, _argv: Sequence[bytes], env: Mapping[bytes, bytes], _output: object, **more: Any) -> Exit:
        """As the product's: returns when every process is gone."""
        if self.interrupted:
            return Exit(status=-15, reason=self.interrupted)
        sim, loop = self._daemon.sim, asyncio.get_running_loop()
        job = sim.jobs[env[b"SQSJKR_JOB_ID"].decode()]
        self._deaf = job.deaf
        more.get("started", lambda: None)()
        lock_id, fence = env.get(b"SQSJKR_LOCK_ID", b"").decode(), int(env.get(b"SQSJKR_FENCE", b"0"))
        run = Run(self._daemon, job.message_id, lock_id, fence, loop.create_future(), self._mark, sim.time)
        self._run = run
        sim.starts(run)
        sim.after(job.seconds, lambda: run.end(by_itself=True))
        await run.ended
        if run.by_itself:
            return Exit(status=0)
        return Exit(status=-15, reason=self.interrupted)


class Page:
    """Stands for the memory shared with the guard."""

    guard = 0

    def __init__(self) -> None:
        self.pulse, self.deadline = 0.0, float("inf")

    def heartbeat(self, now: float, deadline: float) -> None:
        self.pulse, self.deadline = now, deadline


class SimHost(Host):
    """A host that knows the daemon on it."""

    daemon: Daemon

    @classmethod
    def running(cls) -> SimHost:
        """The one whose turn it is."""
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimHost)
        return loop


class SimQueue(MemoryQueue):
    """A worker's way to the queue."""

    def __init__(self, daemon: Daemon, sqs: SQS, *, budget: LeaseBudget) -> None:
        super().__init__(sqs, budget=budget)
        self._daemon = daemon

    async def _open(self) -> QueueFacts:
        return QueueFacts(name="jobs", retention=345_600.0, dead_letters="jobs-dead")

    async def _receive(self, limit: int, wait: float, hiding: float) -> list[Delivery]:
        async def act() -> list[Stored]:
            found = self.sqs.receive(limit, hiding)
            self._daemon.sim.holders |= {each.id: self._daemon for each in found}
            return found

        until = clock.now() + wait
        found: list[Stored] = []
        while not found:
            found = await self._ask(act, patience=5.0)
            if clock.now() >= until:
                break
            await asyncio.sleep(0.0 if found else LOOK)
        return [delivery(each, self.sqs.now()) for each in found]

    async def _delete(self, entries: Sequence[tuple[str, str]]) -> Sequence[Exception | None]:
        async def act() -> Sequence[Exception | None]:
            return [self.sqs.delete(*entry) for entry in entries]

        return list(await self._ask(act))

    async def _hide(self, entries: Sequence[Hiding]) -> Sequence[Exception | None]:
        async def act() -> Sequence[Exception | None]:
            return [self.sqs.hide(entry) for entry in entries]

        return list(await self._ask(act))

    async def _bury(self, message: Message, reason: str) -> None:
        async def act() -> None:
            self.sqs.dead.append((message.id, reason))

        await self._ask(act)

    async def _ask(self, act: Any, patience: float = PATIENCE) -> Any:
        return await self._daemon.sim.send(self._daemon, act, patience, self._daemon.queue_weather)


class Daemon:
    """One daemon: guard and worker, the real worker between."""

    def __init__(self, sim: Simulation, name: str, *, rate: float, offset: float) -> None:
        self.sim = sim
        self.name = name
        self.host = SimHost(rate=rate, offset=offset)
        self.host.daemon = self
        self.weather = Weather.FAIR
        self.queue_weather = Weather.FAIR
        self.bad_until = {"table": float("-inf"), "queue": float("-inf")}
        """When each was last out of reach."""
        self.bad_since: dict[str, float] = {}
        """Since when each of "table", "queue" and "disk" fails now, or some requests do."""
        self.fair_at: dict[str, float] = {}
        self.longest_cut = 0.0
        """For how many seconds both table and queue have failed, at most."""
        self.silent_since: dict[str, float] = {}
        """Since when nothing gets an answer."""
        self.frozen = self.suspended = self.dead = False
        self.page = Page()
        self.asked: float | None = None
        """When it was asked to stop."""
        self.left: float | None = None
        """When it had left in order."""
        self.jobs: list[Run] = []
        self.page.pulse = self.host.clock
        self.host.start(self._live())

    @property
    def failure(self) -> str | None:
        """What the brake reads of the log."""
        return "the log cannot be written: no space left" if "disk" in self.bad_since else None

    @property
    def is_running(self) -> bool:
        """Is there a worker that may take jobs?"""
        return not self.dead and self.left is None

    def signal(self, verb: str) -> None:
        """TERM ("stop") or USR1 ("finish")."""
        if verb == "stop" and self.asked is None:
            self.asked = self.sim.time

        def act() -> None:
            if self.left is None:
                getattr(self.worker, verb)("a signal received")

        self.host.call_soon(act)

    def crash(self) -> None:
        """The worker is gone; the guard kills what its jobs consist of within ``CLEANING`` seconds."""
        if self.is_running:
            self.dead = True
            self.sim.after(self.sim.draw.uniform(0.0, CLEANING), self._clean)

    def watch(self) -> None:
        """What the guard does, which is not frozen with its worker."""
        now = self.host.clock
        if self.is_running and (now > self.page.deadline or now - self.page.pulse > self.sim.budget.guard_silence):
            self.dead = True
            self._clean()

    def disturb(self, service: str, weather: Weather, seconds: float) -> None:
        """Let the weather be bad for so long, and for as long as it was to be already."""
        self.set_weather(service, weather)
        ends = self.fair_at[service] = max(self.fair_at.get(service, 0.0), self.sim.time + seconds)

        def end() -> None:
            if self.fair_at.get(service) == ends:
                self.set_weather(service, Weather.FAIR)

        self.sim.after(ends - self.sim.time, end)

    def set_weather(self, service: str, weather: Weather) -> None:
        """Change the way to "table" or "queue", or the disk of its log: full in any weather but the fair one."""
        self.longest_cut = max(self.longest_cut, self.cut_off())
        if weather is Weather.FAIR:
            if self.bad_since.pop(service, None) is not None:
                self.bad_until[service] = self.sim.time
        else:
            self.bad_since.setdefault(service, self.sim.time)
        if weather in {Weather.LOST, Weather.MUTE}:
            self.silent_since.setdefault(service, self.sim.time)
        else:
            self.silent_since.pop(service, None)
        if service == "table":
            self.weather = weather
        if service == "queue":
            self.queue_weather = weather

    def keeps(self, message_id: str) -> bool:
        """Whether it goes on hiding this message."""
        held = self.queue.visibility.held.get(message_id) if self.is_running else None
        return held is not None and not held.leaving

    def fails_for(self, *services: str) -> float:
        """For how many seconds nothing was answered by one of these."""
        return max((self.sim.time - when for name, when in self.silent_since.items() if name in services), default=0.0)

    def cut_off(self) -> float:
        """For how many seconds both table and queue have failed by now."""
        both = [self.bad_since[name] for name in ("table", "queue") if name in self.bad_since]
        return self.sim.time - max(both) if len(both) > 1 else 0.0

    def was_without(self, service: str, *, within: float) -> bool:
        """Whether a request of the last so many seconds may have got no answer."""
        return service in self.bad_since or self.sim.time - self.bad_until[service] < within

    def _clean(self) -> None:
        for run in self.jobs:
            run.end(by_itself=False)

    async def _live(self) -> None:
        budget = self.sim.budget
        config = Config(local="sim", max_concurrent_num=3, grace_period=GRACE, kill_after=KILL_AFTER)
        table = Wire(self.sim.table, lambda act, patience: self.sim.send(self, act, patience, self.weather))
        session = Session(table, budget=budget)
        locker, throttler = TableLocker(table, session, budget=budget), TableThrottler(table, session, budget=budget)
        resources = Resources(config, AsyncExitStack(), locker=locker, throttler=throttler, budget=budget)
        session._outage = resources.table_outage
        queue = resources.queue = self.queue = SimQueue(self, self.sim.sqs, budget=budget)
        for part in (queue, locker, throttler):
            await part.open()
        shared = mock.Mock(heartbeat=self.page.heartbeat, line=None, guard=0)
        log: Any = self  # of a log, the brake reads ``failure`` alone
        self.worker = build_worker(config, resources, Stats(slots=3), shared, log=log, budget=budget)
        await self.worker.run("a worker of the model")
        self.left = self.sim.time
        for part in (queue, throttler, locker):
            await part.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A job as it was sent."""

    message_id: str
    seconds: float
    lock_id: str = ""
    deaf: bool = False
    may_give_up: bool = False
    """It has ``abort_if_locked``, and other jobs ask for its lock."""


@dataclass
class Simulation(World):
    """Workers, the queue and the table, and the time that passes for all of them."""

    seed: int = 0
    sqs: SQS = field(init=False)
    jobs: dict[str, Job] = field(default_factory=dict)
    ran: list[Run] = field(default_factory=list)
    breaches: list[str] = field(default_factory=list)
    known: int = 0
    """Second runs that the promises except: see ``_is_excepted``."""
    holders: dict[str, Daemon] = field(default_factory=dict)
    """Who received each message last."""

    def __post_init__(self) -> None:
        self.draw = random.Random(f"{self.seed} world")
        self.sqs = SQS(lambda: EPOCH + self.time, old_handles_work=self.draw.random() < 0.5)
        self.table = self.table or MemoryTable()

    def daemon(self, name: str) -> Daemon:
        """Start one more."""
        rate, offset = self.draw.uniform(0.97, 1.03), self.draw.uniform(-600.0, 600.0)
        daemon = Daemon(self, name, rate=rate, offset=1_000.0 + offset)
        self.workers.append(daemon)  # type: ignore[arg-type]
        return daemon

    def send_job(self, *, seconds: float, **fields: Any) -> Job:
        """Put a job on the queue."""
        deaf, may_give_up = fields.pop("deaf", False), fields.pop("may_give_up", False)
        message_id = f"m{len(self.jobs)}"
        body = json.dumps({"command": message_id, "event_id": message_id} | fields)
        self.sqs.send(body, message_id=message_id)
        job = Job(
            message_id=message_id,
            seconds=seconds,
            lock_id=fields.get("lock_id", ""),
            deaf=deaf,
            may_give_up=may_give_up,
        )
        self.jobs[message_id] = job
        return job

    def starts(self, run: Run) -> None:
        """A command starts: the one moment at which "never two at once" and "never twice" can be broken."""
        self.running = [other for other in self.running if other.alive]
        for other in self.running:
            if other.worker.suspended:
                continue
            if run.lock_id and other.lock_id == run.lock_id:
                self.breach(f"two at once under {run.lock_id}", run, other)
            if other.message_id == run.message_id and not self._is_excepted(other):
                self.breach("twice at once", run, other)
        for other in self.ran:
            if other.message_id == run.message_id and other.by_itself and not self._is_excused(other):
                self.breach("run again although it had ended", run, other)
        if run.lock_id:
            if run.fence <= self.fences.get(run.lock_id, 0):
                self.breach("the fencing token did not grow", run)
            self.fences[run.lock_id] = run.fence
        run.worker.jobs = [*(other for other in run.worker.jobs if other.alive), run]
        self.running.append(run)  # type: ignore[arg-type]
        self.ran.append(run)

    def _is_excused(self, run: Run) -> bool:
        """Whether a job that came to its own end may run again.

        Its worker died with the news, left in an outage, or was cut off from both for as long as its session is
        trusted. Or it could neither tell the table nor delete the message, which was delivered a second time: "Not
        promised" in docs/explanation/promises.md.
        """
        daemon, last_proof = run.worker, self.budget.trusted - self.budget.heartbeat_every
        if daemon.dead or max(daemon.longest_cut, daemon.cut_off()) > last_proof:
            return True
        if daemon.was_without("table", within=60.0) and not self.sqs.old_handles_work:
            self.known += 1
            return True
        gave_up = daemon.left is not None and daemon.asked is not None and daemon.left - daemon.asked > GRACE
        return gave_up and all(daemon.was_without(service, within=60.0) for service in ("table", "queue"))

    async def send(self, worker: Any, act: Verb, patience: float, weather: Weather | None = None) -> Any:
        """As in any world; in flaky weather each request has a fate of its own."""
        if weather is Weather.FLAKY:
            weather = self.draw.choice(FATES)
        return await super().send(worker, act, patience, weather)

    def watch_hostages(self) -> None:
        """Note if a worker that can't run a job keeps its message from the others."""
        alive = {run.message_id for run in self.running if run.alive}
        for message in self.sqs.messages.values():
            holder = self.holders.get(message.id)
            if holder is None or message.id in alive or not holder.keeps(message.id):
                continue
            held = min(holder.fails_for("table", "disk"), self.sqs.now() - message.received)
            if held > LONGEST_HOLD and not (holder.frozen or holder.fails_for("queue")):
                self.breaches.append(f"seed {self.seed}, at {self.time:.1f}: {holder.name} keeps {message.id} hostage")

    def _is_excepted(self, run: Run) -> bool:
        """Whether a job without a lock may run twice at once: "Not promised" in docs/explanation/promises.md."""
        daemon = run.worker
        excepted = not run.lock_id and daemon.was_without("table", within=60.0)
        self.known += excepted
        return excepted

    def breach(self, what: str, *runs: Run) -> None:
        """Note what happened. It is raised by ``judge``: the product would take it for a bug of its own, and go on."""
        where = ", ".join(
            f"{run.message_id} of {run.worker.name} ({run.begun:.1f} to {run.over:.1f}"
            f"{', by itself' if run.by_itself else ''})"
            for run in runs
        )
        self.breaches.append(f"seed {self.seed}, at {self.time:.1f}: {what}: {where}")

    def judge(self) -> None:
        """Raise ``Breach`` if a promise was broken."""
        self.watch_hostages()
        if self.breaches:
            raise Breach(self.breaches[0])

    def quiet(self) -> str:
        """What is left to be done; "" if nothing is."""
        ended = {run.message_id for run in self.ran if run.by_itself}
        missing = [job for job in self.jobs.values() if not job.may_give_up and job.message_id not in ended]
        if missing:
            return f"{missing[0]} has not ended"
        if self.sqs.messages:
            return f"{list(self.sqs.messages)} are on the queue"
        return self._left_behind()

    def _left_behind(self) -> str:
        """A lock or claim that a living worker's ended attempt still has; "" if there is none."""
        over = {run.owner for run in self.ran if not run.alive and run.worker.is_running}
        assert isinstance(self.table, MemoryTable)
        rows = self.table.rows
        owners = {f"lock {name}": lock.owner for name, lock in rows.locks.items()}
        owners |= {f"claim {name}": row.owner for name, row in rows.claims.items() if not row.done}
        held = [name for name, owner in owners.items() if owner and owner.split("/")[1] in over]
        return f"{held} are left" if held else ""


def _now() -> float:
    """Stands for ``clock.now``: on a host of the model, its own time."""
    loop = asyncio._get_running_loop()
    assert isinstance(loop, Host), "the model's time passes on its hosts only"
    return loop.time()


@contextmanager
def _models_time() -> Iterator[None]:
    """Have the product ask the model for the time, also where ``clock.now`` is what an argument defaults to."""
    with ExitStack() as stack:
        for place in (Gate, History, Outage, Session, WaitingRoom):
            defaults = place.__init__.__kwdefaults__  # type: ignore[misc]
            stack.enter_context(mock.patch.dict(defaults, now=_now))
        stack.enter_context(mock.patch.object(clock, "now", _now))
        yield


@contextmanager
def simulated(seed: int, *, budget: LeaseBudget = STANDARD, log: bool = False) -> Iterator[Simulation]:
    """A simulation in which time, commands and randomness are the model's."""
    level = LOGGER.level
    LOGGER.setLevel("DEBUG" if log else "CRITICAL")
    state = random.getstate()
    random.seed(f"{seed} jitter")
    sim = Simulation(seed=seed, budget=budget)
    try:
        with _models_time(), mock.patch.object(runner, "Command", Command):
            try:
                yield sim
            finally:
                sim.close()
    finally:
        random.setstate(state)
        LOGGER.setLevel(level)
