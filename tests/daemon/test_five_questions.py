"""The five questions of an operator at 3 a.m., asked from one terminal, with two workers that have seen trouble.

Which job failed, and why? Where is the job that never ran? Who holds the lock? Why is nothing taken? What lies on the
dead-letter queue? On SQS and DynamoDB servers and on the embedded store.
"""

from __future__ import annotations

import os
import pty
import signal
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

import servers
from commands import SQSJKR, read_terminal
from daemons import Daemon
from places import SQS, Embedded, Place


@pytest.fixture(params=["sqs", "embedded"])
def place(request: pytest.FixtureRequest, tmp_path: Path, aws_env: Mapping[str, str]) -> Place:
    """Both backends."""
    if request.param == "sqs":
        return SQS(request.getfixturevalue("fleet"), tmp_path, aws_env)
    return Embedded(tmp_path / "store")


def explained(place: Place, name: str) -> dict[str, Any]:
    [story] = place.look("explain", name)
    return story


def wait_for_story(place: Place, name: str, **facts: object) -> dict[str, Any]:
    def fits() -> bool:
        said = place.say("explain", name, "--json")
        return bool(said.out) and facts.items() <= explained(place, name).items()

    servers.wait_until(fits, description=f"explain says {facts}")
    return explained(place, name)


def test_which_job_failed_and_why(place: Place, daemon: Callable[..., Daemon]) -> None:
    worker = place.worker(daemon)
    for n in range(3):
        job = place.send_job(
            command=f"echo reading {n}; echo 'no such column: created_on' >&2; exit 3", event_id="nightly"
        )
        worker.wait_for_line(f"job.ended  nightly[{job[:8]}]: errored")
    good = place.send_job(command="true", event_id="thumbs")
    worker.wait_for_line(f"job.ended  thumbs[{good[:8]}]: succeeded")

    servers.wait_until(lambda: "event nightly" in place.say("status").out, description="status names the event")
    status = place.say("status")
    assert status.code == 1
    line = status.out.splitlines()[0]
    assert line.startswith("FAIL  event nightly  all of the last 3 failed, the first of them ")
    assert line.endswith("no such column: created_on; next: sqsjkr explain nightly")
    assert "jobs " not in status.out, "said once"

    assert [run["message_id"] for run in place.look("runs", "--event", "thumbs")] == [good], "by its name, at once"
    servers.wait_until(lambda: len(place.look("runs", "--failed")) == 3, description="the failures were listed")
    worker.signal(signal.SIGTERM)  # the lists of a worker that lives may lack the last half minute
    assert worker.wait() == 0
    runs = place.look("runs", "--failed")
    assert [run["event_id"] for run in runs] == ["nightly"] * 3
    assert runs[0]["message_id"] == job, "the newest first"
    assert [run["message_id"] for run in place.look("runs", "--event", "thumb*")] == [good]
    assert len(place.look("runs")) == 4
    assert place.look("runs", "--host", "elsewhere") == []

    told = explained(place, "nightly")
    assert (told["message_id"], told["state"], told["outcome"], told["exit_status"]) == (job, "ended", "errored", 3)
    assert "no such column: created_on" in told["output"]
    assert told["began_at"] <= told["ended_at"]
    said = place.say("explain", "nightly")
    assert said.code == 0
    assert "so         its message has left the queue: it is not run again" in said.out
    assert "output     reading 2" in said.out
    assert said.out.count("errored") >= 4, "its last endings stand below"


def test_where_is_the_job_that_never_ran(place: Place, daemon: Callable[..., Daemon]) -> None:
    unknown = place.say("explain", "00000000-0000-4000-8000-000000000000")
    assert unknown.code == 1
    assert "no worker has met it yet" in unknown.out
    assert place.say("explain", "never-heard-of").code == 1

    worker = place.worker(daemon)
    holder = place.send_job(command="sleep 1000", event_id="index", lock_id="report")
    worker.wait_for_line(f"job.started  index[{holder[:8]}]")
    waiter = place.send_job(command="true", event_id="nightly", lock_id="report")
    worker.wait_for_line(f"job.waiting  nightly[{waiter[:8]}]")
    story = wait_for_story(place, waiter, state="waiting")
    assert story["lock_id"] == "report"
    assert "for lock report, held by index on " in place.say("explain", waiter).out
    story = wait_for_story(place, "nightly", state="waiting")
    assert (story["message_id"], story["event_id"]) == (waiter, "nightly"), "by its name, too"
    [_, line] = place.say("ps").out.split("\n\n")[1].splitlines()
    assert line.split()[-2:] == ["nightly", waiter]

    expired = place.send_job(command="true", event_id="late", life_time=-1)
    story = wait_for_story(place, expired, state="ended")
    assert story["outcome"] == "expired"
    cancelled = place.send_job(command="true", event_id="stopped", lock_id="report")
    assert place.say("cancel", cancelled).code == 0
    story = explained(place, cancelled)
    assert (story["state"], story["outcome"]) == ("ended", "cancelled")


def test_a_job_that_waits_for_its_next_try_is_found_by_its_name(place: Place, daemon: Callable[..., Daemon]) -> None:
    worker = place.worker(daemon)
    first = place.send_job(command="true", event_id="nightly")
    worker.wait_for_line(f"job.ended  nightly[{first[:8]}]: succeeded")
    job = place.send_job(command="echo why; exit 1", event_id="nightly", retries=3, retry_delay="1h")
    worker.wait_for_line(f"job.ended  nightly[{job[:8]}]: retried")
    story = wait_for_story(place, "nightly", message_id=job, state="waiting")
    [attempt] = story["attempts"]
    assert (attempt["outcome"], attempt["detail"].startswith("exit status 1")) == ("retried", True)
    said = place.say("explain", "nightly").out
    assert "tried      it has failed once" in said
    assert "so         it runs again in 59m" in said or "so         it runs again in 1h" in said
    assert said.count("succeeded") == 1, "the ending before it"


def test_who_held_the_lock_last(place: Place, daemon: Callable[..., Daemon]) -> None:
    worker = place.worker(daemon)
    job = place.send_job(command="exit 3", event_id="index", lock_id="report")
    worker.wait_for_line(f"job.ended  index[{job[:8]}]: errored")
    servers.wait_until(lambda: place.look("locks", "list", "report")[0]["last"], description="the lock was given back")
    wait_for_story(place, job, state="ended")
    [lock] = place.look("locks", "list", "report")
    assert lock["held"] is False
    last = lock["last"]
    assert (last["message_id"], last["event_id"], last["outcome"]) == (job, "index", "errored")
    assert last["since_at"] <= last["ended_at"]
    said = place.say("locks", "list", "report").out
    assert f"report was last held by index ({job}) on " in said
    assert said.rstrip().endswith(": errored")


def test_where_does_it_run_and_what_became_of_it_before(
    place: Place, daemon: Callable[..., Daemon], tmp_path: Path
) -> None:
    workers = [place.worker(daemon, max_concurrent_num=1, kill_after="1s") for _ in range(2)]
    job = place.send_job(command=f"test -e {tmp_path}/again && exec sleep 1000; sleep 1000", event_id="moved")
    servers.wait_until(lambda: any("job.started  moved" in each.stderr for each in workers), description="it runs")
    (tmp_path / "again").touch()
    assert place.say("cancel", job, "--requeue").code == 0
    servers.wait_until(
        lambda: sum(each.stderr.count("job.started  moved") for each in workers) == 2, description="it runs again"
    )
    story = wait_for_story(place, "moved", state="running", message_id=job)
    assert story["host"]
    said = place.say("explain", "moved")
    assert "it runs" in said.out.splitlines()[0]
    assert f"to end it: sqsjkr cancel {job}" in said.out

    servers.wait_until(
        lambda: job in [value.get("message_id") for value in place.look("ps")], description="a heartbeat has shown it"
    )
    assert place.say("cancel", "--event", "moved").code == 0
    story = explained(place, job)
    assert (story["state"], story["outcome"]) == ("ended", "cancelled")
    assert "by " in story["detail"]
    [attempt] = story["attempts"]
    assert attempt["outcome"] == "interrupted"
    assert "sent back to the queue by" in attempt["detail"]
    assert "attempt 1  on " in place.say("explain", job).out


def test_no_output_and_no_name_reaches_the_terminal_as_more_than_text(
    place: Place, daemon: Callable[..., Daemon]
) -> None:
    worker = place.worker(daemon)
    evil = "\x1b]0;pwned\x07\x1b[2J\u202e"
    job = place.send_job(command="printf '\\033[2J\\033]0;pwned\\007\\n'; exit 1", event_id=evil, lock_id=evil)
    worker.wait_for_line("errored")
    servers.wait_until(lambda: place.look("runs"), description="it is listed")
    for words in (["explain", job], ["explain", evil], ["runs"], ["status"], ["ps"], ["locks", "list", evil]):
        ours, theirs = pty.openpty()
        with os.fdopen(theirs, "wb") as terminal:
            begun = subprocess.Popen(
                [*SQSJKR, *words, *place.options],
                env={**servers.clean_environment(), **(place.env or {}), "TERM": "xterm", "COLUMNS": "150"},
                stdin=subprocess.DEVNULL,
                stdout=terminal,
                stderr=terminal,
            )
        seen = read_terminal(ours)
        os.close(ours)
        begun.wait()
        for style in ("\x1b[1m", "\x1b[0m", "\x1b[1;31m", "\x1b[33m", "\x1b[32m"):
            seen = seen.replace(style, "")
        assert all(character.isprintable() or character in "\r\n" for character in seen), words
