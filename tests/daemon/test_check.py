from __future__ import annotations

import json
import re
import socket
import sqlite3
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path

import pytest

from commands import Said, sqsjkr
from daemons import Daemon
from faults.proxy import Proxy
from faults.rules import Fault
from fleet import Fleet
from servers import free_port


def findings(said: Said) -> list[tuple[str, str, str]]:
    """Level, subject and text of every line."""
    lines = [re.fullmatch(r"(ok|note|warn|FAIL) +(\S+(?: \S+)?)  +(.*)", line) for line in said.out.splitlines()]
    assert all(lines), said.out
    return [(line[1], line[2], line[3]) for line in lines if line]


def levels(said: Said) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for level, what, _ in findings(said):
        found.setdefault(what, []).append(level)
    return found


def text_of(said: Said, what: str) -> str:
    return "\n".join(text for _, subject, text in findings(said) if subject == what)


@pytest.fixture
def look(aws_env: Mapping[str, str], fleet: Fleet, tmp_path: Path) -> Callable[..., Said]:
    conf = tmp_path / "config.toml"

    def look(*words: str, config: str = "", table: str = "", **env: str) -> Said:
        conf.write_text(config or fleet.config(stats_port=free_port()))
        return sqsjkr(
            "check", "--conf", str(conf), "--lock-table", table or fleet.table, *words, env={**aws_env, **env}
        )

    return look


def through(proxy: Proxy) -> dict[str, str]:
    """The settings of a check whose calls to SQS and DynamoDB go through the proxy, which knows no STS."""
    return {"AWS_ENDPOINT_URL_SQS": proxy.url, "AWS_ENDPOINT_URL_DYNAMODB": proxy.url}


def test_all_is_well_where_all_is_well(look: Callable[..., Said], fleet: Fleet) -> None:
    said = look()

    assert (said.code, said.err) == (0, "")
    assert levels(said) == {
        "config": ["ok"],
        "credentials": ["ok"],
        "queue": ["ok"],
        "retention": ["note"],
        "permissions": ["ok", "note", "ok"],
        "dead letters": ["ok"],
        "messages": ["ok"],
        "table": ["ok"],
        "index": ["ok"],
        "TTL": ["ok"],
        "trust": ["note"],
        "stats": ["ok"],
    }
    assert "standard, keeps messages 4 days, visibility timeout 30s" in text_of(said, "queue")
    assert fleet.queue_url in text_of(said, "queue")
    assert "arn:aws" in text_of(said, "credentials")


def test_messages_are_counted_and_none_is_received(look: Callable[..., Said], fleet: Fleet) -> None:
    fleet.send_job(command="true")
    fleet.send_job(command="true")

    assert text_of(look(), "messages") == "2 waiting, 0 in flight, 0 delayed"
    assert fleet.depth() == (2, 0, 0)


def test_a_fifo_queue_is_called_one_and_what_it_means_for_its_groups(
    make_fleet: Callable[..., Fleet], look: Callable[..., Said]
) -> None:
    fleet = make_fleet(FifoQueue="true")
    said = look(config=fleet.config(stats_port=free_port()))
    deleted_first = look(config=fleet.config(stats_port=free_port(), ack="start"))

    assert ", FIFO, " in text_of(said, "queue")
    assert "the jobs of one message group run one at a time" in text_of(said, "queue")
    assert (levels(said)["queue"], levels(deleted_first)["queue"]) == (["ok", "warn"], ["ok"])


@pytest.mark.parametrize(
    ("operation", "right"),
    [
        ("DeleteMessageBatch", "sqs:DeleteMessage"),
        ("ChangeMessageVisibilityBatch", "sqs:ChangeMessageVisibility"),
        ("GetItem", "dynamodb:GetItem"),
        ("UpdateItem", "dynamodb:UpdateItem"),
        ("DeleteItem", "dynamodb:DeleteItem"),
        ("BatchWriteItem", "dynamodb:BatchWriteItem"),
    ],
)
def test_a_right_that_is_denied_fails_with_its_resource(
    look: Callable[..., Said], fleet: Fleet, proxy: Proxy, operation: str, right: str
) -> None:
    proxy.add(Fault.REFUSE, operation=operation)
    said = look(**through(proxy))

    assert said.code == 1
    [denied] = [text for level, _, text in findings(said) if level == "FAIL"]
    resource = fleet.name if right.startswith("sqs") else f"table/{fleet.table}"
    assert re.match(rf"{right} on arn:aws:\S*{resource} is denied: ", denied)
    assert re.search(rf"; next: allow {right} on arn:aws:\S*{resource}$", denied)


@pytest.mark.parametrize(("verb", "right"), [("INSERT", "PartiQLInsert"), ("UPDATE", "PartiQLUpdate")])
def test_a_right_that_only_saves_requests_is_a_warning(
    look: Callable[..., Said], proxy: Proxy, verb: str, right: str
) -> None:
    proxy.add(Fault.REFUSE, operation="BatchExecuteStatement", text=verb)
    said = look(**through(proxy))

    assert said.code == 0
    [denied] = [text for level, _, text in findings(said) if level == "warn" and "denied" in text]
    assert re.match(rf"dynamodb:{right} on arn:aws:\S* is denied: .* travel one by one", denied)
    assert f"next: allow dynamodb:{right} on" in denied


def test_rights_are_tried_without_effect(look: Callable[..., Said], fleet: Fleet) -> None:
    fleet.send_job(command="true")
    fleet.dynamodb("PutItem", TableName=fleet.table, Item={"Id": {"S": "kept"}, "Type": {"S": "lock"}})
    before = fleet.rows()
    look()

    assert fleet.depth() == (1, 0, 0)
    assert fleet.rows() == before


def test_what_only_the_check_needs_is_no_failure_when_it_is_denied(
    look: Callable[..., Said], fleet: Fleet, proxy: Proxy
) -> None:
    proxy.add(Fault.REFUSE, operation="DescribeTable")
    proxy.add(Fault.REFUSE, operation="GetQueueAttributes", text=f"{fleet.table}-dead")
    said = look(**through(proxy))

    assert said.code == 0
    assert (levels(said)["table"], levels(said)["dead letters"]) == (["warn"], ["warn"])
    assert "allow dynamodb:DescribeTable on" in text_of(said, "table")
    assert re.search(rf"allow sqs:GetQueueAttributes on \S+{fleet.table}-dead;", text_of(said, "dead letters"))
    assert "dynamodb:PartiQLUpdate on table" in text_of(said, "permissions")


def test_a_queue_that_may_not_be_looked_at_fails_and_its_other_rights_are_tried(
    look: Callable[..., Said], proxy: Proxy
) -> None:
    proxy.add(Fault.REFUSE, service="sqs")
    said = look(**through(proxy))

    assert (said.code, levels(said)["queue"]) == (1, ["FAIL"])
    assert "allow sqs:GetQueueAttributes on" in text_of(said, "queue")
    assert text_of(said, "permissions").count("is denied") == 2


def test_a_queue_that_drops_messages_within_a_day_is_a_warning(look: Callable[..., Said], fleet: Fleet) -> None:
    fleet.sqs("SetQueueAttributes", QueueUrl=fleet.queue_url, Attributes={"MessageRetentionPeriod": "3600"})
    said = look()

    assert levels(said)["retention"] == ["warn"]
    assert "1h0m0s after it was sent" in text_of(said, "retention")


def test_a_wrong_configuration_fails_with_2_and_a_line_for_each_mistake(look: Callable[..., Said]) -> None:
    said = look(config='[sqs]\nqueue_nam = "jobs"\n[kicker]\nack = "never"\n')

    assert said.code == 2
    assert set(levels(said)) == {"config"}
    assert "did you mean queue_name?" in said.out
    assert ":4: [kicker] ack" in said.out


def test_a_queue_that_is_not_there_fails_and_setup_is_the_next_step(look: Callable[..., Said], fleet: Fleet) -> None:
    said = look(config=fleet.config(stats_port=free_port()).replace(fleet.name, "no-such-queue"))

    assert said.code == 1
    assert levels(said)["queue"] == ["FAIL"]
    assert "sqsjkr setup" in text_of(said, "queue")
    assert levels(said)["table"] == ["ok"]  # what does not hang on it is looked at all the same


def test_a_queue_without_a_dead_letter_queue_is_a_loud_warning(look: Callable[..., Said], fleet: Fleet) -> None:
    fleet.sqs("SetQueueAttributes", QueueUrl=fleet.queue_url, Attributes={"RedrivePolicy": ""})
    said = look()

    assert said.code == 0
    assert levels(said)["dead letters"] == ["warn"]
    assert text_of(said, "dead letters").startswith("NONE")
    assert "sqsjkr setup" in text_of(said, "dead letters")


def redrive(fleet: Fleet, **changes: object) -> None:
    told = fleet.sqs("GetQueueAttributes", QueueUrl=fleet.queue_url, AttributeNames=["RedrivePolicy"])
    policy = json.loads(told["Attributes"]["RedrivePolicy"]) | changes
    fleet.sqs("SetQueueAttributes", QueueUrl=fleet.queue_url, Attributes={"RedrivePolicy": json.dumps(policy)})


def test_few_deliveries_before_the_dead_letter_queue_are_a_warning(look: Callable[..., Said], fleet: Fleet) -> None:
    redrive(fleet, maxReceiveCount=99)
    said = look()

    assert levels(said)["dead letters"] == ["ok", "warn"]
    assert f"maxReceiveCount of {fleet.name} is 99" in text_of(said, "dead letters")
    redrive(fleet, maxReceiveCount=100)
    assert levels(look())["dead letters"] == ["ok"]


def test_a_dead_letter_queue_that_is_gone_fails(look: Callable[..., Said], fleet: Fleet) -> None:
    fleet.sqs("DeleteQueue", QueueUrl=fleet.dlq_url)
    said = look()
    fleet.sqs("CreateQueue", QueueName=fleet.dlq_url.rsplit("/", 1)[-1])  # the fixture wants to delete it

    assert levels(said)["dead letters"] == ["FAIL"]


def test_dead_letters_that_lie_there_or_go_early_are_warnings(look: Callable[..., Said], fleet: Fleet) -> None:
    fleet.sqs("SetQueueAttributes", QueueUrl=fleet.dlq_url, Attributes={"MessageRetentionPeriod": "3600"})
    fleet.sqs("SendMessage", QueueUrl=fleet.dlq_url, MessageBody="nonsense")
    said = look()

    assert (said.code, levels(said)["dead letters"]) == (0, ["ok", "warn", "warn"])
    assert f"1 message on {fleet.table}-dead" in text_of(said, "dead letters")
    assert "redrive the others" in text_of(said, "dead letters")  # those with a reason would be buried again


def test_a_table_that_is_not_there_fails(look: Callable[..., Said]) -> None:
    said = look(table="no-such-table")

    assert (said.code, levels(said)["table"]) == (1, ["FAIL"])
    assert "sqsjkr setup" in text_of(said, "table")


@pytest.fixture
def bare_table(fleet: Fleet) -> Iterator[str]:
    """A table with the keys alone."""
    name = f"{fleet.table}-bare"
    yield from table(fleet, name, Id="HASH", Type="RANGE")


def table(fleet: Fleet, name: str, **keys: str) -> Iterator[str]:
    fleet.dynamodb(
        "CreateTable",
        TableName=name,
        KeySchema=[{"AttributeName": key, "KeyType": kind} for key, kind in keys.items()],
        AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"} for key in keys],
        BillingMode="PAY_PER_REQUEST",
    )
    yield name
    fleet.dynamodb("DeleteTable", TableName=name)


def test_a_table_without_index_and_ttl_is_warned_of(look: Callable[..., Said], bare_table: str) -> None:
    found = look(table=bare_table)

    assert found.code == 0
    assert (levels(found)["table"], levels(found)["index"], levels(found)["TTL"]) == (["ok"], ["warn"], ["warn"])


def test_a_table_with_other_keys_fails(look: Callable[..., Said], fleet: Fleet) -> None:
    for name in table(fleet, f"{fleet.table}-other", Key="HASH"):
        assert levels(look(table=name))["table"] == ["FAIL"]


def test_no_table_is_looked_at_where_none_is_used(look: Callable[..., Said], fleet: Fleet) -> None:
    said = look(config=fleet.config(stats_port=free_port(), locker="none", throttler="none"), table="no-such-table")

    assert said.code == 0
    assert "table" not in levels(said)


def test_no_credentials_fail_and_say_where_was_looked(look: Callable[..., Said]) -> None:
    said = look(AWS_ACCESS_KEY_ID="", AWS_SECRET_ACCESS_KEY="")

    assert (said.code, levels(said)["credentials"]) == (1, ["FAIL"])
    assert "AWS_ACCESS_KEY_ID" in text_of(said, "credentials")


def test_sts_that_does_not_answer_is_a_warning_only(look: Callable[..., Said]) -> None:
    said = look(AWS_ENDPOINT_URL_STS=f"http://127.0.0.1:{free_port()}")

    assert (said.code, levels(said)["credentials"]) == (0, ["warn"])


def test_aws_that_does_not_answer_fails_line_by_line(look: Callable[..., Said]) -> None:
    said = look(AWS_ENDPOINT_URL=f"http://127.0.0.1:{free_port()}")

    assert said.code == 1
    assert levels(said) == {
        "config": ["ok"],
        "credentials": ["warn"],
        "queue": ["FAIL"],
        "table": ["FAIL"],
        "trust": ["note"],
        "stats": ["ok"],
    }


def test_a_stats_port_that_somebody_else_has_fails(look: Callable[..., Said]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        said = look("--stats-port", str(taken.getsockname()[1]))

    assert (said.code, levels(said)["stats"]) == (1, ["FAIL"])


def test_a_worker_on_the_stats_port_is_no_stranger(
    look: Callable[..., Said], daemon: Callable[..., Daemon], tmp_path: Path
) -> None:
    port = free_port()
    begun = daemon("--local", str(tmp_path), "--stats-port", str(port))
    begun.wait_for_line("worker.started")

    assert levels(look("--stats-port", str(port)))["stats"] == ["warn"]


def test_a_socket_is_looked_at_as_run_would(look: Callable[..., Said], daemon: Callable[..., Daemon]) -> None:
    with tempfile.TemporaryDirectory(prefix="jkr-") as directory:  # short: a socket's path is
        place = f"{directory}/s"
        assert levels(look("--stats-socket", place))["stats"] == ["ok"]
        assert levels(look("--stats-socket", f"{place}/s"))["stats"] == ["FAIL"]

        with socket.socket(socket.AF_UNIX) as left:
            left.bind(place)
        assert levels(look("--stats-socket", place))["stats"] == ["ok"]  # nobody listens: run replaces it

        begun = daemon("--local", directory, "--stats-socket", place)
        begun.wait_for_line("worker.started")
        assert levels(look("--stats-socket", place))["stats"] == ["warn"]
        begun.kill_tree()

        Path(place).unlink(missing_ok=True)
        Path(place).write_text("")
        assert levels(look("--stats-socket", place))["stats"] == ["FAIL"]


def test_a_locker_of_ones_own_is_made_once(look: Callable[..., Said], fleet: Fleet) -> None:
    good = look(config=fleet.config(stats_port=free_port(), locker="sqsjkr.locker:NoLocker"))
    assert levels(good)["locker"] == ["ok"]

    bad = look(config=fleet.config(stats_port=free_port(), locker="sqsjkr.locker:NoLockr"))
    assert (bad.code, levels(bad)["locker"]) == (1, ["FAIL"])


def test_an_embedded_store_is_looked_at_and_not_made(tmp_path: Path) -> None:
    said = sqsjkr("check", "--local", str(tmp_path / "store"))

    assert said.code == 0
    assert list(tmp_path.iterdir()) == []


def test_an_embedded_store_below_a_file_fails(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    said = sqsjkr("check", "--local", str(tmp_path / "file" / "store"))

    assert (said.code, levels(said)["store"]) == (1, ["FAIL"])
    assert "is not a directory; next: name another with --local" in text_of(said, "store")


def test_an_embedded_store_tells_what_lies_in_it(tmp_path: Path) -> None:
    assert sqsjkr("send", "--local", str(tmp_path), "true").code == 0
    with closing(sqlite3.connect(tmp_path / "sqsjkr.db")) as db, db:
        db.execute("INSERT INTO dead_letter VALUES ('id', 'body', 0, 0, 'reason')")
    said = sqsjkr("check", "--local", str(tmp_path))

    assert said.code == 0
    assert text_of(said, "messages") == "1 waiting, 0 in flight or delayed"
    assert levels(said)["dead letters"] == ["warn"]


@pytest.mark.parametrize("content", [b"no database at all, whatever it may be" * 100, None])
def test_an_embedded_store_that_cannot_be_opened_fails(tmp_path: Path, content: bytes | None) -> None:
    store = tmp_path / "sqsjkr.db"
    if content is None:
        store.mkdir()
    else:
        store.write_bytes(content)
    said = sqsjkr("check", "--local", str(tmp_path))

    assert (said.code, said.err) == (1, "")
    assert levels(said)["store"] == ["FAIL"]


def test_time_limits_and_retries_that_do_not_fit_the_queue_are_named(look: Callable[..., Said], fleet: Fleet) -> None:
    fleet.sqs("SetQueueAttributes", QueueUrl=fleet.queue_url, Attributes={"MessageRetentionPeriod": "86400"})
    config = (
        fleet.config(stats_port=free_port(), max_timeout="24h")
        + """
[jobs."long"]
timeout = "25h"
[jobs."often"]
retries = 600
[jobs."fine"]
timeout = "1h"
retries = 3
"""
    )
    said = look(config=config)

    assert said.code == 0, "it works, and something will be missed one day"
    limits, retries = text_of(said, "time limits").splitlines(), text_of(said, "retries").splitlines()
    assert limits[0].startswith("[kicker] max_timeout is 24h0m0s, and the queue drops a message after 24h0m0s: ")
    assert limits[1].startswith('[jobs."long"] timeout is 25h0m0s, ')
    assert retries[0].startswith('[jobs."often"] needs up to 30.9 days for 600 retries, ')
    assert retries[1].startswith('[jobs."often"] has 600 retries, and maxReceiveCount is ')
    assert (len(limits), len(retries)) == (2, 2)


def test_a_wrapper_that_is_not_on_the_host_fails(look: Callable[..., Said], fleet: Fleet) -> None:
    config = fleet.config(stats_port=free_port(), wrapper=["nice"]) + '[jobs."a"]\nwrapper = ["nicest", "-n"]\n'
    said = look(config=config)

    assert said.code == 1
    assert text_of(said, "wrapper").startswith('[jobs."a"] wrapper: no program nicest on the PATH of this host; next: ')
