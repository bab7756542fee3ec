"""Every metric: its name, its labels, what it means, and where its numbers are read.

Names follow https://prometheus.io/docs/practices/naming/. No label holds what a producer chooses (an event, a lock, a
command): its values would have no bound, and the stats have no password. The reference page ``docs/reference/stats.md``
holds the same list; a test compares the two.
"""

from __future__ import annotations

import math
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from importlib.metadata import version

from sqsjkr import clock
from sqsjkr.intake.waiting_room import COPY, LOCK
from sqsjkr.leases.leased import Leased
from sqsjkr.metrics.parts import Parts
from sqsjkr.telemetry.histogram import Histogram

Values = Mapping[tuple[str, ...], float | Histogram]
"""A number or a histogram by the values of its labels, in the order of their names."""


class Kind(Enum):
    """What can be done with the numbers of a metric."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Family:
    """One metric."""

    name: str
    kind: Kind
    labels: tuple[str, ...]
    meaning: str
    read: Callable[[Parts], Values]


def _alone(read: Callable[[Parts], float | Histogram]) -> Callable[[Parts], Values]:
    """Read a metric without labels."""
    return lambda parts: {(): read(parts)}


def _by_label(values: Mapping[str, float | Histogram]) -> Values:
    return {(label,): value for label, value in values.items()}


def _requests(parts: Parts) -> Values:
    counts = parts.ports.requests.counts
    return {(*what, result): count for what, by_result in counts.items() for result, count in by_result.items()}


def _request_seconds(parts: Parts) -> Values:
    return _by_label(parts.ports.requests.seconds)


def _attempts(port: object) -> Values:
    return _by_label(port.asked) if isinstance(port, Leased) else {}


def _takeovers(parts: Parts) -> Values:
    both = {"lock": parts.ports.locker, "claim": parts.ports.throttler}
    return {(kind,): port.takeovers for kind, port in both.items() if isinstance(port, Leased)}


def _held(parts: Parts) -> Values:
    waiting = parts.room.waiting
    return _by_label(
        {
            "ready": parts.backlog.ready,
            "running": parts.slots.busy,
            "settling": max(0, parts.slots.unsettled - parts.slots.busy),
            "waiting_copy": waiting[COPY].count,
            "waiting_lock": waiting[LOCK].count,
        }
    )


def _oldest_wait(parts: Parts) -> Values:
    now = clock.now()
    since = {"lock": parts.room.waiting[LOCK].since, "slot": parts.backlog.ready_since}
    return _by_label({what: max(0.0, now - start) if start < math.inf else 0.0 for what, start in since.items()})


def _reasons(why: Mapping[str, object]) -> Values:
    return _by_label({reason: float(bool(text)) for reason, text in why.items()})


def _unwell(parts: Parts) -> Values:
    return _reasons(
        {
            **parts.brake.reasons,
            "paused": parts.brake.paused,
            "queue": parts.backlog.queue_reason or parts.ports.queue.reason,
            "settling": parts.settler.reason,
            "starting": False,
            "stopping": parts.stopping.requested,
        }
    )


def _epoch(moment: float | None) -> float:
    """A moment on ``clock.now`` as seconds since 1970; 0 for none."""
    return 0.0 if moment is None else time.time() - (clock.now() - moment)


def _last_beat(parts: Parts) -> Values:
    return {(): _epoch(parts.ports.throttler.last_beat)} if isinstance(parts.ports.throttler, Leased) else {}


def _lease_left(parts: Parts) -> Values:
    until = min(parts.ports.locker.proven_until(), parts.ports.throttler.proven_until())
    return {(): max(0.0, until - clock.now())}


def _build() -> Values:
    return {(platform.python_version(), version("sqsjkr")): 1}


C, G, H = Kind.COUNTER, Kind.GAUGE, Kind.HISTOGRAM
BUILD = Family(
    "sqsjkr_build_info", G, ("python", "version"), "Always 1; its labels are the versions.", lambda _: _build()
)
UNWELL = Family("sqsjkr_unwell", G, ("reason",), "1 while this keeps the worker from taking or settling jobs.", _unwell)
FAMILIES = (
    BUILD,
    Family(
        "sqsjkr_deliveries_total",
        C,
        ("outcome",),
        "Deliveries that have ended.",
        lambda parts: _by_label(parts.stats.outcomes),
    ),
    Family(
        "sqsjkr_messages_received_total",
        C,
        (),
        "Messages that were received, without second deliveries of one that is held here.",
        _alone(lambda parts: parts.backlog.receives.messages),
    ),
    Family(
        "sqsjkr_receives_total",
        C,
        ("result",),
        "Requests for messages.",
        lambda parts: _by_label(parts.backlog.receives.results),
    ),
    Family(
        "sqsjkr_aws_requests_total",
        C,
        ("service", "operation", "result"),
        "Requests to AWS, retries included.",
        _requests,
    ),
    Family(
        "sqsjkr_aws_request_duration_seconds",
        H,
        ("service",),
        "How long AWS took to answer, without long polls.",
        _request_seconds,
    ),
    Family(
        "sqsjkr_lock_attempts_total",
        C,
        ("result",),
        "Locks that were asked for in the table.",
        lambda parts: _attempts(parts.ports.locker),
    ),
    Family(
        "sqsjkr_claim_attempts_total",
        C,
        ("result",),
        "Claims that were asked for in the table.",
        lambda parts: _attempts(parts.ports.throttler),
    ),
    Family(
        "sqsjkr_takeovers_total", C, ("kind",), "Locks and claims of dead workers that were taken over.", _takeovers
    ),
    Family(
        "sqsjkr_leases_lost_total",
        C,
        (),
        "Jobs that were ended since their lease could not be proven.",
        _alone(lambda parts: parts.measures.leases_lost),
    ),
    Family(
        "sqsjkr_job_cpu_seconds_total",
        C,
        (),
        "User and system time of the commands that have ended.",
        _alone(lambda parts: parts.measures.cpu_seconds),
    ),
    Family(
        "sqsjkr_output_bytes_total",
        C,
        (),
        "What the commands that have ended printed.",
        _alone(lambda parts: parts.measures.printed_bytes),
    ),
    Family(
        "sqsjkr_output_cut_bytes_total",
        C,
        (),
        "Output that came too fast to be logged.",
        _alone(lambda parts: parts.measures.cut_bytes),
    ),
    Family(
        "sqsjkr_log_lines_dropped_total",
        C,
        (),
        "Log lines that were not written, since the log was read too slowly or its disk was full.",
        _alone(lambda parts: parts.log.dropped if parts.log else 0),
    ),
    Family(
        "sqsjkr_history_dropped_total",
        C,
        (),
        "Endings that could not be written for viewers, each after one retry; jobs are not affected.",
        _alone(lambda parts: parts.ports.history.dropped),
    ),
    Family(
        "sqsjkr_orders_total",
        C,
        ("order",),
        "Orders of operators that were carried out here.",
        lambda parts: _by_label(parts.measures.orders),
    ),
    Family(
        "sqsjkr_slots",
        G,
        ("state",),
        "Slots; the sum of both states is max_concurrent_num.",
        lambda parts: _by_label({"busy": parts.stats.busy, "idle": parts.stats.idle}),
    ),
    Family(
        "sqsjkr_slots_wanted",
        G,
        (),
        "Busy slots, and one for each message here that waits for a slot.",
        _alone(lambda parts: parts.wanted),
    ),
    Family("sqsjkr_messages_held", G, ("state",), "Messages that this worker keeps hidden from others.", _held),
    Family("sqsjkr_oldest_wait_seconds", G, ("for",), "How long the oldest message here has waited.", _oldest_wait),
    UNWELL,
    Family(
        "sqsjkr_last_receive_timestamp_seconds",
        G,
        (),
        "When the queue last answered a request for messages; 0 before the first answer.",
        _alone(lambda parts: _epoch(parts.backlog.receives.answered_at)),
    ),
    Family(
        "sqsjkr_last_beat_timestamp_seconds",
        G,
        (),
        "When the last successful heartbeat was sent; 0 before the first. A worker that holds nothing sends none.",
        _last_beat,
    ),
    Family(
        "sqsjkr_last_end_timestamp_seconds",
        G,
        (),
        "When the last delivery ended; 0 before the first.",
        _alone(lambda parts: _epoch(parts.measures.ended_at)),
    ),
    Family(
        "sqsjkr_lease_left_seconds",
        G,
        (),
        "How long what is held is proven without another heartbeat; +Inf while nothing is held.",
        _lease_left,
    ),
    Family(
        "sqsjkr_job_duration_seconds",
        H,
        ("outcome",),
        "How long commands ran.",
        lambda parts: _by_label(parts.measures.durations),
    ),
    Family(
        "sqsjkr_job_wait_seconds",
        H,
        (),
        "From the send of a message to the start of its job, for jobs that no lock kept waiting.",
        _alone(lambda parts: parts.measures.waits),
    ),
    Family(
        "sqsjkr_job_lock_wait_seconds",
        H,
        (),
        "From the refusal by a lock to the start, for jobs that waited for their lock on this worker.",
        _alone(lambda parts: parts.measures.lock_waits),
    ),
    Family(
        "sqsjkr_job_max_rss_bytes",
        H,
        (),
        "The most memory that one process of a command had resident.",
        _alone(lambda parts: parts.measures.max_rss),
    ),
)
STARTING = {BUILD: _build(), UNWELL: _reasons({"starting": True})}
"""What can be read before there is a worker."""
