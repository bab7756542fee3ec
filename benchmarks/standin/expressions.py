"""The expressions of DynamoDB: a small recursive-descent parser that turns text into functions, once per text."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache

from benchmarks.standin.errors import Json, validation_error
from benchmarks.standin.values import add, compare, equal, starts, subtract, union, without

_TOKEN = re.compile(r"\s*(?:(<>|<=|>=|[<>=(),+-])|([:#]?[A-Za-z_0-9]+)|(\S))")


@dataclass(slots=True, frozen=True)
class Scope:
    """What an expression is evaluated against: an item, and what its `#names` and `:values` stand for."""

    item: Json
    names: dict[str, str]
    values: Json


Condition = Callable[[Scope], bool]
Operand = Callable[[Scope], Json | None]
Change = Callable[[Scope, Json], str]
"""Applies one clause of an update to the new item and returns the name of the attribute it touched."""


@dataclass(slots=True)
class Parsed:
    """A parsed expression, and the placeholders it uses."""

    condition: Condition | None = None
    changes: list[Change] = field(default_factory=list)
    placeholders: set[str] = field(default_factory=set)
    equalities: list[tuple[Callable[[Scope], str], Operand]] = field(default_factory=list)
    """Each `name = value` in it: where a Query finds its hash key."""


def check_placeholders(used: set[str], names: dict[str, str], values: Json) -> None:
    """Hold the placeholders of a request against those in its expressions.

    Raises:
        ApiError: ValidationException, one is missing or not used.
    """
    given = names.keys() | values.keys()
    if missing := used - given:
        raise validation_error(f"An expression attribute name or value used in expression is not defined: {missing}")
    if unused := given - used:
        raise validation_error(f"ExpressionAttributeNames or ExpressionAttributeValues unused in expressions: {unused}")


@lru_cache(maxsize=1024)
def parse_condition(text: str) -> Parsed:
    """Parse a ConditionExpression, FilterExpression or KeyConditionExpression.

    Raises:
        ApiError: ValidationException, with the token at which the parser gave up.
    """
    reader = _Reader(text)
    condition = _either(reader)
    reader.expect_end()
    return Parsed(condition=condition, placeholders=reader.placeholders, equalities=reader.equalities)


@lru_cache(maxsize=1024)
def parse_update(text: str) -> Parsed:
    """Parse an UpdateExpression: SET, REMOVE, ADD and DELETE clauses.

    Raises:
        ApiError: ValidationException, with the token at which the parser gave up.
    """
    reader = _Reader(text)
    parsed = Parsed(placeholders=reader.placeholders)
    clauses = {"SET": _set, "REMOVE": _remove, "ADD": _add, "DELETE": _delete}
    while reader.peek():
        clause = clauses.pop(reader.next().upper(), None)  # each may stand there once
        if clause is None:
            raise reader.unexpected()
        parsed.changes.append(clause(reader))
        while reader.accept(","):
            parsed.changes.append(clause(reader))
    return parsed


class _Reader:
    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = ["".join(match.groups("")) for match in _TOKEN.finditer(text)]
        self._at = 0
        self.placeholders: set[str] = set()
        self.equalities: list[tuple[Callable[[Scope], str], Operand]] = []

    def peek(self) -> str:
        return self._tokens[self._at] if self._at < len(self._tokens) else ""

    def next(self) -> str:
        token = self.peek()
        self._at += 1
        return token

    def accept(self, word: str) -> bool:
        if self.peek().upper() != word:
            return False
        self._at += 1
        return True

    def expect(self, word: str) -> None:
        if not self.accept(word):
            self._at += 1
            raise self.unexpected()

    def expect_end(self) -> None:
        if self.next():
            raise self.unexpected()

    def unexpected(self) -> Exception:
        token = self._tokens[self._at - 1] if 0 < self._at <= len(self._tokens) else "<EOF>"
        return validation_error(f'Invalid expression: Syntax error; token: "{token}", in: {self._text}')

    def name(self) -> Callable[[Scope], str]:
        token = self.next()
        if token.startswith("#"):
            self.placeholders.add(token)
            return lambda scope: scope.names[token]
        if not token[:1].isalpha():
            raise self.unexpected()
        return lambda _: token

    def operand(self) -> Operand:
        if self.peek().startswith(":"):
            token = self.next()
            self.placeholders.add(token)
            return lambda scope: scope.values[token]
        return _attribute(self.name())


def _attribute(name: Callable[[Scope], str]) -> Operand:
    return lambda scope: scope.item.get(name(scope))


def _either(reader: _Reader) -> Condition:
    left = _both(reader)
    while reader.accept("OR"):
        left = _or(left, _both(reader))
    return left


def _both(reader: _Reader) -> Condition:
    left = _negation(reader)
    while reader.accept("AND"):
        left = _and(left, _negation(reader))
    return left


def _negation(reader: _Reader) -> Condition:
    if reader.accept("NOT"):
        inner = _negation(reader)
        return lambda scope: not inner(scope)
    if reader.accept("("):
        inner = _either(reader)
        reader.expect(")")
        return inner
    return _comparison(reader)


def _or(left: Condition, right: Condition) -> Condition:
    return lambda scope: left(scope) or right(scope)


def _and(left: Condition, right: Condition) -> Condition:
    return lambda scope: left(scope) and right(scope)


def _comparison(reader: _Reader) -> Condition:
    function = reader.peek().lower()
    if function in {"attribute_exists", "attribute_not_exists", "begins_with"}:
        reader.next()
        return _function(reader, function)
    name = None if function.startswith(":") else reader.name()
    left = reader.operand() if name is None else _attribute(name)
    if reader.accept("BETWEEN"):
        low = reader.operand()
        reader.expect("AND")
        high = reader.operand()
        return lambda scope: compare("<=", low(scope), left(scope)) and compare("<=", left(scope), high(scope))
    if reader.accept("IN"):
        reader.expect("(")
        options = [reader.operand()]
        while reader.accept(","):
            options.append(reader.operand())
        reader.expect(")")
        return lambda scope: any(equal(left(scope), option(scope)) for option in options)
    operator = reader.next()
    if operator not in {"=", "<>", "<", "<=", ">", ">="}:
        raise reader.unexpected()
    right = reader.operand()
    if operator == "=":
        if name is not None:
            reader.equalities.append((name, right))
        return lambda scope: equal(left(scope), right(scope))
    if operator == "<>":
        return lambda scope: not equal(left(scope), right(scope))
    return lambda scope: compare(operator, left(scope), right(scope))


def _function(reader: _Reader, function: str) -> Condition:
    reader.expect("(")
    name = reader.name()
    if function == "begins_with":
        reader.expect(",")
        prefix = reader.operand()
        reader.expect(")")
        return lambda scope: starts(scope.item.get(name(scope)), prefix(scope))
    reader.expect(")")
    if function == "attribute_exists":
        return lambda scope: name(scope) in scope.item
    return lambda scope: name(scope) not in scope.item


def _set(reader: _Reader) -> Change:
    name = reader.name()
    reader.expect("=")
    value = _term(reader)
    if reader.accept("+"):
        value = _sum(value, _term(reader), add)
    elif reader.accept("-"):
        value = _sum(value, _term(reader), subtract)

    def change(scope: Scope, new: Json) -> str:
        attribute = name(scope)
        new[attribute] = _present(value(scope))
        return attribute

    return change


def _term(reader: _Reader) -> Operand:
    if reader.peek().lower() != "if_not_exists":
        return reader.operand()
    reader.next()
    reader.expect("(")
    name = reader.name()
    reader.expect(",")
    fallback = _term(reader)
    reader.expect(")")
    return lambda scope: scope.item.get(name(scope)) or fallback(scope)


def _sum(left: Operand, right: Operand, act: Callable[[Json, Json], Json]) -> Operand:
    return lambda scope: act(_present(left(scope)), _present(right(scope)))


def _present(value: Json | None) -> Json:
    if value is None:
        raise validation_error("The provided expression refers to an attribute that does not exist in the item")
    return value


def _remove(reader: _Reader) -> Change:
    name = reader.name()

    def change(scope: Scope, new: Json) -> str:
        new.pop(attribute := name(scope), None)
        return attribute

    return change


def _add(reader: _Reader) -> Change:
    name = reader.name()
    value = reader.operand()

    def change(scope: Scope, new: Json) -> str:
        attribute = name(scope)
        new[attribute] = union(scope.item.get(attribute), _present(value(scope)))
        return attribute

    return change


def _delete(reader: _Reader) -> Change:
    name = reader.name()
    value = reader.operand()

    def change(scope: Scope, new: Json) -> str:
        left = without(scope.item.get(attribute := name(scope)), _present(value(scope)))
        if left is None:
            new.pop(attribute, None)
        else:
            new[attribute] = left
        return attribute

    return change
