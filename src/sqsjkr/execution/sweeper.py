"""End jobs: TERM, then KILL, until none of their processes is left. One sweep of ``/proc`` serves all jobs at once."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping
from weakref import WeakKeyDictionary

from sqsjkr.supervision import process_tree
from sqsjkr.supervision.process_tree import Census, Process
from sqsjkr.supervision.shared_state import NO_LEADER, SharedState, root_of_jobs

_SWEEP_EVERY = 0.05
_EMPTY_LOOKS_BY_MARK = 20
"""In a row, for a job of which the leader is not known: it shows no mark for a moment while it calls exec."""
_SLICE = 0.005
"""Seconds of one sweep that pass before the event loop has its turn."""


class Ending:
    """One job that is being ended. ``await ending.gone``."""

    def __init__(self, shared: SharedState, mark: str, leader: int, kill_after: float) -> None:
        loop = asyncio.get_running_loop()
        self.shared = shared
        self.mark = mark
        self.leader = leader
        self.kill_after = kill_after
        """Seconds from now to the KILL."""
        self.gone: asyncio.Future[None] = loop.create_future()
        self.members: Mapping[int, Process] = {}
        self._begun = loop.time()
        self._signalled = False
        self._empty_looks = 0
        self._looks_without_group = 0
        self._enough = process_tree.EMPTY_LOOKS if leader > 0 else _EMPTY_LOOKS_BY_MARK

    def act_on(self, members: Mapping[int, Process]) -> None:
        """Take the next step, given the processes that were seen alive."""
        self.members = members
        self._look_for_group()
        if not self._signalled:
            self._signalled = True
            self._send(signal.SIGTERM)
            return
        self._empty_looks = 0 if members else self._empty_looks + 1
        if members and self.gone.get_loop().time() - self._begun >= self.kill_after:
            self._send(signal.SIGKILL)
        if self._empty_looks >= self._enough and not self.gone.done():
            self.gone.set_result(None)

    def _send(self, number: signal.Signals) -> None:
        """Signal the process group, and those who left it."""
        in_group = [process for process in self.members.values() if process.group == self.leader > 0]
        if any(process.is_in_its_group() for process in in_group):
            process_tree.send_to_group(self.leader, number)
        for process in self.members.values():
            if process.group != self.leader:
                process.send(number)

    def _look_for_group(self) -> None:
        """Forget the leader's pid when its group has been empty for a while: it may soon be another process's."""
        has_group = any(process.group == self.leader for process in self.members.values())
        self._looks_without_group = 0 if has_group else self._looks_without_group + 1
        if self._looks_without_group >= process_tree.EMPTY_LOOKS:
            self.leader = NO_LEADER


class _Turns:
    """Splits a sweep into slices, so that the event loop goes on."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._until = self._loop.time() + _SLICE

    async def give_way(self) -> None:
        """Let the event loop do what is due, if this slice is over."""
        if self._loop.time() > self._until:
            await asyncio.sleep(0)
            self._until = self._loop.time() + _SLICE


class Sweeper:
    """Ends all jobs of one worker together, in one task that runs only while there are any."""

    def __init__(self) -> None:
        self._endings: list[Ending] = []
        self._sweeping: asyncio.Task[None] | None = None
        self.sweeps = 0
        """How many there were; each reads ``/proc`` once."""
        self.census = Census()

    def end(self, ending: Ending) -> None:
        """Begin to end a job: the first look at its processes comes before TERM, which may orphan what it started."""
        self._endings.append(ending)
        if self._sweeping is None or self._sweeping.done():
            self._sweeping = asyncio.create_task(self._sweep())

    async def _sweep(self) -> None:
        try:
            while self._endings:
                asked = tuple(self._endings)  # what is added during a census waits for the next: this may be past it
                turns = _Turns()
                seen = await self._look(asked, turns)
                self.sweeps += 1
                for ending in asked:
                    with contextlib.suppress(OSError):  # no descriptor left: what can't be signalled is not gone
                        ending.act_on(self._members(ending) if seen else _unseen(ending))
                    await turns.give_way()
                self._endings = [ending for ending in self._endings if not ending.gone.done()]
                if self._endings:
                    await asyncio.sleep(_SWEEP_EVERY)
        except asyncio.CancelledError:  # the event loop is being closed; the launcher knows what still runs
            for ending in self._endings:
                ending.gone.cancel()
            raise
        except Exception as bug:  # noqa: BLE001 - each job that waits for this task raises it
            for ending in self._endings:
                if not ending.gone.done():
                    ending.gone.set_exception(bug)
        finally:
            self._endings.clear()

    async def _look(self, asked: tuple[Ending, ...], turns: _Turns) -> bool:
        """Take a census in slices. False if it could not be taken: what cannot be seen is not gone."""
        if not process_tree.HAS_PROC:
            return True
        shared = asked[0].shared
        while True:
            root = root_of_jobs(shared)
            known = [process for ending in asked for process in ending.members.values()]
            try:
                for _ in self.census.steps(root, known):
                    await turns.give_way()
            except OSError:  # no descriptor left to look with
                return False
            if root == root_of_jobs(shared):  # else the launcher died meanwhile, and orphans are somewhere else
                return True

    def _members(self, ending: Ending) -> Mapping[int, Process]:
        if process_tree.HAS_PROC:
            return self.census.family(ending.mark, ending.leader, ending.members)
        return _unseen(ending) if ending.leader > 0 and process_tree.group_lives(ending.leader) else {}


def _unseen(ending: Ending) -> Mapping[int, Process]:
    """What is taken for alive without a look: what was, or else the shell."""
    leader = ending.leader
    return ending.members or {leader: Process(leader, os.getpid(), leader, 0)}


_SWEEPERS: WeakKeyDictionary[SharedState, Sweeper] = WeakKeyDictionary()


def sweeper_of(shared: SharedState) -> Sweeper:
    """The one sweeper of the worker that this state belongs to."""
    if shared not in _SWEEPERS:
        _SWEEPERS[shared] = Sweeper()
    return _SWEEPERS[shared]
