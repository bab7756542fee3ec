"""Locks and claims as rows of one table: who may run what, whatever dies.

The rules stand here once, for every table that can write a row on a condition. Rows are those of the original
(go-semantics section 7); ``Owner`` is ours: ``session/attempt``. A row without ``Owner`` was written by a Go daemon:
its throttle row means done, its lock is never taken over.
"""

from __future__ import annotations

import asyncio
import contextlib
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass

from sqsjkr.batch import Batcher
from sqsjkr.errors import BackendUnavailable
from sqsjkr.events import Event, emit
from sqsjkr.locker import Locker
from sqsjkr.session import Session
from sqsjkr.throttler import Claim, Throttler

CONFIRM_BATCH = 25
"""Rows one BatchWriteItem may put (AWS: Service, account, and table quotas in Amazon DynamoDB)."""
CONFIRM_LINGER = 0.05
ECHOES = (10.0, 50.0, 250.0)
"""Seconds between repeated releases of what was in doubt: a request without an answer may arrive after its release.

The last echo comes later than any such request: AWS refuses a signature that is older than five minutes (AWS:
"Signature Version 4 for API requests").
"""
SLOW = 1.0
"""Seconds after which an answer may have been a second try's, while the first is still on its way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What stood in the row that could not be taken."""

    owner: str | None
    """``session/attempt``; None if a Go daemon wrote the row."""
    done: bool = False
    """Of a claim: its job has ended by itself."""

    @property
    def session(self) -> str | None:
        """The session part of the owner."""
        return self.owner.split("/", 1)[0] if self.owner else None


class Table(ABC):
    """Rows that change on a condition, atomically. Every verb may raise ``BackendUnavailable``.

    Each verb may be sent twice (its first answer may be lost): the second time must find what the first one did.
    """

    retention: float = 1_209_600.0
    """Seconds a throttle row is kept: the queue's retention, set by the wiring. No delivery outlives its row."""

    @abstractmethod
    async def open(self) -> None:
        """Raises ``BackendRefused`` if there is no such table or no right to use it."""

    @abstractmethod
    async def close(self) -> None:
        """Called once after the last verb."""

    @abstractmethod
    async def take_lock(self, lock_id: str, owner: str, event_id: str, *, over: str | None) -> int | Row:
        """Take a free lock, or one whose owner is exactly ``over``. The new fencing token, or the row that was there.

        An owner that has released the lock as its newest owner cannot take it again: that would be a late echo.
        """

    @abstractmethod
    async def release_lock(self, lock_id: str, owner: str) -> None:
        """Free the lock if it is ``owner``'s; keep its fencing token."""

    @abstractmethod
    async def take_claim(self, message_id: str, owner: str, *, over: str | None) -> Row | None:
        """Claim a message nobody has, or whose owner is exactly ``over``. None if taken, or the row that was there."""

    @abstractmethod
    async def finish_claims(self, claims: Sequence[tuple[str, str]]) -> Sequence[Exception | None]:
        """Mark (message id, owner) claims as done, whoever owns them by now: their jobs have ended."""

    @abstractmethod
    async def drop_claim(self, message_id: str, owner: str) -> None:
        """Remove the claim if it is ``owner``'s and not done."""

    @abstractmethod
    async def beat(self, session_id: str) -> None:
        """Add one to the session's beat."""

    @abstractmethod
    async def read_beat(self, session_id: str) -> int | None:
        """The session's beat, strongly consistent; None if it has never beaten."""


class _Leased:
    """What both ports share: a token of the session for all that was asked for, and echoes of what is in doubt."""

    def __init__(self, kind: str, table: Table, session: Session) -> None:
        self._kind = kind
        self._table = table
        self._session = session
        self._in_doubt: set[str] = set()
        self._echoes: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Begin to beat while anything is held."""
        await self._session.open()

    async def close(self) -> None:
        """Send no more echoes, beat no more."""
        for echo in self._echoes:
            echo.cancel()
        await asyncio.gather(*self._echoes, return_exceptions=True)
        await self._session.close()

    def proven_until(self) -> float:
        """Two thirds of a lease after the last successful beat was sent."""
        return self._session.proven_until()

    @contextlib.contextmanager
    def _taking(self, owner: str) -> Iterator[None]:
        """Around the requests that take: remembers whether one of them may still be on its way when they are over."""
        asked = self._session.now()
        try:
            yield
            self._session.check(self._token(owner))
        except BackendUnavailable:
            self._in_doubt.add(owner)
            raise
        if self._session.now() - asked > SLOW:
            self._in_doubt.add(owner)

    async def _hold(self, owner: str) -> str:
        return f"{await self._session.hold(self._token(owner))}/{owner}"

    def _holder(self, owner: str) -> str | None:
        name = self._session.holder(self._token(owner))
        return f"{name}/{owner}" if name else None

    def _drop(self, owner: str) -> None:
        self._session.drop(self._token(owner))

    async def _is_over(self, row: Row) -> bool:
        """May this row be taken over? Never a Go daemon's; at once if it is an echo of an attempt of our own."""
        if row.owner is None or row.session is None:
            return False
        attempt = row.owner.removeprefix(f"{row.session}/")
        if self._session.is_mine(row.session):
            return self._session.holder(self._token(attempt)) is None
        dead = await self._session.is_dead(row.session)
        if dead:
            emit(Event.LEASE_TAKEOVER, "warn", f"the {self._kind} of {row.owner} is taken over: its worker is dead")
        return dead

    def _echo(self, owner: str, release: Callable[[], Awaitable[None]]) -> None:
        """Release once more later: a request that got no answer may reach the table after its release did."""
        if owner in self._in_doubt:
            self._in_doubt.discard(owner)
            task = asyncio.create_task(self._release_again(release))
            self._echoes.add(task)
            task.add_done_callback(self._echoes.discard)

    @staticmethod
    async def _release_again(release: Callable[[], Awaitable[None]]) -> None:
        for pause in ECHOES:
            await asyncio.sleep(pause)
            with contextlib.suppress(BackendUnavailable):
                await release()

    def _token(self, owner: str) -> str:
        return f"{self._kind}:{owner}"


class TableLocker(_Leased, Locker):
    """Locks in the table, each as good as its worker's lease."""

    def __init__(self, table: Table, session: Session) -> None:
        super().__init__("lock", table, session)

    def proven_until(self) -> float:
        """Two thirds of a lease after the last successful beat was sent; over for good once that has passed.

        A lock may have been taken over and given back while this host was cut off or suspended: no beat heals that.
        """
        return float("-inf") if self._session.lost(self._kind) else super().proven_until()

    async def lock(self, lock_id: str, owner: str, event_id: str) -> int | None:
        """Take the lock if it is free, or if its worker is dead. None of a lapsed lease may be left: they end first."""
        me = await self._hold(owner)
        if self._session.lost(self._kind):
            raise BackendUnavailable("the lease lapsed, and the jobs that it locked are still being ended")
        with self._taking(owner):
            answer = await self._table.take_lock(lock_id, me, event_id, over=None)
            if isinstance(answer, Row) and await self._is_over(answer):
                answer = await self._table.take_lock(lock_id, me, event_id, over=answer.owner)
        if isinstance(answer, Row):
            self._drop(owner)
            self._echo(owner, lambda: self._table.release_lock(lock_id, me))
            return None
        return answer

    async def unlock(self, lock_id: str, owner: str) -> None:
        """Free the lock on condition of its owner. Nothing to do for an owner that never asked."""
        me = self._holder(owner)
        if me is not None:
            await self._table.release_lock(lock_id, me)
            self._drop(owner)
            self._echo(owner, lambda: self._table.release_lock(lock_id, me))


class TableThrottler(_Leased, Throttler):
    """Claims in the table: one conditional write before a job starts, one batched write after it ended."""

    def __init__(self, table: Table, session: Session) -> None:
        super().__init__("claim", table, session)
        self._finishing = Batcher(table.finish_claims, size=CONFIRM_BATCH, linger=CONFIRM_LINGER)

    async def claim(self, message_id: str, owner: str) -> Claim:
        """FRESH if nobody has it or its worker is dead, DONE if its job has ended, BUSY otherwise."""
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
