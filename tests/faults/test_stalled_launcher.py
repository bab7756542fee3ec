"""The launcher stands still while its worker goes on."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import servers
from daemons import Daemon
from faults.checker import attempts, overlapping
from faults.history import History
from faults.proxy import Proxy
from faults.workers import now, starve
from fleet import Fleet
from sqsjkr.leases.budget import STANDARD

StartWorker = Callable[..., Daemon]
BUDGET = STANDARD.scaled(0.2)


def test_a_frozen_launcher_that_wakes_up_after_an_outage_does_not_kill_a_worker_that_waits_for_its_news(
    worker: StartWorker, proxy: Proxy, fleet: Fleet, history: History
) -> None:
    """Its jobs ended meanwhile, which the worker learns from the launcher; it can't give up their lease before."""
    a = worker("a", options=("--guard_look=0.5",))  # as in the product: how long the launcher then waits depends on it
    fleet.send_job(command=history.held("locked"), lock_id="L")
    fleet.send_job(command=history.held("free"))
    for job in ("locked", "free"):
        servers.wait_until(lambda job=job: history.has("begin", job), description=f"the {job} job ran")
    os.kill(a.pid, signal.SIGSTOP)
    proxy.cut("a", "dynamodb")
    history.release("locked", "free")
    for job in ("locked", "free"):
        servers.wait_until(lambda job=job: history.has("end", job), description=f"the {job} job ended")
    too_late = now() + BUDGET.trusted + BUDGET.guard_margin + 1
    servers.wait_until(lambda: now() > too_late, description="the worker's deadline was over")
    proxy.heal("a", "dynamodb")
    os.kill(a.pid, signal.SIGCONT)

    servers.wait_until(lambda: fleet.depth() == (0, 0, 0), description="both were settled")
    assert history.jobs("begin").count("free") == 1
    assert "guard.killed" not in a.stderr
    assert a.stderr.count("lease.lost") <= 1, "it is said once"


def test_a_worker_without_descriptors_whose_launcher_is_killed_gives_no_lock_back_before_its_job_is_gone(
    worker: StartWorker, fleet: Fleet, history: History
) -> None:
    """The dead launcher's end of the line is the one descriptor that comes free: enough for a pidfd, and no look."""
    a = worker("a")
    fleet.send_job(command=history.held("locked", "family"), lock_id="L")
    fleet.send_job(command=history.held("free", "family"))
    for job in ("locked", "free"):
        servers.wait_until(lambda job=job: history.has("beat", job), description=f"the {job} job ran")
    starve(a)
    a.signal(signal.SIGKILL)
    worker("b")

    for job in ("locked", "free"):
        servers.wait_until(lambda job=job: history.has("begin", job, 2), description=f"the {job} job ran again")
    history.release("locked", "free")
    servers.wait_until(lambda: fleet.depth() == (0, 0, 0), description="both were settled")
    assert not overlapping(attempts(history.notes()), {"locked": "L"})
