"""What this worker has done since it started, and what it is doing now."""

from __future__ import annotations

import json
from collections import Counter as Tally
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from sqsjkr.attempt import Attempt
from sqsjkr.outcome import Counter, Ending, Outcome, Settlement
from sqsjkr.telemetry.observer import Observer


class Stats(Observer):
    """Counts endings and knows how many slots are busy. Belongs to one event loop, so every answer adds up.

    With ``follow`` it knows which messages went back to the queue, which takes memory for each: for short runs.
    """

    def __init__(self, *, slots: int, follow: bool = False) -> None:
        self.slots = slots
        """How many jobs may run at once."""
        self.busy = 0
        """How many run now; the slots keep it. A job that waits for a lock holds no slot and is not busy."""
        self._invocations: Tally[Counter] = Tally()
        self._ended = {outcome.label: 0 for outcome in Outcome}
        self._follow = follow
        self._away: set[str] = set()

    def settled(self, attempt: Attempt, ending: Ending) -> None:
        """Count a delivery once the queue knows what becomes of its message."""
        self.count(ending.outcome)
        if not self._follow or ending.settlement is Settlement.KEEP or ending.outcome is Outcome.RETURNED:
            return
        if ending.settlement is Settlement.RETRY:
            self._away.add(attempt.message.id)
        else:
            self._away.discard(attempt.message.id)

    def count(self, outcome: Outcome) -> None:
        """Count one delivery that has ended, in its counter if it has one."""
        self._ended[outcome.label] += 1
        if outcome.counter is not None:
            self._invocations[outcome.counter] += 1

    @property
    def outcomes(self) -> Mapping[str, int]:
        """How many deliveries ended in each outcome, by its label; also those that the metrics leave out."""
        return MappingProxyType(self._ended)

    @property
    def undone(self) -> int:
        """How many messages went back to the queue for later and have not left it here since, if they are followed."""
        return len(self._away)

    @property
    def counters(self) -> Mapping[Counter, int]:
        """The three counters of ``metrics_v2``."""
        return {counter: self._invocations[counter] for counter in Counter}

    @property
    def idle(self) -> int:
        """How many slots are free; never negative, since readers of the metrics take it for unsigned."""
        return max(0, self.slots - self.busy)

    def metrics(self) -> bytes:
        """The body of ``/stats/metrics``, byte for byte as the original writes it (go-semantics section 8)."""
        return _json({"idle_worker": self.idle, "busy_worker": self.busy})

    def metrics_v2(self) -> bytes:
        """The body of ``/stats/metrics/v2``, byte for byte as the original writes it (go-semantics section 8)."""
        return _json(
            {
                "workers": {"busy": self.busy, "idle": self.idle},
                "invocations": {counter.value: count for counter, count in self.counters.items()},
            }
        )


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"
