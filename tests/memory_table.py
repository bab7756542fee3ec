"""The smallest faithful table: what DynamoDB and SQLite do, in a dict. Held to it by the same contract tests."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace

from sqsjkr.leases.table import Claiming, Heartbeat, Row, Table
from sqsjkr.runs import HOST, Earlier, Holder, Run, to_note


@dataclass
class Lock:
    owner: str | None = None
    released: str | None = None
    holder: Holder = field(default_factory=Holder)
    fence: int = 0


@dataclass
class Rows:
    """What several workers' tables share."""

    locks: dict[str, Lock] = field(default_factory=dict)
    claims: dict[str, Row] = field(default_factory=dict)
    beats: dict[str, int] = field(default_factory=dict)
    live: dict[str, bytes] = field(default_factory=dict)
    orders: dict[str, set[str]] = field(default_factory=dict)


class MemoryTable(Table):
    """One worker's view of the rows."""

    def __init__(self, rows: Rows | None = None) -> None:
        self.rows = rows or Rows()

    async def open(self) -> None:
        """Nothing to open."""

    async def close(self) -> None:
        """Nothing to close."""

    async def take_lock(
        self, lock_id: str, owner: str, event_id: str, *, over: str | None, message_id: str = ""
    ) -> int | Row:
        lock = self.rows.locks.setdefault(lock_id, Lock())
        free = lock.owner is None and lock.released != owner
        if not (free or lock.owner == owner or (over is not None and lock.owner == over)):
            return Row(owner=lock.owner, holder=lock.holder)
        lock.owner, lock.released = owner, None
        lock.holder = replace(Holder.here(event_id, message_id), note="")
        lock.fence += 1
        return lock.fence

    async def release_lock(self, lock_id: str, owner: str) -> None:
        lock = self.rows.locks.get(lock_id)
        if lock is not None and lock.owner == owner:
            lock.owner, lock.released = None, owner

    async def release_locks(self, locks: Sequence[tuple[str, str]]) -> Sequence[Exception | None]:
        for lock in locks:
            await self.release_lock(*lock)
        return [None] * len(locks)

    async def take_new_claims(self, claims: Sequence[Claiming]) -> Sequence[Row | Exception | None]:
        answers: list[Row | None] = []
        for claiming in claims:
            is_new = claiming.run.key not in self.rows.claims
            answers.append(await self.take_claim(claiming) if is_new else None)
        return answers

    async def take_claim(self, claiming: Claiming) -> Row:
        message_id, me = claiming.run.key, claiming.owner
        row = self.rows.claims.get(message_id, Row(owner=None))
        if row.done or not (
            row.owner == me
            or (row.owner is None and (row.due is None or row.due <= claiming.age))
            or (row.owner is not None and row.owner == claiming.over and not row.stop)
        ):
            return row
        crashes = row.crashes if claiming.crashes is None else claiming.crashes
        run = self.history.at_claim(claiming.run)
        run = replace(run, earlier=run.earlier or (row.run.earlier if row.run else ()))
        self.rows.claims[message_id] = replace(row, owner=me, crashes=crashes, due=None, run=run)
        return self.rows.claims[message_id]

    async def finish_claims(self, claims: Sequence[tuple[Run, str]]) -> Sequence[Exception | None]:
        for run, owner in claims:
            owed = to_note(run) if run.owed else ""
            self.rows.claims[run.key] = Row(
                owner=owner, done=True, owed=owed, cancelled_by=run.cancelled_by, run=self.history.at_end(run)
            )
        return [None] * len(claims)

    async def drop_claim(self, message_id: str, owner: str) -> None:
        if (row := self._held(message_id, owner)) is None:
            return
        if row.stop:
            await self.cancel_claim(message_id, row.stop, over=owner)
        elif row.failures or row.crashes:
            self.rows.claims[message_id] = replace(row, owner=None)
        else:
            del self.rows.claims[message_id]

    async def postpone_claim(
        self, message_id: str, owner: str, *, failures: int, due: float | None, earlier: Sequence[Earlier] = ()
    ) -> None:
        if (row := self._held(message_id, owner)) is None:
            return
        if row.stop:
            await self.cancel_claim(message_id, row.stop, over=owner)
        else:
            run = replace(row.run or Run(message_id=message_id), earlier=tuple(earlier))
            self.rows.claims[message_id] = replace(row, owner=None, failures=failures, due=due, run=run)

    async def cancel_claim(self, message_id: str, by: str, *, over: str | None = None) -> Row:
        row = self.rows.claims.get(message_id, Row(owner=None))
        if not row.done and row.owner in {None, over}:
            row = replace(row, done=True, due=None, stop="", cancelled_by=by)
            self.rows.claims[message_id] = row
        return row

    async def cancelled_by(self, message_id: str) -> str:
        row = self.rows.claims.get(message_id)
        return row.cancelled_by if row is not None and row.done else ""

    async def stop_claim(self, message_id: str, by: str) -> Row | None:
        row = self.rows.claims.get(message_id)
        if row is not None and row.owner is not None and not row.done:
            row = self.rows.claims[message_id] = replace(row, stop=by)
        return row

    def _held(self, message_id: str, owner: str) -> Row | None:
        row = self.rows.claims.get(message_id)
        return row if row is not None and row.owner == owner and not row.done else None

    async def beat(self, session_id: str, live: bytes = b"", seen: Collection[str] = ()) -> Collection[str]:
        standing = self.rows.orders.setdefault(session_id, set())
        standing.difference_update(seen)
        self.rows.live[session_id] = live
        self.rows.beats[session_id] = self.rows.beats.get(session_id, 0) + 1
        return frozenset(standing)

    async def read_beat(self, session_id: str) -> Heartbeat | None:
        beats = self.rows.beats.get(session_id)
        return None if beats is None else Heartbeat(beats, HOST, os.getpid())
