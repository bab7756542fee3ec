"""Trust: who may make a worker do what, when its operator has said so in a trust file."""

from __future__ import annotations

import getpass
import json
import re
import time
from collections.abc import Callable
from pathlib import Path

import jwt
import pytest

from embedded import Sqsjkr
from servers import until
from sqsjkr.cli.main import main
from sqsjkr.trust.keys import read_private
from sqsjkr.trust.signature import TYPE, claims_of
from sqsjkr.trust.signer import new_token_id

ME = getpass.getuser()
MENU = """
[job.greet]
run = ["printf", "<%s>", "{{name}}", "hi {{name}}"]
args.name = '[^!]*'
env = ["TZ"]

[job.show]
command = 'echo "$ARG_WHAT|$SQSJKR_JOB_NAME|$SQSJKR_PRODUCER|$TZ|$LANG"'
args.what = {{ pattern = '.*', dash = true }}
env = ["TZ"]
set = {{ LANG = "C.UTF-8" }}

[job.batch]
match = 'printf [a-z]+'

[producer.{name}]
sender = "{sender}"
may = {may}
"""


@pytest.fixture
def trust(tmp_path: Path) -> Callable[..., str]:
    """Writes a trust file; its path."""

    def write(*, mode: str = "enforce", sender: str = ME, may: str = '"*"', name: str = "me") -> str:
        path = tmp_path / "trust.toml"
        path.write_text(f'mode = "{mode}"\n' + MENU.format(sender=sender, may=may, name=name))
        path.chmod(0o644)
        return str(path)

    return write


async def test_40_a_named_job_runs_what_the_operator_published_without_a_shell(
    sqsjkr: Sqsjkr, trust: Callable[..., str]
) -> None:
    await sqsjkr.send(job="greet", args={"name": "$(id); rm -rf /"})

    await sqsjkr.run_until_empty(trust=trust())

    assert sqsjkr.log("job.output")[0].endswith(": <$(id); rm -rf /><hi $(id); rm -rf />")
    assert sqsjkr.counters == {"succeeded": 1, "failed": 0, "errored": 0}


async def test_41_the_operators_own_shell_text_finds_arguments_and_origin_in_variables(
    sqsjkr: Sqsjkr, trust: Callable[..., str]
) -> None:
    await sqsjkr.send(job="show", args={"what": "-n `id`"}, envs={"TZ": "UTC"}, event_id="e")

    await sqsjkr.run_until_empty(trust=trust())

    assert sqsjkr.said("job.output") == ["e: -n `id`|show|me|UTC|C.UTF-8"]


async def test_42_what_nobody_may_ask_for_is_a_dead_letter_with_the_rule_and_without_the_value(
    sqsjkr: Sqsjkr, trust: Callable[..., str], tmp_path: Path
) -> None:
    await sqsjkr.send(command=f"touch {tmp_path}/proof", event_id="shell")
    await sqsjkr.send(job="greet", args={"name": "-secret"}, event_id="dash")
    await sqsjkr.send(job="greet", args={"name": "x"}, envs={"PATH": "secret"}, event_id="variable")

    await sqsjkr.run_until_empty(trust=trust())

    assert sorted(reason for _, reason in sqsjkr.dead_letters) == [
        "refused: args.name begins with a dash, which a program takes for an option",
        "refused: job greet takes no variable PATH",
        'refused: producer me may not ask for "command"',
    ]
    assert not (tmp_path / "proof").exists()
    assert sqsjkr.counters == {"succeeded": 0, "failed": 3, "errored": 0}
    assert sqsjkr.log("job.ended") == []
    assert len(sqsjkr.log("job.refused")) == 3
    assert not any("secret" in line.text for line in sqsjkr.lines)


async def test_43_the_log_says_of_each_job_who_sent_it_and_what_it_was(
    sqsjkr: Sqsjkr, trust: Callable[..., str]
) -> None:
    await sqsjkr.send(job="greet", args={"name": "x"})
    await sqsjkr.send(command="id")

    await sqsjkr.run_until_empty(trust=trust())

    facts = {line.event: line.facts for line in sqsjkr.lines if line.event.startswith("job.")}
    for event, job in (("job.started", "greet"), ("job.ended", "greet"), ("job.refused", None)):
        found = facts[event]
        assert (found["sender"], found["producer"], found["key"], found["job"]) == (ME, "me", None, job)
        assert len(found["sha256"]) == 64


async def test_44_with_mode_warn_everything_runs_and_the_log_says_what_would_not(
    sqsjkr: Sqsjkr, trust: Callable[..., str], tmp_path: Path
) -> None:
    await sqsjkr.send(command=f"echo x > {tmp_path}/proof; true", event_id="shell")
    await sqsjkr.send(job="greet", args={"name": "-n"}, event_id="dash")
    await sqsjkr.send(command="printf abc", event_id="match")

    await sqsjkr.run_until_empty(trust=trust(mode="warn", sender="nobody-here"))

    assert sqsjkr.counters == {"succeeded": 3, "failed": 0, "errored": 0}
    assert (tmp_path / "proof").read_text() == "x\n"
    assert sorted(sqsjkr.said("job.untrusted")) == sorted(
        f"{name}: it would be refused: sender {ME} is no producer's" for name in ("dash", "match", "shell")
    )


async def test_45_with_mode_warn_a_job_whose_arguments_leave_nothing_to_run_is_refused(
    sqsjkr: Sqsjkr, trust: Callable[..., str]
) -> None:
    await sqsjkr.send(job="greet")

    await sqsjkr.run_until_empty(trust=trust(mode="warn"))

    assert [reason for _, reason in sqsjkr.dead_letters] == ["refused: args.name is missing"]


async def test_46_a_job_that_the_file_does_not_know_comes_back_for_ten_minutes(
    sqsjkr: Sqsjkr, trust: Callable[..., str]
) -> None:
    await sqsjkr.send(job="new", event_id="young")
    await sqsjkr.send(job="new", event_id="old", age=601)

    sqsjkr.start(trust=trust())
    await until(lambda: sqsjkr.dead_letters and sqsjkr.log("job.ended"), description="both were tried")
    await sqsjkr.stop()

    [ended] = sqsjkr.log("job.ended")
    assert re.match(r"young\[\w{8}\]: unknown the trust file has no job new \(message ", ended)
    assert [reason for _, reason in sqsjkr.dead_letters] == [
        "refused: the trust file has no job new, 10 minutes after it was sent"
    ]
    ((hidden,),) = sqsjkr.sql("SELECT visible - unixepoch() FROM message")
    assert 0 < hidden <= 31
    assert not sqsjkr.sql("SELECT 1 FROM row WHERE type = 'throttle' AND NOT done"), "it was not claimed"


async def test_47_without_a_trust_file_named_jobs_are_unknown_and_commands_run_as_ever(sqsjkr: Sqsjkr) -> None:
    await sqsjkr.send(job="greet", event_id="named", age=601)
    await sqsjkr.send(command="echo $0", event_id="plain", job=17, args=["ignored"])

    await sqsjkr.run_until_empty()

    assert [reason for _, reason in sqsjkr.dead_letters] == [
        "refused: this worker has no trust file, which gives jobs names, 10 minutes after it was sent"
    ]
    assert sqsjkr.said("job.output") == ["plain: sh"]


async def test_48_a_producers_own_commands_run_in_a_shell_as_ever(sqsjkr: Sqsjkr, trust: Callable[..., str]) -> None:
    await sqsjkr.send(command="echo $((1 + 1)) $ANY", envs={"ANY": "x"}, event_id="e")

    await sqsjkr.run_until_empty(trust=trust(may='["command"]'))

    assert sqsjkr.said("job.output") == ["e: 2 x"]


@pytest.fixture
def keyed(tmp_path: Path) -> Callable[..., str]:
    """A trust file whose one producer signs with the key ``deploy``, and that key beside it."""
    assert main(["keygen", "--id", "deploy", "--out", str(tmp_path)]) == 0

    def write(*, key: str = "deploy", sender: str = ME, mode: str = "enforce") -> str:
        path = tmp_path / "trust.toml"
        path.write_text(
            f'mode = "{mode}"\nkeys = "deploy.jwks.json"\n'
            f'[producer.deploy]\nkey = "{key}"\nsender = "{sender}"\nmay = "command"\n'
        )
        path.chmod(0o644)
        return str(path)

    return write


def sign(body: str, folder: Path) -> str:
    key = read_private(str(folder / "deploy.private.json"))
    made = claims_of(body, audience="local", now=time.time(), life=60.0, token_id=new_token_id())
    return jwt.encode(made, key.material, key.algorithm, headers={"kid": key.id, "typ": TYPE})


BODY = '{"command": "echo ran"}'


async def test_49_what_is_signed_runs_once_however_often_it_is_sent(
    sqsjkr: Sqsjkr, keyed: Callable[..., str], tmp_path: Path
) -> None:
    token = sign(BODY, tmp_path)
    for _ in range(3):
        await sqsjkr.send_body(BODY, signature=token)
    await sqsjkr.send_body(json.dumps({"signed": BODY, "signature": token}))
    await sqsjkr.send_body(BODY, signature=sign(BODY, tmp_path))

    await sqsjkr.run_until_empty(trust=keyed())

    assert len(sqsjkr.log("job.output")) == 2
    outcomes = [line.facts["outcome"] for line in sqsjkr.lines if line.event == "job.ended"]
    assert sorted(outcomes) == ["duplicate"] * 3 + ["succeeded"] * 2
    assert {line.facts["key"] for line in sqsjkr.lines if line.event == "job.started"} == {"deploy"}


async def test_50_a_wrong_or_missing_signature_is_refused_and_burns_no_good_one(
    sqsjkr: Sqsjkr, keyed: Callable[..., str], tmp_path: Path
) -> None:
    token = sign(BODY, tmp_path)
    await sqsjkr.send_body(BODY.replace("ran", "evil"), signature=token)
    await sqsjkr.send_body(BODY + " ", signature=token)
    await sqsjkr.send_body(BODY)
    await sqsjkr.send_body(BODY, signature=token, age=-3600)

    await sqsjkr.run_until_empty(trust=keyed(), slots=1)

    reasons = [reason.partition(": ")[2] for _, reason in sqsjkr.dead_letters]
    assert reasons[-1].startswith("signature: sent 59m")
    assert reasons[:-1] == [
        "signature: it is for another body",
        "signature: it is for another body",
        f"sender {ME} is no producer's",
    ]
    assert sqsjkr.log("job.output") == []
    assert sqsjkr.sql("SELECT attributes FROM dead_letter_origin WHERE attributes LIKE ?", f"%{token}%") != []

    await sqsjkr.send_body(BODY, signature=token)
    await sqsjkr.run_until_empty(trust=keyed())

    assert len(sqsjkr.log("job.output")) == 1


async def test_51_a_copy_that_is_refused_here_waits_while_its_job_runs_elsewhere_under_another_policy(
    sqsjkr: Sqsjkr, keyed: Callable[..., str], tmp_path: Path
) -> None:
    """Burying it would take the message from the worker that runs it."""
    body = json.dumps({"command": f"touch {tmp_path}/began; until [ -e {tmp_path}/end ]; do sleep 0.01; done"})
    token = sign(body, tmp_path)
    await sqsjkr.send_body(body, signature=token)
    sqsjkr.start(trust=keyed())
    await until((tmp_path / "began").exists, description="the job runs")
    other = Sqsjkr(tmp_path / "store")
    await other.open()
    try:
        await sqsjkr.send_body(body, signature=token)
        sqsjkr.sql("UPDATE message SET visible = unixepoch() + 60 WHERE receives = 0")
        (tmp_path / "elsewhere").mkdir()
        theirs = tmp_path / "elsewhere" / "trust.toml"
        theirs.write_text('[producer.nobody]\nsender = "nobody-here"\nmay = "command"\n')
        theirs.chmod(0o644)
        other.start(trust=str(theirs))
        sqsjkr.sql("UPDATE message SET visible = 0 WHERE receives = 0")
        await until(lambda: other.log("job.waiting") or sqsjkr.log("job.waiting"), description="the copy was looked at")
        assert sqsjkr.dead_letters == []
        (tmp_path / "end").touch()
        await until(lambda: sqsjkr.log("job.ended"), description="the job has ended")
        await until(lambda: sqsjkr.is_empty, description="both messages have left the queue")
    finally:
        (tmp_path / "end").touch()
        await other.close()
    assert sqsjkr.log("job.ended")[0].partition(": ")[2].startswith("succeeded")
    assert len([one for one in (*sqsjkr.log("job.started"), *other.log("job.started")) if "touch" in one]) <= 2


SECRET = "hunter22-of-the-database"


@pytest.fixture
def keeper(tmp_path: Path) -> Callable[..., str]:
    """A trust file with a job that needs a secret, which is kept in a file."""

    def write(text: str) -> str:
        (tmp_path / "secret").write_text(f"{SECRET}\n")
        path = tmp_path / "trust.toml"
        path.write_text(
            f'[producer.me]\nsender = "{ME}"\nmay = "*"\n[job.db]\ncommand = {json.dumps(text)}\n'
            f'secrets = {{ PASSWORD = "file:{tmp_path}/secret" }}\n'
        )
        path.chmod(0o644)
        return str(path)

    return write


async def test_52_a_secret_reaches_its_job_and_nothing_else(
    sqsjkr: Sqsjkr, keeper: Callable[..., str], tmp_path: Path
) -> None:
    """Not the log, not the tail in history and dead letter, not the hook, not the argv."""
    show = (
        f'printf %s "$PASSWORD" > {tmp_path}/proof; tr "\\0" " " < /proc/$$/cmdline > {tmp_path}/argv; '
        'echo "password: $PASSWORD"; printf hunter22-of; sleep 0.3; echo -the-database; echo "$PASSWORD" >&2; exit 65'
    )
    await sqsjkr.send(job="db", event_id="e", on_exit={"65": "never"})

    await sqsjkr.run_until_empty(
        trust=keeper(show), hook=f"cat > {tmp_path}/hook; env >> {tmp_path}/hook", hook_on=["all"], output_tail=4096
    )

    assert (tmp_path / "proof").read_text() == SECRET
    assert sqsjkr.said("job.output") == ["e: password: ***", "e: ***", "e: ***"]
    assert SECRET not in (tmp_path / "argv").read_text()
    assert "password: ***" in (tmp_path / "hook").read_text()
    assert SECRET not in (tmp_path / "hook").read_text()
    assert len(sqsjkr.dead_letters) == 1
    assert not any(SECRET in line.text or SECRET in str(line.facts) for line in sqsjkr.lines)
    for file in (tmp_path / "store").iterdir():
        assert SECRET.encode() not in file.read_bytes(), f"in {file.name}"


async def test_53_a_job_whose_secret_cannot_be_looked_up_goes_back(
    sqsjkr: Sqsjkr, keeper: Callable[..., str], tmp_path: Path
) -> None:
    trust = keeper("true")
    (tmp_path / "secret").unlink()
    await sqsjkr.send(job="db")
    await sqsjkr.send(job="db")

    sqsjkr.start(trust=trust)
    await until(lambda: sqsjkr.stats.outcomes["unanswered"] == 2, description="both jobs were tried")
    await sqsjkr.stop()

    assert len(sqsjkr.log("secret.unavailable")) == 1
    assert sqsjkr.log("secret.unavailable")[0].startswith(f"secret file:{tmp_path}/secret: cannot be read")
    assert sqsjkr.sql("SELECT COUNT(*) FROM message") == [(2,)]
    assert sqsjkr.log("job.started") == []
    assert sqsjkr.log("worker.paused") == [], "other jobs go on"


async def test_54_a_program_that_is_missing_is_its_jobs_trouble_and_pauses_nothing(
    sqsjkr: Sqsjkr, tmp_path: Path
) -> None:
    path = tmp_path / "trust.toml"
    path.write_text(f'[producer.me]\nsender = "{ME}"\nmay = "*"\n[job.gone]\nrun = ["/no/such/program"]\n')
    path.chmod(0o644)
    await sqsjkr.send(job="gone")

    await sqsjkr.run_until_empty(trust=str(path))

    [(_, reason)] = sqsjkr.dead_letters
    assert reason.startswith("unstartable: ")
    assert "/no/such/program" in reason
    assert sqsjkr.log("host.exhausted") == []


async def test_55_a_copy_that_another_policy_refuses_waits_while_its_job_runs(
    sqsjkr: Sqsjkr, trust: Callable[..., str], tmp_path: Path
) -> None:
    """The same message, delivered twice: one worker runs it, the other may not. It must not be buried meanwhile."""
    await sqsjkr.send(command=f"touch {tmp_path}/began; until [ -e {tmp_path}/end ]; do sleep 0.01; done", event_id="e")
    sqsjkr.start(trust=trust(may='"command"'))
    await until((tmp_path / "began").exists, description="the job runs")
    (tmp_path / "elsewhere").mkdir()
    theirs = tmp_path / "elsewhere" / "trust.toml"
    theirs.write_text('[producer.nobody]\nsender = "nobody-here"\nmay = "command"\n')
    other = Sqsjkr(tmp_path / "store")
    await other.open()
    try:
        other.start(trust=str(theirs))
        sqsjkr.sql("UPDATE message SET visible = 0")
        await until(lambda: sqsjkr.log("job.waiting"), description="the copy was looked at")
        assert sqsjkr.dead_letters == []
        assert sqsjkr.log("job.refused") == []
        (tmp_path / "end").touch()
        await until(lambda: sqsjkr.is_empty, description="the message has left the queue")
    finally:
        (tmp_path / "end").touch()
        await other.close()
    assert sqsjkr.dead_letters == []
    assert len(sqsjkr.log("job.started")) == 1


async def test_56_a_file_that_changes_badly_while_jobs_run_stops_none_and_a_good_one_counts_from_the_next_job(
    sqsjkr: Sqsjkr, trust: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sqsjkr.trust.authority.LOOK_EVERY", 0.02)
    path = Path(trust(may='"command"'))
    good = path.read_text()
    await sqsjkr.send(command=f"touch {tmp_path}/began; until [ -e {tmp_path}/end ]; do sleep 0.01; done", event_id="1")
    sqsjkr.start(trust=str(path), slots=2)
    await until((tmp_path / "began").exists, description="the job runs")

    path.write_text("[producer.me]\nmay = [")
    await until(lambda: sqsjkr.log("trust.invalid"), description="the bad file was seen")
    await sqsjkr.send(command="echo still", event_id="2")
    await until(lambda: "2: still" in sqsjkr.said("job.output"), description="the file before is in force")

    path.write_text(good.replace('may = "command"', 'may = "greet"'))
    await until(lambda: len(sqsjkr.log("trust.loaded")) == 2, description="the good file was read")
    await sqsjkr.send(command="echo no longer", event_id="3")
    await until(lambda: sqsjkr.dead_letters, description="the new file is in force")
    (tmp_path / "end").touch()
    await until(lambda: sqsjkr.is_empty, description="all have ended")
    await sqsjkr.stop()

    assert [reason for _, reason in sqsjkr.dead_letters] == ['refused: producer me may not ask for "command"']
    assert sqsjkr.counters == {"succeeded": 2, "failed": 1, "errored": 0}


async def test_57_what_a_job_by_name_prints_of_its_arguments_is_kept(sqsjkr: Sqsjkr, tmp_path: Path) -> None:
    """They are no secrets: who asked for what must be readable in the tail of a failed job, too."""
    path = tmp_path / "trust.toml"
    path.write_text(
        f'[producer.me]\nsender = "{ME}"\nmay = "*"\n[job.fail]\ncommand = \'echo "for $ARG_WHOM"; exit 3\'\n'
        "args.whom = '[a-z]+'\n"
    )
    await sqsjkr.send(job="fail", args={"whom": "customers"}, on_exit={"3": "never"})

    await sqsjkr.run_until_empty(trust=str(path), hook=f"cat > {tmp_path}/hook", hook_on=["all"])

    assert "for customers" in (tmp_path / "hook").read_text()
