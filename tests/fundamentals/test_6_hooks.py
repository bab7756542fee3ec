"""Hooks: an operator's command that is told how jobs have ended."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from embedded import Sqsjkr
from servers import until
from sqsjkr.execution import hook as stage

EXAMPLES = Path(__file__).parents[2] / "examples" / "hooks"


@pytest.fixture
def told(tmp_path: Path) -> Told:
    return Told(tmp_path / "told")


class Told:
    """A hook that keeps what it was told, one JSON object a line."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.command = f'told=$(cat); printf "%s\\n" "$told" >> {path}'  # one write: two may be told at a time

    @property
    def facts(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._path.read_text().splitlines()] if self._path.exists() else []


async def test_41_an_operators_hook_is_told_of_failures(sqsjkr: Sqsjkr, told: Told) -> None:
    """It gets one JSON object with what is known of the job, and hears nothing of a plain success."""
    await sqsjkr.send(command="true")
    message_id = await sqsjkr.send(command="echo no such file; exit 3", event_id="nightly", lock_id="report")

    await sqsjkr.run_until_empty(hook=told.command)

    (facts,) = told.facts
    assert facts["event"] == "failure"
    assert facts["outcome"] == "errored"
    assert facts["detail"].startswith("exit status 3 in ")
    assert (facts["message_id"], facts["event_id"], facts["lock_id"]) == (message_id, "nightly", "report")
    assert (facts["exit_status"], facts["signal"], facts["failures"]) == (3, None, 1)
    assert facts["output"] == "no such file\n"
    assert facts["command"] == "echo no such file; exit 3"
    assert facts["sent_at"] <= facts["started_at"] <= facts["ended_at"]
    assert facts["again"] is False


async def test_42_it_is_told_of_the_final_failure_and_of_a_recovery_and_not_of_each_retry(
    sqsjkr: Sqsjkr, told: Told, tmp_path: Path
) -> None:
    """With ``hook_on`` as it is. Who wants to know of each retry says so."""
    once = f"test -e {tmp_path}/ran || {{ touch {tmp_path}/ran; exit 1; }}"
    await sqsjkr.send(command=once, retries=3, retry_delay=0, event_id="recovers")
    await sqsjkr.send(command="exit 1", retries=2, retry_delay=0, event_id="dies")

    await sqsjkr.run_until_empty(hook=told.command, jobs={"talks-*": {"hook_on": ["all"]}})

    found = {facts["event_id"]: facts for facts in told.facts}
    assert len(told.facts) == 2
    assert (found["recovers"]["event"], found["recovers"]["outcome"]) == ("recovered", "succeeded")
    assert (found["dies"]["event"], found["dies"]["outcome"], found["dies"]["failures"]) == ("failure", "dead", 3)


async def test_43_a_section_has_a_hook_of_its_own_or_none(sqsjkr: Sqsjkr, told: Told, tmp_path: Path) -> None:
    """``hook`` and ``hook_on`` of the first matching section come before those in ``[kicker]``."""
    for name in ("quiet", "talks-1", "other"):
        await sqsjkr.send(command="exit 1" if name != "talks-1" else "true", event_id=name)
    other = Told(tmp_path / "other")

    jobs = {"quiet": {"hook": ""}, "talks-*": {"hook": other.command, "hook_on": ["success"]}}
    await sqsjkr.run_until_empty(hook=told.command, jobs=jobs)

    assert [facts["event_id"] for facts in told.facts] == ["other"]
    assert [(facts["event_id"], facts["event"]) for facts in other.facts] == [("talks-1", "success")]


async def test_44_secrets_are_masked_in_what_leaves_the_worker(
    sqsjkr: Sqsjkr, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The variables of the job, and those of the daemon whose names say that they are secret."""
    monkeypatch.setenv("DEPLOY_TOKEN", "daemons-own")
    command = 'echo "$PASSPHRASE and $DEPLOY_TOKEN and $MODE"; : correct horse; exit 1'
    await sqsjkr.send(command=command, envs={"PASSPHRASE": "correct horse", "MODE": "full"}, on_exit={"1": "never"})

    await sqsjkr.run_until_empty(hook=told.command)

    (facts,) = told.facts
    assert facts["output"] == "*** and *** and full\n"
    assert ": ***; exit 1" in facts["command"]
    assert sqsjkr.sql("SELECT failures, output FROM dead_letter_origin") == [(1, "*** and *** and full\n")]


async def test_45_a_hook_holds_no_slot_and_cannot_hang_for_ever(
    sqsjkr: Sqsjkr, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next job starts while the hook runs; a hook that hangs is ended, and the message leaves the queue."""
    monkeypatch.setattr(stage, "LONGEST", 2.0)
    await sqsjkr.send(command="exit 1", event_id="first")

    sqsjkr.start(slots=1, hook=f"touch {tmp_path}/hangs; sleep 600")
    await until((tmp_path / "hangs").exists, description="the hook ran")
    await sqsjkr.send(command=f"test -e {tmp_path}/hangs && touch {tmp_path}/beside", event_id="second")
    await until((tmp_path / "beside").exists, description="the next job ran")
    assert not sqsjkr.log("hook.failed")
    await until(lambda: sqsjkr.is_empty, description="the message has left the queue")
    await sqsjkr.stop()

    assert sqsjkr.said("hook.failed") == ["first: the hook for errored was ended after 2s"]
    assert sqsjkr.counters == {"succeeded": 1, "failed": 0, "errored": 1}


@pytest.mark.parametrize(
    ("end", "how"), [("exit 7", "failed with exit status 7"), ("kill -9 $$", "was ended by signal 9")]
)
async def test_46_a_hook_that_fails_is_one_line_and_is_not_repeated(
    sqsjkr: Sqsjkr, tmp_path: Path, end: str, how: str
) -> None:
    """What it prints is in the log."""
    await sqsjkr.send(command="exit 1", event_id="nightly")

    await sqsjkr.run_until_empty(hook=f"echo run >> {tmp_path}/proof; echo no route to host; {end}")

    assert (tmp_path / "proof").read_text() == "run\n"
    assert sqsjkr.said("hook.failed") == [f"nightly: the hook for errored {how}"]
    assert sqsjkr.said("hook.output") == ["nightly: no route to host"]


async def test_47_a_message_that_is_no_job_and_one_that_comes_too_late_are_told(sqsjkr: Sqsjkr, told: Told) -> None:
    """What was never run has failed, too."""
    await sqsjkr.send_body("no job")
    await sqsjkr.send(age=100, command="true", life_time=10, event_id="late")

    await sqsjkr.run_until_empty(hook=told.command)

    assert {facts["outcome"] for facts in told.facts} == {"invalid", "expired"}
    assert {facts["event"] for facts in told.facts} == {"failure"}


async def test_48_a_hook_that_a_stop_cuts_off_is_run_by_the_next_worker(
    sqsjkr: Sqsjkr, told: Told, tmp_path: Path
) -> None:
    """The job is not run again; ``again`` says that it may have been told before."""
    await sqsjkr.send(command=f"echo run >> {tmp_path}/runs; exit 3", event_id="nightly")

    sqsjkr.start(hook=f"touch {tmp_path}/hangs; sleep 600", grace=0)
    await until((tmp_path / "hangs").exists, description="the hook ran")
    await sqsjkr.stop(times=2)
    assert sqsjkr.visible == 1, "another worker can have it at once"
    await sqsjkr.run_until_empty(hook=told.command)

    assert (tmp_path / "runs").read_text() == "run\n"
    (facts,) = told.facts
    assert (facts["outcome"], facts["exit_status"], facts["again"]) == ("errored", 3, True)


async def test_49_what_a_job_left_in_the_background_survives_the_end_of_its_hook(
    sqsjkr: Sqsjkr, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hook and job are two things: ending one does not end what the other has started."""
    monkeypatch.setattr(stage, "LONGEST", 0.2)
    work = f"while [ ! -e {tmp_path}/enough ]; do sleep 0.05; done; touch {tmp_path}/survived"
    await sqsjkr.send(command=f"({work}) >/dev/null 2>&1 & exit 1")

    await sqsjkr.run_until_empty(hook="sleep 600")
    (tmp_path / "enough").touch()

    await until((tmp_path / "survived").exists, description="the background process ended by itself")


# --- the hooks that are shipped --------------------------------------------------------------------------------------


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand-ins for curl, apprise and aws: each notes its arguments and its standard input."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("curl", "apprise", "aws"):
        program = folder / name
        note = tmp_path / name
        program.write_text(f'#!/bin/sh\nfor word; do printf "%s\\n" "$word"; done > {note}.argv\ncat > {note}.stdin\n')
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return tmp_path


def noted(programs: Path, name: str) -> tuple[list[str], str]:
    return (programs / f"{name}.argv").read_text().splitlines(), (programs / f"{name}.stdin").read_text()


@pytest.mark.parametrize(
    ("code", "jobs", "state"), [(3, {}, "fail"), (0, {}, "0"), (75, {"Nightly Report": {"retries": 1}}, "log")]
)
async def test_51_the_example_for_healthchecks_pings_the_jobs_check(
    sqsjkr: Sqsjkr, programs: Path, monkeypatch: pytest.MonkeyPatch, code: int, jobs: Any, state: str
) -> None:
    monkeypatch.setenv("HC_PING_URL", "https://hc-ping.com/key")
    await sqsjkr.send(command=f"echo no such file; exit {code}", event_id="Nightly Report", retry_delay="1h")
    sqsjkr.start(hook=str(EXAMPLES / "healthchecks"), hook_on=["success", "failure", "deferred"], jobs=jobs)
    await until(lambda: (programs / "curl.stdin").exists() and not sqsjkr.visible, description="it pinged")
    await until(lambda: sum(sqsjkr.stats.outcomes.values()), description="the job is settled")
    await sqsjkr.stop()

    argv, body = noted(programs, "curl")
    assert argv[-1] == f"https://hc-ping.com/key/nightly-report/{state}"
    assert body.splitlines()[1] == "no such file"
    assert not sqsjkr.log("hook.failed")


async def test_52_the_example_for_apprise_has_a_title_and_a_kind(sqsjkr: Sqsjkr, programs: Path) -> None:
    await sqsjkr.send(command="echo one; echo two; exit 3", event_id="nightly")
    await sqsjkr.run_until_empty(hook=str(EXAMPLES / "apprise"))

    argv, _ = noted(programs, "apprise")
    assert argv[:5] == ["--notification-type", "failure", "--title", "nightly: errored", "--body"]
    assert argv[5].startswith("exit status 3 in ")
    assert argv[6:] == ["one", "two"]
    assert not sqsjkr.log("hook.failed")


async def test_53_the_example_for_slack_escapes_what_slack_would_interpret(
    sqsjkr: Sqsjkr, programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLACK_WEBHOOK_URL", "https://hooks.slack.com/services/T/B/X")
    await sqsjkr.send(command="echo '<!channel> & \"é\"'; exit 3", event_id="nightly")
    await sqsjkr.run_until_empty(hook=str(EXAMPLES / "slack"))

    argv, body = noted(programs, "curl")
    assert argv[-1] == "https://hooks.slack.com/services/T/B/X"
    text = json.loads(body)["text"]
    assert text.startswith(":red_circle: *nightly* errored on ")
    assert text.endswith('```\n&lt;!channel&gt; &amp; "é"\n```')
    assert not sqsjkr.log("hook.failed")


async def test_54_the_example_for_sns_publishes_the_facts(
    sqsjkr: Sqsjkr, programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SNS_TOPIC_ARN", "arn:aws:sns:eu-west-1:123456789012:jobs")
    await sqsjkr.send(command="exit 3", event_id=f"nightly {'x' * 200}")
    await sqsjkr.run_until_empty(hook=str(EXAMPLES / "sns"))

    argv, body = noted(programs, "aws")
    assert argv[:4] == ["sns", "publish", "--topic-arn", "arn:aws:sns:eu-west-1:123456789012:jobs"]
    subject = argv[argv.index("--subject") + 1]
    assert subject.startswith("sqsjkr: errored nightly xxx")
    assert len(subject) == 100
    assert json.loads(body)["exit_status"] == 3
    assert not sqsjkr.log("hook.failed")
