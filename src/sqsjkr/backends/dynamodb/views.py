"""What a DynamoDB table shows: one Query for the fleet, BatchGetItem for rows by their keys. Nothing is written."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqsjkr.backends import Connections
from sqsjkr.backends.aws.client import AWS
from sqsjkr.backends.aws.codes import code_of
from sqsjkr.backends.aws.connection import connection
from sqsjkr.backends.aws.errors import AWSRefused
from sqsjkr.backends.dynamodb.claims import _claim as claim_of
from sqsjkr.backends.dynamodb.endings import DynamoDBEndings
from sqsjkr.backends.dynamodb.facts import run_of
from sqsjkr.backends.dynamodb.fleet import BOARD, board_of, entry_of, fleet_key
from sqsjkr.backends.dynamodb.rows import LOCK, THROTTLE, WORKER, Rows, key_of, number_of, text_of
from sqsjkr.backends.dynamodb.table import last_of, lock_of
from sqsjkr.errors import BackendUnavailable
from sqsjkr.leases.live import Board, Entry, Live
from sqsjkr.runs import Holder
from sqsjkr.views.source import ClaimRow, LockRow, SessionRow, Source

PAGE = 100
"""Keys of one BatchGetItem (AWS: Service, account, and table quotas in Amazon DynamoDB)."""
_TRIES = 8
_FIRST_PAUSE = 0.05
"""Seconds before the first retry of what DynamoDB left unprocessed; doubled before each further one."""


class DynamoDBSource(DynamoDBEndings, Source):
    """The rows of one table."""

    def __init__(self, aws: AWS, name: str) -> None:
        super().__init__(aws, name)
        self._rows = Rows(aws, name)

    @classmethod
    def configured(cls, connections: Connections, _place: str) -> DynamoDBSource:
        """The table of the settings."""
        return cls(connection(connections), connections.settings.lock_table)

    async def open(self) -> None:
        """Read one key: the table exists, and we may read it. The answer sets the clock, too."""
        try:
            await self._items([key_of("sqsjkr", WORKER)])
        except AWSRefused as refused:
            if code_of(refused) != "ResourceNotFound":
                raise
            where = f"in {self._aws.region} ({self._aws.endpoint('dynamodb')})"
            text = f'table "{self._name}" does not exist {where}: is [kicker] lock_table right? next: sqsjkr setup'
            raise AWSRefused(text, code=refused.code, status=refused.status) from refused

    async def close(self) -> None:
        """Leave the connection open: others share it."""

    def now(self) -> float:
        """The time on DynamoDB's clock."""
        return self._rows.now()

    async def fleet(self, fleet: str) -> tuple[Sequence[Entry], Board]:
        """Query all rows with the fleet's name."""
        items = await self._query({":id": {"S": fleet_key(fleet)}}, "Id = :id")
        board = next((item for item in items if item["Type"]["S"] == BOARD), {})
        entries = (entry_of(item) for item in items if item["Type"]["S"] != BOARD)
        return [entry for entry in entries if entry is not None], board_of(board)

    async def sessions(self, names: Collection[str]) -> Mapping[str, SessionRow]:
        """See ``Source``."""
        items = await self._items([key_of(name, WORKER) for name in names])
        return {item["Id"]["S"]: _session(item) for item in items if "Beat" in item}

    async def claims(self, message_ids: Collection[str]) -> Mapping[str, ClaimRow]:
        """See ``Source``."""
        items = await self._items([key_of(name, THROTTLE) for name in message_ids])
        return {item["Id"]["S"]: ClaimRow(row=claim_of(item), run=run_of(item)) for item in items}

    async def locks(self, lock_ids: Collection[str]) -> Mapping[str, LockRow]:
        """See ``Source``."""
        items = await self._items([key_of(name, LOCK) for name in lock_ids])
        return {item["Id"]["S"]: _lock(item) for item in items}

    async def _items(self, keys: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        """Read rows by their keys, eventually consistent; those that there are, in any order."""
        found: list[Mapping[str, Any]] = []
        for start in range(0, len(keys), PAGE):
            wanted: Sequence[Mapping[str, Any]] = keys[start : start + PAGE]
            pause = _FIRST_PAUSE
            for _ in range(_TRIES):
                answer = await self._aws.call(
                    "dynamodb", "BatchGetItem", {"RequestItems": {self._name: {"Keys": wanted}}}
                )
                found += answer.get("Responses", {}).get(self._name, [])
                wanted = answer.get("UnprocessedKeys", {}).get(self._name, {}).get("Keys", [])
                if not wanted:
                    break
                await asyncio.sleep(pause)
                pause *= 2
            else:
                raise BackendUnavailable("DynamoDB leaves keys unprocessed: the table is throttled")
        return found

    async def _query(self, values: Mapping[str, Any], condition: str, **more: Any) -> list[Mapping[str, Any]]:
        """Read every page of a Query."""
        request = {
            "TableName": self._name,
            "KeyConditionExpression": condition,
            "ExpressionAttributeValues": values,
            **more,
        }
        found: list[Mapping[str, Any]] = []
        while True:
            answer = await self._aws.call("dynamodb", "Query", request)
            found += answer.get("Items", [])
            if not answer.get("LastEvaluatedKey"):
                return found
            request["ExclusiveStartKey"] = answer["LastEvaluatedKey"]


def _session(item: Mapping[str, Any]) -> SessionRow:
    live = item.get("Live", {}).get("B", "")
    return SessionRow(
        session=item["Id"]["S"],
        beat=int(item["Beat"]["N"]),
        at=float(item["At"]["N"]) if "At" in item else None,
        host=text_of(item, "Host"),
        pid=int(number_of(item, "Pid")),
        live=Live.decode(base64.b64decode(live)) if live else None,
    )


def _lock(item: Mapping[str, Any]) -> LockRow:
    held, row = "EventId" in item, lock_of(item)
    return LockRow(
        lock_id=item["Id"]["S"],
        held=held,
        owner=row.owner if held else None,
        holder=row.holder if held else Holder(),
        fence=int(number_of(item, "Fence")),
        last=last_of(item),
    )
