"""Rows that no job waits for. They ride in the requests that mark claims as done, which are made anyway."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqsjkr.backends.aws.client import AWS
from sqsjkr.errors import BackendUnavailable

MOST = 25
"""Rows that one BatchWriteItem puts (AWS: Service, account, and table quotas in Amazon DynamoDB)."""
RIDE = 0.2
"""Seconds that a row waits for a request to ride in; then it is sent by itself."""
_UNPROCESSED = "DynamoDB leaves rows unprocessed: the table is throttled"
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0
"""Seconds before what was left unprocessed is sent again; doubled each time."""
BOUND = 1_000
"""Rows that wait at most: the table may be out for long."""

Item = Mapping[str, Any]
Key = tuple[str, str]


@dataclass(slots=True)
class _Waiting:
    item: Item
    tries: int = 0


class Outbox:
    """Rows to put into one table. Each is tried twice; ``lost`` is called with how many were in vain, and why."""

    def __init__(self, aws: AWS, table: str) -> None:
        self._aws = aws
        self._table = table
        self._waiting: dict[Key, _Waiting] = {}
        self._riding: dict[Key, _Waiting] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._sending: set[asyncio.Task[None]] = set()
        self.lost: Callable[[int, object], None] = lambda _number, _why: None
        self.written: Callable[[], None] = lambda: None
        """Called when rows were taken."""

    async def put(self, rows: Sequence[Item]) -> Mapping[Key, BackendUnavailable]:
        """Put rows that are waited for, and what is in the box beside them, in one request.

        Retries, with pauses, what DynamoDB leaves unprocessed of ``rows``; returns what it leaves in the end. Raises
        ``BackendUnavailable`` if there is no answer.
        """
        wanted = {key_in(row): row for row in rows}
        beside = self.take(MOST - len(wanted), but=wanted, first_try=True)
        pause = _FIRST_PAUSE
        while wanted:
            try:
                left = await self._send([*wanted.values(), *beside])
            except BaseException as why:
                self.failed(beside, why)
                raise
            self.answered(beside, left)
            beside = []
            wanted = {key: row for key, row in wanted.items() if key in left}
            if wanted and pause > _LONGEST_PAUSE:
                return dict.fromkeys(wanted, BackendUnavailable(_UNPROCESSED))
            if wanted:
                await asyncio.sleep(pause)
                pause *= 2
        return {}

    def add(self, item: Item) -> None:
        """Put a row soon, instead of one with its key that waits."""
        if len(self._waiting) >= BOUND and key_in(item) not in self._waiting:
            self.lost(1, "the table does not answer")
            return
        self._waiting[key_in(item)] = _Waiting(item)
        self._expect()

    def take(self, room: int, but: Collection[Key] = (), *, first_try: bool = False) -> list[Item]:
        """Return up to ``room`` rows to send along; none with a key of ``but``, since a request names no key twice.

        With ``first_try``, none that failed before: whatever was wrong with it, it harms a claim once at most.
        """
        fit = (
            key
            for key, waiting in self._waiting.items()
            if key not in but and key not in self._riding and not (first_try and waiting.tries)
        )
        keys = list(itertools.islice(fit, room))
        self._riding |= {key: self._waiting.pop(key) for key in keys}
        return [self._riding[key].item for key in keys]

    def answered(self, taken: Sequence[Item], left: Collection[Key]) -> None:
        """Note that the request with these rows was answered; ``left``: what DynamoDB left unprocessed."""
        for item in taken:
            waiting = self._riding.pop(key_in(item))
            if key_in(item) in left:
                self._again(waiting, _UNPROCESSED)
            else:
                self.written()

    def failed(self, taken: Sequence[Item], why: object) -> None:
        """Note that the request with these rows failed."""
        for item in taken:
            self._again(self._riding.pop(key_in(item)), why)

    async def flush(self) -> None:
        """Send what waits, by itself."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for _ in range(len(self._waiting) // MOST + 1):
            if not (taken := self.take(MOST)):
                return
            try:
                left = await self._send(taken)
            except BackendUnavailable as why:
                self.failed(taken, why)
            except BaseException as why:
                self.failed(taken, why)
                raise
            else:
                self.answered(taken, left)

    async def _send(self, rows: Sequence[Item]) -> Collection[Key]:
        """Send one BatchWriteItem; return the keys of what DynamoDB left unprocessed."""
        puts = [{"PutRequest": {"Item": row}} for row in rows]
        answer = await self._aws.call("dynamodb", "BatchWriteItem", {"RequestItems": {self._table: puts}})
        return {key_in(put["PutRequest"]["Item"]) for put in answer.get("UnprocessedItems", {}).get(self._table, [])}

    def _again(self, waiting: _Waiting, why: object) -> None:
        waiting.tries += 1
        if waiting.tries > 1:
            self.lost(1, why)
        else:
            self._waiting.setdefault(key_in(waiting.item), waiting)
            self._expect()

    def _expect(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(RIDE, self._alone)

    def _alone(self) -> None:
        self._timer = None
        task = asyncio.create_task(self.flush())
        self._sending.add(task)  # the loop itself keeps only a weak reference
        task.add_done_callback(self._sending.discard)


def key_in(item: Item) -> Key:
    """Return the key of a row."""
    return item["Id"]["S"], item["Type"]["S"]
