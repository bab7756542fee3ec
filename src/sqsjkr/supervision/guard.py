"""Guard the worker's jobs: the launcher's loop, which adopts orphans, forwards signals, and cleans up after the worker.

What it starts on the worker's behalf is in ``launcher.py``. Linux: the launcher is a child subreaper (prctl(2),
PR_SET_CHILD_SUBREAPER), so a process that loses its parent stays below it. The kernel signals the launcher's death to
the worker (PR_SET_PDEATHSIG), which then ends its jobs itself. Elsewhere process groups must do
(docs/explanation/platforms.md).
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator

from sqsjkr import clock
from sqsjkr.supervision import process_tree, protocol
from sqsjkr.supervision.backstop import stand_by
from sqsjkr.supervision.emergency_log import write
from sqsjkr.supervision.launcher import Launcher
from sqsjkr.supervision.process_title import set_title
from sqsjkr.supervision.shared_state import SharedState, launcher_is_dead
from sqsjkr.supervision.signals import Signals

LAUNCHER_IS_DEAD = signal.SIGUSR2
"""The signal that the worker receives when its launcher dies; ``launcher_is_dead`` tells it from a stray one."""
EXIT_WORKER_DIED = 3
"""The launcher's exit code when the worker died or hung and its jobs had to be ended."""
_SET_PDEATHSIG, _GET_DUMPABLE, _SET_DUMPABLE, _SET_CHILD_SUBREAPER = 1, 3, 4, 36
_STOPS = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT}
_FORWARDED = {*_STOPS, signal.SIGUSR1}
_WATCHED = {*_FORWARDED, signal.SIGCHLD}
_STRAY = {signal.SIGUSR2, signal.SIGALRM, signal.SIGVTALRM, signal.SIGPROF, signal.SIGIO}
"""They mean nothing to launcher and worker, and must not end them. (Python ignores SIGPIPE by itself.)"""
_PATIENCE = 5.0
_SWEEP_EVERY = 0.01


@contextlib.contextmanager
def _closed_to_jobs() -> Iterator[None]:
    """Give environment and memory of this process, and of what it forks, to root alone (PR_SET_DUMPABLE, prctl(2)).

    Jobs run as the same user: they could read the daemon's credentials in /proc, or attach a debugger. The exec of a
    job's program opens its own again, and a program that has run a worker is open again afterwards.
    """
    closed = _prctl(_GET_DUMPABLE, 0, answer=1) and _prctl(_SET_DUMPABLE, 0)
    try:
        yield
    finally:
        if closed:
            _prctl(_SET_DUMPABLE, 1)


@_closed_to_jobs()
def guarded(
    work: Callable[[SharedState], int],
    *,
    silence: float = 15.0,
    look_every: float = 0.5,
    backstop_silence: float = 20.0,
    glance_every: float = 1.0,
    title: str = "",
    leaves: bool = False,
) -> int:
    """Run ``work`` in a child, watched over by this process. The exit code: the child's, or ``EXIT_WORKER_DIED``.

    Call it early: what is imported here is memory that the launcher keeps. Must be called in the main thread.

    Args:
        work: runs in the child; its result is the exit code.
        silence: seconds without a heartbeat after which the worker counts as hung. Half a lease, so that its jobs end
            before their locks are taken over.
        look_every: seconds between two looks at the heartbeat.
        backstop_silence: seconds without a heartbeat after which launcher and worker both count as frozen; more than
            ``silence``, so that the launcher acts first.
        glance_every: seconds between two looks of the backstop.
        title: the command line that `ps` shows, with the role behind it; "" leaves the command lines alone.
        leaves: this process ends with that exit code. A stop signal that comes meanwhile does not change it.
    """
    _open_standard_streams()
    gc.freeze()  # a collection would write to every page that the processes share, and so make each its own copy
    shared = SharedState()
    if signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN:  # inherited from our parent: no child could be waited for
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    watched = _WATCHED | {number for number in _STRAY if signal.getsignal(number) is signal.SIG_DFL}
    old_mask = signal.pthread_sigmask(signal.SIG_BLOCK, watched)  # until each process has handlers of its own
    backstop = stand_by(shared, silence=backstop_silence, glance_every=glance_every, title=title)
    shared.launcher = os.getpid()
    shared.adopts_orphans = _prctl(_SET_CHILD_SUBREAPER, 1)
    before = _descendants()
    worker, line = _fork(shared, work, old_mask, title)
    signals = Signals(watched)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, watched)
    try:
        watch = _Watch(worker, shared, before, signals, line, silence=silence, look_every=look_every)
        return watch.until_it_ends()
    finally:
        if backstop is not None:
            backstop.dismiss()
        signals.close(ignored=_FORWARDED if leaves else ())
        signal.pthread_sigmask(signal.SIG_SETMASK, old_mask)
        gc.unfreeze()


def _descendants() -> set[int]:
    """What this process has started before: it is not the worker's."""
    if not process_tree.HAS_PROC:
        return set()
    census = process_tree.Census()
    census.take(os.getpid())
    return census.below(os.getpid())


def _fork(
    shared: SharedState, work: Callable[[SharedState], int], mask: set[int | signal.Signals], title: str
) -> tuple[int, socket.socket | None]:
    """Start the worker: its pid, and this end of the line to it. None: it starts its commands itself.

    Nobody else holds either end, so each of the two learns of the other's death.
    """
    ours = theirs = None
    if shared.adopts_orphans and process_tree.HAS_PROC:  # else the worker could not see what becomes of its jobs
        ours, theirs = protocol.pair()
    worker = os.fork()
    if worker == 0:
        if ours is not None:
            ours.close()
        shared.line = theirs
        if title:
            set_title(title, "worker")
        _be_the_worker(mask, shared, work)
    if theirs is not None:
        theirs.close()
    if title:
        set_title(title, "launcher")
    return worker, ours


def _be_the_worker(mask: set[int | signal.Signals], shared: SharedState, work: Callable[[SharedState], int]) -> None:
    """In the child: work, and leave by the exit code alone."""
    code = 1
    try:
        os.setpgid(0, 0)  # a KILL to the launcher's group must not take both: one of the two has to clean up
        for number in _STRAY:
            if signal.getsignal(number) is signal.SIG_DFL:  # a handler, as jobs would inherit that a signal is ignored
                signal.signal(number, lambda *_: None)
        signal.signal(LAUNCHER_IS_DEAD, lambda *_: os._exit(EXIT_WORKER_DIED) if launcher_is_dead(shared) else None)
        _prctl(_SET_PDEATHSIG, LAUNCHER_IS_DEAD)
        if launcher_is_dead(shared):  # it died before the kernel was asked to signal that
            os._exit(EXIT_WORKER_DIED)
        for number in _FORWARDED:  # until the worker has handlers of its own it has nothing to end
            signal.signal(number, lambda *_: os._exit(0))
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        shared.set_worker(os.getpid())
        code = work(shared)
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
    """The launcher's whole life: wait for a signal, a request, the worker's end, or its silence."""

    def __init__(
        self,
        worker: int,
        shared: SharedState,
        before: set[int],
        signals: Signals,
        line: socket.socket | None,
        *,
        silence: float,
        look_every: float,
    ) -> None:
        self._worker = worker
        self._shared = shared
        self._before = before
        self._signals = signals
        self._poll = select.poll()
        self._poll.register(signals.wakeup, select.POLLIN)
        self._launcher = Launcher(line, shared, self._poll)
        self._silence = silence
        self._look_every = look_every
        self._status: int | None = None
        self._killed: set[int] = set()
        self._born = self._looked = clock.now()
        self._patient_until = float("-inf")

    def until_it_ends(self) -> int:
        try:
            while self._status is None:
                self._turn()
        except BaseException:  # without this process nothing would end the jobs but the worker: it fails closed
            if self._status is None:
                process_tree.send([self._worker], signal.SIGKILL)
            self._end_jobs()
            raise
        code = os.waitstatus_to_exitcode(self._status)
        self._end_jobs()
        if code >= 0 and not self._killed:
            return code
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"left with exit code {code}"
        write(
            self._shared,
            f"the worker {how}; {len(self._killed)} processes of its jobs were killed, their messages come back",
        )
        return EXIT_WORKER_DIED

    def _turn(self) -> None:
        """Wait, then do what is due. Nothing is started once the worker is dead, or given up as hung."""
        events = dict(self._poll.poll(1000 * self._launcher.next_report_in(self._look_every)))
        caught = self._signals.take() if events.pop(self._signals.wakeup, 0) else []
        for number in caught:
            if number in _FORWARDED:
                process_tree.send([self._worker], signal.Signals(number))
        if caught or not events:  # mostly a child's end, else at a look round
            self._reap()
        if self._status is not None:
            return
        if why := self._hung():
            self._launcher.hang_up()
            process_tree.send([self._worker], signal.SIGKILL)
            self._end_jobs()
            write(self._shared, f"the worker {why}: it was killed, and its jobs with it")
        self._launcher.act(asked=bool(events))

    def _hung(self) -> str:
        """Why the worker counts as dead, "" if it is well."""
        now = clock.now()
        last, deadline = self._shared.last_heartbeat()
        if self._slept_alone(now, last):
            return ""
        if now > deadline > 0:
            return "has not ended jobs whose lease it cannot prove"
        if now - (last or self._born) > self._silence:
            return f"has been silent for {self._silence:g}s"
        return ""

    def _slept_alone(self, now: float, last: float) -> bool:
        """Whether this process stood still (SIGSTOP, a starved host) while the worker went on, which has its turn then.

        It may wait for the news of jobs that have ended. Once in a while only, so that a host that is short of time
        keeps no worker alive that has to go.
        """
        lag = 2 * self._look_every
        if now - self._looked > lag > now - last and now - self._patient_until > self._silence:
            self._patient_until = now + 2 * lag
        self._looked = now
        return now < self._patient_until

    def _end_jobs(self) -> None:
        """KILL the processes of the worker's running jobs, until none is left."""
        running = self._shared.attempts.running()
        if not running:
            return
        census = process_tree.Census()
        until, empty_looks = clock.now() + _PATIENCE, 0
        while process_tree.HAS_PROC and empty_looks < process_tree.EMPTY_LOOKS and clock.now() < until:
            try:
                census.take(os.getpid())
            except OSError:  # the host is short of descriptors
                break
            doomed = census.doomed(os.getpid(), running, {*self._before, self._worker})
            empty_looks = 0 if doomed else empty_looks + 1
            self._killed |= doomed
            for pid in doomed:
                census.processes[pid].send(signal.SIGKILL)
            time.sleep(_SWEEP_EVERY)
            self._reap()
        if empty_looks < process_tree.EMPTY_LOOKS:  # nothing is known of the rest but its groups
            for leader in running.values():
                if leader > 0:
                    process_tree.send_to_group(leader, signal.SIGKILL)
            self._reap()

    def _reap(self) -> None:
        """Wait for every child that has ended: the worker, commands, and orphans that were given to this process."""
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self._worker:
                self._status = status
            self._launcher.reaped(pid, status, usage)


def _open_standard_streams() -> None:
    """Open those of descriptors 0, 1 and 2 that are closed: else a socket gets the number, and then the log."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def _prctl(option: int, value: int, *, answer: int = 0) -> bool:
    """Whether the kernel did it, or gave this answer."""
    return sys.platform == "linux" and bool(ctypes.CDLL(None).prctl(option, value, 0, 0, 0) == answer)
