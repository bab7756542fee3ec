"""Workers and the board in DynamoDB: rows with the fleet's name, of types ``worker/ID`` and ``board``.

The row that beats stays where release 1.0 looks for it, under the session's name and of type ``worker``: an observer of
that release that found no heartbeat there would take a live worker's locks over.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqsjkr.backends import Connections
from sqsjkr.backends.aws.client import AWS
from sqsjkr.backends.aws.connection import connection
from sqsjkr.backends.dynamodb.rows import Rows, decimal, key_of, number, number_of, text
from sqsjkr.leases.live import ROSTER_KEPT, Board, Entry, Notice, Roster

BOARD = "board"
_ENTER = (
    "SET #host = :host, #pid = :pid, #version = :version, #slots = :slots, #session = :session, #call = :call, "
    "Expired = :expired, #started = if_not_exists(#started, :now)"
)
_NAMES = {f"#{name.lower()}": name for name in ("Host", "Pid", "Version", "Slots", "Session", "Call", "Started")}


class DynamoDBRoster(Roster):
    """The roster and the board in the table of locks and claims."""

    def __init__(self, aws: AWS, name: str) -> None:
        self._aws = aws
        self._name = name
        self._rows = Rows(aws, name)

    @classmethod
    def configured(cls, connections: Connections, _place: str) -> DynamoDBRoster:
        """The roster in the table of the settings."""
        return cls(connection(connections), connections.settings.lock_table)

    async def enter(self, fleet: str, entry: Entry) -> float:
        """Send one UpdateItem."""
        values = {
            ":host": text(entry.host),
            ":pid": number(entry.pid),
            ":version": text(entry.version),
            ":slots": number(entry.slots),
            ":session": text(entry.session),
            ":call": number(entry.call),
            ":expired": self._rows.expiry(ROSTER_KEPT),
            ":now": decimal(self._rows.now()),
        }
        request = {
            "TableName": self._name,
            "Key": key_of(fleet_key(fleet), kind_of(entry.worker)),
            "UpdateExpression": _ENTER,
            "ExpressionAttributeNames": _NAMES,
            "ExpressionAttributeValues": values,
            "ReturnValues": "ALL_NEW",
        }
        answer = await self._aws.call("dynamodb", "UpdateItem", request)
        return float(answer["Attributes"]["Started"]["N"])

    async def leave(self, fleet: str, worker: str) -> None:
        """Send one DeleteItem."""
        request = {"TableName": self._name, "Key": key_of(fleet_key(fleet), kind_of(worker))}
        await self._aws.call("dynamodb", "DeleteItem", request, attempts=2)

    async def read_board(self, fleet: str) -> Board:
        """Send one GetItem, eventually consistent: half a read unit."""
        request = {"TableName": self._name, "Key": key_of(fleet_key(fleet), BOARD)}
        answer = await self._aws.call("dynamodb", "GetItem", request, attempts=2)
        return board_of(answer.get("Item") or {})


def fleet_key(fleet: str) -> str:
    """Return the ``Id`` of the fleet's rows."""
    return f"fleet/{fleet}"


def kind_of(worker: str) -> str:
    """Return the ``Type`` of a worker's entry."""
    return f"worker/{worker}"


def board_of(item: Mapping[str, Any]) -> Board:
    """Read the board's row; {} is an empty board. What a later release wrote is left out."""
    paused = Notice.read(item.get("Paused", {}).get("S", ""))
    drained = [found for each in item.get("Drain", {}).get("SS", ()) if (found := Notice.read(each))]
    return Board(
        paused=paused[1] if paused else None,
        drained=dict(drained),
        call=int(number_of(item, "Roll")),
        called_at=number_of(item, "Called"),
    )


def entry_of(item: Mapping[str, Any]) -> Entry | None:
    """Read a worker's entry; None if a later release wrote it in another way."""
    try:
        return Entry(
            worker=item["Type"]["S"].partition("/")[2],
            host=item["Host"]["S"],
            pid=int(item["Pid"]["N"]),
            version=item["Version"]["S"],
            slots=int(item["Slots"]["N"]),
            session=item["Session"]["S"],
            call=int(item["Call"]["N"]),
            started=float(item["Started"]["N"]),
        )
    except (KeyError, ValueError):
        return None
