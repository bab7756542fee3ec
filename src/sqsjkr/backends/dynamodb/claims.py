"""Claims in DynamoDB: the rows of type ``throttle``.

A free row has no ``Expired``: to a Go daemon, and to release 1.0, it is as good as none. DynamoDB's TTL does not remove
it, so whoever ends its job must mark it as done.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from sqsjkr.backends.aws.client import AWS
from sqsjkr.backends.aws.errors import ConditionFailed
from sqsjkr.backends.dynamodb import facts
from sqsjkr.backends.dynamodb.outbox import Outbox
from sqsjkr.backends.dynamodb.rows import THROTTLE, Rows, decimal, key_of, number, owner_of, text
from sqsjkr.backends.dynamodb.statements import Statement, Statements
from sqsjkr.batcher import side_by_side
from sqsjkr.leases.table import Claiming, ClaimRows, Row
from sqsjkr.runs import Earlier, Run, to_note
from sqsjkr.telemetry.history import has_failed

_CLAIM_IS_FREE = (
    "(attribute_not_exists(Expired) AND (attribute_not_exists(Due) OR Due <= :age)) "
    "OR (#owner = :me AND attribute_not_exists(Done))"
)
_CLAIM_IS_FREE_OR_THEIRS = (
    f"{_CLAIM_IS_FREE} OR (#owner = :over AND attribute_not_exists(Done) AND attribute_not_exists(#stop))"
)
_CLAIM_IS_MINE = "#owner = :me AND attribute_not_exists(Done) AND attribute_not_exists(#stop)"
_CLAIM_IS_ONLY_MINE = f"{_CLAIM_IS_MINE} AND attribute_not_exists(Failures) AND attribute_not_exists(Crashes)"
CANCELLED = "cancelled"
"""``Outcome`` of a job that was marked as done before it started."""


_ZERO, _EMPTY = {"N": "0"}, {"S": ""}


class DynamoDBClaims(ClaimRows):
    """The claims' part of ``DynamoDBTable``."""

    def __init__(self, aws: AWS, name: str, outbox: Outbox | None = None) -> None:
        self._aws = aws
        self._name = name
        self._rows = Rows(aws, name)
        self._outbox = outbox or Outbox(aws, name)
        self._inserts = Statements(aws, "claims", f"dynamodb:PartiQLInsert on {name}")

    async def take_new_claims(self, claims: Sequence[Claiming]) -> Sequence[Row | Exception | None]:
        """Send one BatchExecuteStatement of INSERTs, which does not return the row that is in the way."""
        if len(claims) == 1 or self._inserts.refused:
            return await self._one_by_one(claims)
        first = {claiming.run.key: place for place, claiming in reversed(list(enumerate(claims)))}
        codes = await self._inserts.send([self._insert(claims[place]) for place in first.values()])
        if codes is None:
            return await self._one_by_one(claims)
        rows: list[Row | Exception | None] = [None] * len(claims)
        for place, code in zip(first.values(), codes, strict=True):
            if isinstance(code, Exception):
                rows[place] = code
            elif not code:
                rows[place] = Row(owner=claims[place].owner)
        return rows

    def _insert(self, claiming: Claiming) -> Statement:
        item = {"Expired": self._rows.expiry(self.retention), "Owner": text(claiming.owner)}
        item |= facts.begun(self.history.at_claim(claiming.run))
        return Statement(_insert_of(self._name, tuple(item)), [text(claiming.run.key), *item.values()])

    async def _one_by_one(self, claims: Sequence[Claiming]) -> Sequence[Row | Exception | None]:
        if len(claims) == 1:  # a task for it would be a waste
            return [await self.take_claim(claims[0])]
        return await side_by_side(self.take_claim(claiming) for claiming in claims)

    async def take_claim(self, claiming: Claiming) -> Row:
        """Set ``Expired`` and ``Owner`` on a condition; a Go daemon sees a duplicate and leaves it."""
        values = {
            ":me": text(claiming.owner),
            ":age": decimal(claiming.age),
            ":expired": self._rows.expiry(self.retention),
        }
        change, condition = "SET Expired = :expired, #owner = :me", _CLAIM_IS_FREE
        for name, value in facts.begun(self.history.at_claim(claiming.run)).items():
            change += f", #{name} = :{name}"
            values[f":{name}"] = value
        if claiming.crashes is not None:
            change += ", Crashes = :crashes"
            values[":crashes"] = number(claiming.crashes)
        if claiming.over is not None:
            condition = _CLAIM_IS_FREE_OR_THEIRS
            values[":over"] = text(claiming.over)
        return await self._claim(claiming.run.key, f"{change} REMOVE Due", values, condition)

    async def finish_claims(self, claims: Sequence[tuple[Run, str]]) -> Sequence[Exception | None]:
        """Send one BatchWriteItem; retry, with pauses, what DynamoDB leaves unprocessed."""
        expired = self._rows.expiry(self.retention)
        rows = {run.key: self._finished(run, owner, expired) for run, owner in claims}
        failures = await self._outbox.put(list(rows.values()))
        return [failures.get((run.key, THROTTLE)) for run, _ in claims]

    def _finished(self, run: Run, owner: str, expired: Mapping[str, str]) -> dict[str, Any]:
        noted = self.history.at_end(run)
        row = key_of(run.key, THROTTLE) | {"Expired": expired, "Owner": text(owner), "Done": number(1)}
        row |= facts.ended(noted)
        if run.owed:
            row["Owed"] = text(to_note(run))
        if run.cancelled_by:
            row["By"] = text(run.cancelled_by)
        return facts.with_output(row, noted.output, failed=has_failed(run))

    async def drop_claim(self, message_id: str, owner: str) -> None:
        """Send one conditional DeleteItem; for a row with something to remember, an UpdateItem after it."""
        key = key_of(message_id, THROTTLE)
        try:
            await self._rows.delete(key, {":me": text(owner)}, _CLAIM_IS_ONLY_MINE)
        except ConditionFailed as failed:
            row = _claim(await self._rows.found(failed, key))
            if row.owner == owner and not row.done:
                await self._free(message_id, owner, "REMOVE #owner, Expired, Due", {})

    async def postpone_claim(
        self, message_id: str, owner: str, *, failures: int, due: float | None, earlier: Sequence[Earlier] = ()
    ) -> None:
        """Send one conditional UpdateItem. Without ``Expired`` the row is as good as none to a Go daemon."""
        change, values = "SET Failures = :failures", {":failures": number(failures)}
        if due is not None:
            change += ", Due = :due"
            values[":due"] = decimal(due)
        if past := facts.past(earlier):
            change += ", #Past = :past"
            values[":past"] = text(past)
        change += " REMOVE #owner, Expired" if due is not None else " REMOVE #owner, Expired, Due"
        await self._free(message_id, owner, change, values)

    async def cancel_claim(self, message_id: str, by: str, *, over: str | None = None) -> Row:
        """Send one conditional UpdateItem, whose condition names ``Owner`` only for a take-over."""
        values = {
            ":one": number(1),
            ":cancelled": text(CANCELLED),
            ":by": text(by),
            ":expired": self._rows.expiry(self.retention),
        }
        condition = "attribute_not_exists(Expired)"
        if over is not None:
            values[":over"] = text(over)
            condition += " OR (#owner = :over AND attribute_not_exists(Done))"
        change = "SET Done = :one, Outcome = :cancelled, #by = :by, Expired = :expired REMOVE Due, #stop"
        return await self._claim(message_id, change, values, condition)

    async def stop_claim(self, message_id: str, by: str) -> Row | None:
        """Send one conditional UpdateItem that does not name ``Owner``: who may do this may not steal a claim."""
        key, condition = key_of(message_id, THROTTLE), "attribute_exists(Expired) AND attribute_not_exists(Done)"
        try:
            return _claim(
                await self._rows.send(key, "SET #stop = :by", {":by": text(by)}, condition, returned="ALL_NEW")
            )
        except ConditionFailed as failed:
            found = await self._rows.found(failed, key)
            return _claim(found) if found else None

    async def _free(self, message_id: str, owner: str, change: str, values: Mapping[str, Any]) -> None:
        """Free a row on condition of its owner. If there is an order to stop the job, the row becomes done instead."""
        key = key_of(message_id, THROTTLE)
        try:
            await self._rows.send(key, change, {":me": text(owner), **values}, _CLAIM_IS_MINE)
        except ConditionFailed as failed:
            row = _claim(await self._rows.found(failed, key))
            if row.owner == owner and row.stop and not row.done:
                await self.cancel_claim(message_id, row.stop, over=owner)

    async def _claim(self, message_id: str, expression: str, values: Mapping[str, Any], condition: str) -> Row:
        """Send a conditional UpdateItem to a claim; return its row as it is then, whether the condition held or not."""
        key = key_of(message_id, THROTTLE)
        try:
            return _claim(await self._rows.send(key, expression, values, condition, returned="ALL_NEW"))
        except ConditionFailed as failed:
            return _claim(await self._rows.found(failed, key))


@lru_cache(maxsize=64)
def _insert_of(table: str, names: tuple[str, ...]) -> str:
    fields = ", ".join(f"'{name}': ?" for name in names)
    return f"INSERT INTO \"{table}\" VALUE {{'Id': ?, 'Type': '{THROTTLE}', {fields}}}"


def _claim(item: Mapping[str, Any]) -> Row:
    owner = owner_of(item)
    due = item.get("Due")
    return Row(
        owner=owner,
        done="Done" in item or ("Expired" in item and owner is None),  # the latter is a Go daemon's
        failures=int(item.get("Failures", _ZERO)["N"]),
        crashes=int(item.get("Crashes", _ZERO)["N"]),
        due=float(due["N"]) if due else None,
        stop=item.get("Stop", _EMPTY)["S"],
        owed=item.get("Owed", _EMPTY)["S"],
        cancelled_by=item.get("By", _EMPTY)["S"],
        run=facts.run_of(item) if "Id" in item else None,
    )
