"""The queue of the embedded store."""

from __future__ import annotations

import asyncio
import json
import os
import pwd
import sqlite3
import time
import uuid
from collections.abc import Mapping, Sequence
from functools import cache
from types import MappingProxyType

from sqsjkr import clock
from sqsjkr.backends import Connections
from sqsjkr.backends.sqlite.store import Store
from sqsjkr.leases.budget import STANDARD, LeaseBudget
from sqsjkr.message import SIGNATURE, Message
from sqsjkr.queue import Burial, Delivery, Hiding, Lapsed, Queue, QueueFacts

RETENTION = 14 * 86_400.0
"""Seconds a message is kept: the most that SQS allows."""
MAX_RECEIVES = 1000
"""Deliveries after which a message is a dead letter: the end of a job that kills every worker."""
POLL = 0.05
"""Seconds between two looks at an empty queue."""


class SQLiteQueue(Queue):
    """The queue of the embedded store. Its clock is this host's wall clock."""

    def __init__(self, store: Store, *, budget: LeaseBudget = STANDARD) -> None:
        super().__init__(budget=budget)
        self._store = store

    @classmethod
    def configured(cls, connections: Connections, budget: LeaseBudget) -> SQLiteQueue:
        """Return the queue in the store of the settings."""
        return cls(connections.once(Store, connections.settings.local), budget=budget)

    async def send(
        self,
        bodies: Sequence[str],
        signatures: Sequence[str] = (),
        *,
        delay: float = 0.0,
        attributes: Mapping[str, str] = MappingProxyType({}),
    ) -> list[str]:
        """Put messages on the queue, durably, in one transaction. Returns their ids, in order."""
        now = time.time()
        sender = user_name()
        each = [{**attributes, SIGNATURE: signature} for signature in signatures] or [dict(attributes)] * len(bodies)
        rows = [
            (str(uuid.uuid4()), body, now, now + delay, sender, json.dumps(carried) if carried else None)
            for body, carried in zip(bodies, each, strict=True)
        ]
        insert = "INSERT INTO message (id, body, sent, visible, sender, attributes) VALUES (?, ?, ?, ?, ?, ?)"
        await self._store.write(lambda db: db.executemany(insert, rows))
        return [row[0] for row in rows]

    async def depth(self) -> tuple[int, int, int]:
        """Count the messages that are visible, hidden, and dead letters."""
        count = (
            "SELECT COALESCE(SUM(visible <= :now), 0), COALESCE(SUM(visible > :now), 0), "
            "(SELECT COUNT(*) FROM dead_letter) FROM message"
        )
        now = {"now": time.time()}
        visible, hidden, dead = await self._store.read(lambda db: db.execute(count, now).fetchone())
        return visible, hidden, dead

    async def _open(self) -> QueueFacts:
        await self._store.open()
        table = "dead_letter, a table of the same file"
        return QueueFacts(name=str(self._store.path), retention=RETENTION, dead_letters=table)

    async def _close(self) -> None:
        await self._store.close()

    async def _receive(self, limit: int, wait: float, hiding: float) -> list[Delivery]:
        until = clock.now() + wait
        while True:
            if await self._store.read(_is_due):
                deliveries = await self._store.write(lambda db: _take(db, limit, hiding))
                if deliveries:
                    return deliveries
            left = until - clock.now()
            if left <= 0:
                return []
            await asyncio.sleep(min(POLL, left))

    async def _delete(self, entries: Sequence[tuple[str, str]]) -> Sequence[Exception | None]:
        ids = [(message_id,) for message_id, _ in entries]
        await self._store.write(lambda db: db.executemany("DELETE FROM message WHERE id = ?", ids))
        return [None] * len(entries)

    async def _hide(self, entries: Sequence[Hiding]) -> Sequence[Exception | None]:
        update = "UPDATE message SET visible = ? WHERE id = ? AND receipt = ?"
        now = time.time()

        def hide(db: sqlite3.Connection) -> list[bool]:
            return [db.execute(update, (now + e.seconds, e.message_id, e.receipt)).rowcount == 1 for e in entries]

        hidden = await self._store.write(hide)
        return [None if done else Lapsed("delivered again, or deleted") for done in hidden]

    async def _bury(self, message: Message, burial: Burial) -> None:
        await self._store.write(lambda db: _move_to_dead_letters(db, message.id, burial))


def _is_due(db: sqlite3.Connection) -> bool:
    """Whether any message is visible. Only reads, so that an idle worker never locks the file."""
    return db.execute("SELECT 1 FROM message WHERE visible <= ? LIMIT 1", (time.time(),)).fetchone() is not None


def _take(db: sqlite3.Connection, limit: int, hiding: float) -> list[Delivery]:
    now, arrived = time.time(), clock.now()
    # NOT INDEXED: by the primary key the oldest come first and only what is hidden is skipped; by the index, all that
    # is due would be sorted.
    due = (
        "SELECT id, body, sent, receives, sender, attributes FROM message NOT INDEXED "
        "WHERE visible <= ? ORDER BY seq LIMIT ?"
    )
    deliveries, taken = [], []
    for message_id, body, sent, receives, sender, attributes in db.execute(due, (now, limit)).fetchall():
        if sent < now - RETENTION:
            db.execute("DELETE FROM message WHERE id = ?", (message_id,))
            continue
        if receives >= MAX_RECEIVES:
            _move_to_dead_letters(db, message_id, Burial(reason=f"received more than {MAX_RECEIVES} times"))
            continue
        receipt = uuid.uuid4().hex
        taken.append((now + hiding, receipt, message_id))
        message = Message(
            id=message_id,
            body=body,
            sent_at=sent,
            age=max(0.0, now - sent),
            received_at=arrived,
            receive_count=receives + 1,
            sender=sender or "",
            attributes=json.loads(attributes) if attributes else {},
        )
        deliveries.append(Delivery(message, receipt))
    db.executemany("UPDATE message SET visible = ?, receives = receives + 1, receipt = ? WHERE id = ?", taken)
    return deliveries


def _move_to_dead_letters(db: sqlite3.Connection, message_id: str, burial: Burial) -> None:
    move = "INSERT OR REPLACE INTO dead_letter SELECT id, body, sent, ?, ? FROM message WHERE id = ?"
    origin = (
        "INSERT OR REPLACE INTO dead_letter_origin (id, sender, attributes, receives, failures, output) "
        "SELECT id, sender, attributes, receives, ?, ? FROM message WHERE id = ?"
    )
    db.execute(move, (time.time(), burial.reason, message_id))
    db.execute(origin, (burial.failures, burial.output, message_id))
    db.execute("DELETE FROM message WHERE id = ?", (message_id,))


@cache
def user_name() -> str:
    """The name of the user whose process this is; its number if it has none."""
    user = os.geteuid()
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return str(user)
