from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import pytest

import servers
from faults.proxy import Proxy
from faults.rules import Fault
from fleet import Fleet

Answered = tuple[int, dict[str, Any]]
Ask = Callable[..., Answered]
Aside = Callable[..., Future[Any]]


@pytest.fixture
def sqs(proxy: Proxy, fleet: Fleet) -> Ask:
    """Calls SQS through the proxy, as the worker named."""

    def call(operation: str, *, worker: str = "", timeout: float = servers.PATIENCE, **payload: Any) -> Answered:
        body = {"QueueUrl": fleet.queue_url, **payload}
        return servers.call(proxy.listen(worker), "sqs", operation, body, timeout=timeout)

    return call


@pytest.fixture
def update(proxy: Proxy, fleet: Fleet) -> Ask:
    """Adds one to the `Count` of a row through the proxy."""

    def call(worker: str = "", timeout: float = servers.PATIENCE) -> Answered:
        counting = {"UpdateExpression": "ADD #n :one", "ExpressionAttributeNames": {"#n": "Count"}}
        payload = {"TableName": fleet.table, "Key": {"Id": {"S": "row"}, "Type": {"S": "test"}}} | counting
        payload |= {"ExpressionAttributeValues": {":one": {"N": "1"}}}
        return servers.call(proxy.listen(worker), "dynamodb", "UpdateItem", payload, timeout=timeout)

    return call


@pytest.fixture
def aside() -> Iterator[Aside]:
    with ThreadPoolExecutor(4) as pool:
        yield pool.submit


@pytest.fixture
def poll(proxy: Proxy, sqs: Ask, aside: Aside) -> Future[Any]:
    """A long poll by worker "a" that the server has."""
    polling = aside(sqs, "ReceiveMessage", WaitTimeSeconds=20, worker="a")
    servers.wait_until(lambda: proxy.seen("ReceiveMessage"), description="the long poll had come")
    return polling


def counted(fleet: Fleet) -> int:
    return sum(row["Count"] for row in fleet.rows("test"))


def test_without_rules_it_only_passes_on_and_logs(proxy: Proxy, fleet: Fleet, sqs: Ask) -> None:
    assert sqs("SendMessage", MessageBody="hello", worker="a")[0] == 200
    assert sqs("GetQueueUrl", QueueName=fleet.name, worker="b")[1]["QueueUrl"].startswith(proxy.listen("b"))

    assert fleet.depth() == (1, 0, 0)
    call, _other = proxy.calls
    assert (call.worker, call.service, call.operation, call.fault, call.status) == ("a", "sqs", "SendMessage", "", 200)
    assert call.payload["MessageBody"] == "hello"
    assert not proxy.faults


def test_an_error_is_answered_and_the_server_never_asked(proxy: Proxy, fleet: Fleet, sqs: Ask, update: Ask) -> None:
    proxy.add(Fault.ERROR, limit=2)

    assert sqs("SendMessage", MessageBody="x")[0] == 500
    assert update()[0] == 500
    assert update()[0] == 200, "the limit is over"
    assert fleet.depth() == (0, 0, 0)
    assert proxy.faults == {"error": 2}


def test_a_refusal_has_the_code_of_its_rule_and_the_server_is_not_asked(proxy: Proxy, update: Ask) -> None:
    rule = proxy.add(Fault.REFUSE, operation="UpdateItem")
    status, answer = update("a")
    assert (status, answer["__type"]) == (400, "com.amazon.coral.service#AccessDeniedException")
    proxy.release(rule)
    assert update("a")[0] == 200


def test_throttling_has_the_code_of_the_service(proxy: Proxy, sqs: Ask, update: Ask) -> None:
    proxy.add(Fault.THROTTLE)

    assert sqs("ReceiveMessage")[1]["__type"] == "com.amazonaws.sqs#RequestThrottled"
    codes = {update()[1]["__type"].partition("#")[2] for _ in range(20)}
    assert codes == {"ProvisionedThroughputExceededException", "ThrottlingException"}


@pytest.mark.parametrize(("fault", "done"), [(Fault.RESET_BEFORE, 0), (Fault.RESET_AFTER, 1)])
def test_a_reset_hides_whether_the_server_acted(
    fault: Fault, done: int, proxy: Proxy, fleet: Fleet, update: Ask
) -> None:
    proxy.add(fault, operation="UpdateItem", limit=1)

    with pytest.raises(ConnectionResetError):
        update()
    assert counted(fleet) == done


def test_a_stray_request_arrives_when_its_client_is_gone(proxy: Proxy, fleet: Fleet, update: Ask) -> None:
    proxy.add(Fault.STRAY, limit=1, seconds=0.2)

    with pytest.raises(ConnectionResetError):
        update()
    assert fleet.rows() == []
    servers.wait_until(lambda: counted(fleet) == 1, description="the stray request arrived")


@pytest.mark.parametrize("fault", [Fault.DELAY, Fault.LATE])
def test_a_delay_comes_before_the_server_acts_and_a_late_answer_after(
    fault: Fault, proxy: Proxy, fleet: Fleet, update: Ask, aside: Aside
) -> None:
    proxy.add(fault, seconds=3600)

    answer = aside(update)
    servers.wait_until(lambda: proxy.faults[fault] == 1, description="the proxy had the request")
    if fault is Fault.LATE:
        servers.wait_until(lambda: counted(fleet) == 1, description="the server had acted")
    assert not answer.done()
    proxy.cut("", "dynamodb", refuse=True)
    with pytest.raises(ConnectionResetError):
        answer.result()
    assert counted(fleet) == (fault is Fault.LATE)


@pytest.mark.parametrize("fault", [Fault.DELAY, Fault.LATE])
def test_a_delay_is_as_long_as_its_rule_says(fault: Fault, proxy: Proxy, fleet: Fleet, update: Ask) -> None:
    proxy.add(fault, seconds=0.4)

    begun = time.monotonic()
    assert update()[0] == 200
    assert time.monotonic() - begun >= 0.4
    assert counted(fleet) == 1


def test_a_request_hangs_until_its_rule_is_released(proxy: Proxy, fleet: Fleet, update: Ask, aside: Aside) -> None:
    rule = proxy.add(Fault.HANG)

    with pytest.raises(TimeoutError):
        update(timeout=2)
    waiting = aside(update)
    servers.wait_until(lambda: rule.hits == 2, description="both requests had come")
    assert counted(fleet) == 0
    proxy.release(rule)
    assert waiting.result()[0] == 200
    assert counted(fleet) == 1, "the one that was given up was not sent"


def test_a_duplicated_request_acts_twice(proxy: Proxy, fleet: Fleet, sqs: Ask) -> None:
    proxy.add(Fault.DUPLICATE, limit=1)

    assert sqs("SendMessage", MessageBody="x")[0] == 200
    assert fleet.depth() == (2, 0, 0)
    assert proxy.faults == {"duplicate": 1}
    with pytest.raises(ValueError, match="not to UpdateItem"):
        proxy.add(Fault.DUPLICATE, operation="UpdateItem")


def test_a_message_is_delivered_again(proxy: Proxy, fleet: Fleet, sqs: Ask) -> None:
    proxy.add(Fault.REDELIVER, limit=1)
    wanted = {"MaxNumberOfMessages": 10, "MessageSystemAttributeNames": ["All"]}

    assert not sqs("ReceiveMessage", **wanted)[1].get("Messages"), "an empty receive does not use the rule up"
    (message_id,) = fleet.send("x")
    (first,) = sqs("ReceiveMessage", worker="a", **wanted)[1]["Messages"]
    (second,) = sqs("ReceiveMessage", worker="b", **wanted)[1]["Messages"]
    assert not sqs("ReceiveMessage", **wanted)[1].get("Messages")

    assert (first["MessageId"], second["MessageId"]) == (message_id, message_id)
    assert second["Attributes"]["ApproximateReceiveCount"] == "2"
    assert [call.worker for call in proxy.seen(fault="redeliver")] == ["b"]


def test_a_receive_is_short(proxy: Proxy, fleet: Fleet, sqs: Ask) -> None:
    fleet.send("a", "b", "c")
    proxy.add(Fault.SHORT, messages=2, limit=1)
    proxy.add(Fault.SHORT, messages=0, limit=1)

    counts = [len(sqs("ReceiveMessage", MaxNumberOfMessages=10)[1].get("Messages", [])) for _ in range(3)]
    assert counts == [2, 0, 1]


def test_the_cap_refuses_longer_hiding_but_not_showing(proxy: Proxy, fleet: Fleet, sqs: Ask) -> None:
    fleet.send("old", "new")
    messages = sqs("ReceiveMessage", MaxNumberOfMessages=10)[1]["Messages"]
    old, new = (message["ReceiptHandle"] for message in sorted(messages, key=lambda message: message["Body"] != "old"))
    proxy.add(Fault.CAP, text=old)

    status, answer = sqs("ChangeMessageVisibility", ReceiptHandle=old, VisibilityTimeout=30)
    assert (status, answer["__type"].partition("#")[2]) == (400, "InvalidParameterValue")
    entries = [{"Id": n, "ReceiptHandle": h, "VisibilityTimeout": 30} for n, h in (("old", old), ("new", new))]
    batch = sqs("ChangeMessageVisibilityBatch", Entries=entries)[1]
    assert [entry["Id"] for entry in batch["Successful"]] == ["new"]
    assert [(entry["Id"], entry["Code"]) for entry in batch["Failed"]] == [("old", "InvalidParameterValue")]
    alone = sqs("ChangeMessageVisibilityBatch", Entries=entries[:1])[1]
    assert (len(alone["Successful"]), len(alone["Failed"])) == (0, 1)
    assert sqs("ChangeMessageVisibility", ReceiptHandle=old, VisibilityTimeout=0)[0] == 200
    assert fleet.depth() == (1, 1, 0)


def test_a_part_of_a_batch_fails(proxy: Proxy, fleet: Fleet, sqs: Ask) -> None:
    fleet.send("one", "two")
    one, two = (sqs("ReceiveMessage", VisibilityTimeout=60)[1]["Messages"][0]["ReceiptHandle"] for _ in range(2))
    proxy.add(Fault.PART, text=one, code="InternalError", limit=1)
    entries = [{"Id": n, "ReceiptHandle": handle, "VisibilityTimeout": 0} for n, handle in (("one", one), ("two", two))]

    answer = sqs("ChangeMessageVisibilityBatch", Entries=entries)[1]

    assert [entry["Id"] for entry in answer["Successful"]] == ["two"]
    assert [(entry["Id"], entry["Code"], entry["SenderFault"]) for entry in answer["Failed"]] == [
        ("one", "InternalError", False)
    ]
    assert fleet.depth() == (1, 1, 0)


def test_a_part_of_a_write_is_left_unprocessed(proxy: Proxy, fleet: Fleet) -> None:
    puts = [{"PutRequest": {"Item": {"Id": {"S": name}, "Type": {"S": "test"}}}} for name in ("one", "two")]
    proxy.add(Fault.PART, text="one", limit=1)

    _, answer = servers.call(proxy.url, "dynamodb", "BatchWriteItem", {"RequestItems": {fleet.table: puts}})

    assert answer["UnprocessedItems"] == {fleet.table: puts[:1]}
    assert [row["Id"] for row in fleet.rows()] == ["two"]


@pytest.mark.parametrize(("shift", "status"), [(60, 200), (600, 400), (-600, 400)])
def test_a_clock_that_differs_shows_in_the_date_and_refuses_signatures(
    shift: float, status: int, proxy: Proxy, fleet: Fleet
) -> None:
    proxy.add(Fault.CLOCK, seconds=shift)
    connection = http.client.HTTPConnection(urlsplit(proxy.url).netloc)
    signed = datetime.now(UTC)
    headers = {"X-Amz-Target": "AmazonSQS.GetQueueUrl", "X-Amz-Date": signed.strftime("%Y%m%dT%H%M%SZ")}
    connection.request("POST", "/", json.dumps({"QueueName": fleet.name}), headers)
    answer = connection.getresponse()
    answer.read()
    connection.close()

    assert answer.status == status
    (date,) = answer.headers.get_all("Date", [])
    there = parsedate_to_datetime(date) - timedelta(seconds=shift)
    assert signed - timedelta(seconds=1) <= there <= datetime.now(UTC), "a Date header counts whole seconds"


def test_one_worker_is_cut_off_from_one_service(
    proxy: Proxy, fleet: Fleet, sqs: Ask, update: Ask, aside: Aside
) -> None:
    proxy.cut("a", "dynamodb")

    waiting = aside(update, "a")
    assert sqs("SendMessage", MessageBody="x", worker="a")[0] == 200
    assert update("b")[0] == 200
    servers.wait_until(lambda: proxy.faults["cut"] == 1, description="the request of the one cut off had come")
    assert counted(fleet) == 1
    proxy.heal("a", "dynamodb")
    assert waiting.result()[0] == 200
    assert counted(fleet) == 2


def test_a_cut_holds_back_the_answer_of_a_request_under_way(proxy: Proxy, fleet: Fleet, poll: Future[Any]) -> None:
    proxy.cut("a")
    fleet.send("x")
    servers.wait_until(lambda: fleet.depth() == (0, 1, 0), description="the server had answered the poll")
    assert not poll.done()
    proxy.heal("a")
    assert len(poll.result()[1]["Messages"]) == 1


def test_a_refused_worker_finds_nobody_listening_until_healed(proxy: Proxy, sqs: Ask, poll: Future[Any]) -> None:
    proxy.cut("a", refuse=True)

    with pytest.raises(ConnectionResetError):
        poll.result(servers.PATIENCE)
    with pytest.raises(ConnectionRefusedError):
        sqs("ReceiveMessage", worker="a")
    assert sqs("ReceiveMessage", worker="b")[0] == 200
    proxy.heal("a")
    assert sqs("ReceiveMessage", worker="a")[0] == 200


def test_one_service_alone_can_refuse_a_worker(proxy: Proxy, sqs: Ask, update: Ask, poll: Future[Any]) -> None:
    proxy.cut("a", "sqs", refuse=True)

    for refused in (lambda: poll.result(servers.PATIENCE), lambda: sqs("ReceiveMessage", worker="a")):
        with pytest.raises(ConnectionResetError):
            refused()
    assert update("a")[0] == 200


def test_clearing_ends_every_rule_and_cut(proxy: Proxy, sqs: Ask) -> None:
    proxy.add(Fault.ERROR)
    proxy.cut("", "sqs")
    proxy.cut("a", refuse=True)
    proxy.clear()
    assert sqs("ReceiveMessage")[0] == 200
    assert sqs("ReceiveMessage", worker="a")[0] == 200


def test_the_same_seed_gives_the_same_faults(aws_url: str) -> None:
    def faults(seed: int) -> list[str]:
        with Proxy(aws_url, seed=seed) as proxy:
            proxy.add(Fault.ERROR, probability=0.5)
            for _ in range(24):
                servers.call(proxy.url, "sqs", "ListQueues", {})
            return [call.fault for call in proxy.calls]

    first = faults(1)
    assert set(first) == {"", "error"}
    assert faults(1) == first != faults(2)


def test_a_dead_server_is_a_lost_connection() -> None:
    with Proxy(f"http://127.0.0.1:{servers.free_port()}") as proxy, pytest.raises(ConnectionResetError):
        servers.call(proxy.url, "sqs", "ListQueues", {})


def test_its_thread_ends_with_it(aws_url: str) -> None:
    before = set(threading.enumerate())
    with Proxy(aws_url):
        assert set(threading.enumerate()) > before
    assert set(threading.enumerate()) <= before


def test_a_rule_matches_by_text_worker_and_service(proxy: Proxy, sqs: Ask) -> None:
    rule = proxy.add(Fault.ERROR, service="sqs", worker="a", text="nightly")

    assert sqs("SendMessage", MessageBody="nightly", worker="b")[0] == 200
    assert sqs("SendMessage", MessageBody="hourly", worker="a")[0] == 200
    assert sqs("SendMessage", MessageBody="nightly", worker="a")[0] == 500
    assert rule.hits == 1
