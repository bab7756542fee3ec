"""The port through which a command becomes a process, and the values that tell of one."""

from __future__ import annotations

import asyncio
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from sqsjkr.supervision.shared_state import SharedState


class Start(NamedTuple):
    """What is to be started."""

    slot: int
    """The attempt's slot in the shared memory."""
    program: bytes
    """The file to execute."""
    argv: Sequence[bytes]
    base: int
    """Which of the spawner's bases it inherits."""
    variables: Mapping[bytes, bytes]
    """The rest of its environment; they win over the base."""
    is_fed: bool
    """Whether its standard input is a pipe; if not, it is /dev/null."""


class Started(NamedTuple):
    """A process. The descriptors are the receiver's to close."""

    pid: int
    """It leads a process group of its own; ``NO_LEADER`` if that is not known, because the launcher has died."""
    stdout: int
    """The reading end of its standard output and error."""
    stdin: int
    """The writing end of its standard input; -1 if that is /dev/null."""


class End(NamedTuple):
    """What the kernel says of a process that has ended."""

    status: int
    """Exit code, or the negative number of the signal that ended it."""
    cpu: float
    """Seconds, user and system, of it and the children it waited for."""
    max_rss: int
    """Bytes."""


class Child(ABC):
    """One process: on its way, running, or ended."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.started: asyncio.Future[Started | None] = loop.create_future()
        """None if nothing was started, nor will be: it was revoked, or the launcher is dead.

        Fails with ``OSError`` or ``ValueError``: why nothing was started.
        """
        self.ended: asyncio.Future[End | None] = loop.create_future()
        """None if nobody can say: the launcher is dead, and the process may live."""

    @abstractmethod
    def has_ended(self) -> bool:
        """Whether a started process has ended, as the system knows before ``ended`` does."""

    @abstractmethod
    def revoke(self, *, within: float) -> None:
        """Give up a process that has not started yet. ``started`` says within so many seconds what came of it."""


class Spawner(ABC):
    """Starts processes and learns how they end. ``shared`` knows each of them from before its start.

    ``bases`` are the environments that processes inherit, each process one of them.
    """

    def __init__(self, shared: SharedState, *bases: Mapping[bytes, bytes]) -> None:
        self.shared = shared
        self.bases = bases

    @property
    def failure(self) -> str | None:
        """Why nothing can be started just now, on one line; None if it can, or if only a start would tell."""
        return None

    @abstractmethod
    def start(self, start: Start) -> Child:
        """Start a process, or begin to."""


class Pipes(NamedTuple):
    """The pipes of one process; -1 for those of a standard input that is /dev/null."""

    stdout: int
    childs_stdout: int
    stdin: int = -1
    childs_stdin: int = -1

    def close_ours(self) -> None:
        """Close this process's ends: there will be no child, or none that they would serve."""
        _close(self.stdout, self.stdin)

    def close_childs(self) -> None:
        """Close the child's ends, once it has them: until then it would not see its input end, nor we its output."""
        _close(self.childs_stdout, self.childs_stdin)


def open_pipes(*, is_fed: bool) -> Pipes:
    """Open a pipe for the output, and one for the input if it is fed. Raises ``OSError``, and leaves none open then."""
    stdout, childs_stdout = os.pipe()
    if not is_fed:
        return Pipes(stdout, childs_stdout)
    try:
        childs_stdin, stdin = os.pipe()
    except OSError:
        _close(stdout, childs_stdout)
        raise
    return Pipes(stdout, childs_stdout, stdin, childs_stdin)


def _close(*descriptors: int) -> None:
    for descriptor in descriptors:
        if descriptor >= 0:
            os.close(descriptor)
