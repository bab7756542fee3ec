"""What a job prints: logged line by line as it comes, within a rate; the tail kept; never more memory than that."""

from __future__ import annotations

import asyncio
import fcntl
import os
import struct
import termios
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from sqsjkr.execution.masking import Veil

READ = 262_144
"""Bytes taken from the pipe at once."""
LONGEST_LINE = 16_384
"""Bytes after which a line is logged in parts."""
LINE_COSTS = 64
"""Bytes that each line counts on top of its own: a flood of empty lines must not keep the event loop busy logging."""
_PIPE_SIZE = getattr(fcntl, "F_SETPIPE_SZ", None)
_READS_AT_ONCE = 8
_MOST_PIECES = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputLimits:
    """What is done with the output of one job."""

    tail: int
    """Bytes kept of its end."""
    rate: int
    """Bytes a second that are logged, sustained; 0 for no limit."""
    tail_of_success: bool = False
    """Whether the end of what a job printed that succeeded is of use, too."""


class Output:
    """Reads one job's pipe. ``on_line`` gets each line; ``on_cut`` how many bytes were not logged in a flood.

    What the ``veil`` hides is neither logged nor kept.
    """

    def __init__(
        self,
        *,
        on_line: Callable[[str], None] | None,
        on_cut: Callable[[int], None],
        rate: int,
        tail: int,
        now: Callable[[], float],
        veil: Veil | None = None,
    ) -> None:
        self._veil = veil
        self._on_line = on_line
        self._on_cut = on_cut
        self._allowance = _Allowance(rate, now)
        self._tail: deque[bytes] = deque()
        self._tail_size = 0
        self._tail_limit = tail
        self._forgotten = False
        self._partial = b""
        self._cut = 0
        self._descriptor = -1
        self._loop: asyncio.AbstractEventLoop | None = None
        self.size = 0
        """Bytes printed so far."""

    def follow(self, descriptor: int, *, to_its_end: bool = False) -> None:
        """Take over the pipe's reading end. ``to_its_end``: ``ended`` follows now, and reads it all."""
        self._descriptor = descriptor
        os.set_blocking(descriptor, False)
        if not to_its_end:
            self._watch()

    def ended(self) -> bool:
        """The shell has ended: read what it left in the pipe. True if something in the background holds it open still.

        What goes on in the background is read on until it closes the pipe, so that its writes neither block nor fail.
        """
        if self._descriptor >= 0:
            waiting = fcntl.ioctl(self._descriptor, termios.FIONREAD, bytes(struct.calcsize("i")))
            # No further than this and one look beyond: the background may write faster than we read.
            until = self.size + int(struct.unpack("i", waiting)[0])
            while self._read() and self.size <= until:
                pass
        if self._descriptor >= 0:
            self._finish_line()
            if self._loop is None:
                self._watch()
            return True
        return False

    def _watch(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._descriptor, self._readable)

    def tail(self) -> str:
        """The last bytes printed, as text.

        If there were more, it begins with a line: a value that is to be masked might stand where the first one is cut.
        """
        kept = b"".join(self._tail)
        text = kept[-self._tail_limit :] if self._tail_limit else b""
        if self._forgotten or len(text) < len(kept):
            text = text.partition(b"\n")[2] or text
        return text.decode("utf-8", "replace")

    def _readable(self) -> None:
        for _ in range(_READS_AT_ONCE):
            if self._descriptor < 0 or not self._read():
                return

    def _read(self) -> bool:
        """One read. False if there is nothing to read now, or ever again."""
        try:
            chunk = os.read(self._descriptor, READ)
        except BlockingIOError:
            return False
        except OSError:
            chunk = b""
        if not chunk:
            self._close()
            return False
        if len(chunk) >= 65_536 and not self.size and _PIPE_SIZE is not None:  # noqa: PLR2004 - a full pipe: it is fast
            _widen(self._descriptor)
        self.size += len(chunk)
        if self._veil is not None:
            chunk = self._veil.pass_on(chunk)
        self._keep(chunk)
        self._log(chunk)
        return True

    def _close(self) -> None:
        if self._loop is not None:
            self._loop.remove_reader(self._descriptor)
        os.close(self._descriptor)
        self._descriptor = -1
        self._finish_line()

    def _finish_line(self) -> None:
        if self._veil is not None and (held_back := self._veil.rest()):
            self._keep(held_back)
            self._log(held_back)
        if self._partial:
            rest, self._partial = self._partial, b""
            self._say(rest)
        self._tell_cut()

    def _keep(self, chunk: bytes) -> None:
        if len(chunk) >= self._tail_limit:
            self._forgotten = bool(self._tail) or len(chunk) > self._tail_limit
            self._tail.clear()
            chunk = chunk[-self._tail_limit :] if self._tail_limit else b""
            self._tail_size = 0
        self._tail.append(chunk)
        self._tail_size += len(chunk)
        if len(self._tail) > _MOST_PIECES:
            self._tail = deque([b"".join(self._tail)])
        while self._tail_size - len(self._tail[0]) >= self._tail_limit > 0:
            self._tail_size -= len(self._tail.popleft())
            self._forgotten = True

    def _log(self, chunk: bytes) -> None:
        if self._on_line is None:
            return
        if not self._allowance.covers(chunk):
            self._cut += len(chunk) + len(self._partial)
            self._partial = b""
            return
        self._tell_cut()
        *lines, self._partial = (self._partial + chunk).split(b"\n")
        for line in lines:
            self._say(line)
        if len(self._partial) >= LONGEST_LINE:
            rest, self._partial = self._partial, b""
            self._say(rest)

    def _say(self, line: bytes) -> None:
        if self._on_line is not None:
            for start in range(0, len(line) or 1, LONGEST_LINE):
                self._on_line(line[start : start + LONGEST_LINE].decode("utf-8", "replace").rstrip("\r"))

    def _tell_cut(self) -> None:
        if self._cut:
            cut, self._cut = self._cut, 0
            self._on_cut(cut)


class _Allowance:
    """A token bucket of one second's worth: a burst of ``rate`` bytes, then ``rate`` bytes a second; 0 is no limit."""

    def __init__(self, rate: int, now: Callable[[], float]) -> None:
        self._rate = rate
        self._left = float(rate)
        self._now = now
        self._refilled = 0.0

    def covers(self, chunk: bytes) -> bool:
        """Spend what logging a chunk costs. False if that is too much now.

        Counting lines is costly in a flood of short ones, so a chunk that fails by its lines empties the bucket: the
        next ones fail by their size.
        """
        if not self._rate:
            return True
        now = self._now()
        self._left = min(float(self._rate), self._left + (now - self._refilled) * self._rate)
        self._refilled = now
        if len(chunk) > self._left:
            return False
        costs = len(chunk) + LINE_COSTS * chunk.count(b"\n")
        affordable = costs <= self._left
        self._left = self._left - costs if affordable else 0.0
        return affordable


def _widen(descriptor: int) -> None:
    try:
        fcntl.fcntl(descriptor, _PIPE_SIZE or 0, READ * 4)
    except OSError:
        return  # the user's share of pipe memory is used up: the pipe stays as it is
