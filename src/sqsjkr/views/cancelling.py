"""Cancelling a job: it is kept from starting, or ended where it runs; the order outlives its worker."""

from __future__ import annotations

from dataclasses import dataclass, replace

from sqsjkr import clock
from sqsjkr.leases.live import Order
from sqsjkr.leases.table import Row, Table
from sqsjkr.outcome import Outcome
from sqsjkr.runs import Run
from sqsjkr.views.model import Cancellation, Result
from sqsjkr.views.picture import STILL, worker_of
from sqsjkr.views.source import ClaimRow, Orders, Source


@dataclass(frozen=True, kw_only=True)
class Target:
    """A job to cancel."""

    message_id: str
    claim: str
    """The id of its claim's row: mostly that of its message."""
    event_id: str = ""
    host: str = ""
    since: float | None = None
    command: str = ""

    @property
    def name(self) -> str:
        """What an operator knows it by."""
        return f"{self.event_id} ({self.message_id})" if self.event_id not in {"", self.message_id} else self.message_id


@dataclass(frozen=True, kw_only=True)
class Step:
    """How far a cancellation is."""

    target: Target
    claim: ClaimRow
    """The job's claim when the order was given."""
    ordered_at: float
    """On ``clock.now``."""
    result: Result | None = None
    """None while it goes on."""
    seconds: float = 0.0
    """From the order to the result."""
    text: str = ""
    """What happened, in a few words."""

    @property
    def over(self) -> bool:
        """Nothing more will happen."""
        return self.result is not None

    @property
    def done(self) -> bool:
        """The job is cancelled, or sent back."""
        return self.result in {Result.CANCELLED, Result.REQUEUED}

    def ended(self, result: Result, text: str) -> Step:
        """Return the last step."""
        return replace(self, result=result, text=text, seconds=clock.now() - self.ordered_at)


class Canceller:
    """Cancels jobs in the name of ``by``; with ``requeue`` it sends those back that run."""

    def __init__(self, source: Source, rows: Table, orders: Orders, fleet: str, *, by: str, requeue: bool) -> None:
        self._source = source
        self._rows = rows
        self._orders = orders
        self._fleet = fleet
        self._by = by
        self._requeue = requeue

    async def order(self, target: Target) -> Step:
        """Give the order. One that has not started is cancelled by that; one that runs takes some seconds: ``look``."""
        claim = await self._claim(target)
        step = Step(target=target, claim=claim, ordered_at=clock.now())
        if claim.row.owner is None and not claim.row.done:
            if self._requeue:
                return step.ended(Result.REQUEUED, "does not run: it starts when its turn comes")
            claim = replace(claim, row=await self._rows.cancel_claim(target.claim, self._by))
        if claim.row.done:
            return _ended(step, claim)
        session, _, attempt = (claim.row.owner or "").partition("/")
        if not self._requeue:
            await self._rows.stop_claim(target.claim, self._by)
        verb = "requeue" if self._requeue else "cancel"
        await self._orders.order(session, Order(verb=verb, attempt=attempt, by=self._by).text)
        return replace(step, claim=claim, text="ordered")

    async def look(self, step: Step) -> Step:
        """Look how far it is."""
        claim = await self._claim(step.target)
        if claim.row.done:
            return _ended(step, claim)
        if self._requeue and claim.row.owner != step.claim.row.owner:
            return step.ended(Result.REQUEUED, f"was sent back after {_passed(step)}")
        return step

    def outcome(self, step: Step) -> Cancellation:
        """Return what became of the job, once there is a result."""
        run, target = step.claim.run, step.target
        if step.result is None:
            raise ValueError("it goes on")
        return Cancellation(
            message_id=target.message_id,
            event_id=target.event_id or run.event_id or None,
            host=target.host or run.host or None,
            result=step.result,
            by=self._by,
            detail=step.text,
            seconds=step.seconds,
        )

    async def waits_for(self, step: Step) -> str:
        """Say what a job that is being ended waits for, from the heartbeats of the worker that has it."""
        row = step.claim.row
        worker, session = worker_of(row.owner), row.session or ""
        entries, _ = await self._source.fleet(self._fleet)
        entry = next((each for each in entries if each.worker == worker), None)
        if entry is None:
            return f"session {session} is of an earlier release, which obeys no orders, or its worker has stopped"
        who = f"worker {worker} on {entry.host}"
        beat = (await self._source.sessions([session])).get(session)
        if beat is not None and beat.at is not None and (still := self._source.now() - beat.at) > STILL:
            return f"{who} is silent for {still:.0f}s: if it is dead, the job ends when it is taken over"
        return f"{who} sees it with its next heartbeat, sends TERM, and KILL after kill_after"

    async def _claim(self, target: Target) -> ClaimRow:
        found = (await self._source.claims([target.claim])).get(target.claim)
        return found or ClaimRow(row=Row(owner=None), run=Run(message_id=target.message_id))


def _ended(step: Step, claim: ClaimRow) -> Step:
    by = claim.row.cancelled_by or claim.run.cancelled_by
    if by or claim.run.outcome == Outcome.CANCELLED.label:
        return step.ended(Result.CANCELLED, f"cancelled{f' by {by}' if by else ''}, after {_passed(step)}")
    outcome = f": {claim.run.outcome} {claim.run.detail}" if claim.run.outcome else ""
    return step.ended(Result.ENDED, f"not cancelled: it has ended by itself{outcome}")


def _passed(step: Step) -> str:
    return f"{clock.now() - step.ordered_at:.1f}s"
