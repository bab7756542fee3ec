"""The measurements: each runs one subject once and answers with figures by name. `figures.py` says what they mean."""

from __future__ import annotations

import itertools
import json
import random
import resource
import statistics
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.stalls import between as stalls_between
from benchmarks.standing import TABLE, Fifo, Standin
from benchmarks.subject import Daemon, Subject

SLOTS = 20
Sample = dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What every experiment needs."""

    folder: Path
    """A directory for logs, configuration files and pipes."""
    tls: Path | None = None
    """Certificate and key of the stand-in, for a peer with AWS's addresses built in."""
    quick: bool = False
    """Small numbers: to see that everything runs, not to measure."""

    def jobs(self, number: int) -> int:
        """So many jobs, or a tenth of it."""
        return number // 10 if self.quick else number


Experiment = Callable[[Bench, Subject], Sample]


def burst(bench: Bench, subject: Subject) -> Sample:
    """2,000 jobs of `true` laid on the queue of an idle daemon in one moment."""
    return _burst(bench, subject, bench.jobs(2000))


def written(bench: Bench, subject: Subject) -> Sample:
    """The burst of jobs with names and commands as producers send them: what it costs in the table."""
    command = "true # nice -n 10 /opt/app/bin/manage thumbnails --bucket uploads --size 320 --quality 85 --if-newer"
    return _burst(bench, subject, bench.jobs(2000), of_writes=True, event_id="thumbnail-@N@", command=command)


def locked(bench: Bench, subject: Subject) -> Sample:
    """The same, every job with a lock_id of its own, so that no lock is ever waited for."""
    sample = _burst(bench, subject, bench.jobs(1000), lock_id="lock-@N@")
    return {"locked_dynamodb": sample["dynamodb"], "locked_throughput": sample["throughput"]}


def distant(bench: Bench, subject: Subject) -> Sample:
    """The burst against a server that answers in 5 ms, as AWS does in its own region."""
    sample = _burst(bench, subject, bench.jobs(2000), answers_in=5.0)
    return {"distant_throughput": sample["throughput"], "distant_cpu": sample["cpu"]}


def distant_wide(bench: Bench, subject: Subject) -> Sample:
    """The same with 200 slots."""
    sample = _burst(bench, subject, bench.jobs(2000), answers_in=5.0, slots=200)
    return {"distant_wide_throughput": sample["throughput"], "distant_wide_cpu": sample["cpu"]}


def stalls(bench: Bench, subject: Subject) -> Sample:
    """The burst with a probe in the daemon's event loop (`stalls.py`)."""
    found = bench.folder / f"stalls-{time.monotonic_ns()}"
    jobs = bench.jobs(4000)
    with Standin(bench.tls) as standin, Daemon(subject.probed(found), standin, bench.folder, slots=SLOTS) as daemon:
        _settle(standin)
        begun = time.monotonic()
        standin.fill("true", jobs)
        done = daemon.wait(jobs)
        daemon.stop()
    return stalls_between(json.loads(found.read_text()), begun, done)


def handover(bench: Bench, subject: Subject) -> Sample:
    """200 jobs behind one lock: from one holder's only instruction to the next one's, its end and unlock included."""
    stamps = bench.folder / f"stamps-{time.monotonic_ns()}"
    jobs = bench.jobs(200)
    with Standin(bench.tls) as standin, Daemon(subject, standin, bench.folder, slots=SLOTS) as daemon:
        _settle(standin)
        standin.fill(f"date +%s%N >>{stamps}", jobs, lock_id="handed-over")
        daemon.wait(jobs)
    times = [int(line) for line in stamps.read_text().split()]
    gaps = [(later - earlier) / 1e6 for earlier, later in itertools.pairwise(times)]
    return {"handover_p50": statistics.median(gaps), "handover_p99": statistics.quantiles(gaps, n=100)[98]}


def _burst(
    bench: Bench,
    subject: Subject,
    jobs: int,
    *,
    answers_in: float = 0.0,
    slots: int = SLOTS,
    command: str = "true",
    of_writes: bool = False,
    **fields: object,
) -> Sample:
    with (
        Standin(bench.tls, answers_in=answers_in) as standin,
        Daemon(subject, standin, bench.folder, slots=slots) as daemon,
    ):
        _settle(standin)
        standin.reset()
        before = daemon.cpu()
        begun = time.monotonic()
        standin.fill(command, jobs, **fields)
        took = daemon.wait(jobs) - begun
        _drained(standin)
        time.sleep(0.2)  # the last batches: confirms may come after deletes
        cpu, counts = daemon.cpu() - before, standin.counts()
    if of_writes:
        units = counts["write_units"] / jobs
        return {"write_units": units, "claim_row": counts["largest_row"].get("throttle", 0)}
    return {
        "throughput": jobs / took,
        "cpu": 1000 * cpu / jobs,
        "sqs": _requests(counts, "sqs.") / jobs,
        "dynamodb": _requests(counts, "dynamodb.") / jobs,
        "standin_cpu": 1000 * counts["cpu_seconds"] / jobs,
    }


def latency(bench: Bench, subject: Subject, *, slots: int = SLOTS) -> Sample:
    """200 jobs sent one at a time to an idle daemon: from just before the send to the command's first instruction."""
    fifo = Fifo(bench.folder / f"fifo-{time.monotonic_ns()}")
    seconds = []
    with Standin(bench.tls) as standin, Daemon(subject, standin, bench.folder, slots=slots):
        _settle(standin)
        for _ in range(bench.jobs(200)):
            begun = time.monotonic()
            standin.send(fifo.command)
            fifo.wait()
            seconds.append(time.monotonic() - begun)
            time.sleep(random.uniform(0.01, 0.15))  # before, in and after the pause in which deletes gather
    fifo.close()
    return {
        "latency_p50": 1000 * statistics.median(seconds),
        "latency_p99": 1000 * statistics.quantiles(seconds, n=100)[98],
    }


def life(bench: Bench, subject: Subject) -> Sample:
    """Start, size and stop of a daemon with nothing to do."""
    with Standin(bench.tls) as standin, Daemon(subject, standin, bench.folder, slots=SLOTS) as daemon:
        _settle(standin)
        start = standin.counts()["first"]["sqs.ReceiveMessage"] - daemon.started
        time.sleep(1.0)
        sizes = {"idle": daemon.resident(), "idle_pss": daemon.proportional()}
        return {"start": start, "stop": daemon.stop(), **sizes}


def parked(bench: Bench, subject: Subject) -> Sample:
    """100 slots, 1,000 jobs, all behind one lock that somebody else holds and never frees: the row names no owner."""
    jobs = bench.jobs(1000)
    row = {"Id": {"S": "taken"}, "Type": {"S": "lock"}, "EventId": {"S": "somebody else's"}}
    with Standin(bench.tls) as standin, Daemon(subject, standin, bench.folder, slots=100) as daemon:
        _settle(standin)
        standin.call("DynamoDB_20120810.PutItem", {"TableName": TABLE, "Item": row})
        standin.fill("true", jobs, lock_id="taken")
        held = 0
        until = time.monotonic() + 15
        while (held := standin.depth()["in_flight"]) < jobs and time.monotonic() < until:
            time.sleep(0.1)
        time.sleep(2.0)
        return {"parked_jobs": held, "parked": daemon.resident(), "parked_pss": daemon.proportional()}


def output_zeros(bench: Bench, subject: Subject) -> Sample:
    """A job that prints 1 GB without a line's end, as fast as it can."""
    return _output(bench, subject, "zeros", "head -c {size} /dev/zero")


def output_lines(bench: Bench, subject: Subject) -> Sample:
    """A job that prints 1 GB of short lines."""
    return _output(bench, subject, "lines", "yes | head -c {size}")


def _output(bench: Bench, subject: Subject, name: str, command: str) -> Sample:
    command = command.format(size=bench.jobs(1 << 30))
    begun = time.monotonic()
    subprocess.run(["sh", "-c", f"{command} | cat >/dev/null"], check=True)
    plain = time.monotonic() - begun
    with Standin(bench.tls) as standin, Daemon(subject, standin, bench.folder, slots=SLOTS) as daemon:
        _settle(standin)
        standin.fill("true", 20)  # so that what a first job costs is not taken for the output's
        daemon.wait(20)
        pids = daemon.pids()
        time.sleep(0.5)
        daemon.forget_peaks()
        idle = daemon.peak(pids)
        begun = time.monotonic()
        standin.fill(command, 1)
        took = daemon.wait(21) - begun
        return {f"{name}_over": daemon.peak(pids) - idle, f"{name}_speed": plain / took}


def background(bench: Bench, subject: Subject) -> Sample:
    """1,000 jobs that run for a minute: what is written to the table meanwhile."""
    jobs, seconds = bench.jobs(1000), 6 if bench.quick else 60
    with Standin(bench.tls) as standin, Daemon(subject, standin, bench.folder, slots=jobs) as daemon:
        _settle(standin)
        standin.fill(f"sleep {seconds + 30}", jobs)
        until = time.monotonic() + 30
        while daemon.busy() < jobs and time.monotonic() < until:
            time.sleep(0.1)
        time.sleep(1.0)
        standin.reset()
        before = daemon.cpu()
        time.sleep(seconds)
        counts = standin.counts()["requests"]
        writes = sum(counts.get(f"dynamodb.{verb}", 0) for verb in ("UpdateItem", "PutItem", "DeleteItem"))
        running = daemon.busy()
        cpu = daemon.cpu() - before
        for pid in daemon.pids()[1:]:
            _end_if_sleeping(pid)
    return {
        "background_jobs": running,
        "background_writes": writes + counts.get("dynamodb.BatchWriteItem", 0),
        "background_sqs": _requests({"requests": counts}, "sqs."),
        "background_cpu": 100 * cpu / seconds,
    }


def growth(bench: Bench, subject: Subject, *, slots: int, command: str = "true", backlog: int = 0) -> float:
    """Jobs a second while so many messages wait, measured over at most 2,000 jobs."""
    jobs = bench.jobs(2000)
    with Standin(bench.tls) as standin, Daemon(subject, standin, bench.folder, slots=slots) as daemon:
        _settle(standin)
        standin.fill(command, backlog or jobs)
        begun = time.monotonic()  # to lay 100,000 messages takes the stand-in half a second, in which it answers nobody
        if backlog and backlog < jobs:
            _top_up(standin, command, backlog, jobs)
        done = daemon.wait(jobs)
        return daemon.ended() / (done - begun)


def sh_cpu() -> float:
    """Milliseconds of CPU that `sh -c true` costs by itself: no daemon does a job for less."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    for _ in range(500):
        subprocess.run(["sh", "-c", "true"], check=True, stdin=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return 2 * (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def _top_up(standin: Standin, command: str, backlog: int, jobs: int) -> None:
    """Keep the queue at its length until so many jobs in all were laid on it."""
    laid = backlog
    while laid < jobs:
        missing = min(jobs - laid, backlog - standin.depth()["visible"])
        if missing:
            standin.fill(command, missing)
            laid += missing
        time.sleep(0.02)


def _settle(standin: Standin) -> None:
    """Wait until the daemon waits for messages, and a moment more."""
    until = time.monotonic() + 30
    while "sqs.ReceiveMessage" not in standin.counts()["first"]:
        if time.monotonic() > until:
            raise RuntimeError("the daemon asks for no messages")
        time.sleep(0.02)
    time.sleep(0.3)


def _drained(standin: Standin) -> None:
    until = time.monotonic() + 10
    while sum(standin.depth().values()) and time.monotonic() < until:
        time.sleep(0.02)


def _requests(counts: dict[str, dict[str, int]], prefix: str) -> int:
    return sum(number for name, number in counts["requests"].items() if name.startswith(prefix))


def _end_if_sleeping(pid: int) -> None:
    """End a job of `background` without waiting for it."""
    name = Path(f"/proc/{pid}/comm")
    if name.exists() and name.read_text().strip() == "sleep":
        subprocess.run(["kill", str(pid)], check=False, stderr=subprocess.DEVNULL)
