"""Claims in the table: one conditional write before a job starts, one batched write after it ended."""

from __future__ import annotations

from sqsjkr.batcher import Batcher
from sqsjkr.leases.budget import STANDARD, LeaseBudget
from sqsjkr.leases.leased import Leased
from sqsjkr.leases.session import Session
from sqsjkr.leases.table import Table
from sqsjkr.throttler import Claim, Throttler

CONFIRM_BATCH = 25
"""Rows one BatchWriteItem may put (AWS: Service, account, and table quotas in Amazon DynamoDB)."""
CONFIRM_LINGER = 0.05


class TableThrottler(Leased, Throttler):
    """Claims in the table: one conditional write before a job starts, one batched write after it ended."""

    def __init__(self, table: Table, session: Session, *, budget: LeaseBudget = STANDARD) -> None:
        super().__init__("claim", table, session, budget)
        self._finishing = Batcher(table.finish_claims, size=CONFIRM_BATCH, linger=CONFIRM_LINGER)

    async def claim(self, message_id: str, owner: str) -> Claim:
        """FRESH if it has no claim or its worker is dead, DONE if its job has ended, BUSY otherwise."""
        me = await self._hold(owner)
        with self._taking(owner):
            row = await self._table.take_claim(message_id, me, over=None)
            if row is not None and not row.done and await self._is_over(row):
                row = await self._table.take_claim(message_id, me, over=row.owner)
        if row is None:
            return Claim.FRESH
        self._drop(owner)
        self._echo(owner, lambda: self._table.drop_claim(message_id, me))
        return Claim.DONE if row.done or row.owner is None else Claim.BUSY

    async def confirm(self, message_id: str, owner: str) -> None:
        """Mark the claim as done, with others in one request."""
        me = self._holder(owner)
        if me is not None:
            await self._finishing((message_id, me))
            self._in_doubt.discard(owner)  # what arrives late finds the claim done
            self._drop(owner)

    async def forget(self, message_id: str, owner: str) -> None:
        """Remove the claim on condition of its owner. Nothing to do for an owner that never asked."""
        me = self._holder(owner)
        if me is not None:
            await self._table.drop_claim(message_id, me)
            self._drop(owner)
            self._echo(owner, lambda: self._table.drop_claim(message_id, me))
