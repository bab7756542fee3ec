"""Processes that the launcher starts for the worker, whose event loop waits for nothing of it.

One callback takes all the launcher's reports, so a process costs the event loop no descriptor to watch.
"""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import socket
from collections import deque
from collections.abc import Mapping

from sqsjkr import clock
from sqsjkr.execution.spawner import Child, End, Pipes, Spawner, Start, Started, open_pipes
from sqsjkr.supervision import process_tree, protocol
from sqsjkr.supervision.protocol import FAILED, STARTED, Report, Request
from sqsjkr.supervision.shared_state import NO_LEADER, REAPED, SharedState, launcher_is_dead
from sqsjkr.telemetry.events import Event, emit

_MOST_UNANSWERED = 32
"""Starts that are on their way at once; the others wait here, without pipes, and can be given up without an answer."""
_READS_AT_ONCE = 16
_SILENT_AFTER = 5.0
"""Seconds without an answer to a start, after which the launcher counts as silent."""
_PATIENCE = 0.5
"""Seconds that the launcher has at least to answer, before a job that must end makes the worker kill it."""
_FULL = {errno.EAGAIN, errno.ENOBUFS, errno.ETOOMANYREFS}
_CLOSED = {errno.EPIPE, errno.ECONNRESET}


class LaunchedChildren(Spawner):
    """The worker's end of the line to its launcher.

    A start counts as running from before it is sent: it is in ``shared``. When the launcher dies, the kernel closes its
    end only after the last process that it was about to start has called exec, so whatever it has started by then can
    be found by its mark.
    """

    def __init__(self, shared: SharedState, *bases: Mapping[bytes, bytes]) -> None:
        if shared.line is None:
            raise ValueError("this worker has no launcher")
        super().__init__(shared, *bases)
        self._line = shared.line
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[_LaunchedChild] = deque()
        self._unanswered: dict[int, _LaunchedChild] = {}
        self._running: dict[int, _LaunchedChild] = {}
        self._is_lost = False
        for number, base in enumerate(bases):
            protocol.send(self._line, Request(0, b"", (), number, base))
        self._loop.add_reader(self._line, self.take_reports)

    @property
    def failure(self) -> str | None:
        """Why nothing can be started just now; None if it can."""
        oldest = next(iter(self._unanswered.values()), None)
        if oldest is None or clock.now() - oldest.sent_at < _SILENT_AFTER:
            return None
        return "the launcher does not answer"

    def start(self, start: Start) -> Child:
        """Ask the launcher for a process, now or when it has answered others."""
        child = _LaunchedChild(start, self)
        if self._is_lost:
            child.started.set_result(None)
            return child
        self._waiting.append(child)
        self._send_waiting()
        return child

    def close(self) -> None:
        """Hear nothing more of the launcher in this event loop."""
        self._loop.remove_reader(self._line)

    def withdraw(self, child: _LaunchedChild) -> bool:
        """Take back a start that was not sent. False if it was."""
        try:
            self._waiting.remove(child)
        except ValueError:
            return False
        return True

    def take_reports(self) -> None:
        """Take what the launcher has reported, and send it what it has room for now."""
        for _ in range(_READS_AT_ONCE):
            try:
                reports = protocol.receive_reports(self._line)
            except BlockingIOError:
                break
            if reports is None:
                self._lose()
                return
            for report in reports:
                self._take(report)
        self._send_waiting()

    def kill_launcher(self) -> None:
        """End a launcher that does not say whether it has started something: nothing else makes sure of it."""
        if not launcher_is_dead(self.shared):
            emit(Event.LAUNCHER_HUNG, "the launcher does not answer: killing it, its jobs end and run again")
            process_tree.send([self.shared.launcher], signal.SIGKILL)

    def _send_waiting(self) -> None:
        while self._waiting and len(self._unanswered) < _MOST_UNANSWERED:
            child = self._waiting[0]
            if child.started.done():  # its runner was cancelled
                self._waiting.popleft()
                continue
            try:
                child.pipes = _sent(self._line, child.start)
            except (OSError, ValueError) as failure:
                number = failure.errno if isinstance(failure, OSError) else None
                if number in _CLOSED or (number in _FULL and self._unanswered):
                    return  # its end is reported, too; or the next report makes room
                child.started.set_exception(failure)
            else:
                child.sent_at = clock.now()
                self._unanswered[child.start.slot] = child
            self._waiting.popleft()

    def _take(self, report: Report) -> None:
        if report.news == STARTED:
            child = self._running[report.slot] = self._unanswered.pop(report.slot)
            child.has_started(report.number)
        elif report.news == FAILED:
            self._unanswered.pop(report.slot).has_failed(report.number)
        else:
            child = self._running.pop(report.slot)
            child.is_over(End(os.waitstatus_to_exitcode(report.number), report.cpu, report.max_rss))

    def _lose(self) -> None:
        """Note that the launcher is dead: what it was sent may run, what it was not sent never will."""
        self._is_lost = True
        self.close()
        for child in self._waiting:
            child.has_failed(errno.ECANCELED)
        for slot, child in self._unanswered.items():
            child.has_started(max(self.shared.attempts.leader(slot), NO_LEADER))
        for child in (*self._unanswered.values(), *self._running.values()):
            child.is_over(None)
        self._waiting.clear()
        self._unanswered.clear()
        self._running.clear()


class _LaunchedChild(Child):
    """A child of the launcher. If nobody awaits it any more, because the worker leaves, it is the launcher's."""

    def __init__(self, start: Start, owner: LaunchedChildren) -> None:
        super().__init__()
        self.start = start
        self.pipes: Pipes | None = None
        """Set when the start was sent."""
        self.sent_at = 0.0
        """On ``clock.now``."""
        self._owner = owner
        self._pid = NO_LEADER
        self._alarm: asyncio.TimerHandle | None = None

    def has_ended(self) -> bool:
        """Look at what the launcher has reported or noted, then at the process itself."""
        self._owner.take_reports()
        if self.ended.done() or self._owner.shared.attempts.leader(self.start.slot) == REAPED:
            return True
        return process_tree.has_ended(self._pid)

    def revoke(self, *, within: float) -> None:
        """Take it back if it was not sent; else have the launcher not start it, and kill a launcher that says nothing.

        A later call can only shorten the time that the launcher has.
        """
        if self._owner.withdraw(self):
            self.has_failed(errno.ECANCELED)
        if self.started.done():
            return
        self._owner.shared.attempts.revoke(self.start.slot)
        loop, within = asyncio.get_running_loop(), max(within, _PATIENCE)
        if self._alarm is None or loop.time() + within < self._alarm.when():
            self._cancel_alarm()
            self._alarm = loop.call_later(within, self._owner.kill_launcher)

    def has_started(self, pid: int) -> None:
        """Take the launcher's report."""
        self._cancel_alarm()
        self._pid = pid
        if not self.started.done() and self.pipes is not None:
            self.started.set_result(Started(pid, self.pipes.stdout, self.pipes.stdin))

    def has_failed(self, number: int) -> None:
        """Take the launcher's report."""
        self._cancel_alarm()
        if self.pipes is not None:
            self.pipes.close_ours()
        if not self.started.done():
            if number == errno.ECANCELED:
                self.started.set_result(None)
            else:
                self.started.set_exception(OSError(number, os.strerror(number)))

    def is_over(self, end: End | None) -> None:
        """Take the launcher's report, or that there will be none."""
        if not self.ended.done():
            self.ended.set_result(end)

    def _cancel_alarm(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()


def _sent(line: socket.socket, start: Start) -> Pipes:
    """Send a start with its ends of new pipes; return ours. Raises ``OSError`` or ``ValueError`` if it was not sent."""
    pipes = open_pipes(is_fed=start.is_fed)
    try:
        slot, program, argv, base, variables, _ = start
        protocol.send(line, Request(slot, program, argv, base, variables, pipes.childs_stdin, pipes.childs_stdout))
    except BaseException:
        pipes.close_ours()
        raise
    finally:
        pipes.close_childs()
    return pipes
