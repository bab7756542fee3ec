"""The calls of DynamoDB, on decoded JSON."""

import time
from collections.abc import Callable

from benchmarks.standin import partiql
from benchmarks.standin.errors import ApiError, Json, validation_error
from benchmarks.standin.expressions import Condition, Scope, check_placeholders, parse_condition, parse_update
from benchmarks.standin.search import project, query, scan
from benchmarks.standin.tables import Key, Table

Call = Callable[[Json], Json]


class DynamoDb:
    """All tables, and one method per call: `UpdateItem` is `update_item`."""

    def __init__(self) -> None:
        self.tables: dict[str, Table] = {}
        self.calls: dict[str, Call] = {
            "CreateTable": self.create_table,
            "DescribeTable": self.describe_table,
            "UpdateTimeToLive": self.update_time_to_live,
            "DescribeTimeToLive": self.describe_time_to_live,
            "GetItem": self.get_item,
            "PutItem": self.put_item,
            "UpdateItem": self.update_item,
            "DeleteItem": self.delete_item,
            "BatchWriteItem": self.batch_write_item,
            "BatchExecuteStatement": self.batch_execute_statement,
            "Query": lambda payload: query(self._table(payload), payload),
            "Scan": lambda payload: scan(self._table(payload), payload),
        }

    def written(self) -> Json:
        """What has been written since the last call of ``forget_written``."""
        largest: dict[str, int] = {}
        for table in self.tables.values():
            for kind, size in table.largest.items():
                largest[kind] = max(largest.get(kind, 0), size)
        return {"write_units": sum(table.units for table in self.tables.values()), "largest_row": largest}

    def forget_written(self) -> None:
        """Count anew."""
        for table in self.tables.values():
            table.units, table.largest = 0, {}

    def create_table(self, payload: Json) -> Json:
        """CreateTable. The table is there at once."""
        if payload["TableName"] in self.tables:
            raise ApiError("ResourceInUseException", f"Table already exists: {payload['TableName']}")
        table = self.tables[payload["TableName"]] = Table({**payload, "CreationDateTime": time.time()})
        return {"TableDescription": _description(table)}

    def describe_table(self, payload: Json) -> Json:
        """DescribeTable."""
        return {"Table": _description(self._table(payload))}

    def update_time_to_live(self, payload: Json) -> Json:
        """UpdateTimeToLive. It is remembered, but no row is ever deleted by it."""
        wanted = payload["TimeToLiveSpecification"]
        self._table(payload).ttl_attribute = wanted["AttributeName"] if wanted["Enabled"] else ""
        return {"TimeToLiveSpecification": wanted}

    def describe_time_to_live(self, payload: Json) -> Json:
        """DescribeTimeToLive."""
        attribute = self._table(payload).ttl_attribute
        on = {"TimeToLiveStatus": "ENABLED", "AttributeName": attribute}
        return {"TimeToLiveDescription": on if attribute else {"TimeToLiveStatus": "DISABLED"}}

    def get_item(self, payload: Json) -> Json:
        """GetItem, always consistent."""
        table = self._table(payload)
        item = table.get(table.key(payload["Key"], exact=True))
        return {} if item is None else {"Item": project(payload, item)}

    def put_item(self, payload: Json) -> Json:
        """PutItem."""
        table = self._table(payload)
        key = table.key(payload["Item"])
        old = table.get(key)
        _check(payload, old, table)
        table.put(key, payload["Item"])
        return _old_item(payload, old)

    def delete_item(self, payload: Json) -> Json:
        """DeleteItem."""
        table = self._table(payload)
        key = table.key(payload["Key"], exact=True)
        old = table.get(key)
        _check(payload, old, table)
        table.delete(key)
        return _old_item(payload, old)

    def update_item(self, payload: Json) -> Json:
        """UpdateItem. Every operand is read from the item as it was before."""
        table = self._table(payload)
        key = table.key(payload["Key"], exact=True)
        old = table.get(key)
        scope = _check(payload, old, table)
        new = dict(payload["Key"] if old is None else old)
        touched = [change(scope, new) for change in parse_update(payload.get("UpdateExpression", "")).changes]
        if not table.key_names.isdisjoint(touched):
            raise validation_error("Cannot update attribute. This attribute is part of the key")
        if len(set(touched)) < len(touched):
            raise validation_error("Invalid UpdateExpression: Two document paths overlap with each other")
        table.put(key, new)
        wanted = payload.get("ReturnValues", "NONE")
        if wanted == "NONE":
            return {}
        item = new if wanted.endswith("_NEW") else old or {}
        if wanted.startswith("UPDATED"):
            item = {name: item[name] for name in touched if name in item}
        return {"Attributes": item} if item else {}

    def batch_write_item(self, payload: Json) -> Json:
        """BatchWriteItem. Nothing is ever left unprocessed."""
        writes: dict[tuple[str, Key], tuple[Table, Json]] = {}
        total = 0
        for name, requests in payload["RequestItems"].items():
            table = self._table({"TableName": name})
            for request in requests:
                total += 1
                put = "PutRequest" in request
                key = table.key(
                    request["PutRequest"]["Item"] if put else request["DeleteRequest"]["Key"], exact=not put
                )
                writes[name, key] = (table, request)
        if not 1 <= total <= 25:
            raise validation_error(f"BatchWriteItem takes 1 to 25 requests, got {total}")
        if len(writes) < total:
            raise validation_error("Provided list of item keys contains duplicates")
        for (_, key), (table, request) in writes.items():
            if "PutRequest" in request:
                table.put(key, request["PutRequest"]["Item"])
            else:
                table.delete(key)
        return {"UnprocessedItems": {}}

    def batch_execute_statement(self, payload: Json) -> Json:
        """BatchExecuteStatement, for writes. Each statement fails by itself."""
        statements = payload["Statements"]
        if not 1 <= len(statements) <= 25:
            raise validation_error(f"BatchExecuteStatement takes 1 to 25 statements, got {len(statements)}")
        writes = [self._write(statement) for statement in statements]
        if len({(table.name, key) for table, key, _, _ in writes}) < len(writes):
            raise validation_error("Provided list of item keys contains duplicates")
        return {"Responses": [_answer(*write) for write in writes]}

    def _write(self, statement: Json) -> tuple[Table, Key, partiql.Update | None, Json]:
        """What a statement writes, and where: an item to insert; or changes, and what they need of the item."""
        parsed = partiql.parse(statement["Statement"])
        table = self._table({"TableName": parsed.table})
        values = iter(statement.get("Parameters") or ())
        if isinstance(parsed, partiql.Insert):
            item = parsed.item(values)
            return table, table.key(item), None, item
        sets = {name: next(values) if value is None else value for name, value in parsed.sets}
        wanted = {name: next(values) if value is None else value for name, value in parsed.where}
        return table, table.key(wanted), parsed, {"sets": sets, "wanted": wanted}

    def _table(self, payload: Json) -> Table:
        try:
            return self.tables[payload["TableName"]]
        except KeyError:
            raise ApiError("ResourceNotFoundException", "Requested resource not found") from None


def _check(payload: Json, old: Json | None, table: Table) -> Scope:
    """Evaluate the condition of a write against the item as it is.

    Raises:
        ApiError: ConditionalCheckFailedException, with the item where the caller asked for it; or a
            ValidationException for placeholders that are missing or not used.
    """
    names = payload.get("ExpressionAttributeNames") or {}
    values = payload.get("ExpressionAttributeValues") or {}
    used: set[str] = set()
    condition: Condition | None = None
    if (text := payload.get("ConditionExpression")) is not None:
        parsed = parse_condition(text)
        condition = parsed.condition
        used |= parsed.placeholders
    if text := payload.get("UpdateExpression"):
        used |= parse_update(text).placeholders
    check_placeholders(used, names, values)
    scope = Scope(old or {}, names, values)
    if condition is not None and not condition(scope):
        table.charge(old or {})  # a write that fails costs as much
        wanted = payload.get("ReturnValuesOnConditionCheckFailure") == "ALL_OLD" and old is not None
        extra = {"Item": old} if wanted else {}
        raise ApiError("ConditionalCheckFailedException", "The conditional request failed", extra=extra)
    return scope


def _answer(table: Table, key: Key, update: partiql.Update | None, what: Json) -> Json:
    old = table.get(key)
    if update is None:
        if old is not None:
            table.charge(old)
            return _error(table, "DuplicateItem", "Duplicate primary key exists in table")
        table.put(key, what)
    elif not update.holds(old, what["wanted"]):
        table.charge(old or {})
        return _error(table, "ConditionalCheckFailed", "The conditional request failed")
    else:
        kept = {name: value for name, value in (old or {}).items() if name not in update.removes}
        table.put(key, kept | what["sets"])
    return {"TableName": table.name}


def _error(table: Table, code: str, message: str) -> Json:
    return {"TableName": table.name, "Error": {"Code": code, "Message": message}}


def _old_item(payload: Json, old: Json | None) -> Json:
    return {"Attributes": old} if old is not None and payload.get("ReturnValues") == "ALL_OLD" else {}


def _description(table: Table) -> Json:
    definition = table.definition
    throughput = definition.get("ProvisionedThroughput", {"ReadCapacityUnits": 0, "WriteCapacityUnits": 0})
    return {
        "TableName": table.name,
        "TableArn": f"arn:aws:dynamodb:us-east-1:000000000000:table/{table.name}",
        "TableStatus": "ACTIVE",
        "KeySchema": definition["KeySchema"],
        "AttributeDefinitions": definition["AttributeDefinitions"],
        "CreationDateTime": definition["CreationDateTime"],
        "ItemCount": table.size,
        "TableSizeBytes": 0,
        "BillingModeSummary": {"BillingMode": definition.get("BillingMode", "PROVISIONED")},
        "ProvisionedThroughput": {"NumberOfDecreasesToday": 0, **throughput},
        "GlobalSecondaryIndexes": [
            {"ProvisionedThroughput": throughput, **index.description, "IndexStatus": "ACTIVE"}
            for index in table.indexes.values()
        ],
    }
