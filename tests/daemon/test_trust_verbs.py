"""keygen, sign, send --sign, learn, and what check says of trust: as commands."""

from __future__ import annotations

import base64
import getpass
import json
import os
import signal
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from commands import Said, sqsjkr
from daemons import Daemon
from fleet import Fleet
from places import SQS, Embedded, Place
from servers import free_port

ME = getpass.getuser()
TRUST = f"""
keys = "deploy.jwks.json"
[producer.me]
sender = "{ME}"
may = ["reindex", "batch"]
[producer.deploy]
key = "deploy"
may = "command"
[job.reindex]
run = ["/opt/app/bin/reindex", "--index={{index}}"]
args.index = '[a-z]{{1,64}}'
lock_id = "reindex-{{index}}"
env = ["TZ"]
secrets = {{ PASSWORD = "ssm:/db" }}
[job.batch]
match = 'echo [a-z]+'
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Keys, a trust file, a configuration that names it."""
    assert sqsjkr("keygen", "--id", "deploy", "--out", str(tmp_path)).code == 0
    (tmp_path / "trust.toml").write_text(TRUST)
    (tmp_path / "config.toml").write_text(f'[kicker]\ntrust = "{tmp_path}/trust.toml"\n')
    for name in ("trust.toml", "config.toml"):
        (tmp_path / name).chmod(0o644)
    return tmp_path


Check = Callable[..., Said]


@pytest.fixture
def check(folder: Path) -> Check:
    def run(body: str, *words: str) -> Said:
        where = ("--conf", str(folder / "config.toml"), "--local", str(folder / "store"))
        return sqsjkr("check", *where, "--message", "-", *words, stdin=body.encode())

    return run


def test_keygen_writes_a_key_that_only_its_producer_reads_and_one_for_the_workers(tmp_path: Path) -> None:
    said = sqsjkr("keygen", "--id", "a/b", "--alg", "ES256", "--out", str(tmp_path))
    private, public = tmp_path / "a-b.private.json", tmp_path / "a-b.jwks.json"
    assert said.code == 0
    assert [line.split()[0] for line in said.out.splitlines()] == [str(private), str(public)]
    assert private.stat().st_mode & 0o777 == 0o600
    [key] = json.loads(public.read_text())["keys"]
    assert (key["kid"], key["kty"], key["crv"]) == ("a/b", "EC", "P-256")
    assert "d" not in key


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ((), "--id is missing: the name by which the trust file knows the key, such as deploy-2026-11"),
        (("--id", "a b"), "--id 'a b': expected at most 128 letters"),
        (("--id", "deploy"), "is there already; keys are never overwritten"),
        (("--id", "x", "--out", "/no/such"), "cannot be written: no such file or directory"),
        (("--kms", "alias/x", "--alg", "ES256"), "--alg: leave it out with --kms"),
    ],
)
def test_a_mistake_at_keygen_is_one_line(folder: Path, words: tuple[str, ...], complaint: str) -> None:
    said = sqsjkr("keygen", *(words if "--out" in words else (*words, "--out", str(folder))))
    assert said.code == 2
    assert complaint in said.complaints[-1]


def test_check_shows_the_plan_of_a_message_and_no_value(check: Check) -> None:
    said = check('{"job": "reindex", "args": {"index": "users"}, "envs": {"TZ": "a value"}}\n', "--sender", ME)
    assert said.code == 0
    assert said.out.splitlines() == [
        "verdict    it would run",
        f"sender     {ME}",
        "producer   me",
        "job        reindex",
        "executes   /opt/app/bin/reindex --index=users",
        "variables  TZ",
        "secrets    PASSWORD (ssm:/db)",
        "lock_id    reindex-users",
    ]


@pytest.mark.parametrize(
    ("body", "words", "verdict"),
    [
        ('{"command": "id"}', ("--sender", ME), 'refused: producer me may not ask for "command"'),
        ('{"command": "id"}', (), "refused: sender unknown is no producer's"),
        ('{"job": "new"}', ("--sender", ME), "unknown: the trust file has no job new (would be given back)"),
        ('{"job": "reindex"}', ("--sender", ME), "refused: args.index is missing"),
        ("no job", (), "invalid: body: not JSON"),
        ('{"command": "id"}', ("--signature", "x.y.z"), "refused: signature: it is no JSON Web Token"),
    ],
)
def test_check_says_why_a_message_would_be_refused(
    check: Check, body: str, words: tuple[str, ...], verdict: str
) -> None:
    said = check(body, *words)
    assert said.code == 1
    assert said.out.startswith(f"verdict    {verdict}")


def test_what_sign_signs_check_takes_and_an_envelope_needs_no_attribute(folder: Path, check: Check) -> None:
    body = '{"command": "make report"}'
    key = ("--key", str(folder / "deploy.private.json"), "--queue", "local")
    token = sqsjkr("sign", *key, stdin=f"{body}\n".encode())
    assert token.code == 0
    said = check(body, "--signature", token.out.strip())
    assert said.out.startswith("verdict    it would run")
    assert "claimed as jti:deploy/" in said.out
    envelope = sqsjkr("sign", *key, "--envelope", stdin=body.encode())
    assert check(envelope.out).out.startswith("verdict    it would run")
    assert check(body + " ", "--signature", token.out.strip()).code == 1


@pytest.mark.parametrize(
    ("words", "stdin", "complaint"),
    [
        (("--queue", "q"), b'{"life_time": 1}', "invalid job: command: missing or empty"),
        (("--queue", "q", "--life", "2h"), b'{"command": "x"}', "--life 2h: expected a time between 1s and 1h"),
        (("--queue", "q"), b"\xff", "stdin: not UTF-8"),
    ],
)
def test_a_mistake_at_sign_is_one_line(folder: Path, words: tuple[str, ...], stdin: bytes, complaint: str) -> None:
    said = sqsjkr("sign", "--key", str(folder / "deploy.private.json"), *words, stdin=stdin)
    assert said.code == 2
    assert complaint in said.complaints[-1]


def test_a_signed_job_runs_and_its_replay_on_sqs_is_a_duplicate(
    folder: Path, make_fleet: Callable[..., Fleet], dynamodb_url: str, aws_env: Mapping[str, str]
) -> None:
    """Through SQS and DynamoDB, as a producer and an attacker would send it."""
    fleet, aws_env = make_fleet(dynamodb_url=dynamodb_url), {**aws_env, "AWS_ENDPOINT_URL_DYNAMODB": dynamodb_url}
    proof = folder / "proof"
    config = folder / "aws.toml"
    config.write_text(fleet.config(trust=str(folder / "trust.toml"), stats_port=free_port(), lock_table=fleet.table))
    where = ("--conf", str(config))
    sign = ("--sign", str(folder / "deploy.private.json"))
    assert sqsjkr("send", *where, *sign, f"echo ran >> {proof}", env=aws_env).code == 0
    [message] = fleet.sqs(
        "ReceiveMessage", QueueUrl=fleet.queue_url, MessageAttributeNames=["All"], VisibilityTimeout=0
    )["Messages"]
    fleet.sqs(
        "SendMessage",
        QueueUrl=fleet.queue_url,
        MessageBody=message["Body"],
        MessageAttributes=message["MessageAttributes"],
    )
    fleet.sqs(
        "SendMessage",
        QueueUrl=fleet.queue_url,
        MessageBody=message["Body"].replace("ran", "evil"),
        MessageAttributes=message["MessageAttributes"],
    )
    ran = sqsjkr("run", *where, "--until-empty", "--log-format", "json", env=aws_env)
    lines = [json.loads(line) for line in ran.err.splitlines()]
    assert proof.read_text() == "ran\n", ran.err
    assert [line["outcome"] for line in lines if line["event"] == "job.refused"] == ["refused"]
    outcomes = {line["outcome"] for line in lines if line["event"] in {"job.ended", "job.waiting"}}
    assert "succeeded" in outcomes
    assert outcomes & {"duplicate", "busy"}
    [letter] = fleet.dead_letters()
    assert letter["MessageAttributes"]["sqsjkr.reason"]["StringValue"] == "refused: signature: it is for another body"
    assert letter["MessageAttributes"]["sqsjkr.signature"] == message["MessageAttributes"]["sqsjkr.signature"]
    assert {row["Id"] for row in fleet.rows("throttle")} >= {f"jti:deploy/{_token_id(message)}"}


def _token_id(message: Mapping[str, object]) -> str:
    token = message["MessageAttributes"]["sqsjkr.signature"]["StringValue"]  # type: ignore[index]
    payload = token.split(".")[1]
    return str(json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))["jti"])


def test_learn_drafts_a_trust_file_from_the_log_that_check_takes(folder: Path) -> None:
    store = ("--local", str(folder / "store"))
    for word in ("one", "two"):
        assert sqsjkr("send", *store, f"echo {word}").code == 0
    log = sqsjkr("run", *store, "--until-empty", "--log-format", "json").err
    drafted = sqsjkr("learn", "-", stdin=log.encode())
    assert drafted.code == 0
    assert f'sender = "{ME}"' in drafted.out
    (folder / "trust.toml").write_text(drafted.out)
    found = sqsjkr("check", "--conf", str(folder / "config.toml"), *store).out
    assert "as warnings only, producers: 1, jobs: 1" in found
    assert 'mode is "warn": what it does not allow runs all the same' in found


@pytest.fixture(params=["sqs", "embedded"])
def place(request: pytest.FixtureRequest, tmp_path: Path, aws_env: Mapping[str, str]) -> Place:
    """Both backends."""
    if request.param == "sqs":
        return SQS(request.getfixturevalue("fleet"), tmp_path, aws_env)
    return Embedded(tmp_path / "store")


def test_learn_drafts_a_trust_file_from_the_history_of_every_host(
    place: Place, daemon: Callable[..., Daemon], tmp_path: Path
) -> None:
    none = place.say("learn")
    assert (none.code, none.complaints) == (1, ["sqsjkr: no endings in the history; try a longer --since"])
    worker = place.worker(daemon)
    long = f"echo {'x' * 300}"
    jobs = [place.send_job(command=command) for command in ("echo one", "echo two", "true | cat", long)]
    for job in jobs:
        worker.wait_for_line(f"job.ended  {job}: succeeded")
    worker.signal(signal.SIGTERM)  # which writes the lists
    assert worker.wait() == 0

    drafted = place.say("learn", "--since", "1h")
    assert drafted.code == 0, drafted.err
    trust = tomllib.loads(drafted.out)
    assert trust["mode"] == "warn"
    [producer] = trust["producer"].values()
    assert sorted(producer["may"]) == ["command", "echo"]
    assert trust["job"] == {"echo": {"match": "echo [A-Za-z0-9_.][A-Za-z0-9_.-]{0,80}"}}
    assert "#   true | cat" in drafted.out
    assert "…" not in str(trust["job"]), "of a long command only the beginning is known"

    path = tmp_path / "drafted.toml"
    path.write_text(drafted.out)
    path.chmod(0o644)
    worker = place.worker(daemon, trust=str(path))
    job = place.send_job(command="echo three")
    worker.wait_for_line(f"job.ended  {job}: succeeded")
    assert "job.untrusted" not in worker.stderr


def test_learn_says_what_log_it_needs(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("2026-11-27T17:41:20.135+00:00 INFO  job.started  x\n")
    said = sqsjkr("learn", str(tmp_path / "log"))
    assert said.code == 1
    assert said.complaints[0].endswith("no job.started line; the log must be written with --log-format json")
    assert sqsjkr("learn", str(tmp_path / "none")).code == 2


def test_check_names_what_is_wrong_with_the_trust_file_and_what_is_weak(folder: Path) -> None:
    words = ("check", "--conf", str(folder / "config.toml"), "--local", str(folder / "store"))
    (folder / "trust.toml").write_text('[job.a]\nrun = ["sudo", "x"]\n[producer.b]\nkey = "gone"\nmay = "a"\n')
    (folder / "trust.toml").write_text('keys = "deploy.jwks.json"\n' + (folder / "trust.toml").read_text())
    found = sqsjkr(*words)
    assert "FAIL  trust         job a becomes another user" in found.out
    assert "warn  trust         no file of keys has the key gone" in found.out
    (folder / "trust.toml").write_text("[job.a]\n")
    found = sqsjkr(*words)
    assert f"FAIL  trust         {folder}/trust.toml:1: [job.a]: has nothing to run" in found.out
    (folder / "config.toml").write_text(f'[kicker]\ntrust = "{folder}/trust.toml"\nthrottler = "none"\n')
    (folder / "trust.toml").write_text(TRUST)
    assert "keys: signatures need claims" in sqsjkr(*words).out


@pytest.mark.parametrize(
    ("statement", "level"),
    [
        ({"Principal": "*", "Action": "sqs:*"}, "warn"),
        ({"Principal": {"AWS": "*"}, "Action": ["sqs:SendMessage"]}, "warn"),
        ({"Principal": "*", "Action": "SQS:SendMessage", "Condition": {"ArnEquals": {"aws:SourceArn": "x"}}}, "note"),
        ({"Principal": "*", "Action": "sqs:ReceiveMessage"}, ""),
        ({"Principal": {"AWS": "arn:aws:iam::1:root"}, "Action": "sqs:*"}, ""),
        ({"Principal": "*", "Action": "sqs:*", "Effect": "Deny"}, ""),
    ],
)
def test_check_warns_of_a_queue_to_which_everybody_may_send(
    folder: Path, fleet: Fleet, aws_env: Mapping[str, str], statement: dict[str, object], level: str
) -> None:
    policy = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Sid": "Open", "Resource": "*", **statement}]}
    fleet.sqs("SetQueueAttributes", QueueUrl=fleet.queue_url, Attributes={"Policy": json.dumps(policy)})
    config = folder / "aws.toml"
    config.write_text(fleet.config(stats_port=free_port()))
    found = sqsjkr("check", "--conf", str(config), "--lock-table", fleet.table, env=aws_env).out
    lines = [line for line in found.splitlines() if " policy " in line]
    assert [line.split()[0] for line in lines] == ([level] if level else [])
    assert all("Open of the queue's policy lets everybody send" in line for line in lines)


def imported(folder: Path, trust: str) -> str:
    """What a worker imports that runs one job, with this trust file ("" for none)."""
    (folder / "trust.toml").write_text(trust)
    settings = f'trust = "{folder}/trust.toml"' if trust else ""
    (folder / "config.toml").write_text(f"[kicker]\n{settings}\n")
    where = ("--local", str(folder / "store"), "--conf", str(folder / "config.toml"))
    assert sqsjkr("send", *where, "true").code == 0
    return sqsjkr("run", *where, "--until-empty", env={"PYTHONPROFILEIMPORTTIME": "1"}).err


def test_a_worker_without_a_trust_file_imports_nothing_of_it_and_one_without_keys_no_library(folder: Path) -> None:
    allowed = f'[producer.me]\nsender = "{ME}"\nmay = "command"\n'
    assert "sqsjkr.trust" not in imported(folder, "")
    without_keys = imported(folder, allowed)
    assert "sqsjkr.trust.authority" in without_keys
    assert not {"jwt", "cryptography"} & set(without_keys.split())
    assert "jwt" in imported(folder, f'keys = "deploy.jwks.json"\n{allowed}').split()


def test_send_without_a_key_in_kms_imports_no_aws(folder: Path) -> None:
    where = ("--local", str(folder / "store"))
    sign = ("--sign", str(folder / "deploy.private.json"))
    said = sqsjkr("send", *where, *sign, "true", env={"PYTHONPROFILEIMPORTTIME": "1"})
    assert said.code == 0
    assert "botocore" not in said.err


def test_without_the_extra_the_error_names_it(folder: Path, tmp_path: Path) -> None:
    """A worker whose trust file names keys, where neither PyJWT nor cryptography is installed."""
    hidden = tmp_path / "hidden"
    for name in ("jwt", "cryptography"):
        (hidden / name).mkdir(parents=True)
        (hidden / name / "__init__.py").write_text(f"raise ImportError('no {name} here')\n")
    where = ("--conf", str(folder / "config.toml"), "--local", str(folder / "store"))
    said = sqsjkr("run", *where, "--until-empty", env={"PYTHONPATH": str(hidden), "PATH": os.environ["PATH"]})
    assert said.code == 2
    assert "signatures need PyJWT and cryptography; next: pip install 'sqsjkr[signatures]'" in said.err
