"""Memory that the worker shares with its launcher and the backstop: its heartbeat, and the jobs that run just now.

Writing to it costs no system call, so a job costs the launcher nothing; and its content outlives the worker.
"""

from __future__ import annotations

import mmap
import os
import socket
import struct

# What changes while another process reads it is set through a memoryview: one number, native and aligned, in one store.
# struct clears its bytes before it writes them: a reader that comes in between takes a live worker for a silent one.
_NUMBER = 8
_BEAT, _DEADLINE, _WORKER = 0, 1, 2
_JSON_AT = 3 * _NUMBER
_FIRST = 64
MARK_LENGTH = 24
"""Bytes of an attempt's mark (ASCII)."""
_SLOT = struct.Struct(f"@{MARK_LENGTH}sqq")
_LEADER_AT, _REVOKED_AT = MARK_LENGTH, MARK_LENGTH + _NUMBER
CAPACITY = 16_384
"""Attempts that can run at once; pages never touched take no memory."""
NO_LEADER = 0
"""The leader of an attempt whose process is being started."""
REAPED = -1
"""The leader of an attempt whose first process has ended and was waited for: its pid may be another's by now."""


class Attempts:
    """The attempts that run just now, each in a slot of its own: its mark, and the leader of its process group."""

    def __init__(self, memory: mmap.mmap) -> None:
        self._memory = memory
        self._numbers = memoryview(memory).cast("q")
        self._free: list[int] = []
        self._used = 0

    def enter(self, mark: str) -> int:
        """Record an attempt that is about to start a process; return its slot here."""
        if self._free:
            slot = self._free.pop()
        else:
            slot, self._used = self._used, self._used + 1
        _SLOT.pack_into(self._memory, _at(slot), mark.encode(), NO_LEADER, 0)
        return slot

    def leads(self, slot: int, pid: int) -> None:
        """Record ``pid`` as the attempt's first process, which leads its group; or ``REAPED``."""
        self._numbers[(_at(slot) + _LEADER_AT) // _NUMBER] = pid

    def leader(self, slot: int) -> int:
        """The pid of the attempt's first process, ``NO_LEADER`` or ``REAPED``."""
        return self._numbers[(_at(slot) + _LEADER_AT) // _NUMBER]

    def revoke(self, slot: int) -> None:
        """Have the launcher not start this attempt's process, if it has not yet. It still answers."""
        self._numbers[(_at(slot) + _REVOKED_AT) // _NUMBER] = 1

    def is_revoked(self, slot: int) -> bool:
        """Whether the worker has no use any more for the start of this attempt's process."""
        return bool(self._numbers[(_at(slot) + _REVOKED_AT) // _NUMBER])

    def leave(self, slot: int) -> None:
        """Forget an attempt that has ended: what it left in the background no longer belongs to the job."""
        _SLOT.pack_into(self._memory, _at(slot), b"", 0, 0)
        self._free.append(slot)

    def running(self) -> dict[str, int]:
        """Marks of the attempts that run, each with the leader of its process group."""
        found = {}
        for slot in range(CAPACITY):
            mark, pid, _ = _SLOT.unpack_from(self._memory, _at(slot))
            if mark.strip(b"\0"):
                found[mark.rstrip(b"\0").decode()] = pid
        return found


class SharedState:
    """Made before the fork. The worker writes; launcher and backstop read; who starts a process writes down its pid."""

    def __init__(self) -> None:
        self.launcher = 0
        """The launcher's pid, set before the fork; 0 without a launcher."""
        self.adopts_orphans = False
        """Whether the launcher becomes the parent of all below it that lose theirs; set before the fork."""
        self.line: socket.socket | None = None
        """The worker's end of the line to its launcher; None if the worker starts its commands itself."""
        self._memory = mmap.mmap(-1, _FIRST + CAPACITY * _SLOT.size)
        self._times = memoryview(self._memory).cast("d")
        self._numbers = memoryview(self._memory).cast("q")
        self.attempts = Attempts(self._memory)
        """What runs just now."""

    def heartbeat(self, now: float, deadline: float) -> None:
        """Record that the event loop is alive at ``now`` and that jobs with locks must have ended by ``deadline``.

        Both are seconds of ``clock.now``.
        """
        self._times[_DEADLINE] = deadline
        self._times[_BEAT] = now

    def last_heartbeat(self) -> tuple[float, float]:
        """The last heartbeat: (now, deadline); (0, 0) before the first."""
        return self._times[_BEAT], self._times[_DEADLINE]

    def set_worker(self, pid: int) -> None:
        """Record the worker's pid."""
        self._numbers[_WORKER] = pid

    def worker(self) -> int:
        """The worker's pid, 0 if it was not started yet."""
        return self._numbers[_WORKER]

    def log_as_json(self) -> None:
        """Have launcher and backstop write JSON, as the worker does."""
        self._memory[_JSON_AT] = 1

    def logs_as_json(self) -> bool:
        """Whether the log is written as JSON."""
        return self._memory[_JSON_AT] == 1


def _at(slot: int) -> int:
    return _FIRST + slot * _SLOT.size


def launcher_is_dead(shared: SharedState) -> bool:
    """In the worker: whether the launcher that started it has died. False if there never was a launcher."""
    return shared.launcher != 0 and os.getppid() != shared.launcher


def root_of_jobs(shared: SharedState) -> int:
    """In the worker: the pid from which every process of a job descends; 0 if there is none, or none any more."""
    return shared.launcher if shared.adopts_orphans and not launcher_is_dead(shared) else 0
