"""Workers, orders and the board in the embedded store: rows of the same table as locks and claims.

An order is a row of type ``order`` whose id is ``SESSION TEXT``; the roster's are of type ``worker/ID``, the board's of
type ``board``, both with the fleet's name as their id and JSON in ``live``.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Collection
from dataclasses import asdict, replace
from typing import Any

from sqsjkr.backends import Connections
from sqsjkr.backends.sqlite.store import Store
from sqsjkr.leases.live import ROSTER_KEPT, Board, Entry, Notice, Roster


class SQLiteRoster(Roster):
    """The roster and the board in the store of the table."""

    def __init__(self, store: Store) -> None:
        self._store = store

    @classmethod
    def configured(cls, connections: Connections, place: str) -> SQLiteRoster:
        """The roster in the store at ``place``; "" is the queue's store."""
        return cls(connections.once(Store, place or connections.settings.local))

    async def enter(self, fleet: str, entry: Entry) -> float:
        """See ``Roster``."""

        def write(db: sqlite3.Connection) -> float:
            there = read_entry(db, fleet, f"worker/{entry.worker}")
            started = there.started if there else time.time()
            write_facts(db, fleet, f"worker/{entry.worker}", asdict(replace(entry, started=started)), ROSTER_KEPT)
            return started

        return await self._store.write(write)

    async def leave(self, fleet: str, worker: str) -> None:
        """See ``Roster``."""
        remove = "DELETE FROM row WHERE id = ? AND type = ?"
        await self._store.write(lambda db: db.execute(remove, (fleet, f"worker/{worker}")))

    async def read_board(self, fleet: str) -> Board:
        """See ``Roster``."""
        return await self._store.read(lambda db: board(db, fleet))


def orders(db: sqlite3.Connection, session: str) -> frozenset[str]:
    """Return the orders that stand for a session."""
    found = db.execute("SELECT id FROM row WHERE type = 'order' AND id >= ? AND id < ?", (f"{session} ", f"{session}!"))
    return frozenset(name.partition(" ")[2] for (name,) in found.fetchall())


def remove_orders(db: sqlite3.Connection, session: str, seen: Collection[str]) -> None:
    """Remove orders that the worker has seen."""
    db.executemany("DELETE FROM row WHERE type = 'order' AND id = ?", [(f"{session} {text}",) for text in seen])


def board(db: sqlite3.Connection, fleet: str) -> Board:
    """Read the board."""
    facts = read_facts(db, fleet, "board")
    paused = Notice.read(str(facts.get("paused", "")))
    drained = [found for text in facts.get("drained", ()) if (found := Notice.read(text))]
    return Board(
        paused=paused[1] if paused else None,
        drained=dict(drained),
        call=int(facts.get("call", 0)),
        called_at=float(facts.get("called", 0.0)),
    )


def read_entry(db: sqlite3.Connection, fleet: str, kind: str) -> Entry | None:
    """Read one entry of the roster; None if there is none, or a later release wrote it."""
    try:
        return Entry(**read_facts(db, fleet, kind))
    except TypeError:
        return None


def read_facts(db: sqlite3.Connection, name: str, kind: str) -> dict[str, Any]:
    """Read the JSON in a row; {} if there is none."""
    found = db.execute("SELECT live FROM row WHERE id = ? AND type = ?", (name, kind)).fetchone()
    return dict(json.loads(found[0])) if found and found[0] else {}


def write_facts(db: sqlite3.Connection, name: str, kind: str, facts: dict[str, Any], kept: float | None) -> None:
    """Write the JSON of a row; ``kept``: seconds until it may be removed, None for never."""
    write = (
        "INSERT INTO row (id, type, at, live, expired) VALUES (?, ?, ?, ?, ?) "
        "ON CONFLICT (type, id) DO UPDATE SET at = excluded.at, live = excluded.live, expired = excluded.expired"
    )
    now = time.time()
    db.execute(write, (name, kind, now, json.dumps(facts), None if kept is None else now + kept))
