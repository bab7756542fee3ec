"""Claims of the embedded store: the rows of type ``throttle``."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from dataclasses import replace

from sqsjkr.backends.sqlite.store import Store
from sqsjkr.leases.table import Claiming, ClaimRows, Row
from sqsjkr.runs import Earlier, Run, from_note, to_note

NOBODY = "nobody/0"
"""The owner of a claim that is free. Release 1.0 takes a row without owner for done, this one for a dead worker's."""

CANCELLED = "cancelled"
"""The outcome of a job that was marked as done before it started."""
PRUNE_EVERY = 60.0
"""Seconds between two looks for rows whose time is over."""
_INSERT = "INSERT OR IGNORE INTO row (id, type, owner, facts, expired) VALUES (?, 'throttle', ?, ?, ?)"


class SQLiteClaims(ClaimRows):
    """The claims' part of ``SQLiteTable``."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._pruned = 0.0

    async def take_new_claims(self, claims: Sequence[Claiming]) -> Sequence[Row | Exception | None]:
        """See ``Table``. One transaction for all."""
        expired = time.time() + self.retention
        rows = [(claiming.run.key, claiming.owner, self._begun(claiming), expired) for claiming in claims]

        def take(db: sqlite3.Connection) -> list[Row | None]:
            return [Row(owner=row[1]) if db.execute(_INSERT, row).rowcount else None for row in rows]

        return await self._store.write(take)

    async def take_claim(self, claiming: Claiming) -> Row:
        """See ``Table``."""
        message_id, me = claiming.run.key, claiming.owner
        expired = time.time() + self.retention

        def take(db: sqlite3.Connection) -> Row:
            row = _claim(db, message_id)
            if row is not None and not _may_take(row, claiming):
                return row
            if row is None:
                db.execute(_INSERT, (message_id, me, self._begun(claiming), expired))
                return Row(owner=me)
            crashes = row.crashes if claiming.crashes is None else claiming.crashes
            earlier = claiming.run.earlier or (row.run.earlier if row.run else ())
            now = replace(claiming, run=replace(claiming.run, earlier=earlier))
            change = "owner = ?, crashes = ?, due = NULL, facts = ?, expired = ?"
            _change(db, message_id, change, me, crashes, self._begun(now), expired)
            return replace(row, owner=me, crashes=crashes, due=None, run=now.run)

        return await self._store.write(take)

    async def finish_claims(self, claims: Sequence[tuple[Run, str]]) -> Sequence[Exception | None]:
        """See ``Table``."""
        finish = (
            "INSERT INTO row (id, type, owner, done, owed, cancelled_by, facts, expired) "
            "VALUES (?, 'throttle', ?, 1, ?, ?, ?, ?) ON CONFLICT (type, id) DO UPDATE SET owner = excluded.owner, "
            "done = 1, failures = 0, crashes = 0, due = NULL, stop = '', owed = excluded.owed, "
            "cancelled_by = excluded.cancelled_by, facts = excluded.facts, expired = excluded.expired"
        )
        expired = time.time() + self.retention
        rows = [
            (
                run.key,
                owner,
                to_note(run) if run.owed else "",
                run.cancelled_by,
                to_note(self.history.at_end(run)),
                expired,
            )
            for run, owner in claims
        ]

        def finish_all(db: sqlite3.Connection) -> None:
            db.executemany(finish, rows)
            self._prune(db)

        await self._store.write(finish_all)
        return [None] * len(claims)

    def _begun(self, claiming: Claiming) -> str:
        return to_note(self.history.at_claim(claiming.run))

    def _prune(self, db: sqlite3.Connection) -> None:
        """Do what TTL does in DynamoDB, now and then."""
        now = time.time()
        if now >= self._pruned + PRUNE_EVERY:
            db.execute("DELETE FROM row WHERE expired < ?", (now,))
            self._pruned = now

    async def drop_claim(self, message_id: str, owner: str) -> None:
        """See ``Table``."""

        def drop(db: sqlite3.Connection) -> None:
            row = _claim(db, message_id)
            if row is None or row.owner != owner or row.done:
                return
            if row.stop:
                _cancel(db, message_id, row.stop)
            elif row.failures or row.crashes:
                _change(db, message_id, f"owner = '{NOBODY}', due = NULL")
            else:
                db.execute("DELETE FROM row WHERE type = 'throttle' AND id = ?", (message_id,))

        await self._store.write(drop)

    async def postpone_claim(
        self, message_id: str, owner: str, *, failures: int, due: float | None, earlier: Sequence[Earlier] = ()
    ) -> None:
        """See ``Table``."""

        def postpone(db: sqlite3.Connection) -> None:
            row = _claim(db, message_id)
            if row is None or row.owner != owner or row.done:
                return
            if row.stop:
                _cancel(db, message_id, row.stop)
            else:
                run = replace(row.run or Run(message_id=message_id), earlier=tuple(earlier))
                change = f"owner = '{NOBODY}', failures = ?, due = ?, facts = ?"
                _change(db, message_id, change, failures, due, to_note(run))

        await self._store.write(postpone)

    async def cancel_claim(self, message_id: str, by: str, *, over: str | None = None) -> Row:
        """See ``Table``."""
        expired = time.time() + self.retention

        def cancel(db: sqlite3.Connection) -> Row:
            row = _claim(db, message_id)
            if row is None:
                db.execute(_INSERT, (message_id, NOBODY, "", expired))
            elif row.done or row.owner not in {None, over}:
                return row
            _cancel(db, message_id, by)
            return replace(row or Row(owner=None), done=True, due=None, stop="", cancelled_by=by)

        return await self._store.write(cancel)

    async def cancelled_by(self, message_id: str) -> str:
        """See ``Table``."""

        def look(db: sqlite3.Connection) -> str:
            row = _claim(db, message_id)
            return row.cancelled_by if row is not None and row.done else ""

        return await self._store.read(look)

    async def stop_claim(self, message_id: str, by: str) -> Row | None:
        """See ``Table``."""

        def stop(db: sqlite3.Connection) -> Row | None:
            row = _claim(db, message_id)
            if row is None or row.done or row.owner is None:
                return row
            _change(db, message_id, "stop = ?", by)
            return replace(row, stop=by)

        return await self._store.write(stop)


def _claim(db: sqlite3.Connection, message_id: str) -> Row | None:
    found = db.execute(
        "SELECT owner, done, failures, crashes, due, stop, owed, cancelled_by, facts FROM row "
        "WHERE type = 'throttle' AND id = ?",
        (message_id,),
    ).fetchone()
    if found is None:
        return None
    owner, done, failures, crashes, due, stop, owed, cancelled_by, facts = found
    return Row(
        owner=None if owner == NOBODY else owner,
        done=bool(done),
        failures=failures,
        crashes=crashes,
        due=due,
        stop=stop,
        owed=owed,
        cancelled_by=cancelled_by,
        run=_run(message_id, facts, owner, cancelled_by),
    )


def _run(key: str, facts: str, owner: str | None, cancelled_by: str) -> Run:
    run = (from_note(facts) if facts else None) or Run(message_id=key)
    if cancelled_by and not run.outcome:
        run = replace(run, outcome=CANCELLED)
    return run if run.attempt else replace(run, attempt=(owner or "").partition("/")[2])


def _may_take(row: Row, claiming: Claiming) -> bool:
    if row.done:
        return False
    if row.owner is None:
        return row.due is None or row.due <= claiming.age
    return row.owner == claiming.owner or (row.owner == claiming.over and not row.stop)


def _change(db: sqlite3.Connection, message_id: str, change: str, *values: object) -> None:
    db.execute(f"UPDATE row SET {change} WHERE type = 'throttle' AND id = ?", (*values, message_id))  # noqa: S608 - ours


def _cancel(db: sqlite3.Connection, message_id: str, by: str) -> None:
    _change(db, message_id, "done = 1, due = NULL, stop = '', cancelled_by = ?", by)
