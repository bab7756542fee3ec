"""Query, Scan, and what a read shows of an item."""

from collections.abc import Iterable, Iterator
from itertools import islice

from benchmarks.standin.errors import Json, validation_error
from benchmarks.standin.expressions import Condition, Parsed, Scope, check_placeholders, parse_condition
from benchmarks.standin.tables import Index, Scalar, Table
from benchmarks.standin.values import scalar


def scan(table: Table, payload: Json) -> Json:
    """Scan. Paged by `Limit` only, never by size."""
    _check(payload)
    return _page(table, None, table.all(), payload)


def query(table: Table, payload: Json) -> Json:
    """Query of the table or of an index. Paged by `Limit` only, never by size.

    The hash key's value is taken from the key condition; the whole condition then picks among that key's items.
    """
    index = None
    if name := payload.get("IndexName"):
        index = table.indexes.get(name)
        if index is None:
            raise validation_error(f"The table does not have the specified index: {name}")
        if payload.get("ConsistentRead"):
            raise validation_error("Consistent reads are not supported on global secondary indexes")
    _check(payload)
    condition = parse_condition(payload["KeyConditionExpression"])
    hash_part = _hash_part(condition, payload, index.hash_name if index else table.hash_name)
    if index is None:
        items = table.partition(hash_part)
    else:
        items = [item for _, key in index.rows.get(hash_part, ()) if (item := table.get(key)) is not None]
    if payload.get("ScanIndexForward") is False:
        items.reverse()
    return _page(table, index, _chosen(items, condition.condition, payload), payload)


def project(payload: Json, item: Json) -> Json:
    """The attributes of an item that ProjectionExpression names; all of them without one."""
    text = payload.get("ProjectionExpression")
    if not text:
        return item
    names = payload.get("ExpressionAttributeNames") or {}
    wanted = {names.get(name.strip(), name.strip()) for name in text.split(",")}
    return {name: value for name, value in item.items() if name in wanted}


def _page(table: Table, index: Index | None, items: Iterable[Json], payload: Json) -> Json:
    if start := payload.get("ExclusiveStartKey"):
        items = _after(table, items, table.key(start))
    limit = payload.get("Limit")
    page = list(islice(items, limit))
    text = payload.get("FilterExpression")
    condition = parse_condition(text).condition if text else None
    found = list(_chosen(page, condition, payload))
    answer: Json = {"Count": len(found), "ScannedCount": len(page)}
    if payload.get("Select") != "COUNT":
        answer["Items"] = [project(payload, item) for item in found]
    if limit and len(page) == limit:
        names = table.key_names | ({index.hash_name, index.range_name} - {""} if index else set())
        answer["LastEvaluatedKey"] = {name: page[-1][name] for name in names}
    return answer


def _after(table: Table, items: Iterable[Json], key: tuple[Scalar, Scalar]) -> Iterator[Json]:
    rest = iter(items)
    for item in rest:
        if table.key(item) == key:
            break
    return rest


def _chosen(items: Iterable[Json], condition: Condition | None, payload: Json) -> Iterator[Json]:
    names = payload.get("ExpressionAttributeNames") or {}
    values = payload.get("ExpressionAttributeValues") or {}
    return (item for item in items if condition is None or condition(Scope(item, names, values)))


def _hash_part(condition: Parsed, payload: Json, hash_name: str) -> Scalar:
    names = payload.get("ExpressionAttributeNames") or {}
    scope = Scope({}, names, payload.get("ExpressionAttributeValues") or {})
    for name, value in condition.equalities:
        if name(scope) == hash_name and (found := value(scope)) is not None:
            return scalar(found)
    raise validation_error(f"Query condition missed key schema element: {hash_name}")


def _check(payload: Json) -> None:
    names = payload.get("ExpressionAttributeNames") or {}
    values = payload.get("ExpressionAttributeValues") or {}
    used: set[str] = set()
    for key in ("KeyConditionExpression", "FilterExpression"):
        if text := payload.get(key):
            used |= parse_condition(text).placeholders
    if text := payload.get("ProjectionExpression"):
        used |= {name for part in text.split(",") if (name := part.strip()).startswith("#")}
    check_placeholders(used, names, values)
