"""The last resort: ends the jobs when launcher and worker die, or freeze, at the same moment.

It sleeps in a session of its own and is not a child of the daemon, so a kill of the daemon with all its children misses
it. Launcher and worker hold the writing end of a pipe, which the kernel closes however they end. Linux only: it finds
jobs in ``/proc`` (docs/explanation/platforms.md).
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
from sqsjkr.supervision.process_title import set_title
from sqsjkr.supervision.shared_state import NO_LEADER, SharedState

_ENDING = 5.0
_SWEEP_EVERY = 0.05
_EMPTY_LOOKS_BY_MARK = 20
"""In a row, if a job was just being started: its process shows no mark for a moment while it calls exec."""
_IGNORED = (
    *(
        signal.SIGTERM,
        signal.SIGINT,
        signal.SIGHUP,
        signal.SIGQUIT,
    ),  # it ends when launcher and worker have, not before
    *(signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM, signal.SIGPIPE, signal.SIGVTALRM, signal.SIGPROF, signal.SIGIO),
)


class Backstop:
    """The launcher's handle on the process."""

    def __init__(self, alive: int, gone: int) -> None:
        self._alive = alive
        self._gone = gone

    def dismiss(self) -> None:
        """End it, as the worker has ended, and wait until it has."""
        os.close(self._alive)
        select.select([self._gone], [], [], _ENDING)  # readable: its end of the pipe is closed
        os.close(self._gone)


def stand_by(shared: SharedState, *, silence: float, glance_every: float, title: str = "") -> Backstop | None:
    """Start it. To be called before the worker is forked and before this process adopts orphans.

    After ``silence`` seconds without a heartbeat it takes launcher and worker for frozen and kills both; it looks every
    ``glance_every`` seconds.
    """
    if not process_tree.HAS_PROC:
        return None
    alive, gone = os.pipe(), os.pipe()
    launcher = os.getpid()
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            os.close(alive[1])
            os.close(gone[0])
            for number in _IGNORED:
                signal.signal(number, signal.SIG_IGN)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _IGNORED)  # blocked by the guard: they would pile up
            os.setsid()
            if os.fork() == 0:  # its parent ends at once, so it becomes a child of the launcher's own reaper
                if title:
                    set_title(title, "backstop")
                _wait(shared, alive[0], launcher, silence, glance_every)
        os._exit(0)
    os.waitpid(child, 0)
    os.close(alive[0])
    os.close(gone[1])
    return Backstop(alive[1], gone[0])


def _wait(shared: SharedState, alive: int, launcher: int, silence: float, glance_every: float) -> NoReturn:
    born = clock.now()
    while not select.select([alive], [], [], glance_every)[0]:
        last, _ = shared.last_heartbeat()
        if clock.now() - (last or born) > silence:
            process_tree.send(filter(None, [shared.worker(), launcher]), signal.SIGKILL)  # 0: not there yet
    killed = _end_jobs(shared)
    if killed:
        what = f"{killed} processes of their jobs were killed, their messages come back"
        write(shared, f"launcher and worker died together; {what}")
    os._exit(0)


def _end_jobs(shared: SharedState) -> int:
    """KILL the processes of the running jobs, until two looks find none. The number of processes killed."""
    running = shared.attempts.running()  # both are dead: nothing is added any more
    enough = _EMPTY_LOOKS_BY_MARK if NO_LEADER in running.values() else process_tree.EMPTY_LOOKS
    census = process_tree.Census()
    killed: set[int] = set()
    until, empty_looks = clock.now() + _ENDING, 0
    while running and empty_looks < enough and clock.now() < until:
        census.take(0)  # the launcher is dead, so orphans are no longer below it
        found: dict[int, process_tree.Process] = {}
        for mark, leader in running.items():
            found |= census.family(mark, leader)
        empty_looks = 0 if found else empty_looks + 1
        killed.update(found)
        for process in found.values():
            process.send(signal.SIGKILL)
        time.sleep(_SWEEP_EVERY)
    return len(killed)
