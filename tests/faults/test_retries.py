"""Retries, crashes and hooks, with the worker killed at each step on the way."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import servers
from daemons import Daemon
from faults.history import History
from faults.proxy import Proxy
from faults.rules import Fault
from faults.workers import worker_of
from fleet import Fleet

StartWorker = Callable[..., Daemon]


def kill_worker(daemon: Daemon) -> None:
    process = worker_of(daemon)
    assert process is not None
    process.kill()
    assert daemon.wait() == 3


def stop(daemon: Daemon) -> None:
    daemon.signal(signal.SIGTERM)
    assert daemon.wait() == 0


def emptied(fleet: Fleet) -> None:
    servers.wait_until(lambda: fleet.depth() == (0, 0, 0), description="the queue was empty")


def claim(fleet: Fleet) -> dict[str, Any]:
    return next(iter(fleet.rows("throttle")), {})


def letter(fleet: Fleet) -> dict[str, str]:
    """The attributes of the only dead letter."""
    (found,) = fleet.dead_letters()
    return {name: value["StringValue"] for name, value in found["MessageAttributes"].items()}


def pauses(history: History) -> list[float]:
    """The seconds between the end of each run and the beginning of the next one."""
    notes = history.notes()
    ends = [note.time for note in notes if note.event == "end"]
    begins = [note.time for note in notes if note.event == "begin"]
    return [begin - end for end, begin in zip(ends, begins[1:], strict=False)]


def succeeds_at(history: History, run: int) -> str:
    """The command of a job that fails until its ``run``-th run."""
    counted = f"grep -c ' begin job ' {history.path}"
    return f"{history.command('job').removeprefix('exec ')}; test $({counted}) -ge {run}"


# --- the worker dies ... --------------------------------------------------------------------------------------------


def test_a_failure_that_its_worker_did_not_live_to_note_is_a_crash(
    worker: StartWorker, proxy: Proxy, fleet: Fleet, history: History
) -> None:
    proxy.add(Fault.HANG, worker="a", operation="UpdateItem", text="Failures = :failures")
    a = worker("a")
    fleet.send_job(command=history.command("job", "failing"), retries=1, retry_delay=0)
    servers.wait_until(lambda: proxy.seen("UpdateItem", fault="hang"), description="the failure was to be noted")

    kill_worker(a)
    worker("b")

    servers.wait_until(fleet.dead_letters, description="the retries were used up")
    emptied(fleet)
    assert history.jobs("begin") == ["job"] * 3, "once for the dead worker, then as often as it asked for"
    assert letter(fleet)["sqsjkr.failures"] == "2"


def test_a_job_that_was_put_off_waits_for_its_time_although_its_message_comes_back(
    worker: StartWorker, proxy: Proxy, fleet: Fleet, history: History
) -> None:
    proxy.add(Fault.HANG, worker="a", operation="ChangeMessageVisibilityBatch")
    a = worker("a")
    fleet.send_job(command=history.command("job", "failing"), retries=1, retry_delay="6s")
    servers.wait_until(lambda: proxy.seen("ChangeMessageVisibilityBatch"), description="it was to be hidden")
    assert claim(fleet)["Failures"] == 1

    kill_worker(a)
    worker("b")

    servers.wait_until(
        lambda: proxy.seen("ChangeMessageVisibilityBatch", worker="b"), description="it came too early, and was hidden"
    )
    assert history.jobs("begin") == ["job"]
    servers.wait_until(fleet.dead_letters, description="the retries were used up")
    emptied(fleet)
    assert history.jobs("begin") == ["job"] * 2
    assert min(pauses(history)) >= 6.0


def test_a_job_that_is_dead_does_not_run_again_although_its_worker_died_before_the_burial(
    worker: StartWorker, proxy: Proxy, fleet: Fleet, history: History
) -> None:
    proxy.add(Fault.HANG, worker="a", operation="SendMessage")
    a = worker("a")
    fleet.send_job(command=f"{history.command('job').removeprefix('exec ')}; echo broken; exit 65", retries=5)
    servers.wait_until(lambda: proxy.seen("SendMessage"), description="it was to be buried")

    kill_worker(a)
    worker("b")

    servers.wait_until(fleet.dead_letters, description="another worker had buried it")
    emptied(fleet)
    assert history.jobs("begin") == ["job"]
    found = letter(fleet)
    assert found["sqsjkr.reason"].startswith("dead: exit status 65 in ")
    assert (found["sqsjkr.failures"], found["sqsjkr.output"]) == ("1", "broken\n")


def test_a_job_that_is_buried_does_not_run_again_although_its_worker_died_before_the_delete(
    worker: StartWorker, proxy: Proxy, fleet: Fleet, history: History
) -> None:
    proxy.add(Fault.HANG, worker="a", operation="DeleteMessageBatch")
    a = worker("a")
    fleet.send_job(command=history.command("job", "failing"), on_exit={"*": "never"})
    servers.wait_until(lambda: proxy.seen("DeleteMessageBatch"), description="the message was to be deleted")

    kill_worker(a)
    worker("b")

    emptied(fleet)
    assert history.jobs("begin") == ["job"]
    assert len(fleet.dead_letters()) <= 2


def test_a_job_runs_as_often_as_it_asked_for_although_its_worker_is_killed_in_each_pause(
    worker: StartWorker, fleet: Fleet, history: History
) -> None:
    fleet.send_job(command=succeeds_at(history, 3), retries=2, retry_delay="2s", lock_id="L")
    for number, name in enumerate(("a", "b"), start=1):
        begun = worker(name)
        begun.wait_for_line("retried")
        servers.wait_until(lambda n=number: claim(fleet).get("Failures") == n, description="the failure was noted")
        kill_worker(begun)
    c = worker("c")

    emptied(fleet)
    assert history.jobs("begin") == ["job"] * 3
    assert min(pauses(history)) >= 2.0
    assert c.stats()["invocations"] == {"succeeded": 1, "failed": 0, "errored": 0}
    assert not fleet.dead_letters()


def test_a_stop_in_a_pause_changes_no_count(worker: StartWorker, fleet: Fleet, history: History) -> None:
    fleet.send_job(command=succeeds_at(history, 2), retries=1, retry_delay="2s")
    a = worker("a")
    a.wait_for_line("retried")
    stop(a)
    worker("b")

    emptied(fleet)
    assert history.jobs("begin") == ["job"] * 2
    assert not fleet.dead_letters()


def test_a_stop_in_a_run_is_no_failure(worker: StartWorker, fleet: Fleet, history: History) -> None:
    fleet.send_job(command=history.held("job"), retries=1, retry_delay="1h")
    a = worker("a", grace_period="0s")
    servers.wait_until(lambda: history.has("begin", "job"), description="the job ran")
    stop(a)
    worker("b")
    servers.wait_until(lambda: history.has("begin", "job", 2), description="the job ran again, without a pause")
    history.release("job")

    emptied(fleet)
    assert not fleet.dead_letters()


# --- the message comes too early, or twice --------------------------------------------------------------------------


def test_a_duplicate_in_a_pause_runs_nothing(worker: StartWorker, proxy: Proxy, fleet: Fleet, history: History) -> None:
    proxy.add(Fault.REDELIVER, limit=1, seconds=3600)
    a = worker("a")
    fleet.send_job(command=succeeds_at(history, 2), retries=3, retry_delay="5s")
    a.wait_for_line("retried")
    worker("b")

    proxy.bring_back()
    servers.wait_until(proxy.brought_back, description="the message came again")
    emptied(fleet)
    assert history.jobs("begin") == ["job"] * 2
    assert min(pauses(history)) >= 5.0


@pytest.mark.parametrize("shift", [600.0, -600.0])
def test_pauses_are_measured_on_the_queues_clock(
    shift: float, worker: StartWorker, proxy: Proxy, fleet: Fleet, history: History
) -> None:
    for name, ahead in (("a", shift), ("b", -shift)):
        proxy.add(Fault.CLOCK, worker=name, seconds=ahead)
    fleet.send_job(command=succeeds_at(history, 3), retries=2, retry_delay="2s", life_time="5m")
    a = worker("a")
    a.wait_for_line("retried")
    stop(a)
    worker("b")

    emptied(fleet)
    assert history.jobs("begin") == ["job"] * 3
    assert min(pauses(history)) >= 2.0
    assert not fleet.dead_letters()


def test_a_late_echo_of_a_claim_does_not_run_the_job_before_its_time(
    worker: StartWorker, proxy: Proxy, fleet: Fleet, history: History
) -> None:
    """The request that claimed the message for its first run arrives once more, when the job has been put off."""
    proxy.add(Fault.STRAY, worker="a", operation="UpdateItem", text='"throttle"', limit=1, seconds=3.0)
    worker("a")
    fleet.send_job(command=succeeds_at(history, 2), retries=1, retry_delay="8s")
    servers.wait_until(lambda: claim(fleet).get("Due"), description="the job was put off")

    emptied(fleet)
    assert history.jobs("begin") == ["job"] * 2
    assert min(pauses(history)) >= 8.0


# --- a job that kills its worker ------------------------------------------------------------------------------------


def test_a_job_that_kills_its_workers_is_buried_and_not_run(
    worker: StartWorker, fleet: Fleet, history: History
) -> None:
    message_id = fleet.send_job(command=history.held("killer"), event_id="killer")
    for number, name in enumerate(("a", "b"), start=1):
        begun = worker(name, max_crashes=1)
        servers.wait_until(lambda n=number: history.has("begin", "killer", n), description="the job ran")
        kill_worker(begun)
    c = worker("c", max_crashes=1)

    servers.wait_until(fleet.dead_letters, description="it was buried")
    emptied(fleet)
    assert history.jobs("begin") == ["killer"] * 2
    assert letter(fleet)["sqsjkr.reason"] == "dead: 2 workers died while they ran it"
    assert letter(fleet)["sqsjkr.message_id"] == message_id
    assert c.stats()["invocations"] == {"succeeded": 0, "failed": 0, "errored": 1}


def test_a_job_that_kills_its_own_parent_is_buried_and_not_run(
    worker: StartWorker, fleet: Fleet, history: History
) -> None:
    """The parent is the launcher. What the job came to is then not to be learned, and the whole daemon ends."""
    command = history.command("killer").removeprefix("exec ")
    fleet.send_job(command=f"{command}; kill -9 $PPID; sleep 600", retries=3)
    for name in ("a", "b"):
        assert worker(name, max_crashes=1).wait() == -signal.SIGKILL
    worker("c", max_crashes=1)

    servers.wait_until(fleet.dead_letters, description="it was buried")
    emptied(fleet)
    assert history.jobs("begin") == ["killer"] * 2
    assert letter(fleet)["sqsjkr.reason"] == "dead: 2 workers died while they ran it"


def test_a_job_for_which_a_crash_is_the_end_runs_once(worker: StartWorker, fleet: Fleet, history: History) -> None:
    fleet.send_job(command=history.held("job"), on_exit={"crash": "never"})
    a = worker("a")
    servers.wait_until(lambda: history.has("begin", "job"), description="the job ran")
    kill_worker(a)
    worker("b")

    servers.wait_until(fleet.dead_letters, description="it was buried")
    emptied(fleet)
    assert history.jobs("begin") == ["job"]
    assert letter(fleet)["sqsjkr.reason"] == "dead: its worker died, and it is not to be run again"


# --- hooks ----------------------------------------------------------------------------------------------------------


class Told:
    """A hook that keeps what it was told, and waits in a worker that the test names."""

    def __init__(self, path: Path, *, waits_in: str = "") -> None:
        self._path = path
        waits = f'test "$SQSJKR_TEST_WORKER" = {waits_in} && sleep 600; ' if waits_in else ""
        self.command = f"cat >> {path}; echo >> {path}; {waits}true"

    @property
    def facts(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._path.read_text().splitlines()] if self._path.exists() else []


@pytest.mark.parametrize("job", [{"command": "echo broken; exit 3"}, {"command": "echo broken; exit 3", "retries": 0}])
def test_a_hook_is_told_again_if_its_worker_died_between_it_and_the_delete(
    job: dict[str, Any], worker: StartWorker, proxy: Proxy, fleet: Fleet, tmp_path: Path
) -> None:
    told = Told(tmp_path / "told")
    proxy.add(Fault.HANG, worker="a", operation="DeleteMessageBatch")
    a = worker("a", hook=told.command)
    fleet.send_job(event_id="nightly", **job)
    servers.wait_until(lambda: proxy.seen("DeleteMessageBatch"), description="the message was to be deleted")
    assert [facts["again"] for facts in told.facts] == [False]

    kill_worker(a)
    worker("b", hook=told.command)

    emptied(fleet)
    assert [(facts["outcome"], facts["again"]) for facts in told.facts] == [("errored", False), ("errored", True)]
    assert told.facts[0]["output"] == told.facts[1]["output"] == "broken\n"
    assert told.facts[0]["attempt"] == told.facts[1]["attempt"]


def test_a_failure_is_told_by_the_next_worker_if_the_first_one_died_in_the_middle_of_its_hook(
    worker: StartWorker, fleet: Fleet, history: History, tmp_path: Path
) -> None:
    told = Told(tmp_path / "told", waits_in="a")
    a = worker("a", hook=told.command)
    fleet.send_job(command=history.command("job", "failing"))
    servers.wait_until(lambda: told.facts, description="the hook ran")

    kill_worker(a)
    worker("b", hook=told.command)

    emptied(fleet)
    assert history.jobs("begin") == ["job"]
    assert [facts["again"] for facts in told.facts] == [False, True]


def test_a_job_that_is_buried_by_the_next_worker_is_told_by_it(
    worker: StartWorker, proxy: Proxy, fleet: Fleet, history: History, tmp_path: Path
) -> None:
    told = Told(tmp_path / "told", waits_in="a")
    a = worker("a", hook=told.command)
    fleet.send_job(command=history.command("job", "failing"), on_exit={"1": "never"})
    servers.wait_until(lambda: told.facts, description="the hook ran")
    assert not fleet.dead_letters()

    kill_worker(a)
    worker("b", hook=told.command)

    servers.wait_until(fleet.dead_letters, description="it was buried")
    emptied(fleet)
    assert history.jobs("begin") == ["job"]
    assert [(facts["outcome"], facts["again"]) for facts in told.facts] == [("dead", False), ("dead", True)]
