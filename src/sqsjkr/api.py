"""``sqsjkr.run``: the worker for Python programs, in a process of its own with a launcher, or in this one."""

from __future__ import annotations

import asyncio
import logging
import pickle
import tempfile
import threading
from collections.abc import Callable

from sqsjkr import app, event_loop
from sqsjkr.config import Config
from sqsjkr.config import load as load_config
from sqsjkr.errors import SqsjkrError
from sqsjkr.locker import Locker
from sqsjkr.supervision.guard import guarded
from sqsjkr.supervision.shared_state import SharedState
from sqsjkr.telemetry import logs
from sqsjkr.telemetry.events import LOGGER
from sqsjkr.throttler import Throttler

__all__ = ["load_config", "run", "run_async"]


def run(config: Config, *, locker: Locker | None = None, throttler: Throttler | None = None, guard: bool = True) -> int:
    """Run a worker until TERM, INT, HUP or QUIT stops it. Returns the exit code, as of ``sqsjkr run``.

    ``locker`` and ``throttler`` replace the configured ones. With ``guard`` the worker is a forked child,
    and this process ends its jobs if it dies; without, the jobs outlive a worker that is killed. Unless the program
    has set up logging itself (a handler on the root logger or on "sqsjkr"), the log goes to stderr as ``config`` says.

    Call it in the main thread, outside of an event loop.

    Raises:
        ConfigError: a configured locker or throttler class cannot be made.
        BackendRefused: the queue or the table does not exist, or may not be used.
        BindError: the stats cannot listen on their address.
    """
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("sqsjkr.run waits for signals, so it must be called in the main thread")
    if _inside_a_loop():
        raise RuntimeError("sqsjkr.run has an event loop of its own: inside one, await sqsjkr.run_async")

    def work(shared: SharedState | None = None) -> int:
        return event_loop.run(_run(config, locker, throttler, shared))

    return _guarded(work) if guard else work()


async def run_async(config: Config, *, locker: Locker | None = None, throttler: Throttler | None = None) -> int:
    """Run a worker in this event loop, in the main thread, as ``run`` does without a launcher.

    It handles the stop signals while it runs. Raises the errors of ``run``.
    """
    return await _run(config, locker, throttler, None)


async def _run(config: Config, locker: Locker | None, throttler: Throttler | None, shared: SharedState | None) -> int:
    log = None
    if not logging.getLogger().handlers and not LOGGER.handlers:
        log = logs.set_up(config.log_level, config.log_format)
    try:
        return await app.run(config, locker=locker, throttler=throttler, shared=shared, logs=log)
    finally:
        if log is not None:
            log.close()


def _guarded(work: Callable[[SharedState], int]) -> int:
    """Run ``work`` under a launcher. An error that the worker raises on purpose is raised again in this process."""
    with tempfile.TemporaryFile() as note:

        def work_and_report(shared: SharedState) -> int:
            try:
                return work(shared)
            except SqsjkrError as why:
                note.write(pickle.dumps(why))
                note.flush()
                return 1

        code = guarded(work_and_report)
        note.seek(0)
        error = note.read()
    if error:
        raise pickle.loads(error)  # noqa: S301 - written by our own child
    return code


def _inside_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
