"""Starts the commands for the worker, as their parent, and reports how each ends. Linux only.

Starting a process stops its caller until the child has called exec; here that is not the worker's event loop. No call
waits for the worker: what it does not read is kept, at most two reports for each of its slots.
"""

from __future__ import annotations

import errno
import os
import select
import socket
from collections.abc import Mapping
from resource import struct_rusage

from sqsjkr import clock
from sqsjkr.supervision import protocol
from sqsjkr.supervision.protocol import ENDED, FAILED, STARTED, Report, Request
from sqsjkr.supervision.shared_state import REAPED, SharedState
from sqsjkr.supervision.spawning import spawn

_KIB = 1_024
_AT_ONCE = 4
"""Starts between two looks at signals: about a third of a millisecond."""
LINGER = 0.005
"""Seconds that the news of a start may wait for that of its end."""


class Launcher:
    """The launcher's end of the line to the worker, watched by ``poll``; None: the worker starts its commands itself.

    ``act`` follows each poll, until ``hang_up``. That a process runs is no news that the worker waits for: it is
    reported with the end of that process, or after ``LINGER``. A short job so costs one report instead of two, and the
    worker need not watch its output.
    """

    def __init__(self, line: socket.socket | None, shared: SharedState, poll: select.poll) -> None:
        self._line = line
        self._attempts = shared.attempts
        self._poll = poll
        self._bases: dict[int, Mapping[bytes, bytes]] = {}
        self._slots: dict[int, int] = {}
        self._reports: list[Report] = []
        """What is due to be sent."""
        self._begun: dict[int, tuple[Report, float]] = {}
        """By slot, oldest first: starts that are not due yet, and when they are, on ``clock.now``."""
        self._listens_for = 0
        self._listen(select.POLLIN)

    def next_report_in(self, seconds: float) -> float:
        """Return how many seconds to wait for events, at most the given: reports that linger must get their turn."""
        for _, due in self._begun.values():
            return max(0.0, min(seconds, due - clock.now()))
        return seconds

    def act(self, *, asked: bool) -> None:
        """Do what the worker asks for, if the line has had an event; report what it has room for.

        A few things at a time, so that neither signals nor ends wait behind many starts.
        """
        try:
            for _ in range(_AT_ONCE if asked else 0):
                if self._line is None or (request := protocol.receive(self._line)) is None:
                    self.hang_up()
                    return
                self._do(request)
        except BlockingIOError:
            pass
        if self._begun:
            self._linger_no_longer()
        if self._reports and self._line is not None:
            self._send_reports(self._line)

    def _linger_no_longer(self) -> None:
        now = clock.now()
        for slot, (report, due) in [*self._begun.items()]:
            if due > now:
                return
            self._reports.append(report)
            del self._begun[slot]

    def _send_reports(self, line: socket.socket) -> None:
        try:
            while self._reports:
                del self._reports[: protocol.send_reports(line, self._reports)]
        except OSError:  # it has no room now, or is dead and needs no report
            pass
        self._listen(select.POLLIN | (select.POLLOUT if self._reports else 0))

    def reaped(self, pid: int, status: int, usage: struct_rusage) -> None:
        """Note that a child was waited for; one that is not the first process of a command is not reported."""
        slot = self._slots.pop(pid, None)
        if slot is not None:
            self._attempts.leads(slot, REAPED)
            self._report(Report(ENDED, slot, status, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * _KIB))

    def hang_up(self) -> None:
        """Start nothing any more."""
        if self._line is not None:
            self._poll.unregister(self._line)
            self._line.close()
            self._line = None
            self._reports.clear()
            self._begun.clear()

    def _listen(self, events: int) -> None:
        if self._line is not None and events != self._listens_for:
            self._listens_for = events
            self._poll.register(self._line, events)

    def _report(self, report: Report) -> None:
        if self._line is None:
            return
        if report.news == STARTED:
            self._begun[report.slot] = report, clock.now() + LINGER
            return
        if (begun := self._begun.pop(report.slot, None)) is not None:
            self._reports.append(begun[0])
        self._reports.append(report)

    def _do(self, request: Request) -> None:
        try:
            if request.argv:
                self._start(request)
            else:
                self._bases[request.base] = request.variables
        finally:
            for descriptor in (request.stdin, request.stdout):
                if descriptor >= 0:
                    os.close(descriptor)

    def _start(self, request: Request) -> None:
        try:
            pid = self._spawn(request)
        except (OSError, ValueError, MemoryError) as failure:
            self._report(Report(FAILED, request.slot, _errno_of(failure)))
            return
        self._attempts.leads(request.slot, pid)
        self._slots[pid] = request.slot
        self._report(Report(STARTED, request.slot, pid))

    def _spawn(self, request: Request) -> int:
        if self._attempts.is_revoked(request.slot):
            raise OSError(errno.ECANCELED, "revoked")
        if request.stdout < 0:
            raise OSError(errno.EMFILE, "no descriptor was left for its output")
        env = {**self._bases[request.base], **request.variables}
        return spawn(request.program, request.argv, env, stdin=request.stdin, stdout=request.stdout)


def _errno_of(failure: Exception) -> int:
    if isinstance(failure, MemoryError):
        return errno.ENOMEM
    return (failure.errno if isinstance(failure, OSError) else None) or errno.EINVAL
