"""An operator beside two workers, on SQS and DynamoDB servers and on the embedded store: looks and orders."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

import servers
from commands import SQSJKR, sqsjkr
from daemons import Daemon
from places import SQS, Embedded, Place

STUBBORN = "trap '' TERM INT; (trap '' TERM; sleep 1000) & trap '' HUP; while :; do sleep 1000; done"
"""A process tree that ignores every signal but KILL."""


@pytest.fixture(params=["sqs", "embedded"])
def place(request: pytest.FixtureRequest, tmp_path: Path, aws_env: Mapping[str, str]) -> Place:
    """Both backends; one of them where a test mostly waits, for the same code."""
    if request.param == "sqs":
        return SQS(request.getfixturevalue("fleet"), tmp_path, aws_env)
    if request.node.get_closest_marker("slow") is not None and "SQSJKR_TEST_EVERYWHERE" not in os.environ:
        pytest.skip("waits for leases; SQSJKR_TEST_EVERYWHERE=1 runs it on the embedded store, too")
    return Embedded(tmp_path / "store")


@pytest.fixture
def two(place: Place, daemon: Callable[..., Daemon]) -> list[Daemon]:
    """Two workers of one slot, so that each runs one of two jobs."""
    return [place.worker(daemon, max_concurrent_num=1, kill_after="1s") for _ in range(2)]


class StartedCancel:
    """`sqsjkr cancel` in the background."""

    def __init__(self, place: Place, job: str) -> None:
        self._out = place.directory / "cancel"
        with self._out.open("wb") as out:
            self._popen = subprocess.Popen(
                [*SQSJKR, "cancel", job, *place.options],
                env={**servers.clean_environment(), **(place.env or {})},
                stdout=out,
                stderr=subprocess.STDOUT,
            )

    def wait_for(self, text: str) -> None:
        servers.wait_until(lambda: text in self._out.read_text(), description=f"cancel said {text!r}")

    def wait(self) -> int:
        return self._popen.wait()


def kill(daemon: Daemon) -> None:
    """Kill the worker; its launcher ends its jobs, and exits."""
    [worker] = [each for each in daemon.tree() if each.command.endswith("[worker]")]
    worker.kill()
    assert daemon.wait() == 3


def worker_with(daemons: list[Daemon], text: str) -> Daemon:
    servers.wait_until(lambda: any(text in each.stderr for each in daemons), description=f"a worker said {text!r}")
    return next(each for each in daemons if text in each.stderr)


def running(place: Place) -> dict[str, dict[str, Any]]:
    return {value["message_id"]: value for value in place.look("ps") if value["kind"] == "running"}


def wait_for_running(place: Place, *ids: str) -> dict[str, dict[str, Any]]:
    servers.wait_until(lambda: set(ids) <= set(running(place)), description="ps shows them")
    return running(place)


def test_what_runs_and_what_waits_is_seen_from_elsewhere(place: Place, two: list[Daemon]) -> None:
    holder = place.send_job(command="sleep 1000", event_id="nightly", lock_id="report")
    worker_with(two, f"job.started  nightly[{holder[:8]}]")
    waiter = place.send_job(command="echo done", event_id="after", lock_id="report")
    worker_with(two, f"job.waiting  after[{waiter[:8]}]")

    seen = wait_for_running(place, holder)
    assert set(seen) == {holder}
    servers.wait_until(
        lambda: [value["lock_id"] for value in place.look("ps") if value["kind"] == "waiting"] == ["report"],
        description="ps shows the waiter",
    )
    [waiting] = [value for value in place.look("ps") if value["kind"] == "waiting"]
    assert (waiting["waiting"], waiting["oldest_message_id"]) == (1, waiter)
    assert (waiting["held_by_event_id"], waiting["held_by_message_id"]) == ("nightly", holder)

    [lock] = place.look("locks")
    assert (lock["lock_id"], lock["held"], lock["event_id"], lock["waiting"]) == ("report", True, "nightly", 1)
    assert lock["worker"] == seen[holder]["worker"]
    assert lock["worker_life"] == "busy"

    workers = {value["worker"]: value for value in place.look("fleet")}
    assert len(workers) == 2
    assert workers[seen[holder]["worker"]]["busy"] == 1
    assert sum(value["waiting"] for value in workers.values()) == 1


def test_a_job_is_cancelled_on_the_other_worker_although_its_processes_ignore_every_signal(
    place: Place, two: list[Daemon], tmp_path: Path
) -> None:
    job = place.send_job(command=f"echo $$ >{tmp_path}/pid; {STUBBORN}", event_id="stubborn")
    other = place.send_job(command="sleep 1000", event_id="other")
    runner = worker_with(two, f"job.started  stubborn[{job[:8]}]")
    worker_with(two, f"job.started  other[{other[:8]}]")
    servers.wait_until((tmp_path / "pid").exists, description="it ran")
    tree = [each for each in runner.tree() if "sleep 1000" in each.command]
    assert tree

    said = place.say("cancel", job)
    assert said.code == 0, said.err + said.out
    assert "cancelled by" in said.out.splitlines()[-1]
    assert not [each for each in tree if each.lives()], "it is true when cancel says so"
    assert "order.obeyed" in runner.stderr
    assert f"job.ended  stubborn[{job[:8]}]: cancelled by " in runner.stderr
    wait_for_running(place, other)  # it goes on

    again = place.say("cancel", job)
    assert (again.code, "cancelled by" in again.out) == (0, True), "cancelled twice is cancelled once"


def test_a_job_that_has_not_started_never_will(place: Place, daemon: Callable[..., Daemon]) -> None:
    cancelled = place.send_job(command="echo never")
    said = place.say("cancel", cancelled.upper())
    assert said.code == 0, said.err
    [story] = place.look("explain", cancelled.upper())
    assert (story["message_id"], story["outcome"]) == (cancelled, "cancelled")
    kept = place.send_job(command="echo kept")
    worker = place.worker(daemon)
    worker.wait_for_line(f"job.ended  {kept}: succeeded")
    worker.wait_for_line(f"job.ended  {cancelled}: cancelled by ")
    assert "never" not in worker.stderr


def test_a_job_that_waits_for_its_lock_is_cancelled_by_its_id(place: Place, two: list[Daemon]) -> None:
    holder = place.send_job(command="sleep 1000", event_id="nightly", lock_id="report")
    worker_with(two, f"job.started  nightly[{holder[:8]}]")
    waiter = place.send_job(command="echo never", event_id="after", lock_id="report")
    worker_with(two, f"job.waiting  after[{waiter[:8]}]")

    assert place.say("cancel", waiter).code == 0
    assert place.say("cancel", "--lock", "report").code == 0
    worker_with(two, f"job.ended  after[{waiter[:8]}]: cancelled by ")
    assert not any("job.output" in each.stderr for each in two)


def test_a_signed_job_is_cancelled_by_the_id_of_its_message_wherever_it_is(
    place: Place, daemon: Callable[..., Daemon], tmp_path: Path
) -> None:
    """Its claim has a key of its own, which no operator knows."""
    assert sqsjkr("keygen", "--id", "deploy", "--out", str(tmp_path)).code == 0
    trust = tmp_path / "trust.toml"
    trust.write_text('keys = "deploy.jwks.json"\n[producer.deploy]\nkey = "deploy"\nmay = "command"\n')
    trust.chmod(0o644)
    sign = ("--sign", str(tmp_path / "deploy.private.json"))

    def send(*words: str) -> str:
        said = place.say("send", *sign, "--lock-id", "report", *words)
        assert said.code == 0, said.err
        return said.out.strip()

    queued = send("echo never")
    assert place.say("cancel", queued).code == 0
    worker = place.worker(daemon, trust=str(trust), kill_after="1s")
    worker.wait_for_line(f"job.ended  {queued}: cancelled by ")

    running = send("sleep 1000")
    worker.wait_for_line(f"job.started  {running}")
    waiting = send("echo never")
    worker.wait_for_line(f"job.waiting  {waiting}")
    assert place.say("cancel", waiting).code == 0
    wait_for_running(place, running)
    [story] = place.look("explain", running)
    assert (story["state"], story["command"]) == ("running", "sleep 1000")
    said = place.say("cancel", running)
    assert (said.code, "cancelled by" in said.out) == (0, True), said.out + said.err
    worker.wait_for_line(f"job.ended  {running}: cancelled by ")
    worker.wait_for_line(f"job.ended  {waiting}: cancelled by ")
    assert "job.output" not in worker.stderr

    done = send("true")
    worker.wait_for_line(f"job.ended  {done}: succeeded")
    said = place.say("cancel", done)
    assert (said.code, "not cancelled: it has ended by itself: succeeded" in said.out) == (1, True), said.out


def test_a_cancellation_is_told_to_scripts(place: Place, two: list[Daemon]) -> None:
    jobs = [place.send_job(command="sleep 1000", event_id="import") for _ in range(2)]
    for job in jobs:
        worker_with(two, f"job.started  import[{job[:8]}]")
    wait_for_running(place, *jobs)
    asked = place.say("cancel", "--event", "import", "--json")
    assert (asked.code, asked.out) == (2, "")
    assert asked.complaints == ["sqsjkr: 2 jobs match: with --json, --yes must answer; sqsjkr ps lists them"]

    [sent_back] = place.look("cancel", jobs[0], "--requeue")
    assert (sent_back["message_id"], sent_back["event_id"], sent_back["result"]) == (jobs[0], "import", "requeued")
    worker_with(two, f"job.started  import[{jobs[0][:8]}]")
    wait_for_running(place, *jobs)
    told = place.look("cancel", "--event", "import", "--yes")
    assert {each["message_id"]: each["result"] for each in told} == dict.fromkeys(jobs, "cancelled")
    assert all(each["by"] and each["host"] and each["seconds"] > 0 for each in told)


def test_a_job_is_sent_back_and_runs_again(place: Place, two: list[Daemon], tmp_path: Path) -> None:
    job = place.send_job(command=f"echo x >>{tmp_path}/runs; sleep 1000", event_id="again")
    worker_with(two, f"job.started  again[{job[:8]}]")
    said = place.say("cancel", job, "--requeue")
    assert said.code == 0, said.out
    servers.wait_until(lambda: (tmp_path / "runs").read_text() == "x\nx\n", description="it ran again")
    assert sum(f"again[{job[:8]}]: interrupted sent back to the queue by " in each.stderr for each in two) == 1


def test_several_jobs_of_one_event_are_listed_and_asked_for(place: Place, two: list[Daemon]) -> None:
    jobs = [place.send_job(command="sleep 1000", event_id="import") for _ in range(2)]
    for job in jobs:
        worker_with(two, f"job.started  import[{job[:8]}]")
    wait_for_running(place, *jobs)

    refused = place.say("cancel", "--event", "import")
    assert refused.code == 2
    assert all(job in refused.out for job in jobs)
    assert set(running(place)) == set(jobs), "nothing was changed"
    said = place.say("cancel", "--event", "import", "--yes")
    assert said.code == 0, said.out + said.err
    assert said.out.count("cancelled by") == 2

    none = place.say("cancel", "--event", "import", "--yes")
    assert none.code == 1
    assert "no job of event import runs" in none.err


@pytest.mark.slow
def test_an_order_outlives_the_worker_that_dies_before_it_obeys(place: Place, daemon: Callable[..., Daemon]) -> None:
    first = place.worker(daemon, max_concurrent_num=1)
    job = place.send_job(command="sleep 1000", event_id="doomed")
    first.wait_for_line(f"job.started  doomed[{job[:8]}]")
    place_cancel = StartedCancel(place, job)
    place_cancel.wait_for("ordered")
    kill(first)
    second = place.worker(daemon)
    second.wait_for_line(f"job.ended  doomed[{job[:8]}]: cancelled by ")
    assert place_cancel.wait() == 0
    assert "job.started" not in second.stderr


@pytest.mark.slow
def test_a_paused_queue_takes_no_jobs_and_goes_on_when_it_is_resumed(place: Place, two: list[Daemon]) -> None:
    going_on = place.send_job(command="sleep 1000", event_id="going-on")
    worker_with(two, f"job.started  going-on[{going_on[:8]}]")
    assert place.say("fleet", "pause", "--why", "deploy").code == 0
    for each in two:
        each.wait_for_line("no new jobs: paused by ")
    status = place.say("status")
    assert status.code == 1
    assert "paused by" in status.out
    assert "deploy; next: sqsjkr fleet resume" in status.out
    job = place.send_job(command="echo done", event_id="later")
    for each in two:
        assert each.get("/healthz") == (200, "ok\n"), "a paused worker is well"
    assert going_on in wait_for_running(place, going_on), "running jobs go on"

    assert place.say("fleet", "resume").code == 0
    worker_with(two, f"job.ended  later[{job[:8]}]: succeeded")


@pytest.mark.slow
def test_a_drained_worker_stops_in_order_and_one_that_starts_there_takes_nothing(
    place: Place, daemon: Callable[..., Daemon]
) -> None:
    first = place.worker(daemon)
    [seen] = place.look("fleet")
    assert place.say("fleet", "drain", seen["host"], "--why", "new kernel").code == 0
    assert first.wait() == 0
    assert "drained by" in first.stderr
    assert place.look("fleet") == [], "it has left the roster"

    second = place.worker(daemon)
    second.wait_for_line("no new jobs: this host is drained: by ")
    status = place.say("status")
    assert f"sqsjkr fleet resume {seen['host']}" in status.out
    job = place.send_job(command="echo done")
    assert place.say("fleet", "resume", seen["host"]).code == 0
    second.wait_for_line(f"job.ended  {job}: succeeded")
    again = place.say("fleet", "resume", seen["host"])
    assert (again.code, "is not drained" in again.out) == (1, True)


@pytest.mark.slow
def test_every_worker_answers_a_roll_call_and_a_dead_one_does_not(place: Place, two: list[Daemon]) -> None:
    said = place.say("fleet", "--call")
    assert said.code == 0, said.out
    assert said.out.splitlines()[-1] == "2 of 2 answered"
    kill(two[0])
    said = place.say("fleet", "--call")
    assert said.code == 1
    assert "1 of 2 answered" in said.out
    servers.wait_until(
        lambda: sorted(value["life"] for value in place.look("fleet")) == ["idle", "lost"],
        description="the one that was killed was seen to be lost",
    )


@pytest.mark.slow
def test_a_worker_that_is_lost_with_a_job_is_named_and_its_job_runs_again(place: Place, two: list[Daemon]) -> None:
    job = place.send_job(command="sleep 1000", event_id="survivor")
    runner = worker_with(two, f"job.started  survivor[{job[:8]}]")
    worker = wait_for_running(place, job)[job]["worker"]
    kill(runner)

    servers.wait_until(lambda: "(silent)" in place.say("ps").out, description="ps names the job of the silent worker")
    said = place.say("explain", "survivor")
    assert (said.code, "its worker is silent, for " in said.out) == (0, True), said.out
    servers.wait_until(
        lambda: f"worker {worker} on" in place.say("status").out, description="status names the lost worker"
    )
    other = next(each for each in two if each is not runner)
    other.wait_for_line(f"job.started  survivor[{job[:8]}]")
    servers.wait_until(
        lambda: {value["worker"]: value["life"] for value in place.look("fleet")}.get(worker) == "lost",
        description="fleet says that it is lost",
    )


def test_status_names_dead_letters_and_that_no_worker_is_there(place: Place, daemon: Callable[..., Daemon]) -> None:
    place.send("no json")
    said = place.say("status")
    assert said.code == 1
    assert said.out.startswith("FAIL  queue")
    worker = place.worker(daemon)
    worker.wait_for_line("job.buried")
    servers.wait_until(
        lambda: "1 on the dead-letter queue; next: sqsjkr dead" in place.say("status").out, description="it is named"
    )
    [value] = place.look("status")
    assert (value["visible"], value["workers"], value["slots"]) == (0, 1, 20)
    assert (value["wanted_slots"], value["wanted_workers"]) == (0, 0)
    place.look("dead")
    assert place.say("dead", "drop", "--yes", place.look("dead")[0]["id"]).code == 0
    well = place.say("status")
    assert (well.code, well.out.split("\n")[0][:9]) == (0, "ok    que"), well.out


def test_a_lock_whose_worker_lives_is_not_freed(place: Place, two: list[Daemon]) -> None:
    job = place.send_job(command="sleep 1000", event_id="nightly", lock_id="report")
    worker_with(two, f"job.started  nightly[{job[:8]}]")
    said = place.say("locks", "free", "report", "--yes")
    assert said.code == 1
    assert "its worker lives" in said.out
    assert place.say("locks", "list", "report").code == 0
    free = place.say("locks", "free", "other", "--yes")
    assert (free.code, free.out) == (1, "other is free\n")


def test_a_clean_stop_leaves_no_worker_behind_in_the_roster(place: Place, two: list[Daemon]) -> None:
    assert len(place.look("fleet")) == 2
    for each in two:
        each.signal(signal.SIGTERM)
        each.wait()
    assert place.look("fleet") == []


def test_without_a_table_of_ours_the_verbs_say_so(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text('[kicker]\nthrottler = "none"\n')
    for verb, *words in (["ps"], ["status"], ["fleet"], ["locks"], ["cancel", "--event", "e"]):
        said = sqsjkr(verb, *words, "--local", str(tmp_path), "--conf", str(tmp_path / "config.toml"))
        assert said.code == 2, said.err
        assert "throttler = 'none'" in said.err
        assert len(said.complaints) == 1


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["cancel"], "expected one of: the id of a message, --event, --lock"),
        (["cancel", "--event", "a", "--lock", "b"], "expected one of: the id of a message, --event, --lock"),
        (["cancel", "nightly"], "'nightly' is not the id of a message; for a job's event id: --event"),
        (["fleet", "drain"], "drain: expected a host, as sqsjkr fleet shows it"),
        (["fleet", "list", "host"], "unexpected 'host'"),
        (["fleet", "pause", "--call"], "--call: only for list, and without --watch"),
        (["fleet", "resume", "--why", "x"], "--why: only for pause and drain"),
        (["locks", "free"], "free: expected one lock id, as sqsjkr locks shows it"),
        (["ps", "--watch", "0"], "--watch: '0': expected at least 1 second"),
    ],
)
def test_words_that_do_not_fit_together_are_one_line(tmp_path: Path, words: list[str], complaint: str) -> None:
    said = sqsjkr(*words, "--local", str(tmp_path))
    assert (said.code, said.complaints) == (2, [f"sqsjkr: {complaint}"])
