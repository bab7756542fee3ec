from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import servers
from daemons import Daemon
from faults.history import History
from faults.proxy import Proxy
from faults.workers import environment, now, worker_of
from fleet import Fleet

StartWorker = Callable[..., Daemon]
ROOT = Path(__file__).resolve().parents[2]


def test_two_hundred_sleepers_cost_one_write_a_beat_and_extensions_of_ten_a_call(
    worker: StartWorker, proxy: Proxy, fleet: Fleet, tmp_path: Path
) -> None:
    scale, sleepers = 0.2, 200
    for _ in range(0, sleepers, 10):
        entries = [
            {"Id": str(n), "MessageBody": json.dumps({"command": f"echo >>{tmp_path}/begun; exec sleep 300"})}
            for n in range(10)
        ]
        fleet.sqs("SendMessageBatch", QueueUrl=fleet.queue_url, Entries=entries)
    (tmp_path / "begun").touch()
    worker("a", scale=scale, max_concurrent_num=sleepers)
    servers.wait_until(lambda: (tmp_path / "begun").stat().st_size == sleepers, description="all ran")

    begun, first = now(), len(proxy.calls)

    def hidings() -> list[int]:
        again = [call for call in proxy.calls[first:] if call.operation == "ChangeMessageVisibilityBatch"]
        return [len(call.payload["Entries"]) for call in again]

    servers.wait_until(lambda: sum(hidings()) >= sleepers, description="every message was hidden again")
    servers.wait_until(lambda: now() - begun > 20 * scale, description="twenty seconds had passed, scaled")
    calls, batches = proxy.calls[first:], hidings()
    passed = (now() - begun) / scale  # seconds of the product's own

    writes = [call for call in calls if call.service == "dynamodb" and call.operation != "GetItem"]
    assert 1 <= len(writes) <= passed / 5 + 1, "one every five seconds"
    assert len(batches) <= sum(batches) / 10 + passed * 0.5 + 2, "ten a call, but for the last call of a round"


@pytest.fixture
def standin() -> Iterator[str]:
    """The stand-in server of the benchmarks: fast enough for thousands of jobs."""
    command = [sys.executable, "-m", "benchmarks.standin", "--port", "0"]
    server = subprocess.Popen(
        servers.ending_with_this_process(command), cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
    )
    assert server.stdout is not None
    url = f"http://127.0.0.1:{int(server.stdout.readline())}"
    servers.RUNNING[server.pid] = url
    try:
        yield url
    finally:
        servers.stop(server)
        server.stdout.close()
        del servers.RUNNING[server.pid]


def taken(pid: int) -> tuple[int, int]:
    """Descriptors and KiB of memory that a process has."""
    status = Path(f"/proc/{pid}/status").read_text()
    memory = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    return len(list(Path(f"/proc/{pid}/fd").iterdir())), int(memory.split()[1])


def test_descriptors_and_memory_are_flat_over_thousands_of_jobs(
    worker: StartWorker, make_fleet: Callable[..., Fleet], standin: str
) -> None:
    fleet = make_fleet(sqs_url=standin, dynamodb_url=standin)

    def run(jobs: int) -> None:
        for _ in range(0, jobs, 10):
            entries = [{"Id": str(n), "MessageBody": '{"command": "echo hello"}'} for n in range(10)]
            fleet.sqs("SendMessageBatch", QueueUrl=fleet.queue_url, Entries=entries)
        servers.wait_until(lambda: fleet.depth() == (0, 0, 0), description=f"{jobs} jobs had run")

    a = worker("a", scale=1, fleet=fleet, url=standin, max_concurrent_num=10, log_level="warn", ready=False)
    run(500)
    process = worker_of(a)
    assert process is not None
    descriptors, memory = taken(process.pid)
    run(1500)
    more_descriptors, more_memory = taken(process.pid)

    assert a.stats()["invocations"]["succeeded"] == 2000
    assert more_descriptors <= descriptors + 3
    assert more_memory - memory < 3000, "KiB: two for each job at most"
    assert not a.tree() or [each.pid for each in a.tree()] == [process.pid], "no zombies, no children"


def test_a_host_short_of_descriptors_puts_jobs_back_and_runs_them_later(
    worker: StartWorker, fleet: Fleet, history: History
) -> None:
    a = worker("a", scale=0.1, options=("--nofile=40",), max_concurrent_num=30)
    jobs = [f"job{number}" for number in range(30)]
    for job in jobs:
        fleet.send_job(command=history.command(job, beats=5))

    a.wait_for_line("starved")
    servers.wait_until(lambda: len(history.jobs("end")) == 30, description="all ran in the end")
    servers.wait_until(lambda: fleet.depth() == (0, 0, 0), description="the queue was empty")
    assert sorted(history.jobs("begin")) == sorted(jobs)


def requests(proxy: Proxy, since: int) -> dict[str, int]:
    """How many requests were made for jobs: receives and heartbeats are not counted."""
    found: dict[str, int] = {}
    for call in proxy.calls[since:]:
        if call.operation != "ReceiveMessage" and '"worker"' not in json.dumps(call.payload):
            found[call.operation] = found.get(call.operation, 0) + 1
    return found


def cost(proxy: Proxy, fleet: Fleet, **job: object) -> dict[str, int]:
    since = len(proxy.calls)
    fleet.send_job(**job)
    servers.wait_until(lambda: "DeleteMessageBatch" in requests(proxy, since), description="it had ended")
    servers.wait_until(lambda: fleet.depth() == (0, 0, 0), description="the queue was empty")
    return requests(proxy, since)


def test_a_job_that_succeeds_costs_the_same_whatever_it_asks_for_in_case_it_fails(
    worker: StartWorker, proxy: Proxy, fleet: Fleet
) -> None:
    worker("a", scale=1, hook="cat >/dev/null", max_timeout="1h")
    plain = cost(proxy, fleet, command="true")
    assert plain == {"UpdateItem": 1, "BatchWriteItem": 1, "DeleteMessageBatch": 1}
    on_exit = {"65": "never", "crash": "retry"}
    assert cost(proxy, fleet, command="true", timeout="1m", retries=3, retry_delay="1m", on_exit=on_exit) == plain


def test_a_retry_costs_a_claim_an_update_of_it_and_a_change_of_visibility(
    worker: StartWorker, proxy: Proxy, fleet: Fleet, tmp_path: Path
) -> None:
    worker("a", scale=1)
    once = f"test -e {tmp_path}/ran || {{ touch {tmp_path}/ran; exit 1; }}"
    found = cost(proxy, fleet, command=once, retries=1, retry_delay="1s")
    first = {"UpdateItem": 2, "ChangeMessageVisibilityBatch": 1}
    second = {"UpdateItem": 1, "BatchWriteItem": 1, "DeleteMessageBatch": 1}
    assert found == {name: first.get(name, 0) + second.get(name, 0) for name in first | second}


@pytest.mark.parametrize(
    ("words", "table", "queue"),
    [
        (("ps",), 5, 3),  # the table's clock; roster and board; sessions; claims; locks
        (("fleet",), 4, 3),
        (("locks",), 5, 3),
        (("status",), 8, 3),  # and the failures of two days, and the usual time of the lock's holder
        (("runs",), 4, 1),  # the pages of this hour, and of those before it
        (("runs", "--event", "holder"), 2, 1),
        (("explain", "00000000-0000-4000-8000-000000000000"), 8, 3),  # no claim, no event: does it wait somewhere?
        (("explain", "holder"), 8, 3),
    ],
)
def test_a_look_at_the_fleet_costs_a_handful_of_requests_and_writes_nothing(
    worker: StartWorker, proxy: Proxy, fleet: Fleet, tmp_path: Path, words: tuple[str, ...], table: int, queue: int
) -> None:
    a = worker("a", max_concurrent_num=3, scale=1)
    fleet.send_job(command="sleep 300", event_id="holder", lock_id="L")
    a.wait_for_line("job.started")
    fleet.send_job(command="true", event_id="waiter", lock_id="L")
    a.wait_for_line("job.waiting")
    servers.wait_until(lambda: any("Live" in row for row in fleet.rows("worker")), description="it was seen")

    (tmp_path / "config.toml").write_text(fleet.config(lock_table=fleet.table))
    subprocess.run(
        [sys.executable, "-m", "sqsjkr", *words, "--conf", str(tmp_path / "config.toml")],
        env=environment(proxy.listen("viewer"), "viewer"),
        stdout=subprocess.DEVNULL,
        check=False,
    )

    calls = [call for call in proxy.calls if call.worker == "viewer"]
    reads = {"Query", "BatchGetItem", "GetItem", "GetQueueAttributes"}
    assert {call.operation for call in calls} <= reads, "looking needs no right to write"
    assert len([call for call in calls if call.service == "dynamodb"]) <= table
    assert len([call for call in calls if call.service == "sqs"]) <= queue
