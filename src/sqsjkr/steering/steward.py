"""Keeps a worker's entry in the roster, and obeys the board: pause, drain, roll call."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace

from sqsjkr import clock
from sqsjkr.errors import BackendUnavailable
from sqsjkr.leases.budget import LeaseBudget
from sqsjkr.leases.live import ROSTER_KEPT, Board, Entry, Notice, Presence, Roster
from sqsjkr.telemetry.events import Event, emit
from sqsjkr.telemetry.outage import Outage


class Steward:
    """``open``, then ``keep`` until the worker has stopped, then ``close``. An observer: no job waits for it.

    An idle worker writes nothing between its start and its stop, but for an answer to a roll call, and twice a day.
    """

    def __init__(
        self,
        roster: Roster,
        fleet: str,
        entry: Entry,
        presence: Presence,
        *,
        budget: LeaseBudget,
    ) -> None:
        self._roster = roster
        self._fleet = fleet
        self._entry = entry
        self._presence = presence
        self._budget = budget
        self._entered_at = float("-inf")
        self._looked_at = float("-inf")
        self._outage = Outage("the roster", Event.ROSTER_FAILED, Event.ROSTER_RECOVERED)
        self._retry_at = 0.0

    async def open(self) -> None:
        """Enter the roster and read the board once, before the first job is taken."""
        await self._once()

    async def keep(self) -> None:
        """Keep the entry and read the board, until cancelled."""
        while True:
            await asyncio.sleep(min(1.0, self._budget.heartbeat_every))
            try:
                await self._once()
            except Exception as bug:  # noqa: BLE001 - an observer fails open
                emit(Event.LOG, f"the roster met a bug in sqsjkr, please report it: {bug!r}")

    async def close(self) -> None:
        """Leave the roster: the worker has stopped in order."""
        with contextlib.suppress(BackendUnavailable, TimeoutError):  # its entry lapses by itself
            async with asyncio.timeout(self._budget.give_back_within):
                await self._roster.leave(self._fleet, self._entry.worker)

    async def _once(self) -> None:
        now = clock.now()
        if now < self._retry_at:
            return
        try:
            await self._look(now)
            if self._entry.session != self._presence.session or now - self._entered_at > ROSTER_KEPT / 2:
                await self._enter(now)
        except BackendUnavailable as why:
            self._retry_at = clock.now() + self._outage.failed(why)
        else:
            self._outage.ended()

    async def _look(self, now: float) -> None:
        """Read the board if it is time, and obey it."""
        if now - self._looked_at < self._budget.board_every:
            return
        board = await self._roster.read_board(self._fleet)
        if self._entered_at == float("-inf") or board.call > self._entry.call:
            self._entry = replace(self._entry, call=board.call)
            await self._enter(now)
        self._looked_at = now
        self._obey(board)

    async def _enter(self, now: float) -> None:
        self._entry = replace(self._entry, session=self._presence.session)
        self._entry = replace(self._entry, started=await self._roster.enter(self._fleet, self._entry))
        self._entered_at = now

    def _obey(self, board: Board) -> None:
        drained = board.drained.get(self._entry.host) or board.drained.get(self._entry.worker)
        if drained and drained.at > self._entry.started:
            if self._presence.stop(why := f"drained {_words(drained)}"):
                emit(Event.ORDER_OBEYED, why, by=drained.by)
            return
        notice = board.paused or drained
        if notice is None:
            if self._presence.held:
                emit(Event.ORDER_OBEYED, f"new jobs again; it was {self._presence.held}")
                self._presence.go_on()
            return
        why = f"{'paused' if board.paused else 'this host is drained:'} {_words(notice)}"
        if why != self._presence.held:
            emit(Event.ORDER_OBEYED, f"no new jobs: {why}", by=notice.by)
            self._presence.hold(why)


def _words(notice: Notice) -> str:
    return f"by {notice.by}{f': {notice.why}' if notice.why else ''}"
