"""One page of memory that the worker and its guard share: the worker's pulse, and what it runs just now.

Writing to it costs no system call, so a job costs the guard nothing; and what stands in it outlives the worker.
"""

from __future__ import annotations

import mmap
import struct

_PULSE = struct.Struct("=dd")
_PID = struct.Struct("=q")
_JSON_AT = _PULSE.size + _PID.size
_FIRST = 64
MARK_LENGTH = 24
"""Bytes of an attempt's mark (ASCII)."""
_SLOT = struct.Struct(f"={MARK_LENGTH}sq")
CAPACITY = 16_384
"""Attempts that can run at once; pages never touched take no memory."""


class SharedState:
    """Made before the fork; one writer (the worker), one reader (the guard)."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, _FIRST + CAPACITY * _SLOT.size)
        self._free: list[int] = []
        self._used = 0
        self._slots: dict[str, int] = {}

    def beat(self, now: float, fence: float) -> None:
        """The event loop is alive at ``now``; what is locked must be gone by ``fence`` (both on ``clock.now``)."""
        _PULSE.pack_into(self._memory, 0, now, fence)

    def pulse(self) -> tuple[float, float]:
        """The last beat: (now, fence); (0, 0) before the first."""
        now, fence = _PULSE.unpack_from(self._memory, 0)
        return now, fence

    def set_worker(self, pid: int) -> None:
        """Which process the worker is."""
        _PID.pack_into(self._memory, _PULSE.size, pid)

    def worker(self) -> int:
        """The worker's pid."""
        return int(_PID.unpack_from(self._memory, _PULSE.size)[0])

    def speak_json(self) -> None:
        """The log is for machines, and so are last words."""
        self._memory[_JSON_AT] = 1

    def speaks_json(self) -> bool:
        """Is the log for machines?"""
        return self._memory[_JSON_AT] == 1

    def enter(self, mark: str) -> None:
        """An attempt is about to start a process."""
        if self._free:
            index = self._free.pop()
        else:
            index, self._used = self._used, self._used + 1
        self._slots[mark] = index
        _SLOT.pack_into(self._memory, self._at(index), mark.encode(), 0)

    def leads(self, mark: str, pid: int) -> None:
        """The attempt's process group is ``pid``'s."""
        _SLOT.pack_into(self._memory, self._at(self._slots[mark]), mark.encode(), pid)

    def leave(self, mark: str) -> None:
        """The attempt has ended: what it left in the background is no longer the job."""
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
