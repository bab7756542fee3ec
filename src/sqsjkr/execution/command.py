"""One command, from its start to the end of all its processes."""

from __future__ import annotations

import errno
import os
import shutil
import signal
from collections.abc import Callable, Mapping, Sequence
from functools import cache

from sqsjkr.execution.feeder import Feeder
from sqsjkr.execution.output import Output
from sqsjkr.execution.spawner import Child, End, Spawner, Start, Started
from sqsjkr.execution.sweeper import Ending, sweeper_of
from sqsjkr.outcome import Exit, Reason

_MISSING = {errno.ENOENT, errno.EACCES}
_OUT_OF_RESOURCES = {
    *(errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ETOOMANYREFS),
    *_MISSING,
}
"""The host's trouble, not the job's: no processes, memory or descriptors left, or no such program to run."""


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


class Command:
    """A command that can be interrupted: ``await command.run(...)`` once, ``interrupt`` any time in the same loop."""

    def __init__(self, mark: str, spawner: Spawner) -> None:
        self._mark = mark
        self._spawner = spawner
        self._kill_after = 0.0
        self._child: Child | None = None
        self._pid = 0
        self._interrupted: Reason | None = None
        self._ending: Ending | None = None

    @property
    def interrupted(self) -> Reason | None:
        """Why it is being ended, None if it is not."""
        return self._interrupted

    def interrupt(self, reason: Reason, *, kill_after: float) -> None:
        """End the job: TERM to all its processes, KILL ``kill_after`` seconds later. A second call can only hurry it.

        A command that has ended by itself already keeps its own ending. One that is on its way to its start is not
        started, or ends when it has: within ``kill_after`` seconds it is known which.
        """
        if self._has_ended():
            return
        self._kill_after = min(self._kill_after, kill_after) if self._interrupted else kill_after
        self._interrupted = self._interrupted or reason
        if self._pid:
            self._end()
        elif self._child is not None:
            self._child.revoke(within=self._kill_after)

    async def run(
        self,
        argv: Sequence[bytes],
        variables: Mapping[bytes, bytes],
        output: Output,
        *,
        base: int = 0,
        stdin: bytes | None = None,
        started: Callable[[], None] = lambda: None,
    ) -> Exit:
        """Run ``argv`` in a process group of its own. Raises ``CannotStart``.

        ``argv[0]`` is looked for on the daemon's PATH. ``variables`` come on top of that base of the spawner. Standard
        input is ``stdin``, or /dev/null. Returns when the command's first process has ended; after an interrupt, when
        every process of the job has. ``started`` is called in between.
        """
        if self._interrupted:
            return self._not_run()
        slot = self._spawner.shared.attempts.enter(self._mark)
        try:
            child = await self._start(slot, argv, base, variables, is_fed=stdin is not None)
            process = child.started.result()
            end = await self._attend(child, process, output, stdin, started) if process else self._not_run()
        except Exception:  # a cancellation is none: the job may live on then, and its slot stays, for the launcher
            self._spawner.shared.attempts.leave(slot)
            raise
        self._spawner.shared.attempts.leave(slot)
        return end

    async def _start(
        self, slot: int, argv: Sequence[bytes], base: int, variables: Mapping[bytes, bytes], *, is_fed: bool
    ) -> Child:
        """Have it started; return when it is, or when that was given up."""
        try:
            self._child = self._spawner.start(Start(slot, _program(argv[0]), argv, base, variables, is_fed))
            await self._child.started
        except (OSError, ValueError) as failure:
            number = failure.errno if isinstance(failure, OSError) else None
            why = _explain(failure, argv, {**self._spawner.bases[base], **variables})
            again, missing = number in _OUT_OF_RESOURCES, number in _MISSING
            raise CannotStart(why, again=again, missing=missing) from failure
        return self._child

    async def _attend(
        self, child: Child, process: Started, output: Output, stdin: bytes | None, started: Callable[[], None]
    ) -> Exit:
        """Follow a process to its end, and to that of the whole job if it is interrupted."""
        self._pid = process.pid
        try:
            started()
            if self._interrupted:  # while it was on its way
                self._end()
            feeder = None if stdin is None else Feeder(process.stdin, stdin)
            output.follow(process.stdout, to_its_end=child.ended.done())
            end = await child.ended or self._end_unknown()
            if self._ending is not None:
                await self._ending.gone
            leftovers = output.ended()
        except Exception:  # its lock and its claim are given back next: nothing of it may be left
            self._kill_after = 0.0
            await self._end().gone
            await child.ended
            raise
        if feeder is not None:
            feeder.close()
        return Exit(
            status=end.status,
            reason=self._interrupted,
            cpu=end.cpu,
            max_rss=end.max_rss,
            printed=output.size,
            leftovers=leftovers,
        )

    def _not_run(self) -> Exit:
        return Exit(status=-signal.SIGTERM, reason=self._interrupted or Reason.LAUNCHER, ran=False)

    def _has_ended(self) -> bool:
        if self._child is None or not self._child.started.done():
            return False
        if self._child.ended.done():
            return self._ending is None
        return not self._interrupted and self._pid > 0 and self._child.has_ended()

    def _end_unknown(self) -> End:
        """Have a job ended whose launcher has died: how it ends, or has ended, is not to be learned any more."""
        self._interrupted = self._interrupted or Reason.LAUNCHER
        self._kill_after = 0.0
        self._end()
        return End(-signal.SIGKILL, 0.0, 0)

    def _end(self) -> Ending:
        """Have all processes of the job ended: its lock must not be given back before they are."""
        if self._ending is None:
            self._ending = Ending(self._spawner.shared, self._mark, self._pid, self._kill_after)
            sweeper_of(self._spawner.shared).end(self._ending)
        self._ending.kill_after = self._kill_after
        return self._ending


@cache
def _program(name: bytes) -> bytes:
    """The program from the daemon's PATH, as the original finds its shell (go-semantics section 6)."""
    found = shutil.which(name)
    if found is None:
        raise FileNotFoundError(errno.ENOENT, f"no {os.fsdecode(name)} on the daemon's PATH")
    return found


def _explain(failure: Exception, argv: Sequence[bytes], env: Mapping[bytes, bytes]) -> str:
    if isinstance(failure, OSError) and failure.errno == errno.E2BIG:
        size = sum(len(word) + 1 for word in argv) + sum(len(key) + len(value) + 2 for key, value in env.items())
        return f"the command and its environment are too long for exec ({size} bytes; one string may have 131071)"
    words = failure.strerror if isinstance(failure, OSError) else failure
    return f"{os.fsdecode(argv[0])} could not be started: {words}"
