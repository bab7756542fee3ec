"""Where an operator's orders are written in the embedded store."""

from __future__ import annotations

import sqlite3
import time
from typing import Any

from sqsjkr.backends import Connections
from sqsjkr.backends.sqlite.fleet import read_facts, write_facts
from sqsjkr.backends.sqlite.queue import user_name
from sqsjkr.backends.sqlite.store import Store
from sqsjkr.backends.sqlite.table import LOCK_ROW_KEPT
from sqsjkr.leases.live import Notice
from sqsjkr.views.source import LockRow, Orders

_ORDER_KEPT = 86_400.0


class SQLiteOrders(Orders):
    """Orders to the workers of one store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    @classmethod
    def configured(cls, connections: Connections, place: str) -> SQLiteOrders:
        """The table in the store at ``place``, which must be there; "" is the queue's store."""
        return cls(connections.once(Store, place or connections.settings.local, create=False))

    async def whoami(self) -> str:
        """The name of the user whose process this is."""
        return user_name()

    async def order(self, session: str, text: str) -> None:
        """See ``Orders``."""
        write = "INSERT OR IGNORE INTO row (id, type, expired) VALUES (?, 'order', ?)"
        kept = time.time() + _ORDER_KEPT
        await self._store.write(lambda db: db.execute(write, (f"{session} {text}", kept)))

    async def pause(self, fleet: str, notice: Notice | None) -> None:
        """See ``Orders``."""

        def change(facts: dict[str, Any]) -> None:
            facts["paused"] = notice.text_for() if notice else ""

        await self._change(fleet, change)

    async def drain(self, fleet: str, target: str, notice: Notice) -> None:
        """See ``Orders``."""

        def change(facts: dict[str, Any]) -> None:
            facts["drained"] = [*_others(facts, target), notice.text_for(target)]

        await self._change(fleet, change)

    async def undrain(self, fleet: str, target: str) -> bool:
        """See ``Orders``."""

        def change(facts: dict[str, Any]) -> bool:
            before = facts.get("drained", [])
            facts["drained"] = _others(facts, target)
            return len(facts["drained"]) < len(before)

        return bool(await self._change(fleet, change))

    async def call(self, fleet: str) -> int:
        """See ``Orders``."""

        def change(facts: dict[str, Any]) -> int:
            number = int(facts.get("call", 0)) + 1
            facts["call"], facts["called"] = number, time.time()
            return number

        return int(await self._change(fleet, change))

    async def free_lock(self, lock: LockRow) -> bool:
        """See ``Orders``."""
        free = (
            "UPDATE row SET event_id = NULL, owner = NULL, released = owner, expired = ? "
            "WHERE type = 'lock' AND id = ? AND event_id = ? AND owner IS ?"
        )
        values = (time.time() + LOCK_ROW_KEPT, lock.lock_id, lock.holder.event_id, lock.owner)
        return await self._store.write(lambda db: db.execute(free, values).rowcount == 1)

    async def _change(self, fleet: str, change: Any) -> Any:
        """Change the facts of the board in one transaction; return what ``change`` returned."""

        def write(db: sqlite3.Connection) -> Any:
            facts = read_facts(db, fleet, "board")
            answer = change(facts)
            write_facts(db, fleet, "board", facts, None)
            return answer

        return await self._store.write(write)


def _others(facts: dict[str, Any], target: str) -> list[str]:
    """Return the drains of other targets."""
    return [text for text in facts.get("drained", []) if (found := Notice.read(text)) is None or found[0] != target]
