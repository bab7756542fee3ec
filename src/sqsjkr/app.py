"""The wiring: the only module that knows which classes are used. Configuration stops here."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from sqsjkr import clock
from sqsjkr.config import Config
from sqsjkr.errors import BackendRefused, BackendUnavailable
from sqsjkr.gate import Gate
from sqsjkr.intake.waiting_room import WaitingRoom
from sqsjkr.kicker import Kicker, Rules
from sqsjkr.locker import Locker
from sqsjkr.message import Message
from sqsjkr.resources import Resources
from sqsjkr.supervision.guard import EXIT_WORKER_DIED, GUARD_IS_DEAD
from sqsjkr.supervision.shared_state import SharedState
from sqsjkr.telemetry.events import Event, emit
from sqsjkr.telemetry.logs import Logs
from sqsjkr.telemetry.outage import Outage
from sqsjkr.telemetry.stats import Stats
from sqsjkr.throttler import Throttler
from sqsjkr.worker import Worker

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
PARKED_PER_SLOT = 10
EXIT_LEFT_UNDONE = 1
"""With ``until_empty``: jobs went back to the queue instead of running."""


async def run(
    config: Config,
    *,
    locker: Locker | None = None,
    throttler: Throttler | None = None,
    page: SharedState | None = None,
    logs: Logs | None = None,
    until_empty: bool = False,
) -> int:
    """Run a worker in this event loop until a signal tells it to stop. The exit code.

    ``locker`` and ``throttler`` take the place of the configured ones. If this process is killed, its jobs live on,
    unless it has a guard: ``sqsjkr.run`` and the command give it one. Raises ``ConfigError``, ``BackendRefused`` (no
    such queue or table, no right to use it) and ``BindError``; waits for what does not answer yet.
    """
    page = page or SharedState()
    signals = _Signals()
    pulse = asyncio.create_task(_pulse(page))  # the guard must not take a slow start for a hang
    try:
        async with AsyncExitStack() as stack:
            resources = Resources(config, stack, locker=locker, throttler=throttler)
            await _open(resources)
            pulse.cancel()
            worker = await _move_in(config, resources, stack, page, logs, until_empty=until_empty)
            signals.hand_over_to(worker)
            await worker.run()
    except asyncio.CancelledError:
        if signals.stopped_early:
            return 0
        raise
    else:
        if until_empty and (undone := worker.left_undone()):
            emit(
                Event.MESSAGE_RETURNED, f"{undone} deliveries went back to the queue: run again for them", level="error"
            )
            return EXIT_LEFT_UNDONE
        return EXIT_WORKER_DIED if worker.guard_lost else 0
    finally:
        pulse.cancel()
        signals.close()


async def _move_in(
    config: Config,
    resources: Resources,
    stack: AsyncExitStack,
    page: SharedState,
    logs: Logs | None,
    *,
    until_empty: bool,
) -> Worker:
    """Build what stands between queue and shell, from plain values."""
    stats = Stats(slots=config.max_concurrent_num)

    def unwell() -> str | None:
        return logs.failure if logs else None

    def wake(message: Message) -> None:
        worker.wake(message)

    room = WaitingRoom(wake, bound=max(100, PARKED_PER_SLOT * config.max_concurrent_num))
    rules = Rules(
        delete_first=config.ack == "start",
        trigger=config.life_time_trigger,
        kill_after=config.kill_after,
        output_tail=config.output_tail,
        output_rate=config.output_rate,
    )
    trouble = resources.trouble if resources.shares_trouble else None
    kicker = Kicker(resources.queue, Gate(resources.locker, resources.throttler, room), stats, page, rules, trouble)
    worker = Worker(
        resources.queue,
        kicker,
        room,
        stats,
        page,
        slots=config.max_concurrent_num,
        grace=config.grace_period,
        kill_after=config.kill_after,
        unwell=unwell,
        until_empty=until_empty,
    )
    if logs:
        await stack.enter_async_context(_flushing(logs))
    if config.stats_socket or config.stats_port:
        # Imported where needed: a worker without stats needs no HTTP server in its memory.
        from sqsjkr.web.server import StatsServer  # noqa: PLC0415

        server = StatsServer(
            stats,
            worker.unwell,
            host=config.stats_host,
            port=config.stats_port,
            socket_path=config.stats_socket or None,
        )
        await server.open()
        stack.push_async_callback(server.close)
    return worker


class _Signals:
    """Stop signals end the start at once; later they are the worker's."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._starting = asyncio.current_task()
        self.stopped_early = False
        self._before = {number: signal.getsignal(number) for number in (*STOP_SIGNALS, GUARD_IS_DEAD)}
        for number in self._before:
            self._loop.add_signal_handler(number, self._stop_early, number)

    def hand_over_to(self, worker: Worker) -> None:
        """From now on a signal means an orderly stop."""
        for number in STOP_SIGNALS:
            self._loop.add_signal_handler(number, worker.stop, f"{number.name} received")
        self._loop.add_signal_handler(GUARD_IS_DEAD, worker.guard_is_lost)

    def close(self) -> None:
        """Signals do what they did before."""
        for number, handler in self._before.items():
            self._loop.remove_signal_handler(number)
            if handler is not None:  # None: it was not Python's
                signal.signal(number, handler)

    def _stop_early(self, number: signal.Signals) -> None:
        emit(Event.WORKER_STOPPING, f"{number.name} received before the first job")
        emit(Event.WORKER_STOPPED, "stopped")
        self.stopped_early = True
        if self._starting is not None:
            self._starting.cancel()


async def _open(resources: Resources) -> None:
    """Ask until there is an answer: a daemon that starts before its network does must not stay dead.

    Raises ``BackendRefused`` at once: asking again would not help.
    """
    queue = Outage("what the worker needs", Event.QUEUE_UNREACHABLE, Event.QUEUE_RECOVERED)
    while True:
        try:
            await resources.open()
        except BackendRefused:
            raise
        except BackendUnavailable as why:
            trouble = resources.trouble if resources.opening == "the lock table" else queue
            await asyncio.sleep(trouble.failed(why))
        else:
            queue.over()
            resources.trouble.over()
            return


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


async def _pulse(page: SharedState) -> None:
    with contextlib.suppress(asyncio.CancelledError):
        while True:
            page.beat(clock.now(), float("inf"))
            await asyncio.sleep(1.0)
