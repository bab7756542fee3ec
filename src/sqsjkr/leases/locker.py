"""Locks in the table, each as good as its worker's lease."""

from __future__ import annotations

from sqsjkr.batcher import ClockedBatcher
from sqsjkr.errors import BackendUnavailable
from sqsjkr.leases.budget import STANDARD, LeaseBudget
from sqsjkr.leases.leased import Leased, holder_of
from sqsjkr.leases.session import Session
from sqsjkr.leases.table import BATCH, STUCK, Row, Table
from sqsjkr.locker import Locker
from sqsjkr.runs import Holder


class TableLocker(Leased, Locker):
    """Locks in the table, each as good as its worker's lease."""

    def __init__(self, table: Table, session: Session, *, budget: LeaseBudget = STANDARD) -> None:
        super().__init__("lock", table, session, budget)
        self._releasing = ClockedBatcher(table.release_locks, size=BATCH, stuck=STUCK, pace=budget.claim_pace)

    def proven_until(self) -> float:
        """Two thirds of a lease after the last successful beat was sent; over for good once that has passed.

        A lock may have been taken over and given back while this host was cut off or suspended: no beat heals that.
        """
        return float("-inf") if self._session.lost(self._kind) else super().proven_until()

    async def lock(self, lock_id: str, owner: str, event_id: str) -> int | None:
        """As ``acquire``, without the holder."""
        answer = await self.acquire(lock_id, owner, event_id, "")
        return None if isinstance(answer, Holder) else answer

    async def acquire(self, lock_id: str, owner: str, event_id: str, message_id: str) -> int | Holder:
        """Take the lock if it is free, or if its worker is dead. None of a lapsed lease may be left: they end first."""
        me = await self._hold(owner)
        if self._session.lost(self._kind):
            raise BackendUnavailable("the lease lapsed, and the jobs that it locked are still being ended")
        with self._taking(owner):
            answer = await self._table.take_lock(lock_id, me, event_id, over=None, message_id=message_id)
            if isinstance(row := answer, Row) and await self._is_over(row):
                answer = await self._table.take_lock(lock_id, me, event_id, over=row.owner, message_id=message_id)
                if not isinstance(answer, Row):
                    self._taken_over(f"lock_id={lock_id}, held by {row.holder},", row, lock_id=lock_id)
        self.asked["busy" if isinstance(answer, Row) else "taken"] += 1
        if isinstance(answer, Row):
            self._drop(owner)
            self._echo(owner, lambda: self._table.release_lock(lock_id, me))
            return holder_of(answer, self._session)
        return answer

    async def unlock(self, lock_id: str, owner: str) -> None:
        """Free the lock on condition of its owner, with others in one request. Nothing for one that never asked."""
        me = self._holder(owner)
        if me is not None:
            await self._releasing((lock_id, me))
            self._drop(owner)
            self._echo(owner, lambda: self._table.release_lock(lock_id, me))
