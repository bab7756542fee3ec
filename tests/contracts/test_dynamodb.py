"""What DynamoDB alone does: a table that is there, but is not ours."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from contracts.stores import OwnConnection
from fleet import Fleet
from sqsjkr.errors import BackendRefused


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
