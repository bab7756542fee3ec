"""Locks, claims and heartbeats of the embedded store."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence

from sqsjkr.backends import Connections
from sqsjkr.backends.sqlite.claims import SQLiteClaims
from sqsjkr.backends.sqlite.store import Store
from sqsjkr.leases.table import Row, Table

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

    async def take_lock(self, lock_id: str, owner: str, event_id: str, *, over: str | None) -> int | Row:
        """See ``Table``."""

        def take(db: sqlite3.Connection) -> int | Row:
            there = db.execute(
                "SELECT event_id, owner, released, fence FROM row WHERE type = 'lock' AND id = ?", (lock_id,)
            ).fetchone()
            held, holder, released, fence = there or (None, None, None, 0)
            free = held is None and released != owner
            if not (free or holder == owner or (over is not None and holder == over)):
                return Row(owner=holder)
            db.execute(
                "INSERT INTO row (id, type, event_id, owner, fence) VALUES (?, 'lock', ?, ?, 1) "
                "ON CONFLICT (type, id) DO UPDATE SET event_id = excluded.event_id, owner = excluded.owner, "
                "released = NULL, fence = fence + 1, expired = NULL",
                (lock_id, event_id, owner),
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

    async def beat(self, session_id: str) -> None:
        """See ``Table``."""
        beat = (
            "INSERT INTO row (id, type, beat, expired) VALUES (?, 'worker', 1, ?) "
            "ON CONFLICT (type, id) DO UPDATE SET beat = beat + 1, expired = excluded.expired"
        )
        await self._store.write(lambda db: db.execute(beat, (session_id, time.time() + 86_400)))

    async def read_beat(self, session_id: str) -> int | None:
        """See ``Table``."""
        look = "SELECT beat FROM row WHERE type = 'worker' AND id = ?"
        there = await self._store.read(lambda db: db.execute(look, (session_id,)).fetchone())
        return None if there is None else int(there[0])
