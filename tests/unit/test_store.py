"""The thread that works on the embedded store."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

import pytest

import servers
from servers import until
from sqsjkr.backends.sqlite.queue import SQLiteQueue
from sqsjkr.backends.sqlite.store import Store, _read_only
from sqsjkr.backends.sqlite.table import SQLiteTable
from sqsjkr.errors import BackendRefused, BackendUnavailable
from sqsjkr.leases.table import Claiming, Row
from sqsjkr.runs import Run

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
CREATE TABLE row (
    id TEXT NOT NULL,
    type TEXT NOT NULL,
    event_id TEXT,
    owner TEXT,
    released TEXT,
    fence INTEGER NOT NULL DEFAULT 0,
    done INTEGER NOT NULL DEFAULT 0,
    beat INTEGER,
    expired REAL,
    PRIMARY KEY (type, id)
) WITHOUT ROWID;
"""
_SEND_OF_1_0_0 = "INSERT INTO message (id, body, sent, visible) VALUES (?, 'true', unixepoch(), 0)"
_BURY_OF_1_0_0 = "INSERT OR REPLACE INTO dead_letter SELECT id, body, sent, ?, ? FROM message WHERE id = ?"


class Release10:
    """The claims of release 1.0, in its own statements, on a file that a newer release has opened."""

    def __init__(self, directory: Path) -> None:
        self._db = sqlite3.connect(directory / "sqsjkr.db", isolation_level=None)

    def row(self, message_id: str) -> tuple[str | None, int] | None:
        look = "SELECT owner, done FROM row WHERE type = 'throttle' AND id = ?"
        found: tuple[str | None, int] | None = self._db.execute(look, (message_id,)).fetchone()
        return found

    def take(self, message_id: str, owner: str) -> None:
        self._db.execute(
            "INSERT INTO row (id, type, owner, expired) VALUES (?, 'throttle', ?, ?) "
            "ON CONFLICT (type, id) DO UPDATE SET owner = excluded.owner, expired = excluded.expired",
            (message_id, owner, time.time() + 3600),
        )

    def finish(self, message_id: str, owner: str) -> None:
        self._db.execute(
            "INSERT INTO row (id, type, owner, done, expired) VALUES (?, 'throttle', ?, 1, ?) "
            "ON CONFLICT (type, id) DO UPDATE SET owner = excluded.owner, done = 1, expired = excluded.expired",
            (message_id, owner, time.time() + 3600),
        )


def claiming(message_id: str, owner: str) -> Claiming:
    return Claiming(run=Run(message_id=message_id), owner=owner, age=0.0)


async def test_a_store_of_release_1_0_is_used_as_it_is_by_several_processes_at_once(tmp_path: Path) -> None:
    old = sqlite3.connect(tmp_path / "sqsjkr.db")
    old.executescript(_OF_1_0_0)
    old.execute("INSERT INTO row (id, type, owner, done) VALUES ('m', 'throttle', 'a/1', 1)")
    old.commit()
    tables = [SQLiteTable(Store(tmp_path)) for _ in range(5)]
    await asyncio.gather(*(table.open() for table in tables))
    assert await tables[0].take_claim(claiming("m", "b/1")) == Row(owner="a/1", done=True)
    assert await tables[1].take_claim(claiming("n", "b/1")) == Row(owner="b/1")
    for table in tables:
        await table.close()


async def test_release_1_0_goes_on_working_on_a_store_that_this_one_has_opened(tmp_path: Path) -> None:
    table = SQLiteTable(Store(tmp_path))
    await table.open()
    old = Release10(tmp_path)
    old.take("m", "old/1")
    assert await table.take_claim(claiming("m", "new/1")) == Row(owner="old/1")
    old.finish("m", "old/1")
    assert await table.take_claim(claiming("m", "new/1")) == Row(owner="old/1", done=True)
    await table.close()


async def test_a_job_that_waits_for_its_next_try_is_not_done_to_release_1_0(tmp_path: Path) -> None:
    """It would delete the message. It takes the row for a dead worker's, and runs the job one lease later."""
    table = SQLiteTable(Store(tmp_path))
    await table.open()
    old = Release10(tmp_path)
    await table.take_claim(claiming("m", "new/1"))
    await table.postpone_claim("m", "new/1", failures=1, due=60.0)
    row = old.row("m")
    assert row is not None
    owner, done = row
    assert owner
    assert not done
    old.take("m", "old/1")
    assert await table.take_claim(claiming("m", "new/2")) == Row(owner="old/1", failures=1, due=60.0)
    old.finish("m", "old/1")
    await table.cancel_claim("n", "alice")
    assert old.row("n") == ("nobody/0", 1)
    await table.close()


async def test_no_cursor_leaves_the_thread_that_made_it(tmp_path: Path) -> None:
    """Freed in another thread, it would reset a statement that is in use again by then."""
    store = Store(tmp_path)
    await store.open()
    assert await store.write(lambda db: db.execute("DELETE FROM message")) is None
    await store.close()


class Busy:
    """A store whose thread stands still until ``go``, and the statements that begin and end its transactions."""

    def __init__(self, store: Store) -> None:
        self.statements: list[str] = []
        self._store = store
        self._go = threading.Event()

    async def __aenter__(self) -> Self:
        await self._store.open()
        standing = threading.Event()

        def stand_still(db: sqlite3.Connection) -> None:
            standing.set()
            self._go.wait(servers.PATIENCE)
            db.set_trace_callback(self._note)

        self._standing = asyncio.create_task(self._store.read(stand_still))
        await until(standing.is_set, description="the thread stood still")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._store.close()

    def go(self) -> None:
        """Let the thread go on."""
        self._go.set()

    def _note(self, statement: str) -> None:
        if statement.startswith(("BEGIN", "COMMIT", "ROLLBACK")):
            self.statements.append(statement)


def inserts(name: str) -> Callable[[sqlite3.Connection], object]:
    insert = "INSERT INTO dead_letter (id, body, sent, died, reason) VALUES (?, '', 0, 0, '')"
    return lambda db: db.execute(insert, (name,))


async def names(store: Store) -> list[str]:
    rows = await store.read(lambda db: db.execute("SELECT id FROM dead_letter ORDER BY id").fetchall())
    return [name for (name,) in rows]


async def test_what_is_asked_for_while_the_thread_works_shares_a_transaction(tmp_path: Path) -> None:
    store = Store(tmp_path)
    async with Busy(store) as busy:
        writes = [asyncio.create_task(store.write(inserts(name))) for name in "abc"]
        await asyncio.sleep(0)
        busy.go()
        await asyncio.gather(*writes)
        assert busy.statements == ["BEGIN IMMEDIATE", "COMMIT"]
        assert await names(store) == ["a", "b", "c"]


async def test_what_fails_among_others_fails_alone(tmp_path: Path) -> None:
    store = Store(tmp_path)
    async with Busy(store) as busy:
        work = [inserts("a"), inserts("a"), lambda _: 1 / 0, inserts("b"), lambda _: "an answer"]
        writes = [asyncio.create_task(store.write(each)) for each in work]
        await asyncio.sleep(0)
        busy.go()
        answers = await asyncio.gather(*writes, return_exceptions=True)
        assert [type(answer) for answer in answers] == [
            type(None),
            BackendUnavailable,
            ZeroDivisionError,
            type(None),
            str,
        ]
        assert await names(store) == ["a", "b"]


async def test_work_whose_caller_is_gone_is_not_done(tmp_path: Path) -> None:
    store = Store(tmp_path)
    async with Busy(store) as busy:
        writes = [asyncio.create_task(store.write(inserts(name))) for name in "ab"]
        await asyncio.sleep(0)
        writes[0].cancel()
        await asyncio.sleep(0)
        busy.go()
        await asyncio.wait(writes)
        assert await names(store) == ["b"]


async def test_a_file_that_another_process_keeps_fails_all_that_wait_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not one after the other: each of them would wait as long."""
    monkeypatch.setattr("sqsjkr.backends.sqlite.store.BUSY_TIMEOUT", 0.2)
    store = Store(tmp_path)
    async with Busy(store) as busy:
        with contextlib.closing(sqlite3.connect(store.path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            writes = [asyncio.create_task(store.write(inserts(name))) for name in "abc"]
            await asyncio.sleep(0)
            busy.go()
            answers = await asyncio.gather(*writes, return_exceptions=True)
        assert [str(answer) for answer in answers] == [f"{store.path}: database is locked"] * 3
        assert busy.statements == ["BEGIN IMMEDIATE"]


async def test_closing_waits_for_what_was_asked_for(tmp_path: Path) -> None:
    store = Store(tmp_path)
    await store.open()
    write = asyncio.create_task(store.write(inserts("a")))
    await asyncio.sleep(0)
    await store.close()
    await write
    with pytest.raises(BackendUnavailable, match="is not open"):
        await store.write(inserts("b"))
    await store.open()
    assert await names(store) == ["a"]
    await store.close()


async def test_a_file_that_is_no_database_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / "sqsjkr.db").write_text("a shopping list\n" * 100)
    with pytest.raises(BackendRefused, match=r"sqsjkr\.db: file is not a database"):
        await Store(tmp_path).open()


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


async def _letters(directory: Path) -> list[str]:
    store = Store(directory, create=False)
    await store.open()
    try:
        return await store.read(lambda db: [row[0] for row in db.execute("SELECT id FROM dead_letter")])
    finally:
        await store.close()


def _as_another_user(work: Callable[[], bool]) -> bool:
    """Do it in a child process that may only read, which says by its exit code whether it went well."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            if os.geteuid() == 0:
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
            code = 0 if work() else 1
        finally:
            os._exit(code)
    return os.waitpid(child, 0)[1] == 0


@pytest.mark.parametrize("at_work", [True, False])
def test_a_user_who_may_only_read_can_look_whether_a_worker_is_at_work_or_not(at_work: bool) -> None:
    with tempfile.TemporaryDirectory() as text:
        directory = Path(text)
        asyncio.run(_made(directory))
        with contextlib.closing(sqlite3.connect(directory / "sqsjkr.db")) as db:
            if at_work:
                db.execute("SELECT COUNT(*) FROM message").fetchall()  # now there is a file of shared memory
            else:
                db.close()
            for path in directory.iterdir():
                path.chmod(0o444)
            directory.chmod(0o555)
            try:
                assert _as_another_user(lambda: asyncio.run(_letters(directory)) == ["x"])
            finally:
                directory.chmod(0o700)


async def _made(directory: Path) -> None:
    store = Store(directory)
    await store.open()
    await store.write(lambda db: db.execute("INSERT INTO dead_letter VALUES ('x', '', 0, 0, '')"))
    await store.close()


def test_a_file_of_1_0_0_that_may_only_be_read_is_one_clear_line(tmp_path: Path) -> None:
    with contextlib.closing(sqlite3.connect(tmp_path / "sqsjkr.db", isolation_level=None)) as old:
        old.executescript(_OF_1_0_0)
    with pytest.raises(BackendRefused, match="is of an earlier version"):
        _read_only(tmp_path / "sqsjkr.db")


async def test_a_store_that_must_be_there_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(BackendRefused, match="there is no store at"):
        await _letters(tmp_path / "typo")
    assert not (tmp_path / "typo").exists()


async def test_locks_of_1_0_0_hold_and_that_version_goes_on_writing_its_rows(tmp_path: Path) -> None:
    with contextlib.closing(sqlite3.connect(tmp_path / "sqsjkr.db", isolation_level=None)) as old:
        old.executescript(_OF_1_0_0)
        old.execute("INSERT INTO row (id, type, event_id, owner, fence) VALUES ('report', 'lock', 'x', 'old/1', 7)")
        table = SQLiteTable(Store(tmp_path))
        await table.open()
        refused = await table.take_lock("report", "new/1", "y", over=None)
        assert isinstance(refused, Row)
        assert refused.owner == "old/1"
        assert await table.take_lock("report", "new/1", "y", over="old/1") == 8
        old.execute("INSERT INTO row (id, type, event_id, owner, fence) VALUES ('other', 'lock', 'x', 'old/2', 1)")
        await table.close()
