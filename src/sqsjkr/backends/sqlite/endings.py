"""The history of the embedded store as viewers read it."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial
from typing import Any

from sqsjkr.backends.sqlite.claims import _claim as claim_of
from sqsjkr.backends.sqlite.store import Store
from sqsjkr.runs import Run, from_note
from sqsjkr.telemetry.history import has_failed, last_line
from sqsjkr.views.source import ClaimRow, Endings, OfEvent, without_claim

CHUNK = 200
"""Runs that one read of a list returns."""
_ALL = (
    "SELECT ended, seq, facts FROM run WHERE final AND (ended, seq) < (?, ?) AND ended >= ? "
    "ORDER BY ended DESC, seq DESC LIMIT ?"
)
_BAD = _ALL.replace("final AND", "final AND bad AND")
_EVENT = "SELECT facts FROM run WHERE event_id = ? AND final ORDER BY ended DESC, seq DESC LIMIT ?"
_AGAIN = _EVENT.replace("AND final", "AND NOT final")
_MESSAGE = "SELECT facts FROM run WHERE id = ? ORDER BY seq"


class SQLiteEndings(Endings):
    """The history in one store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def story(self, message_id: str) -> ClaimRow | None:
        """See ``Endings``."""

        def look(db: sqlite3.Connection) -> ClaimRow | None:
            past = _runs(db, _MESSAGE, message_id)
            row = claim_of(db, past[-1].key if past else message_id)
            if row is None:
                return without_claim(past)
            return ClaimRow(row=row, run=(row.run or Run(message_id=message_id)).with_past(past))

        return await self._store.read(look)

    async def endings(
        self,
        queue: str,  # noqa: ARG002 - a store has one
        *,
        since: float,
        until: float,
        failed: bool = False,
    ) -> AsyncIterator[Run]:
        """Read some at a time."""
        before: tuple[float, float] = (until, float("inf"))
        while True:
            rows = await self._store.read(partial(_older, before, since, failed=failed))
            for ended, seq, facts in rows:
                before = (ended, seq)
                if (run := from_note(facts)) is not None:
                    yield replace(run, output=last_line(run.output) if has_failed(run) else "")
            if len(rows) < CHUNK:
                return

    async def endings_of(self, event_id: str, limit: int) -> OfEvent:
        """See ``Endings``."""

        def look(db: sqlite3.Connection) -> OfEvent:
            again = _runs(db, _AGAIN, event_id, 1)
            return OfEvent(endings=_runs(db, _EVENT, event_id, limit), again=again[0] if again else None)

        return await self._store.read(look)


def _older(before: tuple[float, float], since: float, db: sqlite3.Connection, *, failed: bool) -> list[tuple[Any, ...]]:
    return db.execute(_BAD if failed else _ALL, (*before, since, CHUNK)).fetchall()


def _runs(db: sqlite3.Connection, look: str, *values: object) -> list[Run]:
    return [run for (facts,) in db.execute(look, values) if (run := from_note(facts)) is not None]
