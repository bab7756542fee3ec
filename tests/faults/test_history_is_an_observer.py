"""The history is an observer: no job waits for it, and what it cannot write is tried once more, counted, and said."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families as parse

from daemons import Daemon
from faults.proxy import Proxy
from faults.rules import Fault
from faults.workers import environment
from fleet import Fleet
from servers import wait_until

StartWorker = Callable[..., Daemon]


def dropped(worker: Daemon) -> float:
    status, text = worker.get("/metrics")
    assert status == 200
    samples = (sample for family in parse(text) for sample in family.samples)
    return next(sample.value for sample in samples if sample.name == "sqsjkr_history_dropped_total")


def run_jobs(worker: Daemon, fleet: Fleet, number: int) -> list[str]:
    """Failures and successes, with names: everything that the history keeps."""
    jobs = [fleet.send_job(command=f"exit {n % 2}", event_id=f"nightly-{n}") for n in range(number)]
    wait_until(
        lambda: all(f"[{job[:8]}]: {how}" in worker.stderr for n, job in enumerate(jobs) for how in (_how(n),)),
        description="all had ended",
    )
    wait_until(lambda: fleet.depth() == (0, 0, 0), description="every message was settled")
    return jobs


def _how(number: int) -> str:
    return "errored" if number % 2 else "succeeded"


def listed(proxy: Proxy, fleet: Fleet, tmp_path: Path) -> list[dict[str, Any]]:
    (tmp_path / "config.toml").write_text(fleet.config(lock_table=fleet.table))
    said = subprocess.run(
        [sys.executable, "-m", "sqsjkr", "runs", "--json", "--conf", str(tmp_path / "config.toml")],
        env=environment(proxy.listen("viewer"), "viewer"),
        stdout=subprocess.PIPE,
        check=True,
    )
    return [json.loads(line) for line in said.stdout.splitlines()]


HISTORY = '{"Id": {"S": "'
"""What every row begins with; the claims' rows begin with an id of a message."""


@pytest.mark.parametrize("kind", ["runs/", "bad/", "event/"])
def test_rows_that_a_hot_key_leaves_unwritten_are_dropped_and_the_jobs_go_on(
    worker: StartWorker, proxy: Proxy, fleet: Fleet, tmp_path: Path, kind: str
) -> None:
    rule = proxy.add(Fault.PART, operation="BatchWriteItem", worker="a", text=f"{HISTORY}{kind}")
    a = worker("a", scale=1)
    jobs = run_jobs(a, fleet, 4)
    wait_until(lambda: dropped(a) >= 1, description="what was dropped was counted")
    a.wait_for_line("history.dropped")
    assert a.stderr.count("history.dropped") == 1, "it is said once"
    assert a.stats()["invocations"] == {"succeeded": 2, "failed": 0, "errored": 2}

    proxy.release(rule)
    run_jobs(a, fleet, 4)
    a.wait_for_line("history.recovered")
    if kind != "runs/":
        wait_until(lambda: len(listed(proxy, fleet, tmp_path)) == 8, description="what was written is listed")
    assert jobs


def test_a_request_of_the_history_that_hangs_holds_up_no_job(
    worker: StartWorker, proxy: Proxy, fleet: Fleet, tmp_path: Path
) -> None:
    """A page that hangs takes the confirms along that it rides with, once; then it goes alone, and is dropped."""
    rule = proxy.add(Fault.HANG, operation="BatchWriteItem", worker="a", text=f"{HISTORY}runs/")
    a = worker("a", scale=0.2)
    run_jobs(a, fleet, 4)
    assert a.stats()["invocations"] == {"succeeded": 2, "failed": 0, "errored": 2}
    wait_until(lambda: dropped(a) >= 1, description="the page was dropped")
    proxy.release(rule)
    job, *_ = run_jobs(a, fleet, 1)
    assert f"[{job[:8]}]: succeeded" in a.stderr


def test_a_history_that_is_refused_costs_no_job_more_than_one_retry(
    worker: StartWorker, proxy: Proxy, fleet: Fleet
) -> None:
    """As by a policy that allows the keys of release 1.0 only: the whole request is refused, with its confirms."""
    proxy.add(Fault.REFUSE, operation="BatchWriteItem", worker="a", text=f"{HISTORY}runs/")
    a = worker("a", scale=1)
    run_jobs(a, fleet, 4)
    wait_until(lambda: dropped(a) >= 1, description="the page was dropped")
    assert a.stats()["invocations"] == {"succeeded": 2, "failed": 0, "errored": 2}
    assert len(fleet.rows("throttle")) == 4, "each claim is marked as done"
