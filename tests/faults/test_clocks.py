from __future__ import annotations

from collections.abc import Callable

import pytest

import servers
from daemons import Daemon
from faults.checker import attempts, overlapping
from faults.history import History
from faults.proxy import Proxy
from faults.rules import Fault
from faults.workers import now
from fleet import Fleet

StartWorker = Callable[..., Daemon]


@pytest.mark.parametrize("ahead", [-600.0, 600.0], ids=["host-ahead", "host-behind"])
def test_life_time_is_measured_on_the_queues_clock(
    ahead: float, worker: StartWorker, proxy: Proxy, fleet: Fleet, history: History
) -> None:
    proxy.add(Fault.CLOCK, worker="a", seconds=ahead)
    sent = now()
    fleet.send_job(command=history.command("stale"), life_time="1s")
    servers.wait_until(lambda: now() - sent > 1.1, description="the life_time was over")
    a = worker("a")
    fleet.send_job(command=history.command("fresh"), life_time="5m")
    fleet.send_job(command=history.command("of-no-age"), life_time="2m")

    a.wait_for_line("expired")
    for job in ("fresh", "of-no-age"):
        servers.wait_until(lambda job=job: history.has("end", job), description=f"{job} ran")
    assert not history.has("begin", "stale")


def test_locks_hold_between_hosts_whose_clocks_differ_and_jump(
    worker: StartWorker, proxy: Proxy, fleet: Fleet, history: History
) -> None:
    rules = [proxy.add(Fault.CLOCK, worker=name, seconds=shift) for name, shift in (("a", 600.0), ("b", -600.0))]
    for name in ("a", "b"):
        worker(name, max_concurrent_num=2)
    for number in range(8):
        fleet.send_job(command=history.command(f"job{number}", beats=3), lock_id="L", life_time="5m")

    servers.wait_until(lambda: history.jobs("end"), description="one job ended")
    rules[0].seconds = -600.0  # as if somebody had set the clock

    servers.wait_until(lambda: len(history.jobs("end")) == 8, description="all jobs ended")
    assert sorted(history.jobs("begin")) == [f"job{number}" for number in range(8)]
    assert not overlapping(attempts(history.notes()), {f"job{number}": "L" for number in range(8)})
