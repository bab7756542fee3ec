"""Metrics as lines of the log that CloudWatch reads: one a minute and worker.

CloudWatch makes metrics of every log line that is JSON of this form (AWS: "Specification: Embedded metric format"), so
no agent is needed beside the one that ships the log.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from sqsjkr.intake.waiting_room import LOCK
from sqsjkr.metrics.parts import Parts
from sqsjkr.outcome import Outcome
from sqsjkr.telemetry.events import Event, emit
from sqsjkr.telemetry.histogram import Sample

MINUTE = 60.0
NAMESPACE = "sqsjkr"
MOST_VALUES = 100
"""Values of one metric in one line (AWS: "Specification: Embedded metric format", metric targets)."""


class Lines:
    """Makes the lines. The only dimension is the queue: one for each host would be billed for each host."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        measures = parts.measures
        self._samples = {
            "JobDuration": Sample(MOST_VALUES),
            "JobWait": Sample(MOST_VALUES),
            "LockWait": Sample(MOST_VALUES),
        }
        for durations in measures.durations.values():
            durations.sample = self._samples["JobDuration"]
        measures.waits.sample = self._samples["JobWait"]
        measures.lock_waits.sample = self._samples["LockWait"]
        self._identity = {"Queue": parts.ports.queue.facts.name, "Host": socket.gethostname()}
        self._counted = self._counts()

    def next(self, at: float, *, gauges: bool = True) -> str:
        """Return the line for the time since the last one. ``at``: seconds since 1970 to which it belongs.

        Without ``gauges`` it is the line of a stop, in the middle of a minute: the sum over all workers would count
        this one twice in that minute.
        """
        counts = self._counts()
        values: dict[str, Any] = {name: count - self._counted[name] for name, count in counts.items()}
        self._counted = counts
        if gauges:
            values |= self._gauges()
        values |= {name: [round(value, 3) for value in sample.take()] for name, sample in self._samples.items()}
        values = {name: value for name, value in values.items() if value != []}
        metrics = [{"Name": name, "Unit": "Seconds" if name in self._samples else "Count"} for name in values]
        directive = {"Namespace": NAMESPACE, "Dimensions": [["Queue"]], "Metrics": metrics}
        root = {"Timestamp": int(at * 1000), "CloudWatchMetrics": [directive]}
        return json.dumps({"_aws": root, **self._identity, **values}, separators=(",", ":"))

    def _counts(self) -> Mapping[str, int]:
        stats = self._parts.stats
        return {
            **{counter.value.capitalize(): count for counter, count in stats.counters.items()},
            "Interrupted": stats.outcomes[Outcome.INTERRUPTED.label],
        }

    def _gauges(self) -> Mapping[str, int]:
        parts = self._parts
        return {
            "Slots": parts.stats.slots,
            "SlotsBusy": parts.stats.busy,
            "SlotsWanted": parts.wanted,
            "WaitingForLock": parts.room.waiting[LOCK].count,
            "Unwell": int(any((parts.brake.reason, parts.backlog.reason, parts.settler.reason))),
        }


@asynccontextmanager
async def logging_metrics(parts: Parts, *, every: float = MINUTE) -> AsyncIterator[None]:
    """Log a line at each full minute, and one for the rest at the end."""
    lines = Lines(parts)

    async def log() -> None:
        minute_ends = 0.0
        while True:
            now, before = time.time(), minute_ends
            minute_ends = (now // every + 1) * every
            if minute_ends == before:  # the sleep ended a moment early
                minute_ends += every
            await asyncio.sleep(minute_ends - now)
            # The line belongs to the minute that has just ended, however late a busy worker writes it.
            _write(parts, lines.next(minute_ends - every / 2))

    task = asyncio.create_task(log())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        _write(parts, lines.next(time.time(), gauges=False))


def _write(parts: Parts, line: str) -> None:
    """A program that embeds sqsjkr and has a log of its own gets the line as any other."""
    if parts.log is None:
        emit(Event.METRICS, line)
    else:
        parts.log.write(line)
