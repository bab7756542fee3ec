"""How many requests went to AWS and what became of them: what the bill is made from."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from sqsjkr import clock
from sqsjkr.telemetry.histogram import Histogram

RESULTS = ("ok", "condition", "throttled", "refused", "failed", "lost")
"""``condition``: DynamoDB's condition did not hold. ``failed``: a server error. ``lost``: no readable answer."""
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)


class Requests:
    """Counts requests, retries included, by service, operation and result; and how long answers take, by service."""

    def __init__(self) -> None:
        self.counts: dict[tuple[str, str], dict[str, int]] = {}
        self.seconds: dict[str, Histogram] = {}

    def one(self, service: str, operation: str, *, timed: bool) -> OneRequest:
        """Count the request that is made in the ``with`` block. A long poll is not ``timed``: it waits on purpose."""
        key = (service, operation)
        if key not in self.counts:
            self.counts[key] = dict.fromkeys(RESULTS, 0)
            self.seconds.setdefault(service, Histogram(SECONDS))
        return OneRequest(self.counts[key], self.seconds[service] if timed else None)


class OneRequest:
    """One request under way. An error that leaves the block may name its ``result``; one without counts as lost."""

    __slots__ = ("_counts", "_seconds", "_sent")

    def __init__(self, counts: dict[str, int], seconds: Histogram | None) -> None:
        self._counts = counts
        self._seconds = seconds
        self._sent = 0.0

    def __enter__(self) -> Self:
        """Look at the clock."""
        self._sent = clock.now()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Count what became of it."""
        self._counts["ok" if kind is None else getattr(error, "result", "lost")] += 1
        if self._seconds is not None:
            self._seconds.add(clock.now() - self._sent)
