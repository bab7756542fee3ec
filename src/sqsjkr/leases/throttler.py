"""Claims in the table: one conditional write before a job starts, one batched write after it ended."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial

from sqsjkr.batcher import Batcher, ClockedBatcher
from sqsjkr.leases.budget import STANDARD, LeaseBudget
from sqsjkr.leases.leased import Leased, holder_of
from sqsjkr.leases.session import Session
from sqsjkr.leases.table import BATCH, STUCK, Claiming, Row, Table
from sqsjkr.runs import Holder, Run, from_note
from sqsjkr.telemetry.history import Keep
from sqsjkr.throttler import Answer, Claim, Throttler

CONFIRM_BATCH = 24
"""Claims that one request marks as done: one less than BatchWriteItem may put, so that a page of history can ride
along (AWS: Service, account, and table quotas in Amazon DynamoDB)."""
CONFIRM_LINGER = 0.05
FOR_EVER = 1e9
"""Seconds: an age at which everything is due."""


class TableThrottler(Leased, Throttler):
    """Claims in the table: one conditional write before a job starts, one batched write after it ended."""

    remembers = True

    def __init__(self, table: Table, session: Session, *, budget: LeaseBudget = STANDARD) -> None:
        super().__init__("claim", table, session, budget)
        self._together: ClockedBatcher[Claiming, Row | None] = ClockedBatcher(
            table.take_new_claims, size=BATCH, stuck=STUCK, pace=budget.claim_pace
        )
        self._finishing = Batcher(table.finish_claims, size=CONFIRM_BATCH, linger=CONFIRM_LINGER)

    async def claim(self, message_id: str, owner: str) -> Claim:
        """FRESH if it has no claim or its worker is dead, DONE if its job has ended, BUSY otherwise."""
        return (await self.begin(Run(message_id=message_id), owner, age=FOR_EVER)).claim

    async def begin(self, run: Run, owner: str, *, age: float) -> Answer:
        """As ``claim``; EARLY if the job was put off for longer than ``age``. FRESH says how it went before."""
        message_id, me = run.key, await self._hold(owner)
        with self._taking(owner):
            row = await self._take(Claiming(run=run, owner=me, age=age))
            if row.owner == me and not row.done and run.key != run.message_id:
                row = await self._unless_cancelled(run, row)
        answer = self._answer(row, me, age)
        self.asked["taken" if answer.claim is Claim.FRESH else "busy"] += 1
        if answer.claim is not Claim.FRESH:
            self._drop(owner)
            self._echo(owner, lambda: self._table.drop_claim(message_id, me))
        return answer

    async def confirm(self, message_id: str, owner: str) -> None:
        """Mark the claim as done, with others in one request. Nothing to do for an owner that has none."""
        if self._holder(owner) is not None:
            await self.end(Run(message_id=message_id), owner)

    async def end(self, run: Run, owner: str) -> None:
        """Mark the claim as done, with the facts of the run and with others in one request; given back or not.

        A claim that was given back ends so, too, once its message is buried: its row would stay for ever.
        """
        me = self._holder(owner) or f"{self._session.name}/{owner}"
        await self._finishing((run, me))
        self._in_doubt.discard(owner)  # what arrives late finds the claim done
        self._drop(owner)

    async def forget(self, message_id: str, owner: str) -> None:
        """Free the claim on condition of its owner. Nothing to do for an owner that never asked."""
        await self._free(message_id, owner, self._table.drop_claim)

    async def postpone(
        self, message_id: str, owner: str, *, failures: int, due: float | None, run: Run | None = None
    ) -> None:
        """Free the claim on condition of its owner, with what the next attempt must know."""
        earlier = run.earlier_with_this if run is not None and self._table.history.runs is not Keep.NONE else ()
        postponed = partial(self._table.postpone_claim, failures=failures, due=due, earlier=earlier)
        await self._free(message_id, owner, postponed)

    async def _free(self, message_id: str, owner: str, free: Callable[[str, str], Awaitable[None]]) -> None:
        me = self._holder(owner)
        if me is not None:
            await free(message_id, me)
            self._drop(owner)
            # A claim that arrives after this is due now, so its echo is dropped and not postponed: it would write old
            # failures over newer ones.
            self._echo(owner, lambda: self._table.drop_claim(message_id, me))

    async def _take(self, claiming: Claiming) -> Row:
        """Ask for the claim; if it is held by what is over, ask again, over that.

        A first delivery mostly has no row yet, and asks together with others.
        """
        row = await self._together(claiming) if claiming.run.receive_count <= 1 else None
        if row is None:
            row = await self._table.take_claim(claiming)
        if row.done or row.owner in {None, claiming.owner} or not await self._is_over(row):
            return row
        if not row.stop:
            again = replace(claiming, over=row.owner)
            if not self._session.is_mine(row.session or ""):  # an echo of our own is no crash
                run = replace(claiming.run, earlier=(*row.run.earlier, row.run.as_earlier)) if row.run else claiming.run
                again = replace(again, run=run, crashes=row.crashes + 1)
            seen, row = row, await self._table.take_claim(again)
            if row.owner == claiming.owner:
                self._taken_over(f"the claim of message {claiming.run.key}", seen, message_id=claiming.run.message_id)
            if row.done or row.owner != seen.owner or not row.stop:
                return row
        return await self._table.cancel_claim(claiming.run.key, row.stop, over=row.owner)

    async def _unless_cancelled(self, run: Run, row: Row) -> Row:
        """Return the row of a claim with a key of its own; done, if an operator has cancelled its message.

        Operators know a message by its id, so that is where a job is cancelled that nobody runs.
        """
        by = await self._table.cancelled_by(run.message_id)
        return await self._table.cancel_claim(run.key, by, over=row.owner) if by else row

    def _answer(self, row: Row, me: str, age: float) -> Answer:
        if row.done:
            owed = from_note(row.owed) if row.owed else None
            return Answer(claim=Claim.DONE, cancelled_by="" if _has_reported(row) else row.cancelled_by, owed=owed)
        if row.owner == me:
            earlier = row.run.earlier if row.run else ()
            return Answer(claim=Claim.FRESH, failures=row.failures, crashes=row.crashes, earlier=earlier)
        if row.owner is None and row.due is not None and row.due > age:
            return Answer(claim=Claim.EARLY, due=row.due)
        alive_at = self._session.sightings.alive_at(row.session or "")
        return Answer(
            claim=Claim.BUSY, alive_at=alive_at, holder=holder_of(row, self._session) if row.owner else Holder()
        )


def _has_reported(row: Row) -> bool:
    """Whether an attempt has reported this end of the job. Of one that was cancelled before it started, none has."""
    return row.run is not None and row.run.ended_at is not None
