"""Fleets in which release 1.0.0 or the Go original works beside this release, on one queue and one table."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

import servers
from daemons import Daemon
from faults import peers
from faults.checker import attempts, overlapping
from faults.history import History
from faults.proxy import Proxy
from faults.rules import Fault
from faults.workers import LEASE, environment, worker_of
from fleet import Fleet

StartWorker = Callable[..., Daemon]
FACTOR = 0.2


def kill_worker(daemon: Daemon) -> None:
    if process := worker_of(daemon):
        process.kill()
        daemon.wait()
    else:  # an old one: its processes have no names
        daemon.kill_tree()


def stop(daemon: Daemon) -> None:
    daemon.signal(signal.SIGTERM)
    assert daemon.wait() == 0


def emptied(fleet: Fleet) -> None:
    servers.wait_until(lambda: fleet.depth() == (0, 0, 0), description="the queue was empty")


@pytest.fixture
def old(proxy: Proxy, fleet: Fleet, daemon: Callable[..., Daemon], tmp_path: Path) -> StartWorker:
    """Starts a worker of release 1.0.0."""

    def start(name: str, **kicker: int) -> Daemon:
        command, more = peers.release(FACTOR)
        settings = {"lock_table": fleet.table, "stats_socket": str(tmp_path / name), "grace_period": "1s"} | kicker
        begun = daemon(
            env=environment(proxy.listen(name), name) | more,
            config=fleet.config(**settings),
            command=command,
            own_socket=False,
        )
        begun.wait_for_line("worker.started")
        return begun

    return start


@pytest.fixture
def go(fleet: Fleet, daemon: Callable[..., Daemon], tmp_path: Path) -> StartWorker:
    """Starts the Go daemon, with a configuration that has all that is new and that it does not know."""

    def start(name: str) -> Daemon:
        command = [peers.go(), "-lock-table", fleet.table]
        config = fleet.config(stats_socket=str(tmp_path / name), hook="false", max_timeout="1h")
        begun = daemon(
            env=environment(fleet.sqs_url, name) | {"AWS_ENDPOINT_URL_DYNAMODB": fleet.dynamodb_url},
            config=f'{config}[jobs."*"]\nretries = 3\n',
            command=command,
            own_socket=False,
        )
        begun.wait_for_line("")
        return begun

    return start


# --- release 1.0.0 ---------------------------------------------------------------------------------------------------


def looks(proxy: Proxy, observer: str) -> list[float]:
    """When a worker looked at another one's heartbeat."""
    return [
        call.time
        for call in proxy.calls
        if (call.worker, call.operation) == (observer, "GetItem")
        and call.payload["Key"]["Type"] == {"S": "worker"}
        and call.payload["Key"]["Id"] != {"S": "sqsjkr"}
    ]


@pytest.mark.parametrize("holder_is_new", [True, False])
def test_no_release_takes_the_lock_of_a_live_worker_of_the_other(
    worker: StartWorker, old: StartWorker, proxy: Proxy, fleet: Fleet, history: History, *, holder_is_new: bool
) -> None:
    """The row that beats stays where release 1.0.0 looks for it, whatever rides on it."""
    holder, observer = (worker, old) if holder_is_new else (old, worker)
    holder("holder", max_concurrent_num=1)
    fleet.send_job(command=history.held("first", "family"), lock_id="L")
    servers.wait_until(lambda: history.has("beat", "first"), description="the first job ran")
    observer("observer", max_concurrent_num=1)
    fleet.send_job(command=history.command("second", "family", beats=3), lock_id="L")

    def watched() -> bool:
        times = looks(proxy, "observer")
        return len(times) > 3 and times[-1] - times[0] > 2 * LEASE * FACTOR

    servers.wait_until(watched, description="the observer had watched the holder for two leases")
    assert history.jobs("begin") == ["first"]
    history.release("first")
    servers.wait_until(lambda: history.has("end", "second"), description="the second job had the lock")
    emptied(fleet)
    assert sorted(history.jobs("begin")) == ["first", "second"], "each ran once"
    assert not overlapping(attempts(history.notes()), {"first": "L", "second": "L"})


@pytest.mark.parametrize("dead_is_new", [True, False])
def test_each_release_takes_over_from_a_dead_worker_of_the_other(
    worker: StartWorker, old: StartWorker, fleet: Fleet, history: History, *, dead_is_new: bool
) -> None:
    doomed, heir = (worker, old) if dead_is_new else (old, worker)
    first = doomed("doomed", max_concurrent_num=1)
    fleet.send_job(command=history.held("job", "family"), lock_id="L")
    servers.wait_until(lambda: history.has("beat", "job"), description="the job ran")
    heir("heir", max_concurrent_num=1)
    first.kill_tree()
    servers.wait_until(lambda: history.has("begin", "job", 2), description="the job ran again")
    history.release("job")
    emptied(fleet)
    assert not overlapping(attempts(history.notes()), {"job": "L"})


def test_a_retry_that_an_old_worker_gets_is_run_once_and_is_final(
    worker: StartWorker, old: StartWorker, fleet: Fleet, history: History
) -> None:
    a = worker("a")
    fleet.send_job(command=history.command("job", "failing"), retries=5, retry_delay="2s")
    a.wait_for_line("retried")
    stop(a)
    old("b")

    emptied(fleet)
    assert history.jobs("begin") == ["job"] * 2


def test_a_job_that_has_ended_is_a_duplicate_to_an_old_worker_whatever_is_owed_for_it(
    worker: StartWorker, old: StartWorker, proxy: Proxy, fleet: Fleet, history: History
) -> None:
    proxy.add(Fault.HANG, worker="a", operation="DeleteMessageBatch")
    a = worker("a", hook="true", hook_on=["all"])
    fleet.send_job(command=history.command("job", "failing"))
    servers.wait_until(lambda: proxy.seen("DeleteMessageBatch"), description="the message was to be deleted")
    kill_worker(a)
    b = old("b")

    b.wait_for_line("duplicate")
    emptied(fleet)
    assert history.jobs("begin") == ["job"]


@pytest.mark.parametrize("first", ["old", "new"])
def test_a_dead_workers_job_runs_again_on_a_worker_of_another_release(
    first: str, worker: StartWorker, old: StartWorker, fleet: Fleet, history: History
) -> None:
    fleet.send_job(command=history.held("job"), retries=2, lock_id="L")
    one, other = (old, worker) if first == "old" else (worker, old)
    begun = one("a")
    servers.wait_until(lambda: history.has("begin", "job"), description="the job ran")
    kill_worker(begun)
    other("b")

    servers.wait_until(lambda: history.has("begin", "job", 2), description="it ran again")
    history.release("job")
    emptied(fleet)
    assert history.jobs("begin") == ["job"] * 2


def test_failures_are_remembered_although_an_old_worker_died_with_the_job_in_between(
    worker: StartWorker, old: StartWorker, fleet: Fleet, history: History
) -> None:
    counted = f"grep -c ' begin job ' {history.path}"
    command = history.held("job").removeprefix("exec ")
    history.release("job")
    fleet.send_job(command=f"{command}; test $({counted}) -ge 9", retries=1, retry_delay="1s", event_id="job")
    a = worker("a")
    a.wait_for_line("retried")
    stop(a)
    Path(f"{history.path}.job.released").unlink()
    b = old("b")
    servers.wait_until(lambda: history.has("begin", "job", 2), description="the old worker ran it")
    kill_worker(b)
    history.release("job")
    worker("c")

    servers.wait_until(fleet.dead_letters, description="its retries were used up")
    emptied(fleet)
    assert history.jobs("begin") == ["job"] * 3


# --- the Go original -------------------------------------------------------------------------------------------------


def test_a_retry_that_a_go_daemon_gets_is_run_once_and_is_final(
    worker: StartWorker, go: StartWorker, fleet: Fleet, history: History
) -> None:
    a = worker("a")
    fleet.send_job(command=history.command("job", "failing"), retries=5, retry_delay="2s", timeout="1h")
    a.wait_for_line("retried")
    stop(a)
    go("b")

    servers.wait_until(lambda: history.has("end", "job", 2), description="the Go daemon ran it")
    emptied(fleet)
    assert history.jobs("begin") == ["job"] * 2


def test_a_job_that_has_ended_is_not_run_by_a_go_daemon_whatever_is_owed_for_it(
    worker: StartWorker, go: StartWorker, proxy: Proxy, fleet: Fleet, history: History
) -> None:
    proxy.add(Fault.HANG, worker="a", operation="SendMessage")
    a = worker("a")
    fleet.send_job(command=history.command("job", "failing"), on_exit={"*": "never"})
    servers.wait_until(lambda: proxy.seen("SendMessage"), description="the message was to be buried")
    kill_worker(a)
    go("b")

    emptied(fleet)
    assert history.jobs("begin") == ["job"]
