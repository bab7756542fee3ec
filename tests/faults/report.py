"""A run of the chaos suite: what it is made of, and what came of it."""

from __future__ import annotations

import collections
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from faults.checker import Violation
from faults.workers import LEASE

FAULTS = {
    "kill_worker": 3,
    "kill_launcher": 2,
    "kill_both": 2,
    "freeze_worker": 2,
    "freeze_launcher": 1,
    "terminate": 1,
    "cut": 4,
    "weather": 3,
    "redeliver": 2,
    "clock": 1,
}
"""All that may happen, each with its weight."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a run is made of. Seconds are real seconds; `scale` is the factor of the product's constants."""

    seed: int
    seconds: float
    workers: int = 3
    slots: int = 4
    scale: float = 0.2
    jobs_a_second: float = 3.0
    pause: float = 4.0
    """Seconds between two faults, on average, before scaling to the lease."""
    locks: int = 5
    faults: Mapping[str, int] = field(default_factory=lambda: dict(FAULTS))
    """What may happen, each with its weight."""
    pairs: Sequence[str] = ()
    """Pairs that happen one after the other, in an order that the seed draws, beside the single faults."""

    @property
    def lease(self) -> float:
        """A lease's seconds in this run."""
        return LEASE * self.scale


@dataclass(slots=True)
class Report:
    """What came of a run."""

    plan: Plan
    seconds: float = 0.0
    faults: collections.Counter[str] = field(default_factory=collections.Counter)
    jobs: int = 0
    poisons: int = 0
    attempts: int = 0
    reruns: collections.Counter[str] = field(default_factory=collections.Counter)
    violations: list[Violation] = field(default_factory=list)
    stories: list[str] = field(default_factory=list)

    def table(self) -> str:
        """The run as a table in Markdown."""
        rows = [("seed", self.plan.seed), ("seconds", f"{self.seconds:.0f}"), ("workers", self.plan.workers)]
        rows += [
            ("lease", f"{self.plan.lease:g} s"),
            ("jobs sent", self.jobs),
            ("of which no jobs at all", self.poisons),
        ]
        rows += [("commands started", self.attempts)]
        rows += [(f"fault: {name}", count) for name, count in sorted(self.faults.items())]
        rows += [(f"run again after: {name}", count) for name, count in sorted(self.reruns.items())]
        rows += [("violations", len(self.violations))]
        wide = max(len(name) for name, _ in rows)
        lines = [f"| {name:{wide}} | {count!s:>8} |" for name, count in rows]
        return "\n".join([f"| {'what':{wide}} | {'':>8} |", f"| {'-' * wide} | {'-' * 7}: |", *lines])

    def told(self) -> str:
        """Every violation with the history of its jobs."""
        return "\n\n".join([f"{len(self.violations)} violations, seed {self.plan.seed}, {self.plan}", *self.stories])
