"""The smallest faithful table: what DynamoDB and SQLite do, in a dict. Held to it by the same contract tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from sqsjkr.leases.table import Row, Table


@dataclass
class Lock:
    owner: str | None = None
    released: str | None = None
    fence: int = 0


@dataclass
class Claim:
    owner: str
    done: bool = False


@dataclass
class Rows:
    """What several workers' tables share."""

    locks: dict[str, Lock] = field(default_factory=dict)
    claims: dict[str, Claim] = field(default_factory=dict)
    beats: dict[str, int] = field(default_factory=dict)


class MemoryTable(Table):
    """One worker's view of the rows."""

    def __init__(self, rows: Rows | None = None) -> None:
        self.rows = rows or Rows()

    async def open(self) -> None:
        """Nothing to open."""

    async def close(self) -> None:
        """Nothing to close."""

    async def take_lock(self, lock_id: str, owner: str, event_id: str, *, over: str | None) -> int | Row:
        lock = self.rows.locks.setdefault(lock_id, Lock())
        free = lock.owner is None and lock.released != owner
        if not (free or lock.owner == owner or (over is not None and lock.owner == over)):
            return Row(owner=lock.owner)
        lock.owner, lock.released = owner, None
        lock.fence += 1
        return lock.fence

    async def release_lock(self, lock_id: str, owner: str) -> None:
        lock = self.rows.locks.get(lock_id)
        if lock is not None and lock.owner == owner:
            lock.owner, lock.released = None, owner

    async def take_claim(self, message_id: str, owner: str, *, over: str | None) -> Row | None:
        claim = self.rows.claims.get(message_id)
        if claim is not None and (claim.done or claim.owner not in {owner, over}):
            return Row(owner=claim.owner, done=claim.done)
        self.rows.claims[message_id] = Claim(owner)
        return None

    async def finish_claims(self, claims: Sequence[tuple[str, str]]) -> Sequence[Exception | None]:
        for message_id, owner in claims:
            self.rows.claims[message_id] = Claim(owner, done=True)
        return [None] * len(claims)

    async def drop_claim(self, message_id: str, owner: str) -> None:
        claim = self.rows.claims.get(message_id)
        if claim is not None and claim.owner == owner and not claim.done:
            del self.rows.claims[message_id]

    async def beat(self, session_id: str) -> None:
        self.rows.beats[session_id] = self.rows.beats.get(session_id, 0) + 1

    async def read_beat(self, session_id: str) -> int | None:
        return self.rows.beats.get(session_id)
