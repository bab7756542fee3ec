"""Memory that the worker shares with its guard and the backstop: its heartbeat, and the jobs that run just now.

Writing to it costs no system call, so a job costs the guard nothing; and its content outlives the worker.
"""

from __future__ import annotations

import mmap
import os
import struct

_HEARTBEAT = struct.Struct("=dd")
_PID = struct.Struct("=q")
_JSON_AT = _HEARTBEAT.size + _PID.size
_FIRST = 64
MARK_LENGTH = 24
"""Bytes of an attempt's mark (ASCII)."""
_SLOT = struct.Struct(f"={MARK_LENGTH}sq")
CAPACITY = 16_384
"""Attempts that can run at once; pages never touched take no memory."""


class SharedState:
    """Made before the fork. The worker writes; guard and backstop read."""

    def __init__(self) -> None:
        self.guard = 0
        """The guard's pid, set before the fork; 0 without a guard."""
        self.adopts_orphans = False
        """Whether the guard becomes the parent of all below it that lose theirs; set before the fork."""
        self._memory = mmap.mmap(-1, _FIRST + CAPACITY * _SLOT.size)
        self._free: list[int] = []
        self._used = 0
        self._slots: dict[str, int] = {}

    def heartbeat(self, now: float, deadline: float) -> None:
        """Record that the event loop is alive at ``now`` and that jobs with locks must have ended by ``deadline``.

        Both are seconds of ``clock.now``.
        """
        _HEARTBEAT.pack_into(self._memory, 0, now, deadline)

    def last_heartbeat(self) -> tuple[float, float]:
        """The last heartbeat: (now, deadline); (0, 0) before the first."""
        now, deadline = _HEARTBEAT.unpack_from(self._memory, 0)
        return now, deadline

    def set_worker(self, pid: int) -> None:
        """Record the worker's pid."""
        _PID.pack_into(self._memory, _HEARTBEAT.size, pid)

    def worker(self) -> int:
        """The worker's pid, 0 if it was not started yet."""
        return int(_PID.unpack_from(self._memory, _HEARTBEAT.size)[0])

    def log_as_json(self) -> None:
        """Have guard and backstop write JSON, as the worker does."""
        self._memory[_JSON_AT] = 1

    def logs_as_json(self) -> bool:
        """Whether the log is written as JSON."""
        return self._memory[_JSON_AT] == 1

    def enter(self, mark: str) -> None:
        """Record an attempt that is about to start a process."""
        if self._free:
            index = self._free.pop()
        else:
            index, self._used = self._used, self._used + 1
        self._slots[mark] = index
        _SLOT.pack_into(self._memory, self._at(index), mark.encode(), 0)

    def leads(self, mark: str, pid: int) -> None:
        """Record ``pid`` as the leader of the attempt's process group."""
        _SLOT.pack_into(self._memory, self._at(self._slots[mark]), mark.encode(), pid)

    def leave(self, mark: str) -> None:
        """Forget an attempt that has ended: what it left in the background no longer belongs to the job."""
        index = self._slots.pop(mark)
        _SLOT.pack_into(self._memory, self._at(index), b"", 0)
        self._free.append(index)

    def running(self) -> dict[str, int]:
        """Marks of the attempts that run, each with its process group (0 while it is being started)."""
        found = {}
        for index in range(CAPACITY):
            mark, pid = _SLOT.unpack_from(self._memory, self._at(index))
            if mark.strip(b"\0"):
                found[mark.rstrip(b"\0").decode()] = pid
        return found

    @staticmethod
    def _at(index: int) -> int:
        return _FIRST + index * _SLOT.size


def guard_is_dead(shared: SharedState) -> bool:
    """In the worker: whether the guard that started it has died. False if there never was a guard."""
    return shared.guard != 0 and os.getppid() != shared.guard


def root_of_jobs(shared: SharedState) -> int:
    """In the worker: the pid from which every process of a job descends; 0 if there is none, or none any more."""
    return shared.guard if shared.adopts_orphans and not guard_is_dead(shared) else 0
