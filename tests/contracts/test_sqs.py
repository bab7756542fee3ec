"""What SQS alone does: groups, refusals in AWS's own words, queues that are named by their URLs."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from faults.proxy import Proxy
from faults.rules import Fault
from fleet import Fleet
from servers import PATIENCE, until
from sqsjkr import clock
from sqsjkr.backends.aws.client import AWS
from sqsjkr.backends.sqs.client import QueueClient
from sqsjkr.backends.sqs.queue import SQSQueue
from sqsjkr.backends.sqs.sender import SQSSender
from sqsjkr.errors import BackendRefused
from sqsjkr.leases.budget import STANDARD, LeaseBudget
from sqsjkr.message import Message
from sqsjkr.queue import Burial
from sqsjkr.sender import Rejected, Terms

INVALID = "invalid: command: missing"


@pytest.fixture
def through_proxy(aws_settings: None, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> Proxy:
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
    return proxy


@asynccontextmanager
async def opened(url: str, budget: LeaseBudget = STANDARD) -> AsyncIterator[SQSQueue]:
    async with AsyncExitStack() as stack:
        aws = AWS()
        stack.push_async_callback(aws.close)
        await aws.open()
        queue = SQSQueue(QueueClient(aws, url=url), budget=budget)
        stack.push_async_callback(queue.close)
        await queue.open()
        yield queue


@asynccontextmanager
async def sender(url: str, terms: Terms) -> AsyncIterator[SQSSender]:
    aws = AWS()
    await aws.open()
    try:
        yield SQSSender(QueueClient(aws, url=url), terms)
    finally:
        await aws.close()


async def receive_one(queue: SQSQueue) -> Message:
    deadline = clock.now() + PATIENCE
    while clock.now() < deadline:
        for message in await queue.receive(1, 1.0):
            return message
    raise AssertionError("nothing was received")


async def test_the_group_of_a_message_on_a_standard_queue_is_ignored(aws_settings: None, fleet: Fleet) -> None:
    """There it names a tenant (AWS: Amazon SQS fair queues) and orders nothing."""
    fleet.send("x", MessageGroupId="tenant")
    async with opened(fleet.queue_url) as queue:
        assert (await receive_one(queue)).group is None


async def test_a_group_is_sent_to_a_standard_queue_as_the_tenant(aws_settings: None, fleet: Fleet) -> None:
    async with sender(fleet.queue_url, Terms(group="tenant")) as out:
        await out.send(["x"])
    [received] = fleet.sqs("ReceiveMessage", QueueUrl=fleet.queue_url, MessageSystemAttributeNames=["All"])["Messages"]
    assert received["Attributes"]["MessageGroupId"] == "tenant"


@pytest.mark.parametrize("code", ["InvalidParameterValueException", "InvalidParameterValue"])
async def test_a_body_that_leaves_no_room_for_reasons_is_buried_without_them(
    through_proxy: Proxy, fleet: Fleet, code: str
) -> None:
    through_proxy.add(Fault.REFUSE, operation="SendMessage", text="sqsjkr.reason", code=code)
    fleet.send("a body of the greatest size")
    async with opened(fleet.queue_url) as queue:
        await queue.bury(await receive_one(queue), Burial(reason=INVALID))
    [buried] = fleet.dead_letters()
    assert buried["Body"] == "a body of the greatest size"
    assert "MessageAttributes" not in buried
    assert sum(fleet.depth()) == 0


async def test_a_burial_that_is_denied_is_refused(through_proxy: Proxy, fleet: Fleet) -> None:
    through_proxy.add(Fault.REFUSE, operation="SendMessage")
    fleet.send("no job")
    async with opened(fleet.queue_url) as queue:
        message = await receive_one(queue)
        with pytest.raises(BackendRefused, match="AccessDenied"):
            await queue._bury(message, Burial(reason=INVALID))


async def test_a_message_whose_burial_is_denied_stays_hidden_for_an_hour_and_is_named(
    through_proxy: Proxy, fleet: Fleet, caplog: pytest.LogCaptureFixture
) -> None:
    through_proxy.add(Fault.REFUSE, operation="SendMessage")
    fleet.send("no job")
    async with opened(fleet.queue_url) as queue:
        message = await receive_one(queue)
        await queue.bury(message, Burial(reason=INVALID))
    assert (fleet.depth(), fleet.dead_letters()) == ((0, 1, 0), [])
    assert f"{message.id}: can't be moved to the dead-letter queue" in caplog.text


async def test_a_denied_extension_is_named_for_as_long_as_it_lasts(through_proxy: Proxy, fleet: Fleet) -> None:
    through_proxy.add(Fault.REFUSE, operation="ChangeMessageVisibilityBatch")
    fleet.send("x")
    async with opened(fleet.queue_url, STANDARD.but(extend_after=0.0, hiding_look=0.1)) as queue:
        await receive_one(queue)
        await until(lambda: "AccessDenied" in queue.reason, description="the denial was noticed")
        through_proxy.clear()
        await until(lambda: not queue.reason, description="the right was there again")


async def test_a_burial_in_a_queue_that_is_gone_is_refused(
    aws_settings: None, make_fleet: Callable[..., Fleet]
) -> None:
    fleet = make_fleet()
    fleet.send("no job")
    async with opened(fleet.queue_url) as queue:
        message = await receive_one(queue)
        fleet.sqs("DeleteQueue", QueueUrl=fleet.dlq_url)
        try:
            with pytest.raises(BackendRefused, match=r"(?i)exist"):
                await queue._bury(message, Burial(reason=INVALID))
        finally:  # the fixture wants to delete it
            fleet.sqs("CreateQueue", QueueName=fleet.dlq_url.rsplit("/", 1)[-1])


async def test_one_message_that_sqs_cannot_take_does_not_spoil_its_batch(through_proxy: Proxy, fleet: Fleet) -> None:
    through_proxy.add(Fault.REFUSE, operation="SendMessageBatch", text="spoiled", code="InvalidParameterValueException")
    async with sender(fleet.queue_url, Terms()) as out:
        first, second, third = await out.send(["good", "spoiled", "good as well"])
    assert isinstance(first, str)
    assert isinstance(second, Rejected)
    assert isinstance(third, str)
    assert fleet.depth() == (2, 0, 0)


async def test_the_dead_letter_queue_is_found_without_asking_for_its_url(through_proxy: Proxy, fleet: Fleet) -> None:
    through_proxy.add(Fault.REFUSE, operation="GetQueueUrl")
    fleet.send("no job")
    async with opened(fleet.queue_url) as queue:
        await queue.bury(await receive_one(queue), Burial(reason=INVALID))
    assert [one["Body"] for one in fleet.dead_letters()] == ["no job"]


async def test_a_server_with_urls_of_its_own_is_asked_for_them_once(
    through_proxy: Proxy, make_fleet: Callable[..., Fleet]
) -> None:
    fleet = make_fleet()
    built = f"/000000000000/{fleet.name}"
    through_proxy.add(Fault.REFUSE, text=built, code="QueueDoesNotExist", limit=1)
    aws = AWS()
    await aws.open()
    try:
        queue = QueueClient(aws, account_id="000000000000", name=fleet.name)
        assert await queue.attributes("QueueArn") is not None
        assert await queue.attributes("QueueArn") is not None
    finally:
        await aws.close()
    assert len(through_proxy.seen("GetQueueUrl")) == 1


async def test_a_queue_that_does_not_exist_is_called_that_where_nothing_may_be_looked_up(through_proxy: Proxy) -> None:
    through_proxy.add(Fault.REFUSE, operation="GetQueueUrl")
    aws = AWS()
    await aws.open()
    try:
        queue = QueueClient(aws, account_id="000000000000", name=f"no-{uuid.uuid4().hex}")
        assert await queue.attributes() is None
    finally:
        await aws.close()


async def test_a_fifo_queue_is_received_from_without_an_attempt_id(
    through_proxy: Proxy, make_fleet: Callable[..., Fleet]
) -> None:
    """Such an id serves the retry of one receive, and a receive is not retried."""
    fleet = make_fleet(FifoQueue="true")
    fleet.send("x", MessageGroupId="a", MessageDeduplicationId="1")
    async with opened(fleet.queue_url) as queue:
        assert (await receive_one(queue)).group == "a"
    assert not [call for call in through_proxy.seen("ReceiveMessage") if "ReceiveRequestAttemptId" in call.payload]
