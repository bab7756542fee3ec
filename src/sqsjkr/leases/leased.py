"""What locks and claims have in common: held under the session's name, released again later when in doubt."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from sqsjkr.errors import BackendUnavailable
from sqsjkr.leases.budget import LeaseBudget
from sqsjkr.leases.session import Session
from sqsjkr.leases.table import Heartbeat, Row, Table
from sqsjkr.runs import SHORT, THIS_WORKER, Holder
from sqsjkr.telemetry.events import Event, emit


class Leased:
    """What both ports share: a token of the session for all that was asked for, and echoes of what is in doubt."""

    def __init__(self, kind: str, table: Table, session: Session, budget: LeaseBudget) -> None:
        self._kind = kind
        self._budget = budget
        self._table = table
        self._session = session
        self.asked = {"taken": 0, "busy": 0, "error": 0}
        """How often the table was asked for one, by its answer."""
        self.takeovers = 0
        """How many were taken over from dead workers."""
        self._in_doubt: set[str] = set()
        self._echoes: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Begin to beat while anything is held."""
        await self._session.open()

    async def close(self) -> None:
        """Send no more echoes, beat no more."""
        for echo in self._echoes:
            echo.cancel()
        await asyncio.gather(*self._echoes, return_exceptions=True)
        await self._session.close()

    def proven_until(self) -> float:
        """Two thirds of a lease after the last successful beat was sent."""
        return self._session.proven_until()

    @property
    def last_beat(self) -> float | None:
        """When the last heartbeat that succeeded was sent, on ``clock.now``; None before the first."""
        return self._session.last_beat

    @contextlib.contextmanager
    def _taking(self, owner: str) -> Iterator[None]:
        """Around the requests that take: remembers whether one of them may still be on its way when they are over."""
        asked = self._session.now()
        try:
            yield
            self._session.check(self._token(owner))
        except BackendUnavailable:
            self.asked["error"] += 1
            self._in_doubt.add(owner)
            raise
        if self._session.now() - asked > self._budget.slow:
            self._in_doubt.add(owner)

    async def _hold(self, owner: str) -> str:
        return f"{await self._session.hold(self._token(owner))}/{owner}"

    def _holder(self, owner: str) -> str | None:
        name = self._session.holder(self._token(owner))
        return f"{name}/{owner}" if name else None

    def _drop(self, owner: str) -> None:
        self._session.drop(self._token(owner))

    async def _is_over(self, row: Row) -> bool:
        """May this row be taken over? Never a Go daemon's; at once if it is an echo of an attempt of our own."""
        if row.owner is None or row.session is None:
            return False
        attempt = row.owner.removeprefix(f"{row.session}/")
        if self._session.is_mine(row.session):
            return self._session.holder(self._token(attempt)) is None
        return await self._session.sightings.is_dead(row.session)

    def _taken_over(self, what: str, row: Row, **facts: Any) -> None:
        """Note that ``what`` is ours now, and whose it was."""
        if row.session is None or self._session.is_mine(row.session):  # an echo of our own
            return
        self.takeovers += 1
        seen = self._session.sightings.last(row.session) or Heartbeat(0, row.holder.host)
        where = f"pid {seen.pid or '?'} on {seen.host or 'an unknown host'}, session {row.session[:SHORT]}"
        text = f"{what} was taken over from a dead worker: {where}, no heartbeat for {self._budget.lease:g}s"
        emit(Event.LEASE_TAKEOVER, text, **facts, session=row.session, host=seen.host or None, pid=seen.pid or None)

    def _echo(self, owner: str, release: Callable[[], Awaitable[None]]) -> None:
        """Release once more later: a request that got no answer may reach the table after its release did."""
        if owner in self._in_doubt:
            self._in_doubt.discard(owner)
            task = asyncio.create_task(_again(release, self._budget.echoes))
            self._echoes.add(task)
            task.add_done_callback(self._echoes.discard)

    def _token(self, owner: str) -> str:
        return f"{self._kind}:{owner}"


def holder_of(row: Row, session: Session) -> Holder:
    """Return who holds the lock or claim of this row; the worker as its heartbeat shows it, if the row does not."""
    if row.owner is None:
        return replace(row.holder, note="a Go daemon, whose locks never lapse")
    name = row.session or ""
    if session.is_mine(name):
        return replace(row.holder, session=name, note=THIS_WORKER)
    seen = session.sightings.last(name)
    return replace(row.holder, session=name, host=row.holder.host or (seen.host if seen else ""))


async def _again(release: Callable[[], Awaitable[None]], pauses: Sequence[float]) -> None:
    for pause in pauses:
        await asyncio.sleep(pause)
        with contextlib.suppress(BackendUnavailable):
            await release()
