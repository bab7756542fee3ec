"""Jobs die with their worker. A small parent that adopts orphans, forwards signals, and cleans up if the worker dies.

Linux: the guard is a child subreaper (prctl(2), PR_SET_CHILD_SUBREAPER), so whatever loses its parent stays below it.
The worker hears of the guard's death by a signal (PR_SET_PDEATHSIG) and then ends its jobs itself. Elsewhere the guard
ends process groups only (docs/explanation/platforms.md).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable

from sqsjkr import clock
from sqsjkr.supervision import process_tree
from sqsjkr.supervision.backstop import stand_by
from sqsjkr.supervision.emergency_log import write
from sqsjkr.supervision.shared_state import SharedState

SILENCE = 15.0
"""Seconds without a pulse after which the worker counts as hung: half a lease, so its jobs end before a takeover."""
LOOK_EVERY = 0.5
GUARD_IS_DEAD = signal.SIGUSR2
"""What the worker receives when its guard dies."""
EXIT_WORKER_DIED = 3
"""The guard's exit code when the worker died or hung and its jobs had to be ended."""
_SET_PDEATHSIG, _SET_CHILD_SUBREAPER = 1, 36
_STOPS = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT}
_FORWARDED = {*_STOPS, signal.SIGUSR1}
_WATCHED = {*_FORWARDED, signal.SIGCHLD}
_PATIENCE = 5.0


def guarded(work: Callable[[SharedState], int]) -> int:
    """Run ``work`` in a child, watched over by this process. The exit code: the child's, or ``EXIT_WORKER_DIED``.

    Call it early: what is imported here is memory that the guard keeps. Must be called in the main thread.
    """
    _open_standard_streams()
    page = SharedState()
    if signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN:  # inherited from our parent: then nobody could be waited for
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    backstop = stand_by(page)
    _prctl(_SET_CHILD_SUBREAPER, 1)
    before = set(process_tree.descendants(os.getpid(), process_tree.living())) if process_tree.HAS_PROC else set()
    old_mask = signal.pthread_sigmask(signal.SIG_BLOCK, _WATCHED)
    guard = os.getpid()
    worker = os.fork()
    if worker == 0:
        _be_the_worker(guard, old_mask, page, work)
    try:
        return _Watch(worker, page, before).until_it_ends()
    finally:
        if backstop is not None:
            backstop.dismiss()
        while signal.sigtimedwait(_WATCHED, 0) is not None:  # it came too late: there is nothing left to stop
            pass
        signal.pthread_sigmask(signal.SIG_SETMASK, old_mask)


def _be_the_worker(
    guard: int, mask: set[int | signal.Signals], page: SharedState, work: Callable[[SharedState], int]
) -> None:
    """In the child: work, and leave by the exit code alone."""
    code = 1
    try:
        os.setpgid(0, 0)  # a KILL to the guard's group must not take both: one of the two has to clean up
        signal.signal(GUARD_IS_DEAD, lambda *_: os._exit(EXIT_WORKER_DIED))
        _prctl(_SET_PDEATHSIG, GUARD_IS_DEAD)
        if os.getppid() != guard:  # it died before we asked to be told
            os._exit(EXIT_WORKER_DIED)
        for number in _STOPS:  # until the worker has handlers of its own it has nothing to end
            signal.signal(number, lambda *_: os._exit(0))
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        page.set_worker(os.getpid())
        code = work(page)
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
    except BaseException:  # noqa: BLE001 - the last place that can tell
        sys.excepthook(*sys.exc_info())
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


class _Watch:
    """The guard's whole life: wait for a signal, the worker's end, or its silence."""

    def __init__(self, worker: int, page: SharedState, before: set[int]) -> None:
        self._worker = worker
        self._page = page
        self._before = before
        self._status: int | None = None
        self._killed: set[int] = set()
        self._born = clock.now()

    def until_it_ends(self) -> int:
        while self._status is None:
            received = signal.sigtimedwait(_WATCHED, LOOK_EVERY)
            if received is not None and received.si_signo in _FORWARDED:
                process_tree.send([self._worker], signal.Signals(received.si_signo))
            self._reap()
            if self._status is None and (why := self._hung()):
                process_tree.send([self._worker], signal.SIGKILL)
                self._end_jobs()
                write(self._page, f"the worker {why}: it was killed, and its jobs with it")
        code = os.waitstatus_to_exitcode(self._status)
        self._end_jobs()
        if code >= 0 and not self._killed:
            return code
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"left with exit code {code}"
        write(
            self._page,
            f"the worker {how}; {len(self._killed)} processes of its jobs were killed, their messages come back",
        )
        return EXIT_WORKER_DIED

    def _hung(self) -> str:
        """Why the worker is to be taken for dead, "" if it is well."""
        now = clock.now()
        pulse, fence = self._page.pulse()
        if now > fence > 0:
            return "has not ended jobs whose lease it cannot prove"
        if now - (pulse or self._born) > SILENCE:
            return f"has been silent for {SILENCE:g}s"
        return ""

    def _end_jobs(self) -> None:
        """KILL what the worker's running jobs consist of, until nothing is left."""
        running = self._page.running()
        if not running:
            return
        until = clock.now() + _PATIENCE
        while clock.now() < until:
            if process_tree.HAS_PROC:
                doomed = process_tree.doomed(os.getpid(), running, {*self._before, self._worker})
            else:
                doomed = set()
                for leader in filter(None, running.values()):
                    process_tree.send_to_group(leader, signal.SIGKILL)
            self._reap()
            if not doomed:
                break
            self._killed |= doomed
            process_tree.send(doomed, signal.SIGKILL)
            time.sleep(0.01)

    def _reap(self) -> None:
        """Collect every child that has ended: the worker, and orphans that were given to us."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self._worker:
                self._status = status


def _open_standard_streams() -> None:
    """A closed descriptor 0, 1 or 2 would be given to a socket next, and what is meant for people would land there."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)
