"""One SQLite file: its tables, and the errors of working on it."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

from sqsjkr.backends.sqlite.thread import StoreThread, Work
from sqsjkr.errors import BackendRefused, BackendUnavailable

FILE = "sqsjkr.db"
BUSY_TIMEOUT = 5.0
"""Seconds to wait for the end of another process's transaction."""
_FOR_GOOD = {"SQLITE_NOTADB", "SQLITE_CORRUPT", "SQLITE_CANTOPEN", "SQLITE_READONLY", "SQLITE_PERM"}
FULL = 65_536
"""Bytes: with less than this free, a failure is blamed on a full disk."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS message (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    body TEXT NOT NULL,
    sent REAL NOT NULL,
    visible REAL NOT NULL,
    receives INTEGER NOT NULL DEFAULT 0,
    receipt TEXT
);
CREATE INDEX IF NOT EXISTS message_by_visible ON message (visible);
CREATE TABLE IF NOT EXISTS dead_letter_origin (
    id TEXT PRIMARY KEY,
    sender TEXT,
    attributes TEXT,
    receives INTEGER
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS dead_letter (
    id TEXT PRIMARY KEY,
    body TEXT NOT NULL,
    sent REAL NOT NULL,
    died REAL NOT NULL,
    reason TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS row (
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
CREATE INDEX IF NOT EXISTS row_by_expired ON row (expired) WHERE expired IS NOT NULL;
CREATE TABLE IF NOT EXISTS run (
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL,
    attempt TEXT NOT NULL,
    event_id TEXT NOT NULL,
    lock_id TEXT NOT NULL,
    host TEXT NOT NULL,
    ended REAL NOT NULL,
    outcome TEXT NOT NULL,
    bad INTEGER NOT NULL,
    final INTEGER NOT NULL,
    facts TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS run_by_id ON run (id);
CREATE INDEX IF NOT EXISTS run_by_ended ON run (ended);
CREATE INDEX IF NOT EXISTS run_by_event ON run (event_id, ended);
CREATE INDEX IF NOT EXISTS run_that_failed ON run (ended) WHERE bad;
"""

_COLUMNS = {
    "message": {"sender": "TEXT", "attributes": "TEXT"},
    "dead_letter_origin": {"failures": "INTEGER", "output": "TEXT"},
    "row": {
        "failures": "INTEGER NOT NULL DEFAULT 0",
        "crashes": "INTEGER NOT NULL DEFAULT 0",
        "due": "REAL",
        "stop": "TEXT NOT NULL DEFAULT ''",
        "owed": "TEXT NOT NULL DEFAULT ''",
        "cancelled_by": "TEXT NOT NULL DEFAULT ''",
        "facts": "TEXT NOT NULL DEFAULT ''",
        "message": "TEXT",
        "host": "TEXT",
        "since": "REAL",
        "attempt": "TEXT",
        "pid": "INTEGER",
        "at": "REAL",
        "live": "BLOB",
    },
}
"""Columns that a file of an earlier version lacks. Those of ``dead_letter`` cannot grow: 1.0.0 fills it by position."""

T = TypeVar("T")


class Store:
    """One SQLite file and the thread that works on it. Opening it again has no effect.

    With ``create`` off, the file must be there; a user who may not write to it can then read it.
    """

    def __init__(self, directory: str | Path, *, create: bool = True) -> None:
        self.path = Path(directory) / FILE
        self._create = create
        self._thread = StoreThread(self._connect)

    async def open(self) -> None:
        """Create the directory and the tables if they are missing. Raises ``BackendRefused`` if that is impossible."""
        if not self._thread.is_open:
            try:
                await self._thread.open()
            except sqlite3.Error as failure:
                raise self._trouble(failure) from failure

    async def close(self) -> None:
        """Finish what is being written, then close the file."""
        await self._thread.close()

    async def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run ``work`` in a transaction, alone or with others: all of it is on disk, or nothing.

        It may be run a second time, if another one fails there: it must change nothing but the database.
        """
        result: T = await self._answered(self._thread.write, work)
        return result

    async def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run ``work`` outside a transaction: it must not write."""
        result: T = await self._answered(self._thread.read, work)
        return result

    async def _answered(self, ask: Callable[[Work], Awaitable[Any]], work: Work) -> Any:
        if not self._thread.is_open:
            raise BackendUnavailable(f"{self.path} is not open")
        try:
            return await ask(work)
        except sqlite3.Error as failure:
            raise self._trouble(failure) from failure

    def _trouble(self, failure: sqlite3.Error) -> BackendUnavailable:
        kind = BackendRefused if getattr(failure, "sqlite_errorname", "") in _FOR_GOOD else BackendUnavailable
        return kind(f"{self.path}: {failure}{self._space()}")

    def _connect(self) -> sqlite3.Connection:
        if not self._create:
            if not self.path.exists():
                raise BackendRefused(f"there is no store at {self.path}; is --local right? The first send creates it")
            if not os.access(self.path, os.W_OK):
                return _read_only(self.path)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as failure:
            raise BackendRefused(f"cannot create the directory {self.path.parent}: {failure.strerror}") from failure
        connection = sqlite3.connect(self.path, timeout=BUSY_TIMEOUT, isolation_level=None)
        try:
            _switch_to_wal(connection)
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.executescript(_SCHEMA)
            if _missing_columns(connection):
                _add_columns(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _space(self) -> str:
        """Name a full disk, which SQLite calls an I/O error as often as not."""
        with contextlib.suppress(OSError):
            free = shutil.disk_usage(self.path.parent).free
            if free < FULL:
                return f" (the disk is full: {free} bytes free in {self.path.parent})"
        return ""


def _read_only(path: Path) -> sqlite3.Connection:
    """Open the file for a user who may only read. Raises ``BackendRefused`` if it is of an earlier version."""
    # With no worker at work there may be no file of shared memory, and no right to create it: nothing changes then.
    quiet = not os.access(path.parent, os.W_OK) and not Path(f"{path}-shm").exists()
    mode = "immutable=1" if quiet else "mode=ro"
    url = f"{path.absolute().as_uri()}?{mode}"
    connection = sqlite3.connect(url, uri=True, timeout=BUSY_TIMEOUT, isolation_level=None)
    wanted = {line.split()[5] for line in _SCHEMA.splitlines() if line.startswith("CREATE TABLE")}
    there = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if wanted - there or _missing_columns(connection):
        connection.close()
        raise BackendRefused(f"{path} is of an earlier version: a user who may write to it must open it once")
    return connection


def _missing_columns(connection: sqlite3.Connection) -> list[str]:
    """What to execute so that a file of an earlier version has every column; that version can go on working on it."""
    statements = []
    for table, columns in _COLUMNS.items():
        there = {row[1] for row in connection.execute(f"PRAGMA table_info({table})")}
        missing = [f"{name} {kind}" for name, kind in columns.items() if name not in there]
        statements += [f"ALTER TABLE {table} ADD COLUMN {column}" for column in missing]
    return statements


def _add_columns(connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN IMMEDIATE")
    for statement in _missing_columns(connection):  # looked for again: another process may have added them meanwhile
        connection.execute(statement)
    connection.execute("COMMIT")


def _switch_to_wal(connection: sqlite3.Connection) -> None:
    """Retry while another process opens the same new file: SQLite does not wait here by itself."""
    until = time.monotonic() + BUSY_TIMEOUT
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError:
            if time.monotonic() > until:
                raise
            time.sleep(0.02)
        else:
            return
