"""The history of the embedded store: a table of runs, with indexes."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import Sequence
from typing import Any

from sqsjkr.backends import Connections
from sqsjkr.backends.sqlite.store import Store
from sqsjkr.errors import BackendUnavailable
from sqsjkr.runs import Run, to_note
from sqsjkr.telemetry.history import HistoryStore, has_failed

GATHER = 0.05
"""Seconds that endings gather; they share the transaction of what else is written then."""
BOUND = 1_000
"""Endings that wait at most: the disk may be full for long."""
MOST_ROWS = 1_000_000
"""Runs that are kept at most, the newest: half a gigabyte or so."""
PRUNE_EVERY = 60.0
"""Seconds between two looks for runs that are too old."""

_INSERT = (
    "INSERT INTO run (id, attempt, event_id, lock_id, host, ended, outcome, bad, final, facts) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_Row = tuple[Any, ...]


class SQLiteHistory(HistoryStore):
    """Writes the history of one worker."""

    def __init__(self, store: Store) -> None:
        super().__init__()
        self._store = store
        self._waiting: list[_Row] = []
        self._late: list[_Row] = []
        self._timer: asyncio.TimerHandle | None = None
        self._writing: set[asyncio.Task[None]] = set()
        self._pruned = 0.0

    @classmethod
    def configured(cls, connections: Connections, place: str) -> SQLiteHistory:
        """The history in the store at ``place``; "" is the queue's store."""
        return cls(connections.once(Store, place or connections.settings.local))

    def ended(self, run: Run, *, claimed: bool = True, confirmed: bool = False) -> None:  # noqa: ARG002 - it has a row
        """Insert a row; put the facts with a claim that was marked as done without them."""
        self._add(run, final=True)
        if confirmed:
            self._late.append((to_note(run), run.key))

    def went_back(self, run: Run) -> None:
        """Insert a row that no list shows."""
        self._add(run, final=False)

    def tried(self, run: Run) -> None:
        """Insert a row that no list shows."""
        self._add(run, final=False)

    async def close(self) -> None:
        """Write what waits."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(2.0):
                await self._write()
                await asyncio.gather(*self._writing)

    def _add(self, run: Run, *, final: bool) -> None:
        if len(self._waiting) >= BOUND:
            self.lost(1, "the store does not answer")
            return
        row = (run.message_id, run.attempt, run.event_id, run.lock_id, run.host, run.ended_at, run.outcome)
        self._waiting.append((*row, has_failed(run), final, to_note(run)))
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(GATHER, self._start)

    def _start(self) -> None:
        task = asyncio.create_task(self._write())
        self._writing.add(task)  # the loop itself keeps only a weak reference
        task.add_done_callback(self._writing.discard)

    async def _write(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        rows, self._waiting = self._waiting, []
        late, self._late = self._late, []
        for last in (False, True):
            if not rows:
                return
            try:
                await self._store.write(lambda db: self._insert(db, rows, late))
            except BackendUnavailable as why:
                if last:
                    self.lost(len(rows), why)
            else:
                self.written()
                return

    def _insert(self, db: sqlite3.Connection, rows: Sequence[_Row], late: Sequence[_Row]) -> None:
        db.executemany(_INSERT, rows)
        db.executemany("UPDATE row SET facts = ? WHERE type = 'throttle' AND id = ? AND done", late)
        now = time.time()
        if now >= self._pruned + PRUNE_EVERY:
            self._pruned = now
            db.execute("DELETE FROM run WHERE ended < ?", (now - self.rules.seconds,))
            db.execute("DELETE FROM run WHERE seq <= (SELECT MAX(seq) FROM run) - ?", (MOST_ROWS,))
