"""The network of the model: requests that are answered, late, lost, or delivered twice."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Coroutine, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from sqsjkr.leases.table import Claiming, Heartbeat, Row, Table
from sqsjkr.runs import Earlier, Run

PATIENCE = 20.0
"""Seconds until a call gives up, its retries included; a beat or a look at one takes 6."""
SIGNATURE = 300.0
"""Seconds after which AWS refuses a request by its signature's age."""


class Weather(Enum):
    """What becomes of the requests that a host sends now."""

    FAIR = "answered at once"
    SLOW = "acted upon after 15 s, then answered"
    TRICKLING = "acted upon at once, answered after 19 s"
    MUTE = "acted upon, never answered"
    LOST = "not acted upon and not answered; may arrive later"
    FLAKY = "one like this, the next one like that"


PLANS = {  # seconds until the table acts, seconds until the answer is there
    Weather.FAIR: (0.0, 0.0),
    Weather.SLOW: (15.0, 15.0),
    Weather.TRICKLING: (0.0, 19.0),
    Weather.MUTE: (0.0, float("inf")),
    Weather.LOST: (float("inf"), float("inf")),
}
FATES = (Weather.FAIR, Weather.FAIR, Weather.FAIR, Weather.MUTE, Weather.LOST, Weather.TRICKLING)
"""What a request may draw in flaky weather."""
Verb = Callable[[], Coroutine[Any, Any, Any]]
"""What a request does to the table when it arrives."""


@dataclass
class Request:
    worker: object
    act: Verb
    answer: asyncio.Future[Any]
    sent: float
    act_at: float
    answer_at: float
    fail_at: float
    result: Any = None


class Wire(Table):
    """A worker's way to the table."""

    def __init__(self, table: Table, send: Callable[[Verb, float], Awaitable[Any]]) -> None:
        self._table = table
        self._carry = send

    async def open(self) -> None:
        """Nothing to open."""

    async def close(self) -> None:
        """Nothing to close."""

    async def take_lock(
        self, lock_id: str, owner: str, event_id: str, *, over: str | None, message_id: str = ""
    ) -> int | Row:
        taken: int | Row = await self._send(
            lambda: self._table.take_lock(lock_id, owner, event_id, over=over, message_id=message_id)
        )
        return taken

    async def release_lock(self, lock_id: str, owner: str) -> None:
        await self._send(lambda: self._table.release_lock(lock_id, owner))

    async def release_locks(self, locks: Sequence[tuple[str, str]]) -> Sequence[Exception | None]:
        failures: Sequence[Exception | None] = await self._send(lambda: self._table.release_locks(locks))
        return failures

    async def take_new_claims(self, claims: Sequence[Claiming]) -> Sequence[Row | Exception | None]:
        rows: Sequence[Row | Exception | None] = await self._send(lambda: self._table.take_new_claims(claims))
        return rows

    async def take_claim(self, claiming: Claiming) -> Row:
        row: Row = await self._send(lambda: self._table.take_claim(claiming))
        return row

    async def finish_claims(self, claims: Sequence[tuple[Run, str]]) -> Sequence[Exception | None]:
        finished: Sequence[Exception | None] = await self._send(lambda: self._table.finish_claims(claims))
        return finished

    async def drop_claim(self, message_id: str, owner: str) -> None:
        await self._send(lambda: self._table.drop_claim(message_id, owner))

    async def postpone_claim(
        self, message_id: str, owner: str, *, failures: int, due: float | None, earlier: Sequence[Earlier] = ()
    ) -> None:
        await self._send(
            lambda: self._table.postpone_claim(message_id, owner, failures=failures, due=due, earlier=earlier)
        )

    async def cancel_claim(self, message_id: str, by: str, *, over: str | None = None) -> Row:
        row: Row = await self._send(lambda: self._table.cancel_claim(message_id, by, over=over))
        return row

    async def cancelled_by(self, message_id: str) -> str:
        by: str = await self._send(lambda: self._table.cancelled_by(message_id))
        return by

    async def stop_claim(self, message_id: str, by: str) -> Row | None:
        row: Row | None = await self._send(lambda: self._table.stop_claim(message_id, by))
        return row

    async def beat(self, session_id: str, live: bytes = b"", seen: Collection[str] = ()) -> Collection[str]:
        standing: Collection[str] = await self._send(lambda: self._table.beat(session_id, live, seen), patience=6.0)
        return standing

    async def read_beat(self, session_id: str) -> Heartbeat | None:
        beat: Heartbeat | None = await self._send(lambda: self._table.read_beat(session_id), patience=6.0)
        return beat

    async def _send(self, act: Verb, *, patience: float = PATIENCE) -> Any:
        return await self._carry(act, patience)
