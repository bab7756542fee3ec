"""Processes that the worker starts itself, where it has no launcher: ``run_async``, and systems other than Linux."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import Mapping

from sqsjkr.execution.spawner import Child, End, Spawner, Start, Started, open_pipes
from sqsjkr.supervision.shared_state import REAPED, Attempts
from sqsjkr.supervision.spawning import spawn

_LOOK_EVERY = 0.02
_RSS_UNIT = 1 if sys.platform == "darwin" else 1_024  # getrusage(2): kilobytes; bytes on macOS


class OwnChildren(Spawner):
    """Starts processes in this event loop, which stands still for as long as that takes."""

    def start(self, start: Start) -> Child:
        """Start it; ``started`` is done when this returns."""
        child = _OwnChild(start.slot, self.shared.attempts)
        try:
            child.started.set_result(child.watch(_spawned(start, self.bases[start.base])))
        except (OSError, ValueError) as failure:
            child.started.set_exception(failure)
        return child


class _OwnChild(Child):
    """A child of this process, waited for when the system says that it has ended."""

    def __init__(self, slot: int, attempts: Attempts) -> None:
        super().__init__()
        self._slot = slot
        self._attempts = attempts
        self._pid = 0
        self._looking: asyncio.Task[None] | None = None

    def watch(self, started: Started) -> Started:
        """Learn of its end from now on."""
        self._pid = started.pid
        self._attempts.leads(self._slot, self._pid)
        loop = asyncio.get_running_loop()
        try:
            handle = os.pidfd_open(self._pid)
        except (AttributeError, OSError):  # no such thing on this system, or no descriptor left
            self._looking = loop.create_task(self._look_until_it_ends())
            return started

        def ended() -> None:
            loop.remove_reader(handle)
            os.close(handle)
            self._reap()

        loop.add_reader(handle, ended)
        return started

    def has_ended(self) -> bool:
        """Ask the system, which keeps the end until it was waited for."""
        if not hasattr(os, "waitid"):
            return False
        with contextlib.suppress(ChildProcessError):
            return os.waitid(os.P_PID, self._pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None
        return True

    def revoke(self, *, within: float) -> None:
        """Do nothing: it has started."""

    def _reap(self) -> bool:
        ended, status, usage = os.wait4(self._pid, os.WNOHANG)
        if not ended:
            return False
        self._attempts.leads(self._slot, REAPED)
        if not self.ended.done():  # its runner was cancelled
            cpu, max_rss = usage.ru_utime + usage.ru_stime, usage.ru_maxrss * _RSS_UNIT
            self.ended.set_result(End(os.waitstatus_to_exitcode(status), cpu, max_rss))
        return True

    async def _look_until_it_ends(self) -> None:
        while not self._reap():  # noqa: ASYNC110 - the system has no event to wait for
            await asyncio.sleep(_LOOK_EVERY)


def _spawned(start: Start, base: Mapping[bytes, bytes]) -> Started:
    pipes = open_pipes(is_fed=start.is_fed)
    try:
        env = {**base, **start.variables}
        pid = spawn(start.program, start.argv, env, stdin=pipes.childs_stdin, stdout=pipes.childs_stdout)
    except BaseException:
        pipes.close_ours()
        raise
    finally:
        pipes.close_childs()
    return Started(pid, pipes.stdout, pipes.stdin)
