"""The last resort: ends the jobs when guard and worker die, or hang, in one and the same moment.

It sleeps in a session of its own and is nobody's child here, so that whoever kills the daemon with all its children
misses it. A pipe tells it that both are dead: only they have its writing end, and the kernel closes that however they
end. Linux only, like the guard's better half (docs/explanation/platforms.md).
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from typing import NoReturn

from sqsjkr import clock
from sqsjkr.supervision import process_tree
from sqsjkr.supervision.emergency_log import write
from sqsjkr.supervision.shared_state import SharedState

PATIENCE = 20.0
"""Seconds without a pulse after which guard and worker both count as hung; the guard itself acts well before."""
GLANCE_EVERY = 1.0
"""Seconds between two looks at the pulse."""
_ENDING = 5.0
_SWEEP_EVERY = 0.05


class Backstop:
    """The guard's hold on it."""

    def __init__(self, alive: int, gone: int) -> None:
        self._alive = alive
        self._gone = gone

    def dismiss(self) -> None:
        """The worker has ended: let it go, and wait until it has."""
        os.close(self._alive)
        select.select([self._gone], [], [], _ENDING)  # readable: its end of the pipe is closed
        os.close(self._gone)


def stand_by(page: SharedState) -> Backstop | None:
    """Start it. To be called before the worker is forked and before this process adopts orphans."""
    if not process_tree.HAS_PROC:
        return None
    alive, gone = os.pipe(), os.pipe()
    guard = os.getpid()
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            os.close(alive[1])
            os.close(gone[0])
            os.setsid()
            if os.fork() == 0:  # its parent ends at once, so nobody's child is left
                _wait(page, alive[0], guard)
        os._exit(0)
    os.waitpid(child, 0)
    os.close(alive[0])
    os.close(gone[1])
    return Backstop(alive[1], gone[0])


def _wait(page: SharedState, alive: int, guard: int) -> NoReturn:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)  # it ends when they have, not before
    born = clock.now()
    while not select.select([alive], [], [], GLANCE_EVERY)[0]:
        if clock.now() - (page.pulse()[0] or born) > PATIENCE:
            process_tree.send(filter(None, [page.worker(), guard]), signal.SIGKILL)  # 0: not there yet
    killed = _end_jobs(page)
    if killed:
        what = f"{killed} processes of their jobs were killed, their messages come back"
        write(page, f"guard and worker died together; {what}")
    os._exit(0)


def _end_jobs(page: SharedState) -> int:
    """KILL what the running jobs consist of, until two looks find nothing. How many processes that were."""
    killed: set[int] = set()
    until, empty_looks = clock.now() + _ENDING, 0
    while page.running() and empty_looks < 2 and clock.now() < until:  # noqa: PLR2004 - as process.py does
        found = {pid for mark, leader in page.running().items() for pid in process_tree.family(mark, leader)}
        empty_looks = 0 if found else empty_looks + 1
        killed |= found
        process_tree.send(found, signal.SIGKILL)
        time.sleep(_SWEEP_EVERY)
    return len(killed)
