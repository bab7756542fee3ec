"""Locks, claims and heartbeats of the embedded store."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Collection, Sequence
from typing import Any

from sqsjkr.backends import Connections
from sqsjkr.backends.sqlite import fleet
from sqsjkr.backends.sqlite.claims import SQLiteClaims
from sqsjkr.backends.sqlite.store import Store
from sqsjkr.leases.table import Heartbeat, Row, Table
from sqsjkr.runs import HOST, Holder

LOCK_ROW_KEPT = 366 * 86_400.0
"""Seconds after its last unlock that a lock's fencing token is kept."""


class SQLiteTable(SQLiteClaims, Table):
    """Locks, claims and heartbeats in the same file as the queue."""

    @classmethod
    def configured(cls, connections: Connections, place: str) -> SQLiteTable:
        """The table in the store at ``place``; "" is the queue's store."""
        # Queue and table share a connection: two would wait for each other's transactions.
        return cls(connections.once(Store, place or connections.settings.local))

    async def open(self) -> None:
        """Open the file."""
        await self._store.open()

    async def close(self) -> None:
        """Close the file."""
        await self._store.close()

    async def take_lock(
        self, lock_id: str, owner: str, event_id: str, *, over: str | None, message_id: str = ""
    ) -> int | Row:
        """See ``Table``."""

        def take(db: sqlite3.Connection) -> int | Row:
            there = db.execute(
                "SELECT event_id, owner, released, fence, message, host, since, attempt FROM row "
                "WHERE type = 'lock' AND id = ?",
                (lock_id,),
            ).fetchone()
            held, holder, released, fence, *facts = there or (None, None, None, 0)
            free = held is None and released != owner
            if not (free or holder == owner or (over is not None and holder == over)):
                return Row(owner=holder, holder=holder_of(held, holder, *facts))
            db.execute(
                "INSERT INTO row (id, type, event_id, owner, message, host, since, attempt, fence) "
                "VALUES (?, 'lock', ?, ?, ?, ?, ?, ?, 1) ON CONFLICT (type, id) DO UPDATE SET "
                "event_id = excluded.event_id, owner = excluded.owner, message = excluded.message, "
                "host = excluded.host, since = excluded.since, attempt = excluded.attempt, "
                "released = NULL, fence = fence + 1, expired = NULL",
                (lock_id, event_id, owner, message_id, HOST, time.time(), _attempt(owner)),
            )
            return int(fence) + 1

        return await self._store.write(take)

    async def release_lock(self, lock_id: str, owner: str) -> None:
        """See ``Table``."""
        await self.release_locks([(lock_id, owner)])

    async def release_locks(self, locks: Sequence[tuple[str, str]]) -> Sequence[Exception | None]:
        """See ``Table``. One transaction for all."""
        release = (
            "UPDATE row SET event_id = NULL, owner = NULL, released = ?, expired = ? "
            "WHERE type = 'lock' AND id = ? AND owner = ?"
        )
        kept = time.time() + LOCK_ROW_KEPT
        rows = [(owner, kept, lock_id, owner) for lock_id, owner in locks]
        await self._store.write(lambda db: db.executemany(release, rows))
        return [None] * len(locks)

    async def beat(self, session_id: str, live: bytes = b"", seen: Collection[str] = ()) -> Collection[str]:
        """See ``Table``."""
        beat = (
            "INSERT INTO row (id, type, beat, at, live, expired, host, pid) VALUES (?, 'worker', 1, ?, ?, ?, ?, ?) "
            "ON CONFLICT (type, id) DO UPDATE SET beat = beat + 1, at = excluded.at, live = excluded.live, "
            "expired = excluded.expired"
        )
        now = time.time()

        def add_one(db: sqlite3.Connection) -> Collection[str]:
            db.execute(beat, (session_id, now, live, now + 86_400, HOST, os.getpid()))
            fleet.remove_orders(db, session_id, seen)
            return fleet.orders(db, session_id)

        return await self._store.write(add_one)

    async def read_beat(self, session_id: str) -> Heartbeat | None:
        """See ``Table``."""
        look = "SELECT beat, host, pid FROM row WHERE type = 'worker' AND id = ?"
        there = await self._store.read(lambda db: db.execute(look, (session_id,)).fetchone())
        if there is None:
            return None
        beat, host, pid = there
        return Heartbeat(int(beat), host or "", pid or 0)


def _attempt(owner: str) -> str:
    return owner.rpartition("/")[2]


def holder_of(event_id: Any, owner: Any, message_id: Any, host: Any, since: Any, attempt: Any) -> Holder:
    """Return the holder of a lock from its row's columns."""
    # A worker of version 1.0.0 that took the lock over has left the facts of the one before it in the row.
    if not owner or _attempt(owner) != attempt:
        return Holder(event_id=event_id or "")
    return Holder(event_id=event_id or "", message_id=message_id or "", host=host or "", since=since or 0.0)


def last_of(released: Any, message_id: Any, host: Any, since: Any, attempt: Any) -> Holder | None:
    """Return who held a free lock last, from its row's columns; None if that is not known."""
    if not attempt or _attempt(released or "") != attempt:
        return None
    return Holder(message_id=message_id or "", host=host or "", since=since or 0.0)
