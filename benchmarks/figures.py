"""What is measured: every figure's name, unit and target, and the experiments that give them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from benchmarks import experiments
from benchmarks.embedded import embedded
from benchmarks.experiments import Bench, Experiment, Sample
from benchmarks.named import named
from benchmarks.subject import Subject

SLOT_STEPS = (20, 200, 1000)
QUEUE_STEPS = (100, 10_000, 100_000)
FLAT = 20.0
"""Percent that the slowest may stay behind the fastest."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table."""

    key: str
    title: str
    unit: str = ""
    most: float | None = None
    """The target, if less is better."""
    least: float | None = None
    """The target, if more is better."""
    most_of_peer: float | None = None
    """With a peer measured beside it, the target is at most so many times the peer's median."""
    least_of_peer: float | None = None
    """With a peer measured beside it, the target is at least so many times the peer's median."""

    def target(self, peer: float | None = None) -> tuple[str, float] | None:
        """The bound in force, with its sign."""
        if peer is not None and self.most_of_peer is not None:
            return "≤", self.most_of_peer * peer
        if peer is not None and self.least_of_peer is not None:
            return "≥", self.least_of_peer * peer
        if self.most is not None:
            return "≤", self.most
        return None if self.least is None else ("≥", self.least)


FIGURES = (
    Figure("throughput", "throughput, 20 slots, 2,000 jobs of `true`", "jobs/s", least_of_peer=1.4),
    Figure("cpu", "CPU a job, daemon and children", "ms", most_of_peer=0.88),
    Figure("sqs", "SQS requests a job, queue full", "", most=0.25),
    Figure("dynamodb", "DynamoDB requests a job, no lock", "", most=0.4),
    Figure("write_units", "write units a job, queue full, named jobs, history on", "", most=2.1),
    Figure("claim_row", "largest row of a claim", "bytes", most=1024),
    Figure("locked_dynamodb", "DynamoDB requests a job, uncontended lock", "", most=2.5),
    Figure("locked_throughput", "throughput, 20 slots, each job with a lock of its own", "jobs/s"),
    Figure("distant_throughput", "throughput, 20 slots, server answers in 5 ms", "jobs/s", least_of_peer=5.0),
    Figure("distant_cpu", "CPU a job, server answers in 5 ms", "ms", most_of_peer=0.75),
    Figure("distant_wide_throughput", "throughput, 200 slots, server answers in 5 ms", "jobs/s"),
    Figure("distant_wide_cpu", "CPU a job, 200 slots, server answers in 5 ms", "ms"),
    Figure("stall_p999", "event loop late under full load, p99.9", "ms", most=5),
    Figure("stall_longest", "event loop late under full load, longest", "ms"),
    Figure("handover_p50", "lock handover, 200 jobs behind one lock, p50", "ms"),
    Figure("handover_p99", "lock handover, p99", "ms"),
    Figure("latency_p50", "pickup latency, idle daemon, p50 of 200", "ms", most=10),
    Figure("latency_p99", "pickup latency, idle daemon, p99 of 200", "ms", most=25),
    Figure("start", "start: exec → first ReceiveMessage", "s", most=0.5),
    Figure("stop", "idle stop: TERM → exit", "s", most=0.5),
    Figure("idle", "resident, idle: worker's RSS and what the launcher has beside it", "MiB", most=50),
    Figure("idle_pss", "the same as PSS", "MiB"),
    Figure("parked_jobs", "jobs parked by 100 slots behind one taken lock", "", least=1000),
    Figure("parked", "resident with them", "MiB", most=60),
    Figure("parked_pss", "the same as PSS", "MiB"),
    Figure("zeros_over", "1 GB without a line's end: peak RSS over idle", "MiB", most=16),
    Figure("zeros_speed", "the same: speed, `cmd \\| cat >/dev/null` = 1", "", least=0.5),
    Figure("lines_over", "1 GB of short lines: peak RSS over idle", "MiB", most=16),
    Figure("lines_speed", "the same: speed, `cmd \\| cat >/dev/null` = 1", "", least=0.5),
    Figure("background_jobs", "jobs that run for a minute side by side", "", least=1000),
    Figure("background_writes", "table writes in that minute", "", most=15),
    Figure("background_sqs", "SQS requests in that minute"),
    Figure("background_cpu", "CPU in that minute", "% of a core"),
    Figure("embedded", "embedded store, 20 slots, while jobs are sent one by one", "jobs/s", least=500),
    Figure("embedded_full", "embedded store, queue full, start included", "jobs/s", least=500),
    Figure("sends", "embedded store, durable sends alone, one a transaction", "sends/s", least=500),
    Figure("embedded_cpu", "embedded store: CPU a job", "ms"),
    *(Figure(f"slots_{n}", f"{n:,} slots, 2,000 jobs of `true`", "jobs/s") for n in SLOT_STEPS),
    Figure("slots_spread", "slowest of these behind the fastest", "%", most=FLAT),
    *(Figure(f"sleep_{n}", f"{n:,} slots, 2,000 jobs of `sleep 0.2`", "jobs/s") for n in SLOT_STEPS),
    *(Figure(f"latency_p50_{n}", f"{n:,} slots: pickup latency p50", "ms", most=10) for n in SLOT_STEPS),
    *(Figure(f"latency_p99_{n}", f"{n:,} slots: pickup latency p99", "ms", most=25) for n in SLOT_STEPS),
    *(Figure(f"queue_{n}", f"{n:,} messages waiting, 20 slots", "jobs/s") for n in QUEUE_STEPS),
    Figure("queue_spread", "slowest of these behind the fastest", "%", most=FLAT),
    Figure("named_raw", "CPU a job, `sh -c '/bin/true …'`", "ms"),
    Figure("named_cpu", "the same as a named job, without a shell", "ms"),
    Figure("named_signed", "the same, each signed with Ed25519", "ms"),
    Figure("named_judging", "sender, name and arguments of one message", "µs", most=30),
    Figure("named_verifying", "the same with a signature", "µs", most=300),
    Figure("standin_cpu", "the stand-in's own CPU a job (in none of the above)", "ms"),
)


def _growing_slots(bench: Bench, subject: Subject) -> Sample:
    return {f"slots_{n}": experiments.growth(bench, subject, slots=n) for n in SLOT_STEPS}


def _growing_slots_asleep(bench: Bench, subject: Subject) -> Sample:
    return {f"sleep_{n}": experiments.growth(bench, subject, slots=n, command="sleep 0.2") for n in SLOT_STEPS}


def _growing_queue(bench: Bench, subject: Subject) -> Sample:
    return {f"queue_{n}": experiments.growth(bench, subject, slots=20, backlog=n) for n in QUEUE_STEPS}


def _latency_by_slots(bench: Bench, subject: Subject) -> Sample:
    samples: Sample = {}
    for slots in SLOT_STEPS:
        measured = partial(experiments.latency, slots=slots)(bench, subject)
        samples |= {f"{key}_{slots}": value for key, value in measured.items()}
    return samples


EXPERIMENTS: dict[str, Experiment] = {
    "burst": experiments.burst,
    "written": experiments.written,
    "locked": experiments.locked,
    "distant": experiments.distant,
    "distant-wide": experiments.distant_wide,
    "stalls": experiments.stalls,
    "handover": experiments.handover,
    "latency": experiments.latency,
    "life": experiments.life,
    "parked": experiments.parked,
    "zeros": experiments.output_zeros,
    "lines": experiments.output_lines,
    "background": experiments.background,
    "embedded": embedded,
    "named": named,
    "slots": _growing_slots,
    "sleep": _growing_slots_asleep,
    "queue": _growing_queue,
    "latency-by-slots": _latency_by_slots,
}
LONG = {"background": 2, "sleep": 3, "latency-by-slots": 3}
"""Experiments that take minutes are run less often."""
OURS_ALONE = {"embedded", "named", "stalls", "written"}
"""Experiments that a peer has nothing to set against."""
