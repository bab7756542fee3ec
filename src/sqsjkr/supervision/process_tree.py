"""Who descends from whom on this host, and which job a process belongs to. Linux; elsewhere process groups must do."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Collection, Iterable, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import NamedTuple

from sqsjkr import clock

# No pathlib, no dataclasses here: the guard imports this and little else, and keeps it in memory for good.
# ruff: noqa: PTH110, PTH123, PTH208

MARK = "SQSJKR_ATTEMPT"
"""The variable that every process of a job inherits, sessions of their own and double forks included."""
_PROC = "/proc"
HAS_PROC = os.path.exists(f"{_PROC}/self/stat")
_ZOMBIE, _DEAD = "Z", "X"
_STARTTIME = 16  # field 22 of proc_pid_stat(5), counted from the one after the group
_CENSUS_KEPT = 0.025


class Process(NamedTuple):
    """One living process."""

    pid: int
    parent: int
    group: int
    started: int
    """When it was started, in clock ticks: tells it from a later process with the same pid."""


_NOBODY: Mapping[int, Process] = MappingProxyType({})


def living() -> dict[int, Process]:
    """Every process that has not ended, by pid."""
    found = {}
    for name in os.listdir(_PROC):
        if name.isdigit() and (process := _read(int(name))) is not None:
            found[process.pid] = process
    return found


def descendants(ancestor: int, processes: dict[int, Process]) -> set[int]:
    """Pids of all that descend from ``ancestor``, itself not included."""
    children: dict[int, list[int]] = {}
    for process in processes.values():
        children.setdefault(process.parent, []).append(process.pid)
    found: set[int] = set()
    unseen = list(children.get(ancestor, ()))
    while unseen:
        pid = unseen.pop()
        if pid not in found:
            found.add(pid)
            unseen.extend(children.get(pid, ()))
    return found


def mark_of(pid: int) -> str | None:
    """The job attempt a process was started for; None if it carries no mark or may not be read."""
    wanted = MARK.encode() + b"="
    with contextlib.suppress(OSError):
        for entry in _content(pid, "environ").split(b"\0"):
            if entry.startswith(wanted):
                return entry[len(wanted) :].decode("ascii", "replace")
    return None


def family(mark: str, leader: int, known: Mapping[int, Process] = _NOBODY) -> dict[int, Process]:
    """Every living process of one attempt: its group, whatever carries its mark, who was ``known``; all descendants.

    Ask before anybody is ended: a child that emptied its environment and lost its parent is found as ``known`` alone.
    """
    if not HAS_PROC:
        return {leader: Process(leader, os.getpid(), leader, 0)} if _group_lives(leader) else {}
    processes, marks = _census(int(clock.now() / _CENSUS_KEPT))
    # 0: it is being started. Group 0 is not its own: kernel threads have it, and whoever was put into a pid namespace.
    ours = {pid for pid, process in processes.items() if leader and leader in {process.group, pid}}
    ours |= {pid for pid, process in known.items() if pid in processes and processes[pid].started == process.started}
    ours |= marks.get(mark, set())
    for pid in tuple(ours):
        ours |= descendants(pid, processes)
    return {pid: processes[pid] for pid in ours - {os.getpid()} if _read(pid) is not None}


@lru_cache(maxsize=1)
def _census(_moment: int) -> tuple[dict[int, Process], dict[str, set[int]]]:
    """One look at the host, shared by all jobs that are being ended in the same moment."""
    processes = living()
    marks: dict[str, set[int]] = {}
    for pid in processes:
        if (mark := mark_of(pid)) is not None:
            marks.setdefault(mark, set()).add(pid)
    return processes, marks


def send(pids: Iterable[int], number: signal.Signals) -> None:
    """Signal each process; one that has ended meanwhile is no error."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def send_to_group(leader: int, number: signal.Signals) -> None:
    """Signal a job's process group; one that has ended meanwhile is no error."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, number)


def doomed(ancestor: int, running: Collection[str], spared: Collection[int]) -> set[int]:
    """What must end when the worker below ``ancestor`` is dead: all but what finished jobs left behind.

    A process without a readable mark may be anybody's, so it ends too (a guard fails closed).
    """
    processes = living()
    below = descendants(ancestor, processes) - set(spared)
    left_over = {pid for pid in below if (mark := mark_of(pid)) is not None and mark not in running}
    for pid in below - left_over:
        left_over -= descendants(pid, processes)
    return below - left_over


def _group_lives(leader: int) -> bool:
    try:
        os.killpg(leader, 0)
    except OSError:
        return False
    return True


def _content(pid: int, name: str) -> bytes:
    with open(f"{_PROC}/{pid}/{name}", "rb", buffering=0) as file:
        return file.readall()


def _read(pid: int) -> Process | None:
    try:
        stat = _content(pid, "stat")
    except OSError:
        return None
    # The command's name stands in parentheses and may hold anything, parentheses included (proc_pid_stat(5)).
    state, parent, group, *others = stat[stat.rindex(b")") + 2 :].split(b" ", 20)
    if state.decode() in {_ZOMBIE, _DEAD}:
        return None
    return Process(pid, int(parent), int(group), int(others[_STARTTIME]))
