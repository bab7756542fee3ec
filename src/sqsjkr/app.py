"""The wiring: configuration becomes objects, signals become verbs of the worker. Configuration stops here."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import os
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any

from sqsjkr import clock
from sqsjkr.backends import fleet_of
from sqsjkr.config import Config
from sqsjkr.errors import BackendRefused, BackendUnavailable
from sqsjkr.execution.environment import inherited, of_daemon
from sqsjkr.execution.hook import Hook
from sqsjkr.execution.launched_children import LaunchedChildren
from sqsjkr.execution.masking import Mask
from sqsjkr.execution.output import OutputLimits
from sqsjkr.execution.own_children import OwnChildren
from sqsjkr.execution.registry import Registry
from sqsjkr.execution.runner import Runner
from sqsjkr.execution.spawner import Spawner
from sqsjkr.execution.trigger import Trigger
from sqsjkr.gate import Gate
from sqsjkr.intake.backlog import Backlog
from sqsjkr.intake.brake import Brake
from sqsjkr.intake.slots import Slots
from sqsjkr.intake.waiting_room import WaitingRoom
from sqsjkr.journal import Journal
from sqsjkr.kicker import Kicker
from sqsjkr.leases.budget import STANDARD, LeaseBudget
from sqsjkr.leases.live import Entry
from sqsjkr.leases.proof import Proof
from sqsjkr.locker import Locker
from sqsjkr.metrics.board import Board
from sqsjkr.metrics.parts import Parts
from sqsjkr.plan import Plan
from sqsjkr.policy import Limits, Policy
from sqsjkr.queue import QueueFacts
from sqsjkr.reader import Authority, Reader
from sqsjkr.resources import Resources
from sqsjkr.runs import HOST, SHORT, Place
from sqsjkr.settler import Settler
from sqsjkr.steering.presence import WorkerPresence
from sqsjkr.steering.steward import Steward
from sqsjkr.supervision.guard import EXIT_WORKER_DIED, LAUNCHER_IS_DEAD
from sqsjkr.supervision.shared_state import SharedState, launcher_is_dead
from sqsjkr.telemetry.events import Event, emit
from sqsjkr.telemetry.history import History
from sqsjkr.telemetry.job_log import JobLog
from sqsjkr.telemetry.logs import Logs
from sqsjkr.telemetry.outage import Outage
from sqsjkr.telemetry.stats import Stats
from sqsjkr.throttler import Throttler
from sqsjkr.web.front import Front
from sqsjkr.worker import Grace, Worker

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
FINISH = signal.SIGUSR1
PARKED_PER_SLOT = 10
EXIT_LEFT_UNDONE = 1
"""With ``until_empty``: jobs went back to the queue instead of running."""


async def run(
    config: Config,
    *,
    locker: Locker | None = None,
    throttler: Throttler | None = None,
    shared: SharedState | None = None,
    logs: Logs | None = None,
    until_empty: bool = False,
    budget: LeaseBudget = STANDARD,
) -> int:
    """Run a worker in this event loop until a signal asks it to stop; return the exit code.

    ``locker`` and ``throttler`` take the place of the configured ones. If this process is killed, its jobs live on,
    unless it has a launcher: ``sqsjkr.run`` and the command give it one. Raises ``ConfigError``, ``BackendRefused`` (no
    such queue or table, no right to use it) and ``BindError``; waits for what does not answer yet.
    """
    shared = shared or SharedState()
    stats = Stats(slots=config.max_concurrent_num, follow=until_empty)
    signals = _Signals(shared)
    pulse = asyncio.create_task(_pulse(shared))  # the launcher must not take a slow start for a hang
    try:
        async with AsyncExitStack() as stack:
            resources = Resources(config, stack, locker=locker, throttler=throttler, budget=budget)
            front = Front(resources)
            await _serve_stats(config, stats, front, stack)
            authority = await stack.enter_async_context(authority_of(config))
            await _open(resources)
            pulse.cancel()
            build = partial(build_worker, board=front.board, authority=authority, log=logs, budget=budget)
            worker = build(config, resources, stats, shared, until_empty=until_empty)
            await _show(worker, config, front, logs, stack)
            await stack.enter_async_context(_steered(config, resources, budget))
            signals.hand_over_to(worker)
            await worker.run(**_introduction(config, resources))
    except asyncio.CancelledError:
        if signals.stopped_early:
            return 0
        raise
    finally:
        pulse.cancel()
        signals.close()
    if stats.undone and not worker.stopping.requested:
        many = "a message" if stats.undone == 1 else f"{stats.undone} messages"
        emit(Event.MESSAGE_RETURNED, f"{many} went back to the queue for later: run again for it", level="error")
        return EXIT_LEFT_UNDONE
    return EXIT_WORKER_DIED if worker.stopping.launcher_lost else 0


def _introduction(config: Config, resources: Resources) -> dict[str, Any]:
    """Return what tells this worker from others, in the log and in the table."""
    slots, queue, session = config.max_concurrent_num, resources.queue.facts.name, resources.session
    text = f"{slots} slots, queue {queue}, pid {os.getpid()} on {HOST}"
    text += f", session {session[:SHORT]}" if session else ""
    facts = {"slots": slots, "queue": queue, "pid": os.getpid(), "host": HOST, "session": session or None}
    return {"description": text} | facts


def build_worker(
    config: Config,
    resources: Resources,
    stats: Stats,
    shared: SharedState,
    *,
    board: Board | None = None,
    authority: Authority | None = None,
    log: Logs | None = None,
    until_empty: bool = False,
    budget: LeaseBudget = STANDARD,
) -> Worker:
    """Build what stands between queue and shell, from plain values, and in the order of a message's way."""
    queue, locker, throttler = resources.queue, resources.locker, resources.throttler
    board, changed = board or Board(), asyncio.Event()
    slots = Slots(config.max_concurrent_num, stats, changed)
    room = WaitingRoom(bound=max(100, PARKED_PER_SLOT * config.max_concurrent_num), budget=budget)
    spawner = _spawner(config, shared)
    brake = _brake(resources, log, spawner, budget)
    journal = Journal(JobLog(), stats, board.measures, resources.tracer, History(resources.history))
    reader = _reader(config, authority)
    proof = Proof(locker, throttler, queue.visibility)
    policy = Policy(_limits(config, queue.facts, budget))
    gate = Gate(locker, throttler, room, brake, proof, policy, budget=budget)
    registry = Registry(proof, budget=budget, kill_after=config.kill_after)
    mask = Mask(os.environ)
    runner = Runner(registry, brake, journal, spawner, mask, resources.tracer, output=_output(config))
    trigger = Trigger(config.life_time_trigger, runner, budget=budget)
    settler = Settler(queue, gate, room, proof, journal, Hook(runner, mask), changed, budget=budget)
    place = Place(host=HOST, queue=queue.facts.name)
    kicker = Kicker(
        reader,
        gate,
        runner,
        trigger,
        policy,
        settler,
        registry,
        journal,
        budget=budget,
        place=place,
        delete_first=config.ack == "start",
    )
    backlog = Backlog(queue, room, brake, slots, changed, budget=budget, until_empty=until_empty)
    grace = Grace(period=config.grace_period, kill_after=config.kill_after)
    worker = Worker(backlog, kicker, slots, shared, changed, grace=grace, budget=budget)
    board.parts = Parts(stats, board.measures, resources, log, slots, backlog, room, brake, settler, worker.stopping)
    resources.present(WorkerPresence(worker, slots, backlog, room, brake, registry, stats, board.measures))
    return worker


def _reader(config: Config, authority: Authority | None) -> Reader:
    plan = Plan(wrapper=config.wrapper, hook=config.hook, hook_on=config.hook_on)
    retries = config.ack == "finish"
    return Reader(config.jobs, plan=plan, max_timeout=config.max_timeout, authority=authority, retries=retries)


def _output(config: Config) -> OutputLimits:
    all_tails = config.history_output == "all"
    return OutputLimits(tail=config.output_tail, rate=config.output_rate, tail_of_success=all_tails)


def _limits(config: Config, queue: QueueFacts, budget: LeaseBudget) -> Limits:
    return Limits(
        retention=queue.retention,
        can_bury=queue.dead_letters is not None,
        max_crashes=config.max_crashes,
        pause=budget.pause,
    )


def _spawner(config: Config, shared: SharedState) -> Spawner:
    """Return what starts the commands: those of jobs in the first environment, the operator's own in the second."""
    of_jobs = inherited(os.environb, config.job_env, aws=config.job_aws == "inherit")
    return (LaunchedChildren if shared.line else OwnChildren)(shared, of_jobs, of_daemon(os.environb))


def _brake(resources: Resources, log: Logs | None, spawner: Spawner, budget: LeaseBudget) -> Brake:
    longest = budget.longest_outage_pause
    host = Outage(
        "starting jobs", Event.HOST_EXHAUSTED, Event.HOST_RECOVERED, over="works again", longest_pause=longest
    )
    if resources.shares_outage:
        return Brake(resources.table_outage, host, log=log, spawner=spawner, table_is_probed=True)
    own = Outage("locker or throttler", Event.TABLE_UNREACHABLE, Event.TABLE_RECOVERED, longest_pause=longest)
    return Brake(own, host, log=log, spawner=spawner, table_is_probed=False)


async def _serve_stats(config: Config, stats: Stats, front: Front, stack: AsyncExitStack) -> None:
    """Listen before anything is opened: a probe must not take a worker that waits for AWS for a dead one."""
    if not (config.stats_socket or config.stats_port):
        return
    # Imported where needed: a worker without stats needs no HTTP server in its memory.
    from sqsjkr.web.server import StatsServer  # noqa: PLC0415

    server = StatsServer(
        stats,
        front,
        host=config.stats_host,
        port=config.stats_port,
        socket_path=config.stats_socket or None,
    )
    await server.open()
    stack.push_async_callback(server.close)


async def _show(worker: Worker, config: Config, front: Front, logs: Logs | None, stack: AsyncExitStack) -> None:
    """Let others watch the worker from now on, over HTTP and in the log."""
    front.worker = worker
    if logs:
        await stack.enter_async_context(_flushing(logs))
    if config.metrics_log == "emf":
        await stack.enter_async_context(front.board.logging())


class _Signals:
    """Stop signals end the start at once; later they are the worker's."""

    def __init__(self, shared: SharedState) -> None:
        self._shared = shared
        self._loop = asyncio.get_running_loop()
        self._starting = asyncio.current_task()
        self.stopped_early = False
        self._before = {number: signal.getsignal(number) for number in (*STOP_SIGNALS, FINISH, LAUNCHER_IS_DEAD)}
        for number in self._before:
            self._loop.add_signal_handler(number, self._stop_early, number)

    def hand_over_to(self, worker: Worker) -> None:
        """Make signals mean an orderly stop from now on."""
        for number in STOP_SIGNALS:
            self._loop.add_signal_handler(number, worker.stop, f"{number.name} received")
        self._loop.add_signal_handler(FINISH, worker.finish, f"{FINISH.name} received")
        self._loop.add_signal_handler(LAUNCHER_IS_DEAD, self._launcher_may_be_dead, worker)

    def close(self) -> None:
        """Make signals do what they did before.

        Below a launcher this process is about to end, and a signal must not change its exit code any more.
        """
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, self._before)  # in between they would end this process
        for number, handler in self._before.items():
            self._loop.remove_signal_handler(number)
            if self._shared.launcher:
                signal.signal(number, signal.SIG_IGN)
            elif handler is not None:  # None: it was not Python's
                signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    def _launcher_may_be_dead(self, worker: Worker) -> None:
        if launcher_is_dead(self._shared):  # else the signal is a stray one
            worker.launcher_is_lost()

    def _stop_early(self, number: signal.Signals) -> None:
        if number == LAUNCHER_IS_DEAD and not launcher_is_dead(self._shared):  # a stray one
            return
        emit(Event.WORKER_STOPPING, f"{number.name} received before the first job")
        emit(Event.WORKER_STOPPED, "stopped")
        self.stopped_early = True
        if self._starting is not None:
            self._starting.cancel()


async def _open(resources: Resources) -> None:
    """Retry until everything answers: a daemon that starts before its network does must not stay dead.

    Raises ``BackendRefused`` at once: a retry would not help.
    """
    while True:
        try:
            await resources.open()
        except BackendRefused:
            raise
        except BackendUnavailable as why:
            await asyncio.sleep(resources.outage_of_opening().failed(why))
        else:
            return


@asynccontextmanager
async def authority_of(config: Config) -> AsyncIterator[Authority | None]:
    """The trust file in force, kept up to date; None without one. Raises ``ConfigError`` if it is not a good one."""
    if not config.trust:
        yield None
        return
    # Imported where needed: a worker without a trust file keeps nothing of it in memory.
    from sqsjkr.trust.authority import Judge, TrustFile  # noqa: PLC0415
    from sqsjkr.trust.vault import Vault, shelves  # noqa: PLC0415

    trust = TrustFile(config.trust, audience=config.audience, claims=config.throttler != "none")
    vault = Vault(shelves(profile=config.profile, region=config.region))
    watching = asyncio.create_task(trust.watch())
    try:
        yield Judge(trust, vault)
    finally:
        watching.cancel()
        await vault.close()


@asynccontextmanager
async def _flushing(logs: Logs) -> AsyncIterator[None]:
    async def flush() -> None:
        while True:
            await asyncio.sleep(1.0)
            logs.flush()

    task = asyncio.create_task(flush())
    try:
        yield
    finally:
        task.cancel()


@asynccontextmanager
async def _steered(config: Config, resources: Resources, budget: LeaseBudget) -> AsyncIterator[None]:
    if resources.steering is None:  # no table of ours: nobody looks there
        yield
        return
    roster, presence = resources.steering
    entry = Entry(
        worker=presence.name,
        host=HOST,
        pid=os.getpid(),
        version=importlib.metadata.version("sqsjkr"),
        slots=config.max_concurrent_num,
    )
    steward = Steward(roster, fleet_of(config), entry, presence, budget=budget)
    await steward.open()
    task = asyncio.create_task(steward.keep())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})
        await steward.close()


async def _pulse(shared: SharedState) -> None:
    with contextlib.suppress(asyncio.CancelledError):
        while True:
            shared.heartbeat(clock.now(), float("inf"))
            await asyncio.sleep(1.0)
