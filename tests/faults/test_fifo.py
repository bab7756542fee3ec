from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path

import servers
from daemons import Daemon
from faults.checker import attempts, overlapping
from faults.history import History
from fleet import Fleet

StartWorker = Callable[..., Daemon]


def test_a_group_keeps_its_order_and_groups_run_side_by_side(
    worker: StartWorker, make_fleet: Callable[..., Fleet], history: History
) -> None:
    fleet = make_fleet(FifoQueue="true")
    jobs = {group: [f"{group}{number}" for number in range(4)] for group in ("x", "y")}
    for pair in zip(*jobs.values(), strict=True):
        for job in pair:
            body = json.dumps({"command": history.held(job)})
            fleet.send(body, MessageGroupId=job[0], MessageDeduplicationId=job)
    for name in ("a", "b"):
        worker(name, scale=1, fleet=fleet)

    servers.wait_until(lambda: len(history.jobs("begin")) == 2, description="one job of each group ran")
    history.release(*(job for mine in jobs.values() for job in mine))
    servers.wait_until(lambda: len(history.jobs("end")) == 8, description="all ran")
    ran = attempts(history.notes())
    for group, mine in jobs.items():
        assert [job for job in history.jobs("begin") if job[0] == group] == mine
    assert not overlapping(ran, {job: group for group, mine in jobs.items() for job in mine})


def test_with_ack_start_the_jobs_of_one_group_run_side_by_side(
    worker: StartWorker, make_fleet: Callable[..., Fleet], history: History
) -> None:
    fleet = make_fleet(FifoQueue="true")
    jobs = [f"job{number}" for number in range(3)]
    for job in jobs:
        body = json.dumps({"command": history.held(job)})
        fleet.send(body, MessageGroupId="one", MessageDeduplicationId=job)
    worker("a", scale=1, fleet=fleet, ack="start")

    servers.wait_until(lambda: len(history.jobs("begin")) == 3, description="all had begun")
    assert not history.jobs("end"), "none waited for another's end"
    history.release(*jobs)
    servers.wait_until(lambda: len(history.jobs("end")) == 3, description="all ended")
    servers.wait_until(lambda: fleet.depth() == (0, 0, 0), description="the queue was empty")


def test_jobs_of_one_tenant_on_a_standard_queue_run_side_by_side(
    worker: StartWorker, make_fleet: Callable[..., Fleet], tmp_path: Path
) -> None:
    """Each job ends only when all have begun: run one at a time, none would."""
    fleet = make_fleet()
    begun = shlex.quote(str(tmp_path))
    for number in range(3):
        command = f"touch {begun}/{number}; until [ $(ls {begun} | grep -c '^[0-9]$') = 3 ]; do sleep 0.05; done"
        fleet.send(json.dumps({"command": command, "event_id": f"job-{number}"}), MessageGroupId="tenant")
    daemon = worker("a", scale=1, fleet=fleet)

    servers.wait_until(lambda: daemon.stderr.count("job.ended") == 3, description="all have begun, and so ended")
    assert fleet.depth()[0] == 0
