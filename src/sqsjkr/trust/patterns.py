"""Regular expressions that cannot be made to run for long: each can match a text in one way only.

A value comes from a producer, and Python's ``re`` tries one way after the other. Where a pattern has many ways to match
the same beginning of a text (``(a|a)*``, ``(a+)+``, ``.*.*``), a hostile value takes exponential or polynomial time: it
would hold the event loop until the guard kills the worker, and then the next worker. So a pattern is accepted only if
no text leads to one place in it on two ways: then the steps are at most places times characters.

The places are the positions of Glushkov's automaton, counted repeats written out. Two ways show as a pair of places
that one text can reach and that meet again, or as a step that the pattern offers twice.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from re import _constants as op  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any

LONGEST_REPEAT = 1024
"""The greatest count in ``{m,n}``, the most characters that a value has unless its argument says otherwise."""
_MOST_PLACES = 5_000
_MOST_PAIRS = 50_000
_LAST = 0x10FFFF
_CLASSES = {
    op.CATEGORY_DIGIT: ((0x30, 0x39),),
    op.CATEGORY_SPACE: ((0x09, 0x0D), (0x20, 0x20)),
    op.CATEGORY_WORD: ((0x30, 0x39), (0x41, 0x5A), (0x5F, 0x5F), (0x61, 0x7A)),
}
_OPPOSITES = {
    op.CATEGORY_NOT_DIGIT: op.CATEGORY_DIGIT,
    op.CATEGORY_NOT_SPACE: op.CATEGORY_SPACE,
    op.CATEGORY_NOT_WORD: op.CATEGORY_WORD,
}
_Ranges = Sequence[tuple[int, int]]
"""Code points, as ranges with both ends."""


def compiled(text: str) -> re.Pattern[str]:
    r"""Compile a pattern for ``fullmatch``; ``\d``, ``\w`` and ``\s`` mean ASCII.

    Raises:
        ValueError: it is no regular expression, holds what is not supported here (look-around, back-references, flags),
            or could take long. The text says what was expected.
    """
    try:
        pattern = re.compile(text, re.ASCII)
        tree = parser.parse(text, re.ASCII)
    except (re.error, RecursionError, OverflowError) as mistake:
        raise ValueError(f"a regular expression ({mistake})") from None
    if tree.state.flags & ~re.ASCII:
        raise ValueError("a pattern without flags such as (?i): write [A-Za-z]")
    _Automaton().check(tree)
    return pattern


@dataclass(slots=True)
class _Part:
    """What a part of the pattern can begin and end with, and in how many ways it can be empty (0, 1, or 2 for more)."""

    first: list[int] = field(default_factory=list)
    last: list[int] = field(default_factory=list)
    empty: int = 0


class _Automaton:
    """The places of one pattern, each with the characters that lead to it and the places that may follow."""

    def __init__(self) -> None:
        self._characters: list[_Ranges] = []
        self._next: list[set[int]] = []

    def check(self, tree: Any) -> None:
        """Raise ValueError if a text can lead to one place on two ways."""
        whole = self._sequence(tree)
        if whole.empty > 1:
            raise _many_ways()
        self._meet(whole.first)

    def _meet(self, start: Sequence[int]) -> None:
        """Follow each pair of places that one text can lead to; it begins at the start, or after a common place."""
        seen = set(self._pairs(start, start))
        for following in self._next:
            seen.update(self._pairs(sorted(following), sorted(following)))
        unseen = list(seen)
        while unseen:
            one, other = unseen.pop()
            if self._next[one] & self._next[other]:  # both reach it with the next character
                raise _many_ways()
            for pair in self._pairs(sorted(self._next[one]), sorted(self._next[other])):
                if pair not in seen:
                    seen.add(pair)
                    unseen.append(pair)
            if len(seen) > _MOST_PAIRS:  # never seen in a pattern that people write
                raise ValueError("a simpler pattern: whether this one can take long is too much to find out")

    def _pairs(self, some: Sequence[int], others: Sequence[int]) -> Iterator[tuple[int, int]]:
        for one in some:
            for other in others:
                if one != other and _overlap(self._characters[one], self._characters[other]):
                    yield (one, other) if one < other else (other, one)

    def _sequence(self, items: Any) -> _Part:
        whole = _Part(empty=1)
        for item in items:
            whole = self._then(whole, self._item(*item))
        return whole

    def _then(self, one: _Part, two: _Part) -> _Part:
        self._connect(one.last, two.first)
        return _Part(
            first=_joined(one.first, two.first if one.empty else [], ways=one.empty),
            last=_joined(two.last, one.last if two.empty else [], ways=two.empty),
            empty=min(2, one.empty * two.empty),
        )

    def _item(self, code: Any, value: Any) -> _Part:
        if code in {op.LITERAL, op.NOT_LITERAL, op.ANY, op.IN}:
            return self._place(_characters(code, value))
        if code is op.SUBPATTERN and not (value[1] or value[2]):
            return self._sequence(value[3])
        if code is op.BRANCH:
            parts = [self._sequence(branch) for branch in value[1]]
            firsts = [place for part in parts for place in part.first]
            lasts = [place for part in parts for place in part.last]
            return _Part(firsts, lasts, min(2, sum(part.empty for part in parts)))
        if code in {op.MAX_REPEAT, op.MIN_REPEAT}:
            return self._repeat(*value)
        if code is op.AT and value in {op.AT_BEGINNING, op.AT_BEGINNING_STRING, op.AT_END, op.AT_END_STRING}:
            raise ValueError("a pattern without ^, $, \\A and \\Z: it is matched against the whole value anyway")
        raise ValueError("a pattern without look-around, back-references, \\b, atomic groups and possessive repeats")

    def _repeat(self, least: int, most: int, inner: Any) -> _Part:
        endless = most is op.MAXREPEAT
        if max(least, 0 if endless else most) > LONGEST_REPEAT:
            raise ValueError(f"a pattern with no count above {LONGEST_REPEAT}")
        if endless:
            loop = self._sequence(inner)
            if loop.empty:
                raise _many_ways()
            self._connect(loop.last, loop.first)
            tail = _Part(loop.first, loop.last, 1) if least == 0 else loop
        else:
            tail = _Part(empty=1)
            for _ in range(most - least):  # from the inside out: (x(x(x)?)?)?
                once = self._then(self._sequence(inner), tail)
                tail = _Part(once.first, once.last, min(2, once.empty + 1))
        for _ in range(least - (1 if endless and least else 0)):
            tail = self._then(self._sequence(inner), tail)
        return tail

    def _place(self, characters: _Ranges) -> _Part:
        if len(self._characters) >= _MOST_PLACES:
            raise ValueError("a shorter pattern, or smaller counts in it")
        self._characters.append(characters)
        self._next.append(set())
        place = len(self._characters) - 1
        return _Part([place], [place])

    def _connect(self, lasts: Sequence[int], firsts: Sequence[int]) -> None:
        for place in lasts:
            if len(set(firsts)) < len(firsts) or not self._next[place].isdisjoint(firsts):
                raise _many_ways()  # the pattern offers the same step twice
            self._next[place].update(firsts)


def _joined(some: list[int], others: list[int], *, ways: int) -> list[int]:
    """Both lists; the second twice if there are two ways to it."""
    return [*some, *others * max(1, ways)]


def _characters(code: Any, value: Any) -> _Ranges:
    if code is op.ANY:
        return _others([(0x0A, 0x0A)])
    if code is op.LITERAL:
        return [(value, value)]
    if code is op.NOT_LITERAL:
        return _others([(value, value)])
    ranges: list[tuple[int, int]] = []
    for kind, what in value:
        if kind is op.LITERAL:
            ranges.append((what, what))
        elif kind is op.RANGE:
            ranges.append(what)
        elif kind is op.CATEGORY:
            ranges += _CLASSES[what] if what in _CLASSES else _others(_CLASSES[_OPPOSITES[what]])
    return _others(ranges) if value[0][0] is op.NEGATE else ranges


def _others(ranges: _Ranges) -> _Ranges:
    """All characters but these."""
    found, start = [], 0
    for low, high in sorted(ranges):
        if low > start:
            found.append((start, low - 1))
        start = max(start, high + 1)
    return [*found, (start, _LAST)] if start <= _LAST else found


def _overlap(some: _Ranges, others: _Ranges) -> bool:
    return any(low <= their_high and their_low <= high for low, high in some for their_low, their_high in others)


def _many_ways() -> ValueError:
    return ValueError(
        "a pattern that matches each text in one way only: in this one a hostile value could take very long "
        "(repeats within repeats, alternatives that begin alike, neighbours that take the same characters)"
    )
