"""A session: one worker's presence in the table, until when it trusts what it holds, and which others are dead.

No clock of another host is ever read. The holder remembers when it *sent* its last successful heartbeat; an observer
remembers when it first *saw* that heartbeat. A heartbeat is seen after it was sent, so what the holder gives up when
``LeaseBudget.trusted`` is over is gone before any observer's lease is over (docs/explanation/leases.md, with the
proof).
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import uuid
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Protocol

from sqsjkr import clock
from sqsjkr.errors import BackendUnavailable
from sqsjkr.leases.budget import STANDARD, LeaseBudget
from sqsjkr.leases.live import Absent, Presence
from sqsjkr.leases.table import Heartbeat
from sqsjkr.telemetry.events import Event, emit
from sqsjkr.telemetry.outage import Outage

SIGHTINGS = 1000
"""Sessions remembered at most; one that is forgotten costs its observer one more lease."""


class Beats(Protocol):
    """Where beats are written and read."""

    async def beat(self, session_id: str, live: bytes = b"", seen: Collection[str] = ()) -> Collection[str]:
        """Add one to the session's beat, write ``live`` beside it, and remove the orders that were ``seen``.

        Returns the orders that stand. Raises ``BackendUnavailable``.
        """

    async def read_beat(self, session_id: str) -> Heartbeat | None:
        """The session's heartbeat, strongly consistent; None if it has never beaten. Raises ``BackendUnavailable``."""


class Session:
    """The name under which this process takes locks and claims, kept alive by one beat however many it holds.

    ``now`` is the host's clock (``clock.now``); ``outage`` begins with a heartbeat that fails and ends with the next
    one that gets through.
    """

    def __init__(
        self,
        beats: Beats,
        *,
        budget: LeaseBudget = STANDARD,
        now: Callable[[], float] = clock.now,
        outage: Outage | None = None,
    ) -> None:
        self._beats = beats
        self._budget = budget
        self.now = now
        self._worker = uuid.uuid4().hex[:24]
        self._names = itertools.count(1)
        self.name = ""
        """The newest name; "" before ``open``. All names of one worker begin with the same 24 characters."""
        self._proof = float("-inf")
        self.last_beat: float | None = None
        """When the last heartbeat that succeeded was sent, on ``now``; None before the first."""
        self._held: dict[str, str] = {}
        self._lost: set[str] = set()
        self._seen: frozenset[str] = frozenset()
        self.presence: Presence = Absent()
        """The worker whose session it is; set when it is built."""
        self.sightings = Sightings(beats, budget.lease, now)
        """Which other sessions are dead."""
        self._beating: asyncio.Task[None] | None = None
        if outage is None:
            outage = Outage("the lock table", Event.TABLE_UNREACHABLE, Event.TABLE_RECOVERED)
        self._outage = outage

    async def open(self) -> None:
        """Begin to beat whenever something is held. Opening twice is opening once."""
        if self._beating is None:
            self._rename()
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
        # One that beats although it holds nothing keeps its name as long as it does: each new name is one more row.
        idle_for = self._budget.trusted / 2 if self.presence.is_wanted() else self._budget.heartbeat_every
        if not self._held and now - self._proof >= idle_for:
            self._rename()
        if now >= self._proof + self._budget.trusted:
            await self._beat()
        return self._held.setdefault(token, self.name)

    def check(self, token: str) -> None:
        """Raises ``BackendUnavailable`` if the lease lapsed since ``hold``: what was taken may not be ours any more.

        Ask after every taking: its answer may have been longer on its way than the lease lasts.
        """
        if self.now() >= self._proof + self._budget.trusted or token in self._lost:
            raise BackendUnavailable("the table's answer came after the lease was over: what it gave is not ours")

    def holder(self, token: str) -> str | None:
        """The session name under which ``token`` is held, None if it is not."""
        return self._held.get(token)

    def is_mine(self, session_id: str) -> bool:
        """Is this a name under which this process holds, or could hold, something now?"""
        return session_id == self.name or session_id in self._held.values()

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
        return self._proof + self._budget.trusted if self._held else float("inf")

    def _rename(self) -> None:
        """Take a new name. No row has it, so no observer watches it yet: its lease begins now, for free."""
        self.name, self._proof = f"{self._worker}{next(self._names):08x}", self.now()
        emit(Event.SESSION_NAMED, f"the session is now {self.name}", session=self.name)

    async def _beat(self) -> None:
        sent, name, seen = self.now(), self.name, self._seen
        standing = frozenset(await self._beats.beat(name, self.presence.report(name), seen))
        self.last_beat = sent
        if name != self.name:
            return
        self._seen = standing  # what is obeyed now is removed with the next beat
        self.presence.obey(standing - seen)
        if sent >= self._proof + self._budget.trusted and self._held:
            self._lost |= self._held.keys()
            emit(Event.LEASE_RESUMED, "the table answers again: locks may be taken")
        self._proof = max(self._proof, sent)

    async def _beat_forever(self) -> None:
        probe_at = 0.0
        while True:
            await asyncio.sleep(self._budget.heartbeat_look)
            now = self.now()
            wanted = bool(self._held) or self.presence.is_wanted()
            is_due = wanted and now - self._proof >= self._budget.heartbeat_every
            # In an outage it beats with nothing held, too: that is how its end is noticed without taking a message.
            if not is_due and not (self._outage and now >= probe_at):
                continue
            try:
                await self._beat()
                self._outage.ended()
            except BackendUnavailable as failure:
                probe_at = self.now() + self._outage.failed(f"heartbeat failed: {failure}")
            except Exception as bug:  # noqa: BLE001 - a worker that beats no more loses all its locks
                emit(Event.LOG, f"heartbeat failed by a bug in sqsjkr, please report it: {bug!r}")


@dataclass(slots=True)
class _Sighting:
    """What was seen of one session."""

    beat: Heartbeat | None
    since: float
    """When this heartbeat was seen first."""
    looked: float
    """When it was looked at last."""
    alive_at: float = float("-inf")
    """A moment that the session has surely survived: the look before the one that saw another heartbeat."""


class Sightings:
    """What this host has seen of other sessions' heartbeats: which are dead therefore, and which were alive when."""

    def __init__(self, beats: Beats, lease: float, now: Callable[[], float]) -> None:
        self._beats = beats
        self._lease = lease
        self._now = now
        self._seen: dict[str, _Sighting] = {}

    def last(self, session_id: str) -> Heartbeat | None:
        """Return the heartbeat that was seen last; None if none was, or if it was forgotten."""
        seen = self._seen.get(session_id)
        return seen.beat if seen else None

    def alive_at(self, session_id: str) -> float:
        """Return the latest moment on this host's clock at which the session was alive for sure."""
        seen = self._seen.get(session_id)
        return seen.alive_at if seen else float("-inf")

    async def is_dead(self, session_id: str) -> bool:
        """Return whether this session has shown one and the same heartbeat for a whole lease, seen from here.

        Raises ``BackendUnavailable``. Ask only after reading the row that names the session, and of no session of this
        process: a session that lapsed beats before it takes anything new, so a heartbeat read after the row is never
        older than the row.
        """
        asked = self._now()
        beat = await self._beats.read_beat(session_id)
        now, seen = self._now(), self._seen.get(session_id)
        if seen is None:
            self._seen[session_id] = _Sighting(beat, now, asked)
            if len(self._seen) > SIGHTINGS:
                del self._seen[min(self._seen, key=lambda name: self._seen[name].since)]
            return False
        if seen.beat != beat:
            seen.beat, seen.since, seen.looked, seen.alive_at = beat, now, asked, seen.looked
            return False
        seen.looked = asked
        return asked - seen.since >= self._lease
