from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

import servers
from commands import SQSJKR, Said, read_terminal, sqsjkr
from faults.proxy import Proxy
from faults.rules import Fault
from fleet import Fleet

Setup = Callable[..., Said]


class Place:
    """A name that nothing on the server has, and what there is of it."""

    def __init__(self, url: str, directory: Path, suffix: str = "") -> None:
        self.urls = {"sqs": url, "dynamodb": url}
        self.base = f"made-{uuid.uuid4().hex[:10]}"
        self.name = f"{self.base}{suffix}"
        self.graves = f"{self.base}-dlq{suffix}"
        self.conf = directory / f"{self.base}.toml"
        self.conf.write_text(
            f'[account]\nid = "000000000000"\n[sqs]\nqueue_name = "{self.name}"\n'
            f'[kicker]\nlock_table = "{self.base}"\nstats_socket = "{directory}/s"\n'
        )

    def ask(self, service: str, operation: str, **payload: Any) -> dict[str, Any]:
        return servers.call(self.urls[service], service, operation, payload)[1]

    def queue(self, name: str) -> dict[str, str] | None:
        url = self.ask("sqs", "GetQueueUrl", QueueName=name).get("QueueUrl")
        found = self.ask("sqs", "GetQueueAttributes", QueueUrl=url, AttributeNames=["All"]) if url else {}
        return found.get("Attributes")

    def redrive(self) -> Any:
        attributes = self.queue(self.name)
        assert attributes is not None
        return json.loads(attributes.get("RedrivePolicy", "{}"))

    def table(self) -> dict[str, Any] | None:
        return self.ask("dynamodb", "DescribeTable", TableName=self.base).get("Table")

    def ttl(self) -> dict[str, Any]:
        answer = self.ask("dynamodb", "DescribeTimeToLive", TableName=self.base)
        return dict(answer["TimeToLiveDescription"])

    def is_empty(self) -> bool:
        return self.queue(self.name) is None and self.queue(self.graves) is None and self.table() is None

    def remove(self) -> None:
        for name in (self.name, self.graves):
            if url := self.ask("sqs", "GetQueueUrl", QueueName=name).get("QueueUrl"):
                self.ask("sqs", "DeleteQueue", QueueUrl=url)
        self.ask("dynamodb", "DeleteTable", TableName=self.base)


@pytest.fixture
def place(request: pytest.FixtureRequest, aws_url: str, tmp_path: Path) -> Iterator[Place]:
    made = Place(aws_url, tmp_path, getattr(request, "param", ""))
    yield made
    made.remove()


both_kinds = pytest.mark.parametrize("place", ["", ".fifo"], ids=["standard", "fifo"], indirect=True)


@pytest.fixture
def setup(aws_env: Mapping[str, str], place: Place) -> Setup:
    def setup(*words: str) -> Said:
        env = {**aws_env, "AWS_ENDPOINT_URL_DYNAMODB": place.urls["dynamodb"]}
        return sqsjkr("setup", "--conf", str(place.conf), *words, env=env)

    return setup


@both_kinds
def test_everything_is_made_and_check_finds_nothing_wrong(
    place: Place, setup: Setup, aws_env: Mapping[str, str]
) -> None:
    said = setup("--yes")

    assert (said.code, said.err) == (0, "")
    queue, graves = place.queue(place.name), place.queue(place.graves)
    assert queue is not None
    assert graves is not None
    fifo = "true" if place.name.endswith(".fifo") else "false"
    assert (queue.get("FifoQueue", "false"), graves.get("FifoQueue", "false")) == (fifo, fifo)
    assert graves["MessageRetentionPeriod"] == "1209600"
    assert place.redrive()["deadLetterTargetArn"] == graves["QueueArn"]
    assert int(place.redrive()["maxReceiveCount"]) == 1000
    looked = sqsjkr("check", "--conf", str(place.conf), env=aws_env)
    assert looked.code == 0, looked.out
    assert "FAIL" not in looked.out
    warnings = [line for line in looked.out.splitlines() if line.startswith("warn")]
    assert all('ack = "finish"' in line for line in warnings)
    assert len(warnings) == place.name.endswith(".fifo")


def test_the_table_is_the_originals(place: Place, setup: Setup, dynamodb_url: str) -> None:
    place.urls["dynamodb"] = dynamodb_url
    assert setup("--yes").code == 0

    table = place.table()
    assert table is not None
    (index,) = table["GlobalSecondaryIndexes"]
    assert keys(table) == {"Id": "HASH", "Type": "RANGE"}
    assert (index["IndexName"], keys(index)) == ("TypeExpiredIndex", {"Type": "HASH", "Expired": "RANGE"})
    assert index["Projection"]["ProjectionType"] == "ALL"
    assert place.ttl() == {"TimeToLiveStatus": "ENABLED", "AttributeName": "Expired"}


def keys(of: Mapping[str, Any]) -> dict[str, str]:
    return {key["AttributeName"]: key["KeyType"] for key in of["KeySchema"]}


@both_kinds
def test_a_second_run_has_nothing_to_do(place: Place, setup: Setup) -> None:
    assert setup("--yes").code == 0
    again = setup()  # nothing to do, so nobody is asked

    assert (again.code, again.err) == (0, "")
    assert "to do" not in again.out
    assert f"queue {place.name}, with its dead-letter queue {place.graves}" in again.out
    assert again.out.endswith("everything is as it should be\n")


def test_nobody_to_ask_means_a_plan_no_change_and_the_next_step(place: Place, setup: Setup) -> None:
    said = setup()

    assert said.code == 2
    assert said.out.count("to do: ") == 4
    assert said.complaints == [
        "sqsjkr: nothing was changed: without a terminal the plan must be confirmed; next: sqsjkr setup --yes",
    ]
    assert place.is_empty()


@pytest.mark.parametrize("words", [["--dry-run"], ["--dry-run", "--yes"]])
def test_a_dry_run_changes_nothing(place: Place, setup: Setup, words: list[str]) -> None:
    said = setup(*words)

    assert (said.code, said.err) == (0, "")
    assert said.out.count("to do: ") == 4
    assert place.is_empty()


@pytest.mark.parametrize(("answer", "code"), [(b"y\n", 0), (b"n\n", 2), (b"\n", 2), (b"\x04", 2)])
def test_a_terminal_is_asked(place: Place, aws_env: Mapping[str, str], answer: bytes, code: int) -> None:
    ours, theirs = pty.openpty()
    words = [*SQSJKR, "setup", "--conf", str(place.conf)]
    with subprocess.Popen(words, env=dict(aws_env), stdin=theirs, stdout=theirs, stderr=theirs) as running:
        os.close(theirs)
        os.write(ours, answer)
        shown = read_terminal(ours)
    os.close(ours)

    assert running.returncode == code, shown
    assert re.search(r"^account 000000000000, region us-east-1 .*, as arn:aws:\S+\r?$", shown, re.MULTILINE)
    assert "Proceed? [y/N] " in shown
    assert place.is_empty() == bool(code)


def test_account_region_and_identity_are_named_before_the_question(
    place: Place, setup: Setup, aws_env: Mapping[str, str]
) -> None:
    first = setup("--dry-run").out.splitlines()[0]

    assert re.match(rf"account 000000000000, region us-east-1 at {aws_env['AWS_ENDPOINT_URL']}, as arn:aws:", first)


def test_a_setup_without_sts_says_that_the_account_is_unknown(place: Place, aws_env: Mapping[str, str]) -> None:
    env = {**aws_env, "AWS_ENDPOINT_URL_STS": f"http://127.0.0.1:{servers.free_port()}"}
    said = sqsjkr("setup", "--conf", str(place.conf), "--dry-run", env=env)

    assert said.code == 0
    assert "account unknown: " in said.out.splitlines()[0]


def test_a_weak_redrive_is_pointed_out_and_left(fleet: Fleet, aws_env: Mapping[str, str], tmp_path: Path) -> None:
    conf = tmp_path / "config.toml"
    conf.write_text(fleet.config(lock_table=fleet.table))
    told = fleet.sqs("GetQueueAttributes", QueueUrl=fleet.queue_url, AttributeNames=["RedrivePolicy"])
    policy = json.dumps(json.loads(told["Attributes"]["RedrivePolicy"]) | {"maxReceiveCount": 3})
    fleet.sqs("SetQueueAttributes", QueueUrl=fleet.queue_url, Attributes={"RedrivePolicy": policy})
    fleet.sqs("SetQueueAttributes", QueueUrl=fleet.dlq_url, Attributes={"MessageRetentionPeriod": "3600"})
    said = sqsjkr("setup", "--conf", str(conf), "--yes", env=aws_env)

    assert said.code == 0
    assert f"left as it is: maxReceiveCount of {fleet.name} is 3" in said.out
    assert f"left as it is: {fleet.table}-dead keeps messages for less time" in said.out
    assert "everything is as it should be" not in said.out
    after = fleet.sqs("GetQueueAttributes", QueueUrl=fleet.queue_url, AttributeNames=["RedrivePolicy"])
    assert json.loads(after["Attributes"]["RedrivePolicy"])["maxReceiveCount"] == 3


def test_a_dead_letter_queue_that_may_not_be_looked_at_is_no_obstacle(
    fleet: Fleet, aws_env: Mapping[str, str], tmp_path: Path, proxy: Proxy
) -> None:
    proxy.add(Fault.REFUSE, operation="GetQueueAttributes", text=f"{fleet.table}-dead")
    conf = tmp_path / "config.toml"
    conf.write_text(fleet.config(lock_table=fleet.table))
    said = sqsjkr("setup", "--conf", str(conf), "--yes", env={**aws_env, "AWS_ENDPOINT_URL_SQS": proxy.url})

    assert (said.code, said.err) == (0, "")
    assert f"left as it is: the dead-letter queue {fleet.table}-dead, which cannot be looked at: " in said.out


@both_kinds
def test_a_queue_that_is_there_gets_only_the_redrive_policy_it_lacks(place: Place, setup: Setup) -> None:
    kind = {"FifoQueue": "true"} if place.name.endswith(".fifo") else {}
    place.ask("sqs", "CreateQueue", QueueName=place.name, Attributes=kind | {"VisibilityTimeout": "77"})
    said = setup("--yes")

    assert said.code == 0, said.err
    assert f"is there: queue {place.name}" in said.out
    assert place.redrive()["deadLetterTargetArn"].endswith(f":{place.graves}")
    assert (place.queue(place.name) or {})["VisibilityTimeout"] == "77"


def test_what_is_there_is_left_alone(fleet: Fleet, aws_env: Mapping[str, str], tmp_path: Path) -> None:
    conf = tmp_path / "config.toml"
    conf.write_text(fleet.config(lock_table=fleet.table))
    before = fleet.sqs("ListQueues")
    said = sqsjkr("setup", "--conf", str(conf), env=aws_env)

    assert (said.code, said.err) == (0, "")
    assert f"dead-letter queue {fleet.table}-dead" in said.out
    assert len(fleet.sqs("ListQueues").get("QueueUrls", [])) <= len(before.get("QueueUrls", []))


def test_a_table_gets_the_index_and_the_ttl_it_lacks(place: Place, setup: Setup, dynamodb_url: str) -> None:
    place.urls["dynamodb"] = dynamodb_url
    make_table(place, Id="HASH", Type="RANGE")
    said = setup("--yes")

    assert said.code == 0, said.err
    assert f"is there: table {place.base}" in said.out
    table = place.table()
    assert table is not None
    assert [index["IndexName"] for index in table["GlobalSecondaryIndexes"]] == ["TypeExpiredIndex"]
    assert place.ttl()["AttributeName"] == "Expired"
    assert "to do" not in setup().out


def test_a_table_with_other_keys_stops_the_setup_before_anything_is_made(place: Place, setup: Setup) -> None:
    make_table(place, Key="HASH")
    said = setup("--yes")

    assert said.code == 2
    assert "name another with --lock-table" in said.complaints[0]
    assert place.queue(place.name) is None


def test_a_ttl_on_another_attribute_is_left_and_said(place: Place, setup: Setup) -> None:
    make_table(place, Id="HASH", Type="RANGE")
    other = {"Enabled": True, "AttributeName": "Other"}
    place.ask("dynamodb", "UpdateTimeToLive", TableName=place.base, TimeToLiveSpecification=other)
    said = setup("--yes")

    assert said.code == 0
    assert "left as it is: the TTL" in said.out
    assert place.ttl()["AttributeName"] == "Other"


def make_table(place: Place, **keys: str) -> None:
    place.ask(
        "dynamodb",
        "CreateTable",
        TableName=place.base,
        KeySchema=[{"AttributeName": key, "KeyType": kind} for key, kind in keys.items()],
        AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"} for key in keys],
        BillingMode="PAY_PER_REQUEST",
    )


def test_no_table_is_made_that_nobody_would_use(place: Place, setup: Setup) -> None:
    place.conf.write_text(place.conf.read_text() + 'locker = "none"\nthrottler = "none"\n')

    assert setup("--yes").code == 0
    assert place.queue(place.name) is not None
    assert place.table() is None


def test_the_embedded_store_needs_no_setup(tmp_path: Path) -> None:
    said = sqsjkr("setup", "--local", str(tmp_path))

    assert (said.code, said.err) == (0, "")
    assert "nothing to set up" in said.out
    assert list(tmp_path.iterdir()) == []


def test_aws_that_does_not_answer_is_one_line_and_exit_1(place: Place, aws_env: Mapping[str, str]) -> None:
    nobody = {**aws_env, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{servers.free_port()}"}
    said = sqsjkr("setup", "--conf", str(place.conf), "--yes", env=nobody)

    assert said.code == 1
    assert len(said.err.splitlines()) == 1
    assert said.complaints
