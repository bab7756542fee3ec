"""Where an operator's orders are written in DynamoDB. No request here names ``Owner`` but the one that frees a lock.

So a policy can allow all of them but that one: whoever has it can stop jobs and take no lock (docs/reference/iam.md).
"""

from __future__ import annotations

import getpass
from collections.abc import Mapping
from typing import Any

from sqsjkr.backends import Connections
from sqsjkr.backends.aws.client import AWS
from sqsjkr.backends.aws.connection import connection
from sqsjkr.backends.aws.errors import ConditionFailed
from sqsjkr.backends.dynamodb.fleet import BOARD, fleet_key
from sqsjkr.backends.dynamodb.rows import LOCK, WORKER, Rows, decimal, key_of, number, text, texts
from sqsjkr.backends.dynamodb.table import LOCK_ROW_KEPT, WORKER_ROW_KEPT
from sqsjkr.errors import BackendUnavailable
from sqsjkr.leases.live import Notice
from sqsjkr.runs import HOST
from sqsjkr.views.source import LockRow, Orders


class DynamoDBOrders(Orders):
    """Orders to the workers of one table."""

    def __init__(self, aws: AWS, name: str) -> None:
        self._aws = aws
        self._name = name
        self._rows = Rows(aws, name)

    @classmethod
    def configured(cls, connections: Connections, _place: str) -> DynamoDBOrders:
        """The table of the settings."""
        return cls(connection(connections), connections.settings.lock_table)

    async def whoami(self) -> str:
        """The ARN of the credentials; the user and the host where STS cannot be asked."""
        try:
            return await self._aws.whoami()
        except BackendUnavailable:
            return f"{getpass.getuser()}@{HOST}"

    async def order(self, session: str, text: str) -> None:
        """Add to a set: idempotent, and nothing is lost between a worker's look and its removal of what it saw.

        A session that has not beaten yet has no row; this makes one. An observer takes a row without ``Beat`` for none.
        """
        change = "ADD #orders :order SET Expired = if_not_exists(Expired, :expired)"
        values = {":order": texts([text]), ":expired": self._rows.expiry(WORKER_ROW_KEPT)}
        await self._update(key_of(session, WORKER), change, values, {"#orders": "Orders"})

    async def pause(self, fleet: str, notice: Notice | None) -> None:
        """Set or remove ``Paused`` on the board."""
        if notice is None:
            await self._update(_board(fleet), "REMOVE Paused", {})
        else:
            await self._update(_board(fleet), "SET Paused = :notice", {":notice": text(notice.text_for())})

    async def drain(self, fleet: str, target: str, notice: Notice) -> None:
        """Add to the set ``Drain`` on the board; an earlier drain of the same target is replaced."""
        await self.undrain(fleet, target)
        await self._update(_board(fleet), "ADD Drain :notice", {":notice": texts([notice.text_for(target)])})

    async def undrain(self, fleet: str, target: str) -> bool:
        """Remove from the set exactly what was read of the target."""
        request = {"TableName": self._name, "Key": _board(fleet), "ConsistentRead": True}
        answer = await self._aws.call("dynamodb", "GetItem", request)
        there = answer.get("Item", {}).get("Drain", {}).get("SS", ())
        gone = [each for each in there if (found := Notice.read(each)) and found[0] == target]
        if gone:
            await self._update(_board(fleet), "DELETE Drain :gone", {":gone": texts(gone)})
        return bool(gone)

    async def call(self, fleet: str) -> int:
        """Add one to ``Roll`` on the board."""
        values = {":one": number(1), ":now": decimal(self._rows.now())}
        change = "ADD #roll :one SET #called = :now"
        answer = await self._update(_board(fleet), change, values, {"#roll": "Roll", "#called": "Called"})
        return int(answer["Attributes"]["Roll"]["N"])

    async def free_lock(self, lock: LockRow) -> bool:
        """Remove ``EventId`` and ``Owner`` on condition of both. ``Released`` refuses a late request of the owner."""
        values = {":event": text(lock.holder.event_id), ":expired": self._rows.expiry(LOCK_ROW_KEPT)}
        if lock.owner is None:
            change = "REMOVE EventId SET Expired = :expired"
            condition = "EventId = :event AND attribute_not_exists(#owner)"
        else:
            values[":owner"] = text(lock.owner)
            change = "REMOVE EventId, #owner SET Expired = :expired, Released = :owner"
            condition = "EventId = :event AND #owner = :owner"
        try:
            await self._rows.send(key_of(lock.lock_id, LOCK), change, values, condition)
        except ConditionFailed:
            return False
        return True

    async def _update(
        self, key: Mapping[str, Any], change: str, values: Mapping[str, Any], names: Mapping[str, str] | None = None
    ) -> Mapping[str, Any]:
        request: dict[str, Any] = {
            "TableName": self._name,
            "Key": key,
            "UpdateExpression": change,
            "ReturnValues": "UPDATED_NEW" if "#roll" in change else "NONE",
        }
        if values:
            request["ExpressionAttributeValues"] = values
        if names:
            request["ExpressionAttributeNames"] = names
        return await self._aws.call("dynamodb", "UpdateItem", request)


def _board(fleet: str) -> Mapping[str, Any]:
    return key_of(fleet_key(fleet), BOARD)
