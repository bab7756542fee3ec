"""The command `python -m benchmarks.scale`: what fleets of 10 to 10,000 workers ask of one queue and one table.

A simulation in one-second steps, not a measurement: the requests of every worker follow the rules of the daemon
(docs/explanation/scale.md names them), the jobs arrive at random. It runs each fleet for ten simulated minutes, or for
300,000 jobs, and reports a month. The same jobs are given to the Go original's pattern (go-semantics sections 4 and 7).
"""

from __future__ import annotations

import argparse
import math
import random
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

# List prices, us-east-1, in US dollars, as of November 2026: the pages "Amazon SQS pricing" (standard queue, first
# 100 billion requests; 64 KB of payload are one request) and "Pricing for On-Demand Capacity" (Amazon DynamoDB).
SQS_REQUEST = 0.40 / 1e6
WRITE_UNIT = 0.625 / 1e6
READ_UNIT = 0.125 / 1e6

MONTH = 30 * 86_400
LONGEST, ARRIVALS = 600, 300_000
"""Simulated seconds, and jobs after which there is no more to learn."""
PARTITION_WRITES = 1000
"""Write units a second that one partition takes (Amazon DynamoDB, "Designing partition keys")."""
ANSWER = 0.005
"""Seconds until DynamoDB answers in its own region: claims and unlocks that come meanwhile share the next request."""
IN_FLIGHT = 120_000
"""Messages in flight that one queue bears (Amazon SQS message quotas)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What the fleet has to do."""

    name: str
    jobs_a_month: float
    seconds: float
    """How long a job runs."""
    locked: bool = False
    index: str = "ALL"
    """What the table's index on `Type` and `Expired` projects, as the original has it; "" for no index."""
    waiting: float = 0.0
    """The share of the workers that wait for a lock somebody else holds."""
    full: bool = False
    """The queue is never empty: every receive brings as many messages as it asks for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pattern:
    """What one daemon asks for, and when."""

    name: str
    long_poll: float
    """Seconds that a receive waits at most."""
    deletes_a_request: float
    """Messages that one delete names at most."""
    delete_linger: float
    confirm_linger: float
    """Seconds that deletes and confirms gather."""
    confirms_a_request: float
    """Rows that one confirm writes; in Go the later clean-up of the throttle row, one at a time."""
    claims_a_request: float
    """Claims, or unlocks, that share a request at most."""
    lock_writes: float
    beat_every: float
    """Seconds between two beats of a worker that holds something; infinite for none."""
    retry_every: float
    """Seconds between two tries of a waiter; each is a write that fails."""
    reads_a_try: int
    """Reads of the holder's beat: is it dead?"""
    extends: bool
    """Hides long jobs again and again, ten a request: after 4 s, then every 10 s."""


OURS = Pattern(
    name="sqsjkr",
    long_poll=20,
    deletes_a_request=10,
    delete_linger=0.1,
    confirm_linger=0.05,
    confirms_a_request=25,
    claims_a_request=25,
    lock_writes=2,
    beat_every=5,
    retry_every=3.75,
    reads_a_try=1,
    extends=True,
)
GO = Pattern(
    name="Go original",
    long_poll=10,
    deletes_a_request=1,
    delete_linger=0,
    confirm_linger=0,
    confirms_a_request=1,
    claims_a_request=1,
    lock_writes=2,
    beat_every=math.inf,
    retry_every=5,
    reads_a_try=0,
    extends=False,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Month:
    """What a month costs and what it strains."""

    sqs: float
    """Requests."""
    dynamodb: float
    """Requests."""
    writes: float
    """Write units of the table and its index."""
    dollars: float
    index_rate: float
    """Write units a second on the index's hottest key, on average."""
    in_flight: float
    """Messages in flight, on average."""
    jobs: float

    @property
    def dollars_a_million(self) -> float:
        """Dollars for a million jobs, idle time included."""
        return self.dollars / self.jobs * 1e6


def simulate(pattern: Pattern, load: Load, workers: int, seed: int = 1) -> Month:
    """Ten minutes of the fleet, reckoned up to a month."""
    random_ = random.Random(seed)
    rate = load.jobs_a_month / MONTH
    seconds = max(10, min(LONGEST, round(ARRIVALS / rate)))
    counts: defaultdict[str, float] = defaultdict(float)
    done = 0
    for _ in range(seconds):
        arrived = _poisson(random_, rate)
        done += arrived
        by_worker = Counter(random_.choices(range(workers), k=arrived))
        for jobs in by_worker.values():
            _count_jobs(counts, pattern, load, jobs)
        # A receive that finds messages ends early; a worker without any has one long poll under way.
        counts["receive"] += (workers - len(by_worker)) / pattern.long_poll
        counts["try"] += workers * load.waiting / pattern.retry_every
        if pattern.beat_every < math.inf:
            counts["beat"] += _beating(load, rate / workers) * workers / pattern.beat_every
    return _month(pattern, load, counts, seconds, done)


def _beating(load: Load, rate: float) -> float:
    """The share of its time in which a worker has held something for so long that it beats: jobs of 5 s and more."""
    if load.full or rate * load.seconds >= 10:  # something always runs
        return 1.0
    return (1 - math.exp(-rate * load.seconds)) * max(0.0, 1 - 5 / load.seconds)


def _count_jobs(counts: defaultdict[str, float], pattern: Pattern, load: Load, jobs: int) -> None:
    """One worker's jobs of one second. What gathers in a batch: the first, and what comes while it lingers."""
    a_receive = 10.0 if load.full else 1.0  # a worker that waits is handed each message as it comes
    deleted = _gathered(jobs, pattern.delete_linger, pattern.deletes_a_request, load)
    confirmed = _gathered(jobs, pattern.confirm_linger, pattern.confirms_a_request, load)
    counts["receive"] += jobs / min(jobs, a_receive)
    counts["delete"] += jobs / deleted
    claimed = min(pattern.claims_a_request, 1 + (jobs - 1) * ANSWER)
    counts["claim"] += jobs
    counts["saved"] += (1 + load.locked) * (jobs - jobs / claimed)
    counts["confirm_rows"] += jobs
    counts["confirm"] += jobs / confirmed
    counts["lock"] += jobs * pattern.lock_writes * load.locked
    if pattern.extends and load.seconds > 4:  # ten share a request only where ten run side by side
        counts["extend"] += jobs * (1 + (load.seconds - 4) // 10) / min(10.0, max(1.0, jobs * load.seconds))


def _gathered(jobs: int, linger: float, most: float, load: Load) -> float:
    return most if load.full else min(most, 1 + (jobs - 1) * linger)


def _month(pattern: Pattern, load: Load, counts: Mapping[str, float], seconds: float, jobs: float) -> Month:
    times = MONTH / seconds
    sqs = (counts["receive"] + counts["delete"] + counts["extend"]) * times
    reads = counts["try"] * pattern.reads_a_try * times
    alone = counts["claim"] + counts["lock"] + counts["beat"] + counts["try"]
    requests = (alone - counts["saved"] + counts["confirm"]) * times + reads
    rows = (alone + counts["confirm_rows"]) * times
    indexed = _index_writes(pattern, load, counts)
    writes = rows + sum(indexed.values()) * times
    return Month(
        sqs=sqs,
        dynamodb=requests,
        writes=writes,
        dollars=sqs * SQS_REQUEST + writes * WRITE_UNIT + reads * READ_UNIT,
        index_rate=max(indexed.values()) / seconds,
        in_flight=jobs / seconds * load.seconds,
        jobs=jobs * times,
    )


def _index_writes(pattern: Pattern, load: Load, counts: Mapping[str, float]) -> dict[str, float]:
    """Write units of the index TypeExpiredIndex (hash `Type`, range `Expired`), by the value of `Type`.

    A row that appears in it or leaves it costs one write, so does a changed attribute that it projects; a changed key
    costs two (Amazon DynamoDB, "Using Global Secondary Indexes", write considerations). Deletes by TTL cost nothing.
    """
    if not load.index:
        return {"throttle": 0.0}
    if pattern.name == GO.name:  # the throttle row appears, and leaves with the clean-up; lock rows have no Expired
        return {"throttle": counts["claim"] + counts["confirm_rows"]}
    # Expired is written in whole hours, so a confirm or a beat changes a projected attribute, hardly ever the key.
    projected = load.index == "ALL"
    return {
        "throttle": counts["claim"] + projected * counts["confirm_rows"],
        "worker": projected * counts["beat"],
        "lock": counts["lock"],  # taken, it leaves the index; freed, it appears
    }


def _poisson(random_: random.Random, mean: float) -> int:
    """Arrivals in one step; the normal approximation where the exact way would be slow."""
    if mean > 200:
        return max(0, round(random_.gauss(mean, math.sqrt(mean))))
    number, left = 0, math.exp(-mean)
    product = random_.random()
    while product > left:
        product *= random_.random()
        number += 1
    return number


def loads(workers: int) -> list[Load]:
    """A cron for a fleet: a few jobs a worker and minute, then a busy queue."""
    calm, busy = workers * 43_200.0, workers * 26_000_000.0
    return [
        Load(name="a job a minute and worker, 1 s", jobs_a_month=calm, seconds=1),
        Load(name="the same, locked", jobs_a_month=calm, seconds=1, locked=True),
        Load(name="the same, half the workers wait for a lock", jobs_a_month=calm, seconds=1, locked=True, waiting=0.5),
        Load(name="a job a minute and worker, 50 s", jobs_a_month=calm, seconds=50),
        Load(name="10 jobs a second and worker, 0.1 s", jobs_a_month=busy, seconds=0.1),
        Load(name="the same, queue never empty", jobs_a_month=busy, seconds=0.1, full=True),
        Load(name="the same, no index", jobs_a_month=busy, seconds=0.1, full=True, index=""),
    ]


def idle(pattern: Pattern) -> float:
    """Dollars a month for a worker that has nothing to do."""
    return MONTH / pattern.long_poll * SQS_REQUEST


def table() -> str:
    """The Markdown table of the explanation page."""
    columns = "workers, load, jobs/s, daemon, SQS requests a job, DynamoDB requests a job, write units a job"
    columns += ", $ a million jobs, $ a month, index writes/s on one key, in flight"
    titles = columns.split(", ")
    lines = [f"| {' | '.join(titles)} |", "|" + " --- |" * len(titles)]
    for workers in (10, 100, 1000, 10_000):
        for load in loads(workers):
            for pattern in (OURS, GO):
                month = simulate(pattern, load, workers)
                cells = [
                    f"{workers:,}",
                    load.name,
                    f"{load.jobs_a_month / MONTH:,.2f}",
                    pattern.name,
                    f"{month.sqs / month.jobs:.2f}",
                    f"{month.dynamodb / month.jobs:.2f}",
                    f"{month.writes / month.jobs:.2f}",
                    f"{month.dollars_a_million:.2f}",
                    f"{month.dollars:,.0f}",
                    _strain(month.index_rate, PARTITION_WRITES),
                    _strain(month.in_flight, IN_FLIGHT),
                ]
                lines.append(f"| {' | '.join(cells)} |")
    lines += ["", *(f"An idle worker: {pattern.name} ${idle(pattern):.3f} a month." for pattern in (OURS, GO))]
    return "\n".join(lines)


def _strain(value: float, most: float) -> str:
    return f"{value:,.1f}{' **over the limit**' if value > most else ''}"


def main() -> None:
    """Print the table."""
    argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__).parse_args()
    print(table())


if __name__ == "__main__":
    main()
