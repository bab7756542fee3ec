"""What a job is, what it gets, and what becomes of what it says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from embedded import Sqsjkr
from servers import until


async def test_01_a_job_runs(sqsjkr: Sqsjkr, tmp_path: Path) -> None:
    """A job is a JSON object with a command; the command is run by ``sh``, and its message leaves the queue."""
    await sqsjkr.send(command=f"echo done > {tmp_path}/proof")

    await sqsjkr.run_until_empty()

    assert (tmp_path / "proof").read_text() == "done\n"
    assert sqsjkr.counters == {"succeeded": 1, "failed": 0, "errored": 0}


async def test_02_a_job_brings_its_own_variables(sqsjkr: Sqsjkr, tmp_path: Path) -> None:
    """``env`` and ``envs`` are two names of one thing, and a job may use both."""
    await sqsjkr.send(command=f'echo "$COLOUR $SIZE" > {tmp_path}/proof', env={"COLOUR": "red"}, envs={"SIZE": "XL"})

    await sqsjkr.run_until_empty()

    assert (tmp_path / "proof").read_text() == "red XL\n"


async def test_03_a_jobs_variables_are_added_to_the_daemons(
    sqsjkr: Sqsjkr, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job sees the daemon's environment too; where both have a variable, the job's counts."""
    monkeypatch.setenv("STAGE", "production")
    monkeypatch.setenv("COLOUR", "blue")
    await sqsjkr.send(command=f'echo "$STAGE $COLOUR" > {tmp_path}/proof', envs={"COLOUR": "red"})

    await sqsjkr.run_until_empty()

    assert (tmp_path / "proof").read_text() == "production red\n"


async def test_04_a_job_can_know_who_it_is(sqsjkr: Sqsjkr, tmp_path: Path) -> None:
    """Its message, its event, its lock and how often it was delivered stand in variables."""
    message_id = await sqsjkr.send(command=f"env > {tmp_path}/proof", event_id="nightly", lock_id="report")

    await sqsjkr.run_until_empty()

    told = dict(line.split("=", 1) for line in (tmp_path / "proof").read_text().splitlines() if "=" in line)
    assert told["SQSJKR_JOB_ID"] == message_id
    assert told["SQSJKR_EVENT_ID"] == "nightly"
    assert told["SQSJKR_LOCK_ID"] == "report"
    assert told["SQSJKR_FENCE"] == "1"
    assert told["SQSJKR_RECEIVE_COUNT"] == "1"
    assert float(told["SQSJKR_SENT_AT"]) > 1_600_000_000


async def test_05_a_job_reads_nothing(sqsjkr: Sqsjkr, tmp_path: Path) -> None:
    """Its standard input is /dev/null: a command that reads comes to the end at once."""
    await sqsjkr.send(command=f"cat > {tmp_path}/proof")

    await sqsjkr.run_until_empty()

    assert (tmp_path / "proof").read_text() == ""


@pytest.mark.parametrize(
    ("command", "counter"),
    [("exit 0", "succeeded"), ("exit 3", "errored"), ("kill -KILL $$", "errored"), ("", "failed")],
)
async def test_06_the_exit_code_is_counted(sqsjkr: Sqsjkr, command: str, counter: str) -> None:
    """Zero is succeeded, anything else is errored, and what was never started is failed. None of them is run again."""
    await sqsjkr.send(command=command)

    await sqsjkr.run_until_empty()

    assert sqsjkr.counters == {"succeeded": 0, "failed": 0, "errored": 0} | {counter: 1}


async def test_07_what_a_job_prints_is_logged_line_by_line(sqsjkr: Sqsjkr) -> None:
    """Standard output and standard error, as they come, each line with the job's name and which run of it this is."""
    message_id = await sqsjkr.send(command="echo one; echo two >&2; printf three", event_id="nightly")

    await sqsjkr.run_until_empty()

    run = f"nightly[{message_id[:8]}]"
    assert sqsjkr.log("job.output") == [f"{run}: one", f"{run}: two", f"{run}: three"]
    printed = [line for line in sqsjkr.lines if line.event == "job.output"]
    assert {line.facts["message_id"] for line in printed} == {message_id}


async def test_08_a_job_has_two_lines_of_its_own(sqsjkr: Sqsjkr) -> None:
    """One when it starts, one when it has ended; a job without an event_id is called by its message's id."""
    message_id = await sqsjkr.send(command="exit 3")

    await sqsjkr.run_until_empty()

    (started,), (ended,) = sqsjkr.log("job.started"), sqsjkr.log("job.ended")
    assert started.startswith(f"{message_id}: exit 3")
    assert ended.startswith(f"{message_id}: errored exit status 3")


async def test_09_as_many_jobs_run_at_once_as_there_are_slots(sqsjkr: Sqsjkr, tmp_path: Path) -> None:
    """Two jobs that wait for each other can only end if both run."""
    for me, other in ("ab", "ba"):
        await sqsjkr.send(command=f"touch {tmp_path}/{me}; until [ -e {tmp_path}/{other} ]; do sleep 0.01; done")

    await sqsjkr.run_until_empty(slots=2)

    assert sqsjkr.counters["succeeded"] == 2


async def test_10_what_a_job_leaves_in_the_background_holds_no_slot(sqsjkr: Sqsjkr, tmp_path: Path) -> None:
    """A job has ended when its command has, even if a process of it still holds the output open."""
    await sqsjkr.send(command=f"(until [ -e {tmp_path}/end ]; do sleep 0.01; done; echo bye; touch {tmp_path}/ended) &")

    await sqsjkr.run_until_empty(slots=1)

    assert sqsjkr.counters["succeeded"] == 1
    assert not (tmp_path / "ended").exists()
    (tmp_path / "end").touch()  # it was left alone, and what it prints is still read
    await until((tmp_path / "ended").exists, description="the background process ended by itself")
    await until(lambda: len(sqsjkr.log("job.output")) == 1, description="its line was logged")


async def test_11_a_body_that_is_no_job_is_buried(sqsjkr: Sqsjkr) -> None:
    """It goes to the dead letters, with the reason; the next job does not wait for that."""
    await sqsjkr.send_body("rm -rf /")
    await sqsjkr.send_body(json.dumps({"command": "true", "life_time": "soon"}))
    await sqsjkr.send(command="true")

    await sqsjkr.run_until_empty(slots=1)

    assert [body for body, _ in sqsjkr.dead_letters] == ["rm -rf /", '{"command": "true", "life_time": "soon"}']
    (_, no_json), (_, no_time) = sqsjkr.dead_letters
    assert no_json.startswith("invalid: body: not JSON")
    assert no_time.startswith('invalid: life_time = "soon"')
    assert sqsjkr.counters == {"succeeded": 1, "failed": 2, "errored": 0}


async def test_29_an_operator_puts_a_program_in_front_of_jobs(sqsjkr: Sqsjkr, tmp_path: Path) -> None:
    """``wrapper`` is an argv that gets the command as its last arguments; a section chooses it by the job's name."""
    await sqsjkr.send(command=f'echo "all $STAGE" >> {tmp_path}/proof', lock_id="in turn")
    await sqsjkr.send(command=f'echo "heavy $STAGE" >> {tmp_path}/proof', lock_id="in turn", event_id="heavy-report")

    jobs = {"heavy-*": {"wrapper": ["env", "STAGE=nightly work"]}}
    await sqsjkr.run_until_empty(wrapper=["env", "STAGE=production"], jobs=jobs)

    assert sorted((tmp_path / "proof").read_text().splitlines()) == ["all production", "heavy nightly work"]


async def test_30_what_an_operator_says_of_jobs_by_name_yields_to_the_message(sqsjkr: Sqsjkr) -> None:
    """``[jobs."PATTERN"]`` holds fields for messages that leave them out."""
    await sqsjkr.send(age=100, command="true", event_id="nightly-1")
    await sqsjkr.send(age=100, command="true", event_id="nightly-2", life_time="1h")

    await sqsjkr.run_until_empty(jobs={"nightly-*": {"life_time": "1m"}})

    assert sqsjkr.counters == {"succeeded": 1, "failed": 1, "errored": 0}
