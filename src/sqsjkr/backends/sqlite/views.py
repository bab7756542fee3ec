"""What the embedded store's table shows. Nothing is written."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Collection, Mapping, Sequence

from sqsjkr.backends import Connections
from sqsjkr.backends.sqlite.claims import _claim as claim_of
from sqsjkr.backends.sqlite.endings import SQLiteEndings
from sqsjkr.backends.sqlite.fleet import board, read_entry
from sqsjkr.backends.sqlite.store import Store
from sqsjkr.backends.sqlite.table import holder_of, last_of
from sqsjkr.errors import InvalidJob
from sqsjkr.job import decode
from sqsjkr.leases.live import Board, Entry, Live
from sqsjkr.runs import Run
from sqsjkr.views.source import ClaimRow, Depth, LockRow, QueueSource, SessionRow, Source


class SQLiteSource(SQLiteEndings, Source):
    """The rows of one store."""

    @classmethod
    def configured(cls, connections: Connections, place: str) -> SQLiteSource:
        """The table in the store at ``place``, which must be there; "" is the queue's store."""
        return cls(connections.once(Store, place or connections.settings.local, create=False))

    async def open(self) -> None:
        """Open the file."""
        await self._store.open()

    async def close(self) -> None:
        """Close the file."""
        await self._store.close()

    def now(self) -> float:
        """This host's wall clock, as for all of the store."""
        return time.time()

    async def fleet(self, fleet: str) -> tuple[Sequence[Entry], Board]:
        """See ``Source``."""

        def look(db: sqlite3.Connection) -> tuple[Sequence[Entry], Board]:
            kinds = db.execute("SELECT type FROM row WHERE id = ? AND type LIKE 'worker/%'", (fleet,)).fetchall()
            entries = (read_entry(db, fleet, kind) for (kind,) in kinds)
            return [entry for entry in entries if entry is not None], board(db, fleet)

        return await self._store.read(look)

    async def sessions(self, names: Collection[str]) -> Mapping[str, SessionRow]:
        """See ``Source``."""
        look = "SELECT beat, at, live, host, pid FROM row WHERE type = 'worker' AND id = ?"

        def read(db: sqlite3.Connection) -> Mapping[str, SessionRow]:
            found = {name: db.execute(look, (name,)).fetchone() for name in names}
            return {
                name: SessionRow(
                    session=name,
                    beat=row[0],
                    at=row[1],
                    live=Live.decode(row[2]) if row[2] else None,
                    host=row[3] or "",
                    pid=row[4] or 0,
                )
                for name, row in found.items()
                if row is not None and row[0] is not None
            }

        return await self._store.read(read)

    async def claims(self, message_ids: Collection[str]) -> Mapping[str, ClaimRow]:
        """See ``Source``."""

        def look(db: sqlite3.Connection) -> Mapping[str, ClaimRow]:
            found = {name: claim_of(db, name) for name in message_ids}
            return {
                name: ClaimRow(row=row, run=row.run or Run(message_id=name))
                for name, row in found.items()
                if row is not None
            }

        return await self._store.read(look)

    async def locks(self, lock_ids: Collection[str]) -> Mapping[str, LockRow]:
        """See ``Source``."""
        look = (
            "SELECT fence, released, event_id, owner, message, host, since, attempt FROM row "
            "WHERE type = 'lock' AND id = ?"
        )

        def read(db: sqlite3.Connection) -> Mapping[str, LockRow]:
            found = {name: db.execute(look, (name,)).fetchone() for name in lock_ids}
            return {
                name: LockRow(
                    lock_id=name,
                    held=event_id is not None,
                    owner=owner,
                    holder=holder_of(event_id, owner, *facts),
                    fence=fence or 0,
                    last=None if event_id is not None else last_of(released, *facts),
                )
                for name, row in found.items()
                if row is not None
                for fence, released, event_id, owner, *facts in (row,)
            }

        return await self._store.read(read)


MOST_SEARCHED = 10_000
"""Messages that a search by event looks at."""


class SQLiteQueueView(QueueSource):
    """The queue of one store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    @classmethod
    def configured(cls, connections: Connections) -> SQLiteQueueView:
        """The queue in the store of the settings, which must be there."""
        return cls(connections.once(Store, connections.settings.local, create=False))

    async def open(self) -> None:
        """Open the file."""
        await self._store.open()

    async def close(self) -> None:
        """Close the file."""
        await self._store.close()

    async def depth(self) -> Depth:
        """Count exactly, in one read."""
        look = (
            "SELECT COALESCE(SUM(visible <= :now), 0), COALESCE(SUM(visible > :now), 0), "
            "MIN(CASE WHEN visible <= :now THEN sent END), (SELECT COUNT(*) FROM dead_letter) FROM message"
        )
        now = time.time()
        visible, hidden, oldest, dead = await self._store.read(lambda db: db.execute(look, {"now": now}).fetchone())
        return Depth(
            name=str(self._store.path),
            visible=visible,
            hidden=hidden,
            dead=dead,
            oldest_seconds=None if oldest is None else max(0.0, now - oldest),
        )

    async def body(self, message_id: str) -> str | None:
        """See ``QueueSource``."""
        look = "SELECT body FROM message WHERE id = ?"
        found = await self._store.read(lambda db: db.execute(look, (message_id,)).fetchone())
        return str(found[0]) if found else None

    async def of_event(self, event_id: str) -> Sequence[str]:
        """See ``QueueSource``. Reads the newest ``MOST_SEARCHED`` messages."""
        look = "SELECT id, body FROM message ORDER BY sent DESC LIMIT ?"
        rows = await self._store.read(lambda db: db.execute(look, (MOST_SEARCHED,)).fetchall())
        return [message_id for message_id, body in rows if _names(body, message_id, event_id)]


def _names(body: str, message_id: str, event_id: str) -> bool:
    try:
        return decode(body, message_id).event_id == event_id
    except InvalidJob:
        return False
