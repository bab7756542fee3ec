"""Attribute values of DynamoDB (`{"N": "7"}`): comparing and adding them."""

import operator
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from benchmarks.standin.errors import Json, validation_error

_ORDERS: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_SETS = ("SS", "NS", "BS")


def number(text: str) -> int | Decimal:
    """The number in an `N` value, exact."""
    try:
        return int(text)
    except ValueError:
        return Decimal(text)


def scalar(value: Json) -> int | Decimal | str:
    """What an `S`, `N` or `B` value is ordered by."""
    ((kind, content),) = value.items()
    return number(content) if kind == "N" else str(content)


def equal(left: Json | None, right: Json | None) -> bool:
    """`=`. Nothing equals a missing attribute."""
    if left is None or right is None:
        return False
    if left == right:
        return True
    if "N" in left and "N" in right:
        return number(left["N"]) == number(right["N"])
    return any(kind in left and kind in right and set(left[kind]) == set(right[kind]) for kind in _SETS)


def compare(order: str, left: Json | None, right: Json | None) -> bool:
    """`<`, `<=`, `>` and `>=`: false for a missing attribute and for two different types."""
    if left is None or right is None or left.keys() != right.keys():
        return False
    return _ORDERS[order](scalar(left), scalar(right))


def starts(value: Json | None, prefix: Json | None) -> bool:
    """`begins_with`, for strings."""
    return value is not None and prefix is not None and value.get("S", "").startswith(prefix["S"])


def add(left: Json, right: Json) -> Json:
    """`left + right`, of numbers."""
    return {"N": str(_addend(left) + _addend(right))}


def subtract(left: Json, right: Json) -> Json:
    """`left - right`, of numbers."""
    return {"N": str(_addend(left) - _addend(right))}


def union(old: Json | None, value: Json) -> Json:
    """What ADD makes of an attribute: a sum, or a greater set."""
    for kind in _SETS:
        if kind in value:
            return {kind: list(dict.fromkeys([*(old or {kind: []})[kind], *value[kind]]))}
    return add(old or {"N": "0"}, value)


def without(old: Json | None, value: Json) -> Json | None:
    """What DELETE leaves of a set. None where nothing is left."""
    for kind in _SETS:
        if kind in value and old is not None:
            left = [member for member in old.get(kind, []) if member not in value[kind]]
            return {kind: left} if left else None
    return old


def _addend(value: Json) -> int | Decimal:
    if "N" not in value:
        raise validation_error("An operand in the update expression has an incorrect data type")
    return number(value["N"])


def size_of(item: Json) -> int:
    """Bytes of an item, as far as its attributes are strings, numbers, bytes or sets (AWS: DynamoDB item sizes)."""
    size = 0
    for name, value in item.items():
        size += len(name)
        ((kind, content),) = value.items()
        if kind == "S":
            size += len(content) if content.isascii() else len(content.encode(errors="replace"))
        elif kind == "N":
            size += len(content) // 2 + 1
        elif kind == "B":
            size += len(content) * 3 // 4
        else:
            size += sum(map(len, content)) if kind in _SETS else 3
    return size
