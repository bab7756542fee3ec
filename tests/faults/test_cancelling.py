"""A job is cancelled while something else goes wrong: it must end as cancelled, and never run again."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import servers
from daemons import Daemon
from faults.history import History
from faults.proxy import Proxy
from faults.rules import Fault
from faults.workers import environment, worker_of
from fleet import Fleet

StartWorker = Callable[..., Daemon]
Cancel = Callable[[str], None]


@pytest.fixture
def cancel(fleet: Fleet, tmp_path: Path) -> Iterator[Cancel]:
    """Gives the order, and returns when it is in the table; the command goes on until the job is cancelled."""
    begun: list[subprocess.Popen[str]] = []

    def give(message_id: str) -> None:
        config = tmp_path / "operator.toml"
        config.write_text(fleet.config(lock_table=fleet.table))
        command = [sys.executable, "-m", "sqsjkr", "cancel", message_id, "--conf", str(config)]
        env = environment(fleet.sqs_url, "operator")
        process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        begun.append(process)
        assert process.stdout is not None
        said = process.stdout.readline()
        assert "ordered" in said or "cancelled" in said, said

    yield give
    for process in begun:
        said, _ = process.communicate(timeout=servers.PATIENCE)
        assert process.returncode == 0, said


def is_over(fleet: Fleet) -> None:
    servers.wait_until(lambda: fleet.depth() == (0, 0, 0), description="the message was gone")


def test_a_worker_that_is_stopped_before_it_hears_of_the_order_gives_back_a_cancelled_job(
    worker: StartWorker, proxy: Proxy, fleet: Fleet, history: History, cancel: Cancel
) -> None:
    a = worker("a")
    job = fleet.send_job(command=history.held("job"))
    servers.wait_until(lambda: history.has("begin", "job"), description="the job ran")
    proxy.cut("a", "dynamodb", refuse=True)
    cancel(job)
    a.signal(signal.SIGTERM)
    assert a.wait() == 0
    b = worker("b")
    b.wait_for_line("cancelled by")
    is_over(fleet)
    assert history.jobs("begin") == ["job"]


def test_a_worker_that_is_stopped_and_killed_before_it_hears_of_the_order_leaves_a_cancelled_job(
    worker: StartWorker, proxy: Proxy, fleet: Fleet, history: History, cancel: Cancel
) -> None:
    a = worker("a", grace_period="1h")
    job = fleet.send_job(command=history.held("job"), lock_id="L")
    servers.wait_until(lambda: history.has("begin", "job"), description="the job ran")
    proxy.cut("a", "dynamodb", refuse=True)
    cancel(job)
    a.signal(signal.SIGTERM)
    a.wait_for_line("worker.stopping")
    process = worker_of(a)
    assert process is not None
    process.kill()
    b = worker("b")
    b.wait_for_line("cancelled by")
    fleet.send_job(command=history.command("next"), lock_id="L")
    servers.wait_until(lambda: history.has("end", "next"), description="the lock was free")
    is_over(fleet)
    assert history.jobs("begin") == ["job", "next"]


def test_a_job_that_is_cancelled_during_an_outage_ends_when_it_is_over(
    worker: StartWorker, proxy: Proxy, fleet: Fleet, history: History, cancel: Cancel
) -> None:
    a = worker("a")
    worker("b")
    job = fleet.send_job(command=history.held("job"))
    servers.wait_until(lambda: history.has("begin", "job"), description="the job ran")
    (begun,) = [note.worker for note in history.notes() if note.event == "begin"]
    proxy.cut(begun, "dynamodb")
    cancel(job)
    proxy.heal(begun, "dynamodb")
    is_over(fleet)
    assert history.jobs("begin") == ["job"]
    assert not history.has("end", "job")
    assert a.is_running()


def test_a_job_that_waits_for_its_next_try_is_cancelled_although_its_worker_is_killed(
    worker: StartWorker, fleet: Fleet, history: History, cancel: Cancel
) -> None:
    a = worker("a")
    job = fleet.send_job(command=history.command("job", "failing"), retries=3, retry_delay="2s")
    a.wait_for_line("retried")
    cancel(job)
    a.kill_tree()
    b = worker("b")
    b.wait_for_line("cancelled by")
    is_over(fleet)
    assert history.jobs("begin") == ["job"]


def test_a_copy_of_a_cancelled_job_is_not_run(
    worker: StartWorker, proxy: Proxy, fleet: Fleet, history: History, cancel: Cancel
) -> None:
    proxy.add(Fault.REDELIVER, limit=1, seconds=3600)
    a = worker("a", max_concurrent_num=1)
    job = fleet.send_job(command=history.held("job"), retries=3)
    servers.wait_until(lambda: history.has("begin", "job"), description="the job ran")
    b = worker("b", log_level="debug")
    proxy.bring_back()
    b.wait_for_line("another worker runs it")
    cancel(job)
    a.wait_for_line("cancelled by")
    is_over(fleet)
    b.wait_for_line(lambda line: "has left the queue" in line or ": duplicate " in line)
    assert history.jobs("begin") == ["job"]
    assert "before it started" not in b.stderr, "one end is reported once"


def test_an_order_whose_answer_is_lost_is_obeyed_once(
    worker: StartWorker, proxy: Proxy, fleet: Fleet, history: History, cancel: Cancel
) -> None:
    a = worker("a")
    job = fleet.send_job(command=history.held("job"), lock_id="L")
    servers.wait_until(lambda: history.has("begin", "job"), description="the job ran")
    proxy.add(Fault.RESET_AFTER, worker="a", service="dynamodb", limit=8)
    cancel(job)
    a.wait_for_line("cancelled by")
    is_over(fleet)
    assert a.stderr.count("order.obeyed") == 1
    assert history.jobs("begin") == ["job"]
