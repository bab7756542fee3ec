"""The benchmarks' stand-in for SQS and DynamoDB does what the daemon relies on."""

import asyncio
import contextlib
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import botocore.session
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from servers import PATIENCE

ROOT = Path(__file__).resolve().parents[2]
TABLE = "locks"
XML = {"sqs": "http://queue.amazonaws.com/doc/2012-11-05/"}
names = (f"queue-{number}" for number in count())


@dataclass(frozen=True, slots=True, kw_only=True)
class Standin:
    process: subprocess.Popen[str]
    port: int
    sqs: Any
    dynamodb: Any

    def own(self, path: str, body: bytes | None = None) -> dict[str, Any]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", data=body, timeout=PATIENCE) as answer:
            return json.load(answer)

    def queue(self, name: str = "", **attributes: str) -> str:
        return self.sqs.create_queue(QueueName=name or next(names), Attributes=attributes)["QueueUrl"]

    def receive(self, url: str, **options: Any) -> list[dict[str, Any]]:
        options = {"MaxNumberOfMessages": 10, "AttributeNames": ["All"], **options}
        return self.sqs.receive_message(QueueUrl=url, **options).get("Messages", [])

    def bodies(self, url: str, **options: Any) -> list[str]:
        return [message["Body"] for message in self.receive(url, **options)]

    def polls(self) -> int:
        return self.own("/_counts")["requests"].get("sqs.ReceiveMessage", 0)

    def update(self, key: str, expression: str, condition: str | None = None, **more: Any) -> dict[str, Any]:
        options = {"UpdateExpression": expression, **more}
        if condition is not None:
            options["ConditionExpression"] = condition
        return self.dynamodb.update_item(TableName=TABLE, Key=row(key), **options)


def row(key: str, kind: str = "lock", **attributes: dict[str, Any]) -> dict[str, Any]:
    return {"Id": {"S": key}, "Type": {"S": kind}, **attributes}


def start(*options: str, env: dict[str, str] | None = None) -> Standin:
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.standin", "--port", "0", "--table", TABLE, *options],
        cwd=ROOT,
        env={**os.environ, **(env or {})},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    port = int(process.stdout.readline())
    session = botocore.session.Session()
    settings = {
        "region_name": "us-east-1",
        "endpoint_url": f"http://127.0.0.1:{port}",
        "aws_access_key_id": "here",
        "aws_secret_access_key": "here",
        "config": Config(retries={"total_max_attempts": 1}),
    }
    return Standin(
        process=process,
        port=port,
        sqs=session.create_client("sqs", **settings),
        dynamodb=session.create_client("dynamodb", **settings),
    )


def end(standin: Standin) -> int:
    """Close the pipe that the stand-in lives on, and give its exit code."""
    standin.sqs.close()
    standin.dynamodb.close()
    standin.process.communicate(timeout=PATIENCE)
    return standin.process.returncode


@pytest.fixture(scope="module")
def standin() -> Iterator[Standin]:
    running = start()
    yield running
    end(running)


@pytest.fixture(scope="module")
def one_more() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(max_workers=1) as pool:
        yield pool


def wait_until(fact: Callable[[], bool], description: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not fact():
        assert time.monotonic() < deadline, f"never happened: {description}"


# SQS


def test_a_message_arrives_as_it_was_sent(standin: Standin) -> None:
    url = standin.queue()
    body = 'é <&> "\r\n"'
    attributes = {"a": {"DataType": "String", "StringValue": "x"}, "b": {"DataType": "Binary", "BinaryValue": b"\0\1"}}
    before = int(time.time() * 1000)
    sent = standin.sqs.send_message(QueueUrl=url, MessageBody=body, MessageAttributes=attributes)
    [message] = standin.receive(url, MessageAttributeNames=["All"])
    assert message["Body"] == body
    assert message["MessageId"] == sent["MessageId"]
    assert message["MessageAttributes"] == attributes
    by_hand = b"\0\0\0\1a\0\0\0\6String\1\0\0\0\1x\0\0\0\1b\0\0\0\6Binary\2\0\0\0\2\0\1"
    assert message["MD5OfMessageAttributes"] == sent["MD5OfMessageAttributes"] == hashlib.md5(by_hand).hexdigest()  # noqa: S324
    assert message["MD5OfBody"] == sent["MD5OfMessageBody"] == hashlib.md5(body.encode()).hexdigest()  # noqa: S324
    assert message["Attributes"]["ApproximateReceiveCount"] == "1"
    assert before <= int(message["Attributes"]["SentTimestamp"]) <= time.time() * 1000
    assert {"SenderId", "ApproximateFirstReceiveTimestamp"} <= message["Attributes"].keys()


def test_the_sender_of_a_message_depends_on_the_access_key_that_signed_the_call(standin: Standin) -> None:
    url = standin.queue()
    standin.sqs.send_message(QueueUrl=url, MessageBody="ours")
    theirs = botocore.session.Session().create_client(
        "sqs",
        region_name="us-east-1",
        endpoint_url=f"http://127.0.0.1:{standin.port}",
        aws_access_key_id="another",
        aws_secret_access_key="another",
    )
    theirs.send_message(QueueUrl=url, MessageBody="theirs")
    standin.sqs.send_message(QueueUrl=url, MessageBody="ours")
    theirs.close()
    senders = {message["Body"]: message["Attributes"]["SenderId"] for message in standin.receive(url)}
    assert all(sender.startswith("AIDA") for sender in senders.values())
    assert senders["ours"] != senders["theirs"]


def test_a_hidden_message_comes_back_to_a_long_poll_when_its_time_is_over(standin: Standin) -> None:
    url = standin.queue()
    standin.sqs.send_message(QueueUrl=url, MessageBody="again")
    before = time.monotonic()
    [first] = standin.receive(url, VisibilityTimeout=1)
    assert standin.receive(url) == []
    [second] = standin.receive(url, WaitTimeSeconds=20)
    assert time.monotonic() - before > 0.95
    assert second["Attributes"]["ApproximateReceiveCount"] == "2"
    assert second["ReceiptHandle"] != first["ReceiptHandle"]


def test_a_message_wakes_a_long_poll_at_once(standin: Standin, one_more: ThreadPoolExecutor) -> None:
    url = standin.queue()
    polls = standin.polls()
    poll = one_more.submit(standin.bodies, url, WaitTimeSeconds=20)
    wait_until(lambda: standin.polls() > polls, "the poll began")
    standin.sqs.send_message(QueueUrl=url, MessageBody="now")
    assert poll.result(timeout=PATIENCE) == ["now"]


def test_giving_a_message_back_wakes_a_long_poll(standin: Standin, one_more: ThreadPoolExecutor) -> None:
    url = standin.queue()
    standin.sqs.send_message(QueueUrl=url, MessageBody="back")
    [held] = standin.receive(url)
    polls = standin.polls()
    poll = one_more.submit(standin.bodies, url, WaitTimeSeconds=20)
    wait_until(lambda: standin.polls() > polls, "the poll began")
    standin.sqs.change_message_visibility(QueueUrl=url, ReceiptHandle=held["ReceiptHandle"], VisibilityTimeout=0)
    assert poll.result(timeout=PATIENCE) == ["back"]


def test_a_client_that_hung_up_is_handed_nothing(standin: Standin) -> None:
    name = next(names)
    url = standin.queue(name)
    polls = standin.polls()
    with socket.create_connection(("127.0.0.1", standin.port)) as gone:
        gone.sendall(raw("AmazonSQS.ReceiveMessage", {"QueueUrl": url, "WaitTimeSeconds": 20}))
        wait_until(lambda: standin.polls() > polls, "the poll began")
    # The closed connection is seen before the request of a connection that is made after it.
    standin.own(f"/_depth?queue={name}")
    standin.sqs.send_message(QueueUrl=url, MessageBody="kept")
    assert standin.bodies(url) == ["kept"]


def test_a_deleted_message_stays_away(standin: Standin) -> None:
    name = next(names)
    url = standin.queue(name)
    standin.sqs.send_message(QueueUrl=url, MessageBody="done")
    [message] = standin.receive(url, VisibilityTimeout=1)
    for _ in range(2):  # deleting twice is fine
        standin.sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
    assert standin.own(f"/_depth?queue={name}") == {"visible": 0, "in_flight": 0, "delayed": 0}
    assert standin.receive(url, WaitTimeSeconds=2) == []


def test_an_old_receipt_handle_settles_nothing(standin: Standin) -> None:
    url = standin.queue()
    standin.sqs.send_message(QueueUrl=url, MessageBody="mine")
    [old] = standin.receive(url, VisibilityTimeout=0)
    [new] = standin.receive(url)
    standin.sqs.delete_message(QueueUrl=url, ReceiptHandle=old["ReceiptHandle"])
    with pytest.raises(ClientError, match="InvalidParameterValue"):
        standin.sqs.change_message_visibility(QueueUrl=url, ReceiptHandle=old["ReceiptHandle"], VisibilityTimeout=9)
    standin.sqs.change_message_visibility(QueueUrl=url, ReceiptHandle=new["ReceiptHandle"], VisibilityTimeout=0)
    assert standin.bodies(url) == ["mine"]


def test_a_batch_fails_entry_by_entry(standin: Standin) -> None:
    url = standin.queue()
    entries = [{"Id": "good", "MessageBody": "fine"}, {"Id": "bad", "MessageBody": "\x00"}]
    answer = standin.sqs.send_message_batch(QueueUrl=url, Entries=entries)
    assert [entry["Id"] for entry in answer["Successful"]] == ["good"]
    assert [(entry["Id"], entry["Code"]) for entry in answer["Failed"]] == [("bad", "InvalidMessageContents")]
    [message] = standin.receive(url)
    entries = [{"Id": "a", "ReceiptHandle": message["ReceiptHandle"]}, {"Id": "b", "ReceiptHandle": "nonsense"}]
    answer = standin.sqs.delete_message_batch(QueueUrl=url, Entries=entries)
    assert [entry["Id"] for entry in answer["Successful"]] == ["a"]
    assert [entry["Code"] for entry in answer["Failed"]] == ["ReceiptHandleIsInvalid"]
    with pytest.raises(standin.sqs.exceptions.BatchEntryIdsNotDistinct):
        standin.sqs.send_message_batch(QueueUrl=url, Entries=[{"Id": "a", "MessageBody": "x"}] * 2)


def test_a_message_moves_to_the_dead_letter_queue_after_its_last_receive(standin: Standin) -> None:
    dead_url = standin.queue()
    arn = standin.sqs.get_queue_attributes(QueueUrl=dead_url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    url = standin.queue(RedrivePolicy=json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": 2}))
    sent = standin.sqs.send_message(QueueUrl=url, MessageBody="poison")
    assert standin.bodies(url, VisibilityTimeout=0) == ["poison"]
    assert standin.bodies(url, VisibilityTimeout=0) == ["poison"]
    assert standin.bodies(url) == []
    [dead] = standin.receive(dead_url)
    assert (dead["MessageId"], dead["Body"]) == (sent["MessageId"], "poison")


def test_a_fifo_group_is_closed_while_a_message_of_it_is_in_flight(standin: Standin) -> None:
    url = standin.queue(f"{next(names)}.fifo", FifoQueue="true", ContentBasedDeduplication="true")
    for group, body in (("a", "a1"), ("a", "a2"), ("b", "b1")):
        standin.sqs.send_message(QueueUrl=url, MessageBody=body, MessageGroupId=group)
    [held] = standin.receive(url, MaxNumberOfMessages=1)
    assert held["Body"] == "a1"
    assert standin.bodies(url) == ["b1"]
    assert standin.bodies(url) == []
    standin.sqs.change_message_visibility(QueueUrl=url, ReceiptHandle=held["ReceiptHandle"], VisibilityTimeout=0)
    again, following = standin.receive(url)
    assert (again["Body"], following["Body"]) == ("a1", "a2")
    for message in (again, following):
        standin.sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
    standin.sqs.send_message(QueueUrl=url, MessageBody="a3", MessageGroupId="a")
    assert standin.bodies(url) == ["a3"]


def test_deleting_the_last_message_in_flight_opens_its_group_to_a_long_poll(
    standin: Standin, one_more: ThreadPoolExecutor
) -> None:
    url = standin.queue(f"{next(names)}.fifo", FifoQueue="true", ContentBasedDeduplication="true")
    for body in ("first", "second"):
        standin.sqs.send_message(QueueUrl=url, MessageBody=body, MessageGroupId="g")
    [first] = standin.receive(url, MaxNumberOfMessages=1)
    polls = standin.polls()
    poll = one_more.submit(standin.bodies, url, WaitTimeSeconds=20)
    wait_until(lambda: standin.polls() > polls, "the poll began")
    standin.sqs.delete_message_batch(QueueUrl=url, Entries=[{"Id": "1", "ReceiptHandle": first["ReceiptHandle"]}])
    assert poll.result(timeout=PATIENCE) == ["second"]


def test_a_fifo_queue_takes_a_deduplication_id_once(standin: Standin) -> None:
    url = standin.queue(f"{next(names)}.fifo", FifoQueue="true")
    message = {"QueueUrl": url, "MessageGroupId": "g", "MessageDeduplicationId": "d"}
    first = standin.sqs.send_message(MessageBody="one", **message)
    second = standin.sqs.send_message(MessageBody="two", **message)
    assert second["MessageId"] == first["MessageId"]
    assert standin.bodies(url) == ["one"]


def test_a_queue_is_filled_at_once(standin: Standin) -> None:
    name = next(names)
    url = standin.queue(name)
    assert standin.own(f"/_fill?queue={name}&n=12", b'{"event_id":"e-@N@"}')["visible"] == 12
    assert standin.bodies(url) == [f'{{"event_id":"e-{number}"}}' for number in range(10)]
    assert standin.own(f"/_depth?queue={name}") == {"visible": 2, "in_flight": 10, "delayed": 0}


# The Query protocol


def by_form(standin: Standin, path: str, **fields: str) -> tuple[int, ET.Element]:
    body = urllib.parse.urlencode({"Version": "2012-11-05", **fields}).encode()
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{standin.port}{path}", data=body, timeout=PATIENCE) as answer:
            return answer.status, ET.fromstring(answer.read())  # noqa: S314 - our own server
    except urllib.error.HTTPError as error:
        with error:
            return error.code, ET.fromstring(error.read())  # noqa: S314 - our own server


def text(tree: ET.Element, path: str) -> str | None:
    return tree.findtext(f".//{path}", namespaces=XML)


def test_the_query_protocol_serves_a_message_from_send_to_delete(standin: Standin) -> None:
    name = next(names)
    _, made = by_form(standin, "/", Action="CreateQueue", QueueName=name)
    url = text(made, "sqs:CreateQueueResult/sqs:QueueUrl")
    assert url is not None
    path = urllib.parse.urlsplit(url).path
    body = '{"command":"echo \'<&>\'"}\r\n'
    form = {"MessageAttribute.1.Name": "a", "MessageAttribute.1.Value.DataType": "String"}
    form["MessageAttribute.1.Value.StringValue"] = "x"
    _, sent = by_form(standin, path, Action="SendMessage", MessageBody=body, **form)
    wanted = {"AttributeName.1": "All", "MessageAttributeName.1": "All"}
    _, got = by_form(standin, path, Action="ReceiveMessage", MaxNumberOfMessages="10", WaitTimeSeconds="1", **wanted)
    assert text(got, "sqs:Message/sqs:Body") == body
    assert text(got, "sqs:Message/sqs:MD5OfBody") == hashlib.md5(body.encode()).hexdigest()  # noqa: S324
    assert text(got, "sqs:Message/sqs:MessageId") == text(sent, "sqs:MessageId")
    assert text(got, "sqs:MD5OfMessageAttributes") == text(sent, "sqs:MD5OfMessageAttributes")
    assert text(got, "sqs:MessageAttribute/sqs:Value/sqs:StringValue") == "x"
    found = {
        entry.findtext("sqs:Name", namespaces=XML): entry.findtext("sqs:Value", namespaces=XML)
        for entry in got.iterfind(".//sqs:Message/sqs:Attribute", XML)
    }
    assert found["ApproximateReceiveCount"] == "1"
    handle = text(got, "sqs:Message/sqs:ReceiptHandle") or ""
    form = {"DeleteMessageBatchRequestEntry.1.Id": "x", "DeleteMessageBatchRequestEntry.1.ReceiptHandle": handle}
    _, deleted = by_form(standin, path, Action="DeleteMessageBatch", **form)
    assert text(deleted, "sqs:DeleteMessageBatchResultEntry/sqs:Id") == "x"
    assert standin.own(f"/_depth?queue={name}")["in_flight"] == 0


def test_the_query_protocol_names_its_own_error_codes(standin: Standin) -> None:
    status, answer = by_form(standin, "/", Action="GetQueueUrl", QueueName="nowhere")
    assert status == 400
    assert text(answer, "sqs:Error/sqs:Code") == "AWS.SimpleQueueService.NonExistentQueue"
    with pytest.raises(standin.sqs.exceptions.QueueDoesNotExist):
        standin.sqs.get_queue_url(QueueName="nowhere")


def test_the_query_protocol_gives_the_attributes_of_a_queue(standin: Standin) -> None:
    path = urllib.parse.urlsplit(standin.queue(MessageRetentionPeriod="1209600")).path
    form = {"AttributeName.1": "MessageRetentionPeriod"}
    _, answer = by_form(standin, path, Action="GetQueueAttributes", **form)
    assert text(answer, "sqs:Attribute/sqs:Name") == "MessageRetentionPeriod"
    assert text(answer, "sqs:Attribute/sqs:Value") == "1209600"


# DynamoDB


def raw(target: str, payload: dict[str, Any]) -> bytes:
    body = json.dumps(payload).encode()
    return f"POST / HTTP/1.1\r\nX-Amz-Target: {target}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


async def answered(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], bytes]:
    first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().strip().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines)
    return int(first.split()[1]), headers, await reader.readexactly(int(headers["content-length"]))


async def test_of_200_who_race_for_a_lock_one_wins(standin: Standin) -> None:
    async def race(number: int) -> tuple[int, bytes]:
        reader, writer = await asyncio.open_connection("127.0.0.1", standin.port)
        payload = {
            "TableName": TABLE,
            "Key": row("raced"),
            "UpdateExpression": "SET EventId = :me",
            "ConditionExpression": "attribute_not_exists(EventId)",
            "ExpressionAttributeValues": {":me": {"S": f"racer-{number}"}},
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }
        await line.wait()
        writer.write(raw("DynamoDB_20120810.UpdateItem", payload))
        status, _, body = await answered(reader)
        writer.close()
        await writer.wait_closed()
        return status, body

    line = asyncio.Barrier(200)
    answers = await asyncio.gather(*(race(number) for number in range(200)))
    assert sorted(status for status, _ in answers) == [200] + [400] * 199
    winner = standin.dynamodb.get_item(TableName=TABLE, Key=row("raced"))["Item"]
    assert all(json.loads(body)["Item"] == winner for status, body in answers if status == 400)


async def test_an_answer_carries_its_checksum(standin: Standin) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", standin.port)
    writer.write(raw("DynamoDB_20120810.DescribeTable", {"TableName": TABLE}))
    _, headers, body = await answered(reader)
    writer.close()
    await writer.wait_closed()
    assert int(headers["x-amz-crc32"]) == zlib.crc32(body)


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        ("attribute_exists(N)", True),
        ("attribute_exists(#reserved)", False),
        ("attribute_not_exists(#reserved)", True),
        ("N = :seven", True),
        ("N = :seven_point_nought", True),
        ("N < :ten", True),
        ("N > :ten", False),
        ("N >= :seven AND N <= :seven", True),
        ("N = :word", False),
        ("N < :word", False),
        ("N <> :word", True),
        ("Nope <> :word", True),
        ("Nope = :word", False),
        ("Nope < :ten", False),
        ("NOT Nope = :word", True),
        ("N = :ten OR N = :seven AND N = :ten", False),
        ("(N = :ten OR N = :seven) AND NOT N = :ten", True),
        ("N BETWEEN :seven AND :ten", True),
        ("N IN (:ten, :seven)", True),
        ("begins_with(S, :word)", True),
        ("not attribute_exists(#reserved)", True),
    ],
)
def test_a_condition_is_read_as_aws_reads_it(standin: Standin, condition: str, holds: bool) -> None:
    item = row("conditions", N={"N": "7"}, S={"S": "words"})
    standin.dynamodb.put_item(TableName=TABLE, Item=item)
    known = {":seven": {"N": "7"}, ":seven_point_nought": {"N": "7.0"}, ":ten": {"N": "10"}, ":word": {"S": "word"}}
    tokens = set(condition.replace("(", " ").replace(")", " ").replace(",", " ").split())
    options: dict[str, Any] = {}
    if values := {name: value for name, value in known.items() if name in tokens}:
        options["ExpressionAttributeValues"] = values
    if "#reserved" in tokens:
        options["ExpressionAttributeNames"] = {"#reserved": "Owner"}
    put = {"TableName": TABLE, "Item": item, "ConditionExpression": condition, **options}
    if holds:
        standin.dynamodb.put_item(**put)
    else:
        with pytest.raises(standin.dynamodb.exceptions.ConditionalCheckFailedException):
            standin.dynamodb.put_item(**put)


@pytest.mark.parametrize("condition", ["", "N =", "N = :v)", "(N = :v", "size(N) = :v", "N = :v AND", "= :v", "N ! :v"])
def test_a_broken_condition_is_a_validation_error(standin: Standin, condition: str) -> None:
    with pytest.raises(ClientError, match="ValidationException"):
        standin.update("broken", "SET N = :v", condition, ExpressionAttributeValues={":v": {"N": "1"}})


@pytest.mark.parametrize(
    "expression", ["SET A", "SET A = :v SET B = :v", "SET A = :v,", "SET A :v", "PUT A", "SET A = B :v"]
)
def test_a_broken_update_is_a_validation_error(standin: Standin, expression: str) -> None:
    with pytest.raises(ClientError, match="Syntax error"):
        standin.update("broken", expression, ExpressionAttributeValues={":v": {"N": "1"}})


@pytest.mark.parametrize("values", [{":v": {"N": "1"}}, {":v": {"N": "1"}, ":w": {"N": "1"}, ":unused": {"N": "1"}}])
def test_a_value_that_is_missing_or_not_used_is_a_validation_error(standin: Standin, values: dict[str, Any]) -> None:
    with pytest.raises(ClientError, match="ValidationException"):
        standin.update("placeholders", "SET N = :v, M = :w", ExpressionAttributeValues=values)


def test_an_update_changes_what_its_clauses_say(standin: Standin) -> None:
    old = row("clauses", Count={"N": "7"}, Gone={"S": "x"}, Tags={"SS": ["a"]})
    standin.dynamodb.put_item(TableName=TABLE, Item=old)
    answer = standin.update(
        "clauses",
        "SET #c = #c + :two, Kept = if_not_exists(#c, :two), Fresh = if_not_exists(Nope, :two) "
        "REMOVE Gone, Nope ADD Fence :two, Tags :tags",
        ExpressionAttributeNames={"#c": "Count"},
        ExpressionAttributeValues={":two": {"N": "2"}, ":tags": {"SS": ["a", "b"]}},
        ReturnValues="ALL_NEW",
    )
    numbers = {"Count": {"N": "9"}, "Kept": {"N": "7"}, "Fresh": {"N": "2"}, "Fence": {"N": "2"}}
    assert answer["Attributes"] == row("clauses", **numbers, Tags={"SS": ["a", "b"]})
    assert standin.dynamodb.get_item(TableName=TABLE, Key=row("clauses"))["Item"] == answer["Attributes"]


@pytest.mark.parametrize(
    ("wanted", "attributes"),
    [
        ("NONE", None),
        ("ALL_OLD", row("returned", A={"N": "1"}, B={"N": "2"})),
        ("ALL_NEW", row("returned", A={"N": "5"}, B={"N": "2"})),
        ("UPDATED_OLD", {"A": {"N": "1"}}),
        ("UPDATED_NEW", {"A": {"N": "5"}}),
    ],
)
def test_an_update_returns_what_was_asked(standin: Standin, wanted: str, attributes: dict[str, Any] | None) -> None:
    standin.dynamodb.put_item(TableName=TABLE, Item=row("returned", A={"N": "1"}, B={"N": "2"}))
    values = {":v": {"N": "5"}}
    answer = standin.update("returned", "SET A = :v", ExpressionAttributeValues=values, ReturnValues=wanted)
    assert answer.get("Attributes") == attributes


def test_a_failed_update_leaves_the_item_as_it_was(standin: Standin) -> None:
    standin.dynamodb.put_item(TableName=TABLE, Item=row("whole", A={"N": "1"}))
    values = {":v": {"N": "5"}}
    with pytest.raises(ClientError, match="ValidationException"):
        standin.update("whole", "SET A = :v, B = Nope + :v", ExpressionAttributeValues=values)
    with pytest.raises(ClientError, match="part of the key"):
        standin.update("whole", "SET A = :v, Id = :v", ExpressionAttributeValues=values)
    assert standin.dynamodb.get_item(TableName=TABLE, Key=row("whole"))["Item"]["A"] == {"N": "1"}


def test_a_row_is_deleted_only_on_its_condition(standin: Standin) -> None:
    standin.dynamodb.put_item(TableName=TABLE, Item=row("owned", Owner={"S": "me"}))
    delete = {"TableName": TABLE, "Key": row("owned"), "ConditionExpression": "#o = :o"}
    delete["ExpressionAttributeNames"] = {"#o": "Owner"}
    with pytest.raises(standin.dynamodb.exceptions.ConditionalCheckFailedException):
        standin.dynamodb.delete_item(**delete, ExpressionAttributeValues={":o": {"S": "you"}})
    standin.dynamodb.delete_item(**delete, ExpressionAttributeValues={":o": {"S": "me"}})
    assert "Item" not in standin.dynamodb.get_item(TableName=TABLE, Key=row("owned"))


def test_the_index_gives_the_rows_that_are_due_in_order(standin: Standin) -> None:
    for key, expired in (("late", 30), ("early", 5), ("middle", 20), ("gone", 10)):
        standin.dynamodb.put_item(TableName=TABLE, Item=row(key, "due", Expired={"N": str(expired)}))
    standin.dynamodb.delete_item(TableName=TABLE, Key=row("gone", "due"))
    asked = {
        "TableName": TABLE,
        "IndexName": "TypeExpiredIndex",
        "KeyConditionExpression": "#t = :t AND #e <= :e",
        "ExpressionAttributeNames": {"#t": "Type", "#e": "Expired"},
        "ExpressionAttributeValues": {":t": {"S": "due"}, ":e": {"N": "20"}},
    }
    answer = standin.dynamodb.query(**asked)
    assert [item["Id"]["S"] for item in answer["Items"]] == ["early", "middle"]
    first = standin.dynamodb.query(**asked, Limit=1)
    assert [item["Id"]["S"] for item in first["Items"]] == ["early"]
    rest = standin.dynamodb.query(**asked, ExclusiveStartKey=first["LastEvaluatedKey"])
    assert [item["Id"]["S"] for item in rest["Items"]] == ["middle"]


def test_a_batch_writes_and_deletes_up_to_25_rows(standin: Standin) -> None:
    def counted() -> int:
        return standin.own("/_counts")["entries"].get("dynamodb.BatchWriteItem", 0)

    before = counted()
    puts: list[dict[str, Any]] = [{"PutRequest": {"Item": row(f"batch-{number}", "batch")}} for number in range(25)]
    standin.dynamodb.batch_write_item(RequestItems={TABLE: puts})
    deletes = [{"DeleteRequest": {"Key": row(f"batch-{number}", "batch")}} for number in range(20)]
    standin.dynamodb.batch_write_item(RequestItems={TABLE: deletes})
    assert counted() - before == 45
    scanned = standin.dynamodb.scan(
        TableName=TABLE,
        FilterExpression="#t = :t",
        ExpressionAttributeNames={"#t": "Type"},
        ExpressionAttributeValues={":t": {"S": "batch"}},
    )
    assert {item["Id"]["S"] for item in scanned["Items"]} == {f"batch-{number}" for number in range(20, 25)}
    with pytest.raises(ClientError, match="duplicates"):
        standin.dynamodb.batch_write_item(RequestItems={TABLE: puts[:1] * 2})


def insert(key: str, owner: str) -> dict[str, Any]:
    text = f"INSERT INTO \"{TABLE}\" VALUE {{'Id': ?, 'Type': 'throttle', 'Owner': ?}}"
    return {"Statement": text, "Parameters": [{"S": key}, {"S": owner}]}


def release(key: str, owner: str) -> dict[str, Any]:
    changes = 'REMOVE EventId REMOVE "Owner" SET Expired = ? SET Released = ?'
    text = f"""UPDATE "{TABLE}" {changes} WHERE Id = ? AND "Type" = 'lock' AND "Owner" = ?"""
    return {"Statement": text, "Parameters": [{"N": "7"}, {"S": owner}, {"S": key}, {"S": owner}]}


def codes(answer: dict[str, Any]) -> list[str]:
    return [response.get("Error", {}).get("Code", "") for response in answer["Responses"]]


def test_statements_that_travel_together_fail_each_by_itself(standin: Standin) -> None:
    send = standin.dynamodb.batch_execute_statement
    assert codes(send(Statements=[insert("s1", "a"), insert("s2", "a")])) == ["", ""]
    assert codes(send(Statements=[insert("s1", "b"), insert("s3", "b")])) == ["DuplicateItem", ""]
    owners = [
        standin.dynamodb.get_item(TableName=TABLE, Key=row(key, "throttle"))["Item"]["Owner"] for key in ("s1", "s3")
    ]
    assert owners == [{"S": "a"}, {"S": "b"}]
    with pytest.raises(ClientError, match="duplicates"):
        send(Statements=[insert("s4", "a"), insert("s4", "b")])


def test_a_statement_changes_a_row_that_meets_its_condition_and_no_other(standin: Standin) -> None:
    lock = row("s-lock", EventId={"S": "e"}, Owner={"S": "a"}, Fence={"N": "3"})
    standin.dynamodb.put_item(TableName=TABLE, Item=lock)
    statements = [release("s-lock", "b"), release("s-none", "a")]
    assert codes(standin.dynamodb.batch_execute_statement(Statements=statements)) == ["ConditionalCheckFailed"] * 2
    assert codes(standin.dynamodb.batch_execute_statement(Statements=[release("s-lock", "a")])) == [""]
    item = standin.dynamodb.get_item(TableName=TABLE, Key=row("s-lock"))["Item"]
    assert item == row("s-lock", Fence={"N": "3"}, Expired={"N": "7"}, Released={"S": "a"})
    with pytest.raises(ClientError, match="well formed"):
        standin.dynamodb.batch_execute_statement(Statements=[{"Statement": f'DROP TABLE "{TABLE}"'}])


def test_it_counts_write_units_as_dynamodb_charges_them(standin: Standin) -> None:
    def charged(write: Callable[[], object]) -> int:
        before = standin.own("/_counts")["write_units"]
        with contextlib.suppress(ClientError):
            write()
        return standin.own("/_counts")["write_units"] - before

    def put(size: int, **more: Any) -> Callable[[], object]:
        item = row("units", Content={"S": "x" * size})
        return lambda: standin.dynamodb.put_item(TableName=TABLE, Item=item, **more)

    assert [charged(put(size)) for size in (100, 1500, 100, 100)] == [1, 2, 2, 1]
    assert charged(put(3000, ConditionExpression="attribute_not_exists(Id)")) == 1
    assert charged(lambda: standin.update("units", "REMOVE Content")) == 1
    assert (
        charged(lambda: standin.dynamodb.batch_execute_statement(Statements=[insert("u1", "a"), insert("u1x", "a")]))
        == 2
    )
    assert charged(lambda: standin.dynamodb.batch_execute_statement(Statements=[insert("u1", "b")])) == 1
    assert charged(lambda: standin.dynamodb.delete_item(TableName=TABLE, Key=row("units"))) == 1
    assert standin.own("/_counts")["largest_row"]["lock"] >= 1500


def test_a_table_and_its_time_to_live_are_described(standin: Standin) -> None:
    table = standin.dynamodb.describe_table(TableName=TABLE)["Table"]
    assert table["TableStatus"] == "ACTIVE"
    assert table["GlobalSecondaryIndexes"][0]["IndexName"] == "TypeExpiredIndex"
    with pytest.raises(standin.dynamodb.exceptions.ResourceNotFoundException):
        standin.dynamodb.describe_table(TableName="nowhere")
    wanted = {"Enabled": True, "AttributeName": "Expired"}
    standin.dynamodb.update_time_to_live(TableName=TABLE, TimeToLiveSpecification=wanted)
    described = standin.dynamodb.describe_time_to_live(TableName=TABLE)["TimeToLiveDescription"]
    assert described == {"TimeToLiveStatus": "ENABLED", "AttributeName": "Expired"}


# The process


def test_it_counts_requests_and_its_own_cpu_time_since_the_last_reset() -> None:
    fresh = start("--queue", "counted")
    fresh.receive(f"http://127.0.0.1:{fresh.port}/0/counted")
    fresh.own("/_reset", b"")
    for _ in range(3):
        fresh.receive(f"http://127.0.0.1:{fresh.port}/0/counted")
    report = fresh.own("/_counts")
    assert end(fresh) == 0
    assert report["requests"] == {"sqs.ReceiveMessage": 3}
    assert report["cpu_seconds"] > 0


def test_it_holds_answers_back_as_long_as_it_is_told() -> None:
    slow = start("--queue", "slow", "--latency", "50")
    before = time.monotonic()
    slow.receive(f"http://127.0.0.1:{slow.port}/0/slow")
    assert time.monotonic() - before >= 0.05
    assert end(slow) == 0


def test_it_ends_on_sigterm() -> None:
    running = start()
    running.process.send_signal(signal.SIGTERM)
    assert running.process.wait(timeout=PATIENCE) == 0
    end(running)


def test_it_runs_on_the_loop_of_asyncio_where_uvloop_is_missing(tmp_path: Path) -> None:
    (tmp_path / "uvloop.py").write_text("raise ImportError")
    plain = start("--queue", "plain", env={"PYTHONPATH": str(tmp_path)})
    url = f"http://127.0.0.1:{plain.port}/0/plain"
    plain.sqs.send_message(QueueUrl=url, MessageBody="hello")
    assert plain.bodies(url) == ["hello"]
    assert end(plain) == 0
