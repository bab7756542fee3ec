"""One worker's presence in the table: until when may it trust what it holds, and who else is dead?

No clock of another host is ever read. The holder remembers when it *sent* its last successful beat; an observer
remembers when it first *saw* that beat. A beat is seen after it was sent, so what the holder gives up by
``FENCE x lease`` is gone before any observer's lease is over (docs/explanation/leases.md, with the proof).
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import Callable
from typing import Protocol

from sqsjkr import clock
from sqsjkr.errors import BackendUnavailable
from sqsjkr.telemetry.events import Event, emit
from sqsjkr.telemetry.outage import Outage

LEASE = 30.0
"""Seconds that an observer must see one beat unchanged before it may take over."""
BEAT_EVERY = 5.0
"""Seconds between two beats of a worker that holds something; one that holds nothing beats only while
the table does not answer."""
FENCE = 2 / 3
"""The part of the lease after which a holder without a successful beat no longer trusts what it holds."""


class Beats(Protocol):
    """Where beats are written and read."""

    async def beat(self, session_id: str) -> None:
        """Add one to the session's beat. Raises ``BackendUnavailable``."""

    async def read_beat(self, session_id: str) -> int | None:
        """The session's beat, strongly consistent; None if it has never beaten. Raises ``BackendUnavailable``."""


class Session:
    """The name under which this process takes locks and claims, kept alive by one beat however many it holds.

    ``lease`` in seconds; ``now`` is the host's clock (``clock.now``); ``trouble`` is told of beats that fail.
    """

    def __init__(
        self,
        beats: Beats,
        *,
        lease: float = LEASE,
        now: Callable[[], float] = clock.now,
        trouble: Outage | None = None,
    ) -> None:
        self._beats = beats
        self._lease = lease
        self.now = now
        self._name = ""
        self._proof = float("-inf")
        self._held: dict[str, str] = {}
        self._lost: set[str] = set()
        self._seen: dict[str, tuple[int | None, float]] = {}
        self._beating: asyncio.Task[None] | None = None
        if trouble is None:
            trouble = Outage("the lock table", Event.TABLE_UNREACHABLE, Event.TABLE_RECOVERED)
        self._trouble = trouble

    async def open(self) -> None:
        """Begin to beat whenever something is held. Opening twice is opening once."""
        if self._beating is None:
            self._beating = asyncio.create_task(self._beat_forever())

    async def close(self) -> None:
        """Stop beating; what is still held lapses after one lease."""
        if self._beating is not None:
            self._beating.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._beating
            self._beating = None

    async def hold(self, token: str) -> str:
        """The session name to take ``token`` under. From here until ``drop`` the name is kept alive.

        Raises ``BackendUnavailable`` when the lease has lapsed and cannot be renewed: then nothing may be taken.
        """
        now = self.now()
        if not self._held and now - self._proof >= BEAT_EVERY:
            # Nobody holds a row of the old name, so nobody watches the new one yet: its lease begins now, for free.
            self._name, self._proof = uuid.uuid4().hex, now
        if now >= self._fence():
            await self._beat()
        return self._held.setdefault(token, self._name)

    def check(self, token: str) -> None:
        """Raises ``BackendUnavailable`` if the lease lapsed since ``hold``: what was taken may not be ours any more.

        Ask after every taking: its answer may have been longer on its way than the lease lasts.
        """
        if self.now() >= self._fence() or token in self._lost:
            raise BackendUnavailable("the table's answer came after the lease was over: what it gave is not ours")

    def holder(self, token: str) -> str | None:
        """The session name under which ``token`` is held, None if it is not."""
        return self._held.get(token)

    def is_mine(self, session_id: str) -> bool:
        """Is this a name under which this process holds, or could hold, something now?"""
        return session_id == self._name or session_id in self._held.values()

    def drop(self, token: str) -> None:
        """``token`` is given back, or was never taken."""
        self._held.pop(token, None)
        self._lost.discard(token)

    def lost(self, kind: str) -> bool:
        """Is a token of this kind ("lock") still held that the lease once lapsed on? A later beat does not heal it.

        Somebody else may have taken it over in between, and a host that was suspended did not notice.
        """
        return any(token.startswith(kind) for token in self._lost)

    def proven_until(self) -> float:
        """Until when what is held is surely still ours; forever while nothing is held."""
        return self._fence() if self._held else float("inf")

    async def is_dead(self, session_id: str) -> bool:
        """Has this session shown one and the same beat for a whole lease, seen from here?

        Raises ``BackendUnavailable``. Ask only after reading the row that names the session: a session that lapsed
        beats before it takes anything new, so a beat read after the row is never older than the row.
        """
        if self.is_mine(session_id):
            return False
        asked = self.now()
        beat = await self._beats.read_beat(session_id)
        known = self._seen.get(session_id)
        if known is None or known[0] != beat:
            self._seen[session_id] = (beat, self.now())
            self._forget_old_sightings()
            return False
        return asked - known[1] >= self._lease

    def _fence(self) -> float:
        return self._proof + self._lease * FENCE

    async def _beat(self) -> None:
        sent, name = self.now(), self._name
        await self._beats.beat(name)
        if name != self._name:
            return
        if sent >= self._fence() and self._held:
            self._lost |= self._held.keys()
            emit(Event.LEASE_RESUMED, "the table answers again: locks may be taken")
        self._proof = max(self._proof, sent)

    async def _beat_forever(self) -> None:
        while True:
            await asyncio.sleep(min(1.0, BEAT_EVERY))
            if not self._name or not (self._held or self._trouble) or self.now() - self._proof < BEAT_EVERY:
                continue  # in trouble it beats on with nothing held, or nobody would learn that the table answers again
            try:
                await self._beat()
                self._trouble.over()
            except BackendUnavailable as failure:
                self._trouble.failed(f"no beat: {failure}")
            except Exception as bug:  # noqa: BLE001 - a worker that beats no more loses all its locks
                emit(Event.LOG, f"no beat, by a bug in sqsjkr, please report it: {bug!r}")

    def _forget_old_sightings(self) -> None:
        if len(self._seen) > 1000:  # noqa: PLR2004 - any bound will do; a sighting costs one more lease at worst
            oldest = min(self._seen, key=lambda name: self._seen[name][1])
            del self._seen[oldest]
