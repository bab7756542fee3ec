"""The table on DynamoDB: the original's table, keys and index (go-semantics section 7), with new attributes only.

A conditional write that fails returns the row that was there (``ReturnValuesOnConditionCheckFailure``), so that no
answer needs a second read.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import socket
import time
from collections.abc import Mapping, Sequence
from typing import Any

from sqsjkr.backends import Connections
from sqsjkr.backends.aws.client import AWS
from sqsjkr.backends.aws.codes import code_of
from sqsjkr.backends.aws.connection import connection
from sqsjkr.backends.aws.errors import AWSRefused, ConditionFailed
from sqsjkr.errors import BackendRefused, BackendUnavailable
from sqsjkr.leases.table import Row, Table

LOCK, THROTTLE, WORKER = "lock", "throttle", "worker"
"""Values of the range key ``Type``."""
LOCK_ROW_KEPT = 366 * 86_400
"""Seconds after its last unlock that a lock's row, and with it the fencing token's count, is kept by DynamoDB's TTL."""
WORKER_ROW_KEPT = 86_400
"""Seconds after its last heartbeat that a worker's row is kept."""

_NO_TABLE = "ResourceNotFound"
_NOT_ITS_KEY = "Validation"
"""DynamoDB's code for a key that does not match the table's, among other mistakes in a request."""
EXPIRY_STEP = 3600
"""Seconds to which ``Expired`` is rounded up."""
LONGEST_EVENT_ID = 1024
"""Characters of an event id that are kept in a lock's row: an item holds 400 KB at most, a message more."""

_TAKE_LOCK = "SET EventId = :event, #owner = :me REMOVE Expired, Released ADD Fence :one"
_LOCK_IS_FREE = (
    "(attribute_not_exists(EventId) AND (attribute_not_exists(Released) OR Released <> :me)) OR #owner = :me"
)
_LOCK_IS_FREE_OR_THEIRS = f"{_LOCK_IS_FREE} OR #owner = :over"
_CLAIM_IS_FREE = "attribute_not_exists(Expired) OR (#owner = :me AND attribute_not_exists(Done))"
_CLAIM_IS_FREE_OR_THEIRS = f"{_CLAIM_IS_FREE} OR (#owner = :over AND attribute_not_exists(Done))"
_OWNER = {"#owner": "Owner"}  # a reserved word (AWS: Reserved words in DynamoDB)


class _Rows:
    """Conditional writes to the rows of one table."""

    def __init__(self, aws: AWS, name: str) -> None:
        self._aws = aws
        self._name = name

    async def update(
        self, key: Mapping[str, Any], expression: str, values: Mapping[str, Any], condition: str
    ) -> Row | Mapping[str, Any]:
        """Send a conditional UpdateItem. Returns the new attributes, or the row that failed the condition."""
        try:
            return await self.send(key, expression, values, condition)
        except ConditionFailed as failed:
            return _row(failed.item if failed.item is not None else await self._read(key))

    async def send(
        self, key: Mapping[str, Any], expression: str, values: Mapping[str, Any], condition: str
    ) -> Mapping[str, Any]:
        """Send a conditional UpdateItem. Raises ``ConditionFailed``."""
        answer = await self._aws.call(
            "dynamodb",
            "UpdateItem",
            {
                "TableName": self._name,
                "Key": key,
                "UpdateExpression": expression,
                "ConditionExpression": condition,
                "ExpressionAttributeNames": _OWNER,
                "ExpressionAttributeValues": values,
                "ReturnValues": "UPDATED_NEW",
                "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
            },
        )
        attributes: Mapping[str, Any] = answer.get("Attributes", {})
        return attributes

    async def _read(self, key: Mapping[str, Any]) -> Mapping[str, Any]:
        """Read the row that failed a condition, for servers that do not return it with the failure."""
        answer = await self._aws.call(
            "dynamodb", "GetItem", {"TableName": self._name, "Key": key, "ConsistentRead": True}
        )
        item: Mapping[str, Any] = answer.get("Item", {})
        if not item:
            raise BackendUnavailable(f"the row {key} was deleted while it was read")
        return item

    def expiry(self, seconds: float) -> dict[str, str]:
        """The time ``seconds`` from now by DynamoDB's clock: by a wrong host clock, TTL might delete rows in use.

        Rounded up to the next full hour: a confirm or a heartbeat then mostly writes the value that is there, and an
        unchanged value saves the index on it two writes of three (docs/explanation/scale.md).
        """
        return _n(math.ceil((time.time() + self._aws.server_offset() + seconds) / EXPIRY_STEP) * EXPIRY_STEP)


class DynamoDBTable(Table):
    """Locks, claims and heartbeats in one DynamoDB table."""

    def __init__(self, aws: AWS, name: str) -> None:
        self._aws = aws
        self._name = name
        self._rows = _Rows(aws, name)

    @classmethod
    def configured(cls, connections: Connections, _place: str) -> DynamoDBTable:
        """The table of the settings."""
        return cls(connection(connections), connections.settings.lock_table)

    async def open(self) -> None:
        """Read one key: the table exists, has our keys, and we may use it."""
        try:
            await self.read_beat("sqsjkr")
        except AWSRefused as refused:
            if (code := code_of(refused)) not in {_NO_TABLE, _NOT_ITS_KEY}:
                raise
            where = f"in {self._aws.region} ({self._aws.endpoint('dynamodb')})"
            text = f'table "{self._name}" does not exist {where}: is [kicker] lock_table right? next: sqsjkr setup'
            if code == _NOT_ITS_KEY:
                text = (
                    f'table "{self._name}" {where} does not have the keys Id and Type, both strings: is [kicker] '
                    f"lock_table right? next: name a new table and run sqsjkr setup ({refused.message})"
                )
            raise AWSRefused(text, code=refused.code, status=refused.status) from refused

    async def close(self) -> None:
        """Leave the connection open: others share it."""

    async def take_lock(self, lock_id: str, owner: str, event_id: str, *, over: str | None) -> int | Row:
        """Send one conditional UpdateItem. It sets ``EventId``, or a Go daemon would see a free lock."""
        values = {":event": _s(event_id[:LONGEST_EVENT_ID]), ":me": _s(owner), ":one": {"N": "1"}}
        if over is not None:
            values[":over"] = _s(over)
        answer = await self._rows.update(
            _key(lock_id, LOCK), _TAKE_LOCK, values, _LOCK_IS_FREE if over is None else _LOCK_IS_FREE_OR_THEIRS
        )
        return answer if isinstance(answer, Row) else int(answer["Fence"]["N"])

    async def release_lock(self, lock_id: str, owner: str) -> None:
        """Remove ``EventId`` and ``Owner``, keep ``Fence``. ``Released`` makes a late lock request fail."""
        with contextlib.suppress(ConditionFailed):  # it has another owner by now, or is gone
            await self._rows.send(
                _key(lock_id, LOCK),
                "REMOVE EventId, #owner SET Expired = :expired, Released = :me",
                {":me": _s(owner), ":expired": self._rows.expiry(LOCK_ROW_KEPT)},
                "#owner = :me",
            )

    async def take_claim(self, message_id: str, owner: str, *, over: str | None) -> Row | None:
        """Set ``Expired`` and ``Owner`` on a condition; a Go daemon sees a duplicate and leaves it."""
        values = {":me": _s(owner), ":expired": self._rows.expiry(self.retention)}
        if over is not None:
            values[":over"] = _s(over)
        answer = await self._rows.update(
            _key(message_id, THROTTLE),
            "SET Expired = :expired, #owner = :me",
            values,
            _CLAIM_IS_FREE if over is None else _CLAIM_IS_FREE_OR_THEIRS,
        )
        return answer if isinstance(answer, Row) else None

    async def finish_claims(self, claims: Sequence[tuple[str, str]]) -> Sequence[Exception | None]:
        """Send one BatchWriteItem. Retries, with pauses, what DynamoDB leaves unprocessed."""
        expired = self._rows.expiry(self.retention)
        rows = {
            message_id: {"Expired": expired, "Owner": _s(owner), "Done": {"N": "1"}} | _key(message_id, THROTTLE)
            for message_id, owner in claims
        }
        pause = 0.05
        while rows:
            puts = [{"PutRequest": {"Item": row}} for row in rows.values()]
            answer = await self._aws.call("dynamodb", "BatchWriteItem", {"RequestItems": {self._name: puts}})
            left = answer.get("UnprocessedItems", {}).get(self._name, [])
            rows = {put["PutRequest"]["Item"]["Id"]["S"]: put["PutRequest"]["Item"] for put in left}
            if rows:
                if pause > 1.0:
                    trouble = BackendUnavailable("DynamoDB leaves rows unprocessed: the table is throttled")
                    return [trouble if message_id in rows else None for message_id, _ in claims]
                await asyncio.sleep(pause)
                pause *= 2
        return [None] * len(claims)

    async def drop_claim(self, message_id: str, owner: str) -> None:
        """Send one conditional DeleteItem."""
        with contextlib.suppress(ConditionFailed):  # it has another owner by now, or is gone
            await self._aws.call(
                "dynamodb",
                "DeleteItem",
                {
                    "TableName": self._name,
                    "Key": _key(message_id, THROTTLE),
                    "ConditionExpression": "#owner = :me AND attribute_not_exists(Done)",
                    "ExpressionAttributeNames": _OWNER,
                    "ExpressionAttributeValues": {":me": _s(owner)},
                },
            )

    async def beat(self, session_id: str) -> None:
        """Send one unconditional UpdateItem: a heartbeat may count twice."""
        await self._aws.call(
            "dynamodb",
            "UpdateItem",
            {
                "TableName": self._name,
                "Key": _key(session_id, WORKER),
                "UpdateExpression": "SET Expired = :expired, #host = :host, #pid = :pid ADD Beat :one",
                "ExpressionAttributeNames": {"#host": "Host", "#pid": "Pid"},
                "ExpressionAttributeValues": {
                    ":expired": self._rows.expiry(WORKER_ROW_KEPT),
                    ":host": _s(socket.gethostname()),
                    ":pid": _n(os.getpid()),
                    ":one": {"N": "1"},
                },
            },
            timeout=0.6 * self._aws.patience,
            attempts=2,
        )

    async def read_beat(self, session_id: str) -> int | None:
        """Read the counter with a strongly consistent GetItem."""
        answer = await self._aws.call(
            "dynamodb",
            "GetItem",
            {
                "TableName": self._name,
                "Key": _key(session_id, WORKER),
                "ProjectionExpression": "Beat",
                "ConsistentRead": True,
            },
            timeout=0.6 * self._aws.patience,
            attempts=2,
        )
        beat = answer.get("Item", {}).get("Beat")
        return int(beat["N"]) if beat else None


async def table_description(aws: AWS, name: str) -> Mapping[str, Any] | None:
    """DescribeTable's ``Table``; None if the table does not exist. Raises ``BackendUnavailable`` otherwise."""
    try:
        answer = await aws.call("dynamodb", "DescribeTable", {"TableName": name})
    except BackendRefused as refused:
        if code_of(refused) == _NO_TABLE:
            return None
        raise
    table: Mapping[str, Any] = answer["Table"]
    return table


def _key(row_id: str, kind: str) -> dict[str, dict[str, str]]:
    return {"Id": {"S": row_id}, "Type": {"S": kind}}


def _s(text: str) -> dict[str, str]:
    return {"S": text}


def _n(number: float) -> dict[str, str]:
    return {"N": str(int(number))}


def _row(item: Mapping[str, Any]) -> Row:
    owner = item.get("Owner", {}).get("S")
    return Row(owner=owner, done="Done" in item)
