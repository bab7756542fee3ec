"""What DynamoDB alone does: a table that exists but is not ours, and rights that are tried without effect."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from contracts.stores import OwnConnection
from fleet import Fleet
from sqsjkr.errors import BackendRefused
from sqsjkr.provision import rights
from sqsjkr.provision.finding import Level


@pytest.mark.parametrize("keys", [{"Key": "HASH"}, {"Id": "HASH"}, {"Id": "HASH", "Kind": "RANGE"}])
async def test_a_table_with_other_keys_is_refused_in_one_clear_line(
    dynamodb_fleet: Fleet, keys: Mapping[str, str]
) -> None:
    name = f"{dynamodb_fleet.table}-other"
    dynamodb_fleet.dynamodb(
        "CreateTable",
        TableName=name,
        KeySchema=[{"AttributeName": key, "KeyType": kind} for key, kind in keys.items()],
        AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"} for key in keys],
        BillingMode="PAY_PER_REQUEST",
    )
    table = OwnConnection(name)
    try:
        with pytest.raises(BackendRefused, match=r"does not have the keys Id and Type.*lock_table.*sqsjkr setup"):
            await table.open()
    finally:
        await table.close()
        dynamodb_fleet.dynamodb("DeleteTable", TableName=name)


async def test_every_right_of_the_worker_is_tried_without_effect(dynamodb_fleet: Fleet) -> None:
    row = {"Id": {"S": "kept"}, "Type": {"S": "lock"}, "EventId": {"S": "nightly"}}
    dynamodb_fleet.dynamodb("PutItem", TableName=dynamodb_fleet.table, Item=row)
    before = dynamodb_fleet.rows()
    table = OwnConnection(dynamodb_fleet.table)
    await table.open()
    try:
        found = [finding async for finding in rights.on_table(table.aws, dynamodb_fleet.table, "the table")]
    finally:
        await table.close()
    single = "dynamodb:GetItem, dynamodb:UpdateItem, dynamodb:DeleteItem, dynamodb:BatchWriteItem"
    granted = f"{single}, dynamodb:PartiQLInsert, dynamodb:PartiQLUpdate on the table"
    assert [(finding.level, finding.found) for finding in found] == [(Level.OK, granted)]
    assert dynamodb_fleet.rows() == before
