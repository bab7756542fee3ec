"""The table on DynamoDB: the original's table, keys and index (go-semantics section 7), with new attributes only.

A conditional write that fails returns the row that was there (``ReturnValuesOnConditionCheckFailure``), so that no
answer needs a second read.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqsjkr.backends import Connections
from sqsjkr.backends.aws.client import AWS
from sqsjkr.backends.aws.codes import code_of
from sqsjkr.backends.aws.connection import connection
from sqsjkr.backends.aws.errors import AWSRefused, ConditionFailed
from sqsjkr.backends.dynamodb.claims import DynamoDBClaims
from sqsjkr.backends.dynamodb.outbox import Outbox
from sqsjkr.backends.dynamodb.rows import (
    LOCK,
    THROTTLE,
    WORKER,
    binary,
    decimal,
    key_of,
    named,
    number,
    number_of,
    owner_of,
    text,
    text_of,
    texts,
)
from sqsjkr.backends.dynamodb.statements import CONDITION, Statement, Statements
from sqsjkr.batcher import side_by_side
from sqsjkr.errors import BackendRefused
from sqsjkr.leases.table import Heartbeat, Row, Table
from sqsjkr.runs import HOST, Holder

LOCK_ROW_KEPT = 366 * 86_400
"""Seconds after its last unlock that a lock's row, and with it the fencing token's count, is kept by DynamoDB's TTL."""
WORKER_ROW_KEPT = 86_400
"""Seconds after its last heartbeat that a worker's row is kept."""

_NO_TABLE = "ResourceNotFound"
_NOT_ITS_KEY = "Validation"
"""DynamoDB's code for a key that does not match the table's, among other mistakes in a request."""
LONGEST_EVENT_ID = 1024
"""Characters of an event id that are kept in a lock's row: an item holds 400 KB at most, a message more."""

_TAKE_LOCK = (
    "SET EventId = :event, #owner = :me, #host = :host, #since = :since, #message = :message, #attempt = :attempt "
    "REMOVE Expired, Released ADD Fence :one"
)
_RELEASE_LOCK = "REMOVE EventId, #owner SET Expired = :expired, Released = :me"
"""What else stands in the row stays there: who held the lock last."""
_RELEASE = (
    'REMOVE EventId REMOVE "Owner" SET Expired = ? SET Released = ? '
    f"""WHERE Id = ? AND "Type" = '{LOCK}' AND "Owner" = ?"""
)
_BEAT = "SET Expired = :expired, #host = :host, #pid = :pid, #beat_at = :at"
_HEARTBEAT = "Beat, #host, #pid"
_LOCK_IS_FREE = (
    "(attribute_not_exists(EventId) AND (attribute_not_exists(Released) OR Released <> :me)) OR #owner = :me"
)
_LOCK_IS_FREE_OR_THEIRS = f"{_LOCK_IS_FREE} OR #owner = :over"


class DynamoDBTable(DynamoDBClaims, Table):
    """Locks, claims and heartbeats in one DynamoDB table."""

    def __init__(self, aws: AWS, name: str, outbox: Outbox | None = None) -> None:
        super().__init__(aws, name, outbox)
        self._updates = Statements(aws, "unlocks", f"dynamodb:PartiQLUpdate on {name}")
        self._release = f'UPDATE "{name}" {_RELEASE}'

    @classmethod
    def configured(cls, connections: Connections, _place: str) -> DynamoDBTable:
        """The table of the settings."""
        aws, name = connection(connections), connections.settings.lock_table
        return cls(aws, name, connections.once(Outbox, aws, name))

    async def open(self) -> None:
        """Read one key: the table exists, has our keys, and we may use it."""
        try:
            await self.read_beat("sqsjkr")
        except AWSRefused as refused:
            if (code := code_of(refused)) not in {_NO_TABLE, _NOT_ITS_KEY}:
                raise
            where = f"in {self._aws.region} ({self._aws.endpoint('dynamodb')})"
            problem = f'table "{self._name}" does not exist {where}: is [kicker] lock_table right? next: sqsjkr setup'
            if code == _NOT_ITS_KEY:
                problem = (
                    f'table "{self._name}" {where} does not have the keys Id and Type, both strings: is [kicker] '
                    f"lock_table right? next: name a new table and run sqsjkr setup ({refused.message})"
                )
            raise AWSRefused(problem, code=refused.code, status=refused.status) from refused

    async def close(self) -> None:
        """Leave the connection open: others share it."""

    async def take_lock(
        self, lock_id: str, owner: str, event_id: str, *, over: str | None, message_id: str = ""
    ) -> int | Row:
        """Send one conditional UpdateItem. It sets ``EventId``, or a Go daemon would see a free lock."""
        values = {
            ":event": text(event_id[:LONGEST_EVENT_ID]),
            ":me": text(owner),
            ":one": {"N": "1"},
            ":host": text(HOST),
            ":since": self._rows.time(),
            ":message": text(message_id),
            ":attempt": text(_attempt(owner)),
        }
        if over is not None:
            values[":over"] = text(over)
        key, condition = key_of(lock_id, LOCK), _LOCK_IS_FREE if over is None else _LOCK_IS_FREE_OR_THEIRS
        try:
            taken = await self._rows.send(key, _TAKE_LOCK, values, condition)
        except ConditionFailed as failed:
            return lock_of(await self._rows.found(failed, key))
        return int(taken["Fence"]["N"])

    async def release_lock(self, lock_id: str, owner: str) -> None:
        """Remove ``EventId`` and ``Owner``, keep ``Fence``. ``Released`` makes a late lock request fail."""
        with contextlib.suppress(ConditionFailed):  # it has another owner by now, or is gone
            await self._rows.send(
                key_of(lock_id, LOCK),
                _RELEASE_LOCK,
                {":me": text(owner), ":expired": self._rows.expiry(LOCK_ROW_KEPT)},
                "#owner = :me",
            )

    async def release_locks(self, locks: Sequence[tuple[str, str]]) -> Sequence[Exception | None]:
        """Send one BatchExecuteStatement; alone, or where that is refused, UpdateItem."""
        if len(locks) == 1 or len(dict(locks)) < len(locks) or self._updates.refused:  # no row twice in one request
            return await side_by_side(self.release_lock(*lock) for lock in locks)
        expired = self._rows.expiry(LOCK_ROW_KEPT)
        codes = await self._updates.send(
            [Statement(self._release, [expired, text(me), text(lock_id), text(me)]) for lock_id, me in locks]
        )
        if codes is None:
            return await side_by_side(self.release_lock(*lock) for lock in locks)
        # A condition that does not hold: it has another owner by now, or is gone.
        return [
            code if isinstance(code, Exception) else None if code in {"", CONDITION} else self._updates.failure(code)
            for code in codes
        ]

    async def cancelled_by(self, message_id: str) -> str:
        """Read the claim's row with a strongly consistent GetItem."""
        item = await self._rows.read(key_of(message_id, THROTTLE))
        return text_of(item, "By") if "Done" in item else ""

    async def beat(self, session_id: str, live: bytes = b"", seen: Collection[str] = ()) -> Collection[str]:
        """Send one unconditional UpdateItem: a heartbeat may count twice. Orders come back in its answer.

        ``ReturnValues`` costs no read (API reference, UpdateItem).
        """
        values: dict[str, Any] = {
            ":expired": self._rows.expiry(WORKER_ROW_KEPT),
            ":host": text(HOST),
            ":pid": number(os.getpid()),
            ":at": decimal(self._rows.now()),
            ":one": number(1),
        }
        change = f"{_BEAT}, #live = :live ADD Beat :one" if live else f"{_BEAT} ADD Beat :one"
        if live:
            values[":live"] = binary(live)
        if seen:
            change += " DELETE #orders :seen"
            values[":seen"] = texts(seen)
        answer = await self._aws.call(
            "dynamodb",
            "UpdateItem",
            {
                "TableName": self._name,
                "Key": key_of(session_id, WORKER),
                "UpdateExpression": change,
                "ExpressionAttributeNames": named(change),
                "ExpressionAttributeValues": values,
                "ReturnValues": "ALL_NEW",
            },
            timeout=0.6 * self._aws.patience,
            attempts=2,
        )
        standing: Collection[str] = answer.get("Attributes", {}).get("Orders", {}).get("SS", ())
        return standing

    async def read_beat(self, session_id: str) -> Heartbeat | None:
        """Read the session's row with a strongly consistent GetItem."""
        answer = await self._aws.call(
            "dynamodb",
            "GetItem",
            {
                "TableName": self._name,
                "Key": key_of(session_id, WORKER),
                "ProjectionExpression": _HEARTBEAT,
                "ExpressionAttributeNames": named(_HEARTBEAT),
                "ConsistentRead": True,
            },
            timeout=0.6 * self._aws.patience,
            attempts=2,
        )
        row = answer.get("Item", {})
        if "Beat" not in row:
            return None
        return Heartbeat(int(number_of(row, "Beat")), text_of(row, "Host"), int(number_of(row, "Pid")))


def _attempt(owner: str) -> str:
    return owner.rpartition("/")[2]


def lock_of(item: Mapping[str, Any]) -> Row:
    """Read a lock's row."""
    owner, holder = owner_of(item), Holder(event_id=text_of(item, "EventId"))
    # A worker of version 1.0.0 that took the lock over has left the facts of the one before it in the row.
    if owner is not None and _attempt(owner) == text_of(item, "Attempt"):
        message_id, host, since = text_of(item, "Message"), text_of(item, "Host"), number_of(item, "Since")
        holder = replace(holder, message_id=message_id, host=host, since=since)
    return Row(owner=owner, holder=holder)


def last_of(item: Mapping[str, Any]) -> Holder | None:
    """Read who held a lock last that is free; None if it is held, or was freed by a release that wrote no facts."""
    if "EventId" in item or "Attempt" not in item or _attempt(text_of(item, "Released")) != text_of(item, "Attempt"):
        return None
    return Holder(message_id=text_of(item, "Message"), host=text_of(item, "Host"), since=number_of(item, "Since"))


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
