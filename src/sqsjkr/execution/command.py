"""One command, from its start to the end of all its processes."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import shutil
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import NamedTuple

from sqsjkr.execution.output import Output
from sqsjkr.execution.sweeper import Ending, sweeper_of
from sqsjkr.outcome import Exit, Reason
from sqsjkr.supervision.shared_state import SharedState

_OUT_OF_RESOURCES = {errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ENOENT, errno.EACCES}
"""The host's trouble, not the job's: no processes, memory or descriptors left, or no such program to run."""
_MISSING = {errno.ENOENT, errno.EACCES}
_IGNORED_BY_PYTHON = [signal.SIGPIPE, signal.SIGXFSZ]
_LOOK_EVERY = 0.02
_RSS_UNIT = 1 if sys.platform == "darwin" else 1024  # getrusage(2): kilobytes, on macOS bytes


def shell(text: str) -> tuple[bytes, ...]:
    """Return the argv that has ``sh`` run a text."""
    return b"sh", b"-c", text.encode()


class CannotStart(Exception):
    """The command was not started.

    ``again``: the host was short of something, so another try may do. ``missing``: the program is, or may not be run.
    """

    def __init__(self, why: str, *, again: bool, missing: bool) -> None:
        super().__init__(why)
        self.again = again
        self.missing = missing


class _End(NamedTuple):
    """What the kernel says of a process that has ended."""

    status: int
    cpu: float
    max_rss: int


class Command:
    """A command that can be interrupted: ``await command.run(...)`` once, ``interrupt`` any time in the same loop."""

    def __init__(self, mark: str, shared: SharedState) -> None:
        self._mark = mark
        self._shared = shared
        self._kill_after = 0.0
        self._pid = 0
        self._status: asyncio.Future[_End] | None = None
        self._interrupted: Reason | None = None
        self._ending: Ending | None = None

    @property
    def interrupted(self) -> Reason | None:
        """Why it is being ended, None if it is not."""
        return self._interrupted

    def interrupt(self, reason: Reason, *, kill_after: float) -> None:
        """End the job: TERM to all its processes, KILL ``kill_after`` seconds later. A second call can only hurry it.

        A command that has ended by itself already keeps its own ending.
        """
        if self._has_ended():
            return
        self._kill_after = min(self._kill_after, kill_after) if self._interrupted else kill_after
        self._interrupted = self._interrupted or reason
        if self._pid:
            self._end()

    async def run(
        self,
        argv: Sequence[bytes],
        env: Mapping[bytes, bytes],
        output: Output,
        *,
        stdin: bytes | None = None,
        started: Callable[[], None] = lambda: None,
    ) -> Exit:
        """Run ``argv`` in a process group of its own. Raises ``CannotStart``.

        ``argv[0]`` is looked for on the daemon's PATH. ``env`` is the whole environment. Standard input is ``stdin``,
        or /dev/null. Returns when the command's first process has ended; after an interrupt, when every process of the
        job has. ``started`` is called in between.
        """
        if self._interrupted:
            return Exit(status=-signal.SIGTERM, reason=self._interrupted)
        self._shared.enter(self._mark)
        try:
            reader, feeder = self._start(argv, env, stdin)
        except CannotStart:
            self._shared.leave(self._mark)
            raise
        started()
        try:
            output.follow(reader)
            end = await self._wait()  # if we are cancelled here the job lives on: its mark stays for the guard
            if self._ending is not None:
                await self._ending.gone
            leftovers = output.ended()
        except Exception:  # its lock and its claim are given back next: nothing of it may be left
            self._kill_after = 0.0
            await self._end().gone
            self._shared.leave(self._mark)
            raise
        self._shared.leave(self._mark)
        if feeder is not None:
            feeder.cancel()
        return Exit(
            status=end.status,
            reason=self._interrupted,
            cpu=end.cpu,
            max_rss=end.max_rss,
            printed=output.size,
            leftovers=leftovers,
        )

    def _start(
        self, argv: Sequence[bytes], env: Mapping[bytes, bytes], stdin: bytes | None
    ) -> tuple[int, asyncio.Task[None] | None]:
        opened: list[int] = []
        try:
            reader, writer = os.pipe()
            opened += [reader, writer]
            actions: list[tuple[int, int, int] | tuple[int, int, str, int, int]] = []
            if stdin is None:
                actions.append((os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0))
            else:
                source, sink = os.pipe()
                opened += [source, sink]
                actions.append((os.POSIX_SPAWN_DUP2, source, 0))
            actions += [(os.POSIX_SPAWN_DUP2, writer, 1), (os.POSIX_SPAWN_DUP2, writer, 2)]
            self._pid = os.posix_spawn(
                _program(argv[0]),
                list(argv),
                env,
                file_actions=actions,
                setpgroup=0,
                setsigdef=_IGNORED_BY_PYTHON,
                setsigmask=[],
            )
        except (OSError, ValueError) as failure:
            for descriptor in opened:
                os.close(descriptor)
            number = failure.errno if isinstance(failure, OSError) else None
            again, missing = number in _OUT_OF_RESOURCES, number in _MISSING
            raise CannotStart(_explain(failure, argv, env), again=again, missing=missing) from failure
        self._shared.leads(self._mark, self._pid)
        os.close(writer)
        if stdin is None:
            return reader, None
        os.close(source)
        return reader, asyncio.create_task(_feed(sink, stdin))

    async def _wait(self) -> _End:
        """Wait for the first process itself."""
        loop = asyncio.get_running_loop()
        self._status = loop.create_future()
        try:
            watched = os.pidfd_open(self._pid)
        except (AttributeError, OSError):  # no pidfd on this system, or no descriptor left
            return await self._look_until_it_ends(self._status)
        status = self._status

        def ended() -> None:
            loop.remove_reader(watched)
            os.close(watched)
            if (end := _reap(self._pid)) is not None and not status.done():
                status.set_result(end)

        loop.add_reader(watched, ended)
        return await status

    async def _look_until_it_ends(self, status: asyncio.Future[_End]) -> _End:
        while (end := _reap(self._pid)) is None:  # noqa: ASYNC110 - the system has no event to wait for
            await asyncio.sleep(_LOOK_EVERY)
        status.set_result(end)
        return end

    def _has_ended(self) -> bool:
        if self._status is not None and self._status.done():
            return self._ending is None
        if not self._pid or self._interrupted or not hasattr(os, "waitid"):
            return False
        with contextlib.suppress(ChildProcessError):
            return os.waitid(os.P_PID, self._pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None
        return True

    def _end(self) -> Ending:
        """Have all processes of the job ended: its lock must not be given back before they are."""
        if self._ending is None:
            self._ending = Ending(self._shared, self._mark, self._pid, self._kill_after)
            sweeper_of(self._shared).end(self._ending)
        self._ending.kill_after = self._kill_after
        return self._ending


def _reap(pid: int) -> _End | None:
    """The end of a child. None if it has not ended."""
    ended, status, usage = os.wait4(pid, os.WNOHANG)
    if not ended:
        return None
    cpu = usage.ru_utime + usage.ru_stime
    return _End(os.waitstatus_to_exitcode(status), cpu, usage.ru_maxrss * _RSS_UNIT)


@cache
def _program(name: bytes) -> bytes:
    """The program from the daemon's PATH, as the original finds its shell (go-semantics section 6)."""
    found = shutil.which(name)
    if found is None:
        raise FileNotFoundError(errno.ENOENT, f"no {os.fsdecode(name)} on the daemon's PATH")
    return found


async def _feed(descriptor: int, text: bytes) -> None:
    """Write to a command that may read slowly, or not at all: never blocks, never fails."""
    loop = asyncio.get_running_loop()
    os.set_blocking(descriptor, False)
    rest = memoryview(text)
    try:
        while rest:
            try:
                rest = rest[os.write(descriptor, rest) :]
            except BlockingIOError:
                room = asyncio.Event()
                loop.add_writer(descriptor, room.set)
                try:
                    await room.wait()
                finally:
                    loop.remove_writer(descriptor)
            except OSError:  # it reads no more
                return
    finally:
        os.close(descriptor)


def _explain(failure: Exception, argv: Sequence[bytes], env: Mapping[bytes, bytes]) -> str:
    if isinstance(failure, OSError) and failure.errno == errno.E2BIG:
        size = sum(len(word) + 1 for word in argv) + sum(len(key) + len(value) + 2 for key, value in env.items())
        return f"the command and its environment are too long for exec ({size} bytes; one string may have 131071)"
    words = failure.strerror if isinstance(failure, OSError) else failure
    return f"{os.fsdecode(argv[0])} could not be started: {words}"
