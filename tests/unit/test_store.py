"""The thread that works on the embedded store."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from pathlib import Path

import pytest

from sqsjkr.backends.sqlite.queue import SQLiteQueue
from sqsjkr.backends.sqlite.store import Store
from sqsjkr.errors import BackendRefused


async def test_no_cursor_leaves_the_thread_that_made_it(tmp_path: Path) -> None:
    """Freed in another thread, it would reset a statement that is in use again by then."""
    store = Store(tmp_path)
    await store.open()
    assert await store.write(lambda db: db.execute("DELETE FROM message")) is None
    await store.close()


async def test_a_file_that_is_no_database_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / "sqsjkr.db").write_text("a shopping list\n" * 100)
    with pytest.raises(BackendRefused, match=r"sqsjkr\.db: file is not a database"):
        await Store(tmp_path).open()


_OF_1_0_0 = """
CREATE TABLE message (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    body TEXT NOT NULL,
    sent REAL NOT NULL,
    visible REAL NOT NULL,
    receives INTEGER NOT NULL DEFAULT 0,
    receipt TEXT
);
CREATE TABLE dead_letter (
    id TEXT PRIMARY KEY,
    body TEXT NOT NULL,
    sent REAL NOT NULL,
    died REAL NOT NULL,
    reason TEXT NOT NULL
);
"""
_SEND_OF_1_0_0 = "INSERT INTO message (id, body, sent, visible) VALUES (?, 'true', unixepoch(), 0)"
_BURY_OF_1_0_0 = "INSERT OR REPLACE INTO dead_letter SELECT id, body, sent, ?, ? FROM message WHERE id = ?"


async def test_a_file_of_1_0_0_is_brought_up_to_date_and_that_version_goes_on_working_on_it(tmp_path: Path) -> None:
    with contextlib.closing(sqlite3.connect(tmp_path / "sqsjkr.db", isolation_level=None)) as old:
        old.executescript(_OF_1_0_0)
        old.execute(_SEND_OF_1_0_0, ("before",))
        queues = [SQLiteQueue(Store(tmp_path)) for _ in range(3)]
        await asyncio.gather(*(queue.open() for queue in queues))
        old.execute(_SEND_OF_1_0_0, ("after",))
        messages = await queues[0].receive(10, 0.0)
        assert [(message.id, message.sender, message.attributes) for message in messages] == [
            ("before", "", {}),
            ("after", "", {}),
        ]
        old.execute(_BURY_OF_1_0_0, (0.0, "invalid: no job", "after"))
        assert old.execute("SELECT id, reason FROM dead_letter").fetchall() == [("after", "invalid: no job")]
        for queue in queues:
            await queue.close()
