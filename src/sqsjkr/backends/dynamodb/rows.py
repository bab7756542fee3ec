"""Conditional writes to the rows of one table, and the values that stand in them."""

from __future__ import annotations

import base64
import math
import re
import time
from collections.abc import Collection, Mapping
from functools import lru_cache
from typing import Any

from sqsjkr.backends.aws.client import AWS
from sqsjkr.backends.aws.errors import ConditionFailed

LOCK, THROTTLE, WORKER = "lock", "throttle", "worker"
"""Values of the range key ``Type``."""
EXPIRY_STEP = 3600
"""Seconds to which ``Expired`` is rounded up."""
_NAMES = {
    "#owner": "Owner",
    "#stop": "Stop",
    "#by": "By",
    "#host": "Host",
    "#pid": "Pid",
    "#since": "Since",
    "#message": "Message",
    "#attempt": "Attempt",
    "#beat_at": "At",
    "#live": "Live",
    "#orders": "Orders",
}
"""Names that are or may become reserved words (AWS: Reserved words in DynamoDB)."""
_ALIAS = re.compile(r"#\w+")


class Rows:
    """Conditional writes to the rows of one table."""

    def __init__(self, aws: AWS, name: str) -> None:
        self._aws = aws
        self._name = name

    async def send(
        self,
        key: Mapping[str, Any],
        expression: str,
        values: Mapping[str, Any],
        condition: str,
        *,
        returned: str = "UPDATED_NEW",
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
                "ExpressionAttributeNames": named(f"{expression} {condition}"),
                "ExpressionAttributeValues": values,
                "ReturnValues": returned,
                "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
            },
        )
        attributes: Mapping[str, Any] = answer.get("Attributes", {})
        return attributes

    async def delete(self, key: Mapping[str, Any], values: Mapping[str, Any], condition: str) -> None:
        """Send a conditional DeleteItem. Raises ``ConditionFailed``."""
        await self._aws.call(
            "dynamodb",
            "DeleteItem",
            {
                "TableName": self._name,
                "Key": key,
                "ConditionExpression": condition,
                "ExpressionAttributeNames": named(condition),
                "ExpressionAttributeValues": values,
                "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
            },
        )

    async def found(self, failed: ConditionFailed, key: Mapping[str, Any]) -> Mapping[str, Any]:
        """The row that failed a condition; {} if there is none. Some servers do not return it with the failure."""
        return await self.read(key) if failed.item is None else failed.item

    async def read(self, key: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return a row, strongly consistent; {} if there is none."""
        answer = await self._aws.call(
            "dynamodb", "GetItem", {"TableName": self._name, "Key": key, "ConsistentRead": True}
        )
        item: Mapping[str, Any] = answer.get("Item", {})
        return item

    def time(self) -> dict[str, str]:
        """The time by DynamoDB's clock, to the second."""
        return number(time.time() + self._aws.server_offset())

    def expiry(self, seconds: float) -> dict[str, str]:
        """The time ``seconds`` from now by DynamoDB's clock: by a wrong host clock, TTL might delete rows in use.

        Rounded up to the next full hour: a confirm or a heartbeat then mostly writes the value that is there, and an
        unchanged value saves the index on it two writes of three (docs/explanation/scale.md).
        """
        return number(math.ceil((self.now() + seconds) / EXPIRY_STEP) * EXPIRY_STEP)

    def now(self) -> float:
        """The time on DynamoDB's clock: seconds since 1970."""
        return time.time() + self._aws.server_offset()


def key_of(row_id: str, kind: str) -> dict[str, dict[str, str]]:
    """Return the key of a row."""
    return {"Id": {"S": row_id}, "Type": {"S": kind}}


def text(value: str) -> dict[str, str]:
    """Return a string as DynamoDB's JSON has it."""
    return {"S": value}


def number(value: float) -> dict[str, str]:
    """Return a whole number as DynamoDB's JSON has it."""
    return {"N": str(int(value))}


def decimal(value: float) -> dict[str, str]:
    """Return a number with three decimals as DynamoDB's JSON has it."""
    return {"N": f"{value:.3f}"}


def text_of(item: Mapping[str, Any], name: str) -> str:
    """Return a row's string; "" if it has none of this name."""
    return str(item.get(name, {}).get("S", ""))


def number_of(item: Mapping[str, Any], name: str) -> float:
    """Return a row's number; 0.0 if it has none of this name."""
    return float(item.get(name, {}).get("N", 0))


def texts(values: Collection[str]) -> dict[str, list[str]]:
    """Return a set of strings, which may not be empty, as DynamoDB's JSON has it."""
    return {"SS": sorted(values)}


def binary(value: bytes) -> dict[str, str]:
    """Return bytes as DynamoDB's JSON has them."""
    return {"B": base64.b64encode(value).decode("ascii")}


def owner_of(item: Mapping[str, Any]) -> str | None:
    """Return a row's owner; None if it has none."""
    owner: str | None = item.get("Owner", {}).get("S")
    return owner


@lru_cache(maxsize=256)
def named(expressions: str) -> dict[str, str]:
    """Return the names that the aliases of the expressions stand for; ``#Command`` is ``Command``.

    DynamoDB refuses an alias that is not used, and a name without one that is reserved.
    """
    return {alias: alias[1:] if alias[1].isupper() else _NAMES[alias] for alias in _ALIAS.findall(expressions)}
