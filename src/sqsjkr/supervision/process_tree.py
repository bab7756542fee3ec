"""Which processes belong to which job, and how they are signalled. Linux; elsewhere process groups must do.

Nothing can leave the tree below a launcher, which is a child subreaper. So a census walks down from there, and other
processes of the host cost nothing. Without a launcher it reads the whole of ``/proc``.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Collection, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import NamedTuple

# No pathlib, dataclasses or asyncio here: the launcher imports this and little else, and keeps it in memory for good.
# ruff: noqa: PTH110, PTH208

MARK = "SQSJKR_ATTEMPT"
"""The variable that every process of a job inherits, sessions of their own and double forks included."""
EMPTY_LOOKS = 2
"""Censuses in a row that must find no process of a job: one alone misses a child whose parent ends while it is taken,
and the kernel may leave a child out of a parent's list when others of the list end (fs/proc/array.c)."""
_PROC = "/proc"
HAS_PROC = os.path.exists(f"{_PROC}/self/stat")
_HAS_CHILDREN = os.path.exists(f"{_PROC}/thread-self/children")
"""Whether the kernel lists children (CONFIG_PROC_CHILDREN); if not, every census reads the whole of ``/proc``."""
_ZOMBIE, _DEAD = b"Z", b"X"
_THREADS, _STARTED = 14, 16  # fields 20 and 22 of proc_pid_stat(5), counted from the one after the group
_CHUNK = 65_536
_WANTED = MARK.encode() + b"="


class Process(NamedTuple):
    """One living process."""

    pid: int
    parent: int
    group: int
    started: int
    """When it was started, in clock ticks: tells it from a later process with the same pid."""
    threads: int = 1

    def lives(self) -> bool:
        """Whether it still runs: a later process with its pid is another one."""
        now = _read(self.pid)
        return now is not None and now.started == self.started

    def is_in_its_group(self) -> bool:
        """Whether it still runs, in the same process group. True if it cannot be looked at: it was seen a moment ago.

        While it does, the group's number is no other group's: the kernel gives out no pid that a group has.
        """
        if not self.started or not HAS_PROC:
            return True
        try:
            now = _read(self.pid)
        except OSError:  # no descriptor left to look with
            return True
        return now is not None and (now.started, now.group) == (self.started, self.group)

    def send(self, number: signal.Signals) -> None:
        """Signal it, and no later process with its pid; if it has ended meanwhile that is no error.

        Where it can't be looked at, it is taken for what was seen a moment ago.
        """
        try:
            handle = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return
        except (AttributeError, OSError):  # no such thing on this system, or no descriptor left
            send([self.pid], number)
            return
        try:
            is_another = not self.lives()
        except OSError:  # no descriptor left to look with
            is_another = False
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if not is_another:
                signal.pidfd_send_signal(handle, number)
        os.close(handle)


NO_PROCESSES: Mapping[int, Process] = MappingProxyType({})


class Census:
    """The processes that may belong to jobs, read once for all jobs that are being ended. Used again for each sweep.

    ``reads`` counts the files of ``/proc`` that were read.
    """

    def __init__(self) -> None:
        self.processes: dict[int, Process] = {}
        self.reads = 0
        self._children: dict[int, list[int]] = {}
        self._groups: dict[int, list[int]] = {}
        self._marks: dict[tuple[int, int], str | None] = {}
        self._marked: dict[str, list[int]] = {}

    def take(self, root: int, known: Iterable[Process] = ()) -> None:
        """Read all that descends from ``root``, and from those ``known``; the whole host if ``root`` is 0."""
        for _ in self.steps(root, known):
            pass

    def steps(self, root: int, known: Iterable[Process] = ()) -> Iterator[None]:
        """As ``take``, pausing after each process. The census is valid once this is exhausted.

        Raises:
            OSError: ``/proc`` cannot be read, say for want of a descriptor: what was not seen may still be there.
        """
        found: dict[int, Process] = {}
        if root and _HAS_CHILDREN:
            # Those that are known are looked at whether or not their parents lead to them: see EMPTY_LOOKS.
            for start in (root, *(process.pid for process in known)):
                yield from self._below(start, found)
        else:
            for name in os.listdir(_PROC):
                if name.isdigit() and (process := self._stat(int(name))) is not None:
                    found[process.pid] = process
                yield
        marks: dict[tuple[int, int], str | None] = {}
        for process in found.values():
            key = process.pid, process.started
            if key in self._marks:
                marks[key] = self._marks[key]
            else:
                self._note_mark(key, marks)
                yield
        self._arrange(found, marks)

    def family(self, mark: str, leader: int, known: Mapping[int, Process] = NO_PROCESSES) -> dict[int, Process]:
        """The processes of one attempt: its group, what carries its mark, what was ``known``; and their descendants.

        Ask before the first signal: a child that emptied its environment and lost its parent is only found as
        ``known``.
        """
        # Without a leader it is known by its mark alone. Group 0 is no job's: kernel threads have it, for example.
        ours = {leader, *self._groups.get(leader, ())} if leader > 0 else set()
        ours |= {pid for pid, process in known.items() if self._is_still(process)}
        ours.update(self._marked.get(mark, ()))
        unseen = [pid for pid in ours if pid in self.processes]
        found: dict[int, Process] = {}
        while unseen:
            pid = unseen.pop()
            if pid not in found:
                found[pid] = self.processes[pid]
                unseen.extend(self._children.get(pid, ()))
        found.pop(os.getpid(), None)
        return found

    def doomed(self, ancestor: int, running: Collection[str], spared: Collection[int]) -> set[int]:
        """What must end when the worker below ``ancestor`` is dead: all but what finished jobs left behind.

        A process without a readable mark may be of any job, so it ends too (a guard fails closed).
        """
        found: set[int] = set()
        unseen = [(pid, False) for pid in self._children.get(ancestor, ())]
        while unseen:
            pid, ends = unseen.pop()
            if pid not in spared:
                mark = self._marks.get((pid, self.processes[pid].started))
                ends = ends or mark is None or mark in running
                if ends:
                    found.add(pid)
            unseen.extend((child, ends) for child in self._children.get(pid, ()))
        return found

    def below(self, ancestor: int) -> set[int]:
        """Pids of all that descend from ``ancestor``, itself not included."""
        found: set[int] = set()
        unseen = list(self._children.get(ancestor, ()))
        while unseen:
            pid = unseen.pop()
            found.add(pid)
            unseen.extend(self._children.get(pid, ()))
        return found

    def _below(self, start: int, found: dict[int, Process]) -> Iterator[None]:
        unseen = [start]
        while unseen:
            pid = unseen.pop()
            if pid in found or (process := self._stat(pid)) is None:
                continue
            found[pid] = process
            unseen.extend(self._children_of(process))
            yield

    def _stat(self, pid: int) -> Process | None:
        self.reads += 1
        return _read(pid)

    def _children_of(self, process: Process) -> list[int]:
        """Each thread has the children that it forked."""
        tasks = f"{_PROC}/{process.pid}/task"
        found: list[int] = []
        with contextlib.suppress(FileNotFoundError, ProcessLookupError, PermissionError):
            threads = (str(process.pid),) if process.threads == 1 else os.listdir(tasks)
            for thread in threads:
                self.reads += 1
                found += map(int, _content(f"{tasks}/{thread}/children").split())
        return found

    def _note_mark(self, key: tuple[int, int], marks: dict[tuple[int, int], str | None]) -> None:
        """The mark of a process stays what it was at first sight, whatever it executes later."""
        self.reads += 1
        try:
            environment = _content(f"{_PROC}/{key[0]}/environ")
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            return
        if environment:  # it is empty for a moment during exec, so emptiness says nothing yet
            marks[key] = _mark_in(environment)

    def _arrange(self, found: dict[int, Process], marks: dict[tuple[int, int], str | None]) -> None:
        children: dict[int, list[int]] = {}
        groups: dict[int, list[int]] = {}
        marked: dict[str, list[int]] = {}
        for process in found.values():
            children.setdefault(process.parent, []).append(process.pid)
            groups.setdefault(process.group, []).append(process.pid)
        for (pid, _), mark in marks.items():
            if mark is not None:
                marked.setdefault(mark, []).append(pid)
        self.processes, self._children, self._groups = found, children, groups
        self._marks, self._marked = marks, marked

    def _is_still(self, process: Process) -> bool:
        now = self.processes.get(process.pid)
        return now is not None and now.started == process.started


def has_ended(pid: int) -> bool:
    """Whether a process is gone, or a zombie. False if that cannot be seen."""
    if not HAS_PROC:
        return False
    try:
        return _read(pid) is None
    except OSError:  # no descriptor left to look with
        return False


def group_lives(leader: int) -> bool:
    """Whether a process group has a member, zombies included."""
    try:
        os.killpg(leader, 0)
    except OSError:
        return False
    return True


def send(pids: Iterable[int], number: signal.Signals) -> None:
    """Signal each process; one that has ended meanwhile is no error."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def send_to_group(leader: int, number: signal.Signals) -> None:
    """Signal a job's process group; one that has ended meanwhile is no error."""
    if leader <= 1:  # to kill(2), 0 is the caller's own group, and -1 every process that it may signal
        raise ValueError(f"{leader} leads no process group of a job")
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, number)


def _content(path: str) -> bytes:
    """Read a file of /proc in as few system calls as possible: there are thousands of files."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        content = b""
        while part := os.read(descriptor, _CHUNK):
            content += part
        return content
    finally:
        os.close(descriptor)


def _mark_in(environment: bytes) -> str | None:
    for entry in environment.split(b"\0"):
        if entry.startswith(_WANTED):
            return entry[len(_WANTED) :].decode("ascii", "replace")
    return None


def _read(pid: int) -> Process | None:
    try:
        stat = _content(f"{_PROC}/{pid}/stat")
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None
    # The command's name stands in parentheses and may hold anything, parentheses included (proc_pid_stat(5)).
    state, parent, group, *others = stat[stat.rindex(b")") + 2 :].split(b" ", 20)
    threads = int(others[_THREADS])
    if state in {_ZOMBIE, _DEAD} and threads <= 1:  # a first thread that ended before the others is a zombie, too
        return None
    return Process(pid, int(parent), int(group), int(others[_STARTED]), threads)
