"""One table: its items by key, and its indexes in order."""

from bisect import bisect_left, insort
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal

from benchmarks.standin.errors import Json, validation_error
from benchmarks.standin.values import number, scalar, size_of

Scalar = int | Decimal | str
Key = tuple[Scalar, Scalar]
"""The hash and the range part of an item's key. Without a range key the second is empty."""


@dataclass(slots=True)
class Index:
    """A global secondary index, up to date at once. On AWS it lags, so nothing may rely on that."""

    description: Json
    hash_name: str
    range_name: str
    rows: dict[Scalar, list[tuple[Scalar, Key]]] = field(default_factory=dict)

    def place(self, item: Json) -> tuple[Scalar, Scalar] | None:
        """Where an item stands in the index. None if it lacks an attribute of it."""
        if self.hash_name not in item or (self.range_name and self.range_name not in item):
            return None
        return scalar(item[self.hash_name]), scalar(item[self.range_name]) if self.range_name else ""

    def move(self, key: Key, old: Json | None, new: Json | None) -> None:
        """Follow a change of an item."""
        before = self.place(old) if old else None
        after = self.place(new) if new else None
        if before == after:
            return
        if before:
            rows = self.rows[before[0]]
            del rows[bisect_left(rows, (before[1], key))]
        if after:
            insort(self.rows.setdefault(after[0], []), (after[1], key))


class Table:
    """Items by key. An item is never changed in place: a write puts a new one in its stead."""

    def __init__(self, definition: Json) -> None:
        self.definition = definition
        self.name: str = definition["TableName"]
        self.hash_name, self.range_name = key_names(definition)
        self.key_names = frozenset({self.hash_name, self.range_name} - {""})
        self.indexes = {
            index["IndexName"]: Index(index, *key_names(index))
            for index in definition.get("GlobalSecondaryIndexes") or []
        }
        self.ttl_attribute = ""
        self.size = 0
        self.units = 0
        """Write units so far, those of the indexes not counted (AWS: Read and write operations)."""
        self.largest: dict[str, int] = {}
        """Bytes of the largest row that was put, by its range key up to a slash."""
        self._types = {entry["AttributeName"]: entry["AttributeType"] for entry in definition["AttributeDefinitions"]}
        self._items: dict[Scalar, dict[Scalar, Json]] = {}

    def key(self, attributes: Json, *, exact: bool = False) -> Key:
        """The key in an item; `exact` if nothing but the key may stand there.

        Raises:
            ApiError: ValidationException, a key attribute is missing or has another type.
        """
        if exact and len(attributes) != len(self.key_names):
            raise validation_error("The provided key element does not match the schema")
        range_part = self._part(attributes, self.range_name) if self.range_name else ""
        return self._part(attributes, self.hash_name), range_part

    def get(self, key: Key) -> Json | None:
        """The item under the key."""
        rows = self._items.get(key[0])
        return rows.get(key[1]) if rows else None

    def put(self, key: Key, item: Json) -> None:
        """Write the item under the key."""
        rows = self._items.setdefault(key[0], {})
        old = rows.get(key[1])
        rows[key[1]] = item
        self.size += old is None
        new_size = self.charge(item, old)
        kind = str(key[1]).partition("/")[0]
        self.largest[kind] = max(self.largest.get(kind, 0), new_size)
        for index in self.indexes.values():
            index.move(key, old, item)

    def delete(self, key: Key) -> None:
        """Drop the item under the key, if there is one."""
        rows = self._items.get(key[0], {})
        old = rows.pop(key[1], None)
        if not rows:
            self._items.pop(key[0], None)
        self.charge(old or {})
        if old is not None:
            self.size -= 1
            for index in self.indexes.values():
                index.move(key, old, None)

    def charge(self, item: Json, other: Json | None = None) -> int:
        """Count the write units of a write that meets these items, also of one that fails; the first one's size."""
        size = size_of(item)
        most = max(size, size_of(other) if other else 0)
        self.units += max(1, -(-most // 1024))
        return size

    def all(self) -> Iterator[Json]:
        """Every item, in the order of first writing of its hash key."""
        for rows in self._items.values():
            yield from rows.values()

    def partition(self, hash_part: Scalar) -> list[Json]:
        """The items of one hash key, by range key."""
        rows = self._items.get(hash_part, {})
        return [rows[range_part] for range_part in sorted(rows)]

    def _part(self, attributes: Json, name: str) -> Scalar:
        kind = self._types[name]
        try:
            content: str = attributes[name][kind]
        except KeyError:
            raise validation_error("The provided key element does not match the schema") from None
        return number(content) if kind == "N" else content


def key_names(definition: Json) -> tuple[str, str]:
    """The names of the hash and the range attribute; "" for no range attribute."""
    names = {entry["KeyType"]: entry["AttributeName"] for entry in definition["KeySchema"]}
    return names["HASH"], names.get("RANGE", "")
