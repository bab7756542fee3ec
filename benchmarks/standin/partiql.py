"""The writes of PartiQL that the daemon sends, as far as it uses the language: INSERT, and UPDATE of one row."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from benchmarks.standin.errors import Json, validation_error
from benchmarks.standin.values import equal

_INSERT = re.compile(r"INSERT INTO \"([^\"]+)\" VALUE \{(.*)\}\s*")
_UPDATE = re.compile(r"UPDATE \"([^\"]+)\" (.*) WHERE (.*?)\s*")
_FIELD = re.compile(r"\s*'(\w+)'\s*:\s*(\?|'[^']*')\s*(?:,|$)")
_CHANGE = re.compile(r"\s*(?:SET \"?(\w+)\"? = (\?|'[^']*')|REMOVE \"?(\w+)\"?)")
_EQUALITY = re.compile(r"\s*\"?(\w+)\"? = (\?|'[^']*')\s*(?:AND|$)")

Fields = tuple[tuple[str, Json | None], ...]
"""Names, each with its value; None for a question mark."""


@dataclass(frozen=True, slots=True)
class Insert:
    """An item that must not exist yet."""

    table: str
    fields: Fields

    def item(self, values: Iterator[Json]) -> Json:
        """The item, with the statement's parameters in it."""
        return {name: next(values) if value is None else value for name, value in self.fields}


@dataclass(frozen=True, slots=True)
class Update:
    """Changes of an item that must exist and hold certain values."""

    table: str
    sets: Fields
    removes: tuple[str, ...]
    where: Fields

    def holds(self, item: Json | None, wanted: Json) -> bool:
        """Whether the item is there and has every value that is wanted of it."""
        return item is not None and all(equal(item.get(name), value) for name, value in wanted.items())


@lru_cache(maxsize=256)
def parse(text: str) -> Insert | Update:
    """Parse a statement.

    Raises:
        ApiError: ValidationException, it is none of those that are known here.
    """
    if found := _INSERT.fullmatch(text):
        return Insert(found[1], _all(_FIELD, found[2], text))
    if found := _UPDATE.fullmatch(text):
        changes = [match.groups() for match in _CHANGE.finditer(found[2])]
        if _CHANGE.sub("", found[2]).strip():
            raise _unknown(text)
        sets = tuple((name, _value(value)) for name, value, _ in changes if name)
        removes = tuple(removed for _, _, removed in changes if removed)
        return Update(found[1], sets, removes, _all(_EQUALITY, found[3], text))
    raise _unknown(text)


def _all(pattern: re.Pattern[str], part: str, text: str) -> Fields:
    if pattern.sub("", part).strip():
        raise _unknown(text)
    return tuple((match[1], _value(match[2])) for match in pattern.finditer(part))


def _value(text: str) -> Json | None:
    return None if text == "?" else {"S": text.strip("'")}


def _unknown(text: str) -> Exception:
    return validation_error(f"Statement wasn't well formed, can't be processed: {text}")
