"""A histogram of plain numbers, and a sample of its values where somebody keeps one."""

from __future__ import annotations

import random
from bisect import bisect_left
from collections.abc import Callable, Sequence


class Sample:
    """At most ``most`` of the values that came since the last ``take``, each with the same chance (algorithm R)."""

    def __init__(self, most: int, pick: Callable[[int], int] = random.randrange) -> None:
        self._most = most
        self._pick = pick
        self._values: list[float] = []
        self._seen = 0

    def add(self, value: float) -> None:
        """Keep the value, perhaps in the place of an earlier one."""
        self._seen += 1
        if len(self._values) < self._most:
            self._values.append(value)
        elif (place := self._pick(self._seen)) < self._most:
            self._values[place] = value

    def take(self) -> list[float]:
        """Return the values, and begin anew."""
        values, self._values, self._seen = self._values, [], 0
        return values


class Histogram:
    """Counts values between ``bounds``, which are the largest values of their buckets, and adds them up.

    ``sample``, if it is set, is offered each value, too.
    """

    __slots__ = ("bounds", "counts", "sample", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        """How many values fell into each bucket; the last one has no bound."""
        self.sum = 0.0
        self.sample: Sample | None = None

    def add(self, value: float) -> None:
        """Count one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value
        if self.sample is not None:
            self.sample.add(value)
