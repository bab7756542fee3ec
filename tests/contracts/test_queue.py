"""What a queue must do, on every server: hide what it hands out, and carry out the fate of each message."""

from __future__ import annotations

import asyncio
import os
import pwd
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

import servers
from fleet import Fleet
from servers import until
from sqsjkr import clock
from sqsjkr.backends.aws.client import AWS
from sqsjkr.backends.sqlite.queue import SQLiteQueue
from sqsjkr.backends.sqlite.store import Store
from sqsjkr.backends.sqs.client import QueueClient
from sqsjkr.backends.sqs.queue import SQSQueue
from sqsjkr.errors import BackendRefused
from sqsjkr.leases.budget import STANDARD, LeaseBudget
from sqsjkr.message import Message
from sqsjkr.queue import Burial, Hiding, Lapsed, Queue, QueueFacts

ROOT = Path(__file__).resolve().parents[2]
Send = Callable[..., Awaitable[None]]
NewQueue = Callable[..., Awaitable[Queue]]
Make = Callable[[LeaseBudget], Queue]


class OwnConnection(SQSQueue):
    """A queue that opens and closes its own connection, as every worker process does."""

    def __init__(self, url: str, budget: LeaseBudget = STANDARD) -> None:
        self.aws = AWS()
        super().__init__(QueueClient(self.aws, url=url), budget=budget)

    async def open(self) -> QueueFacts:
        await self.aws.open()
        return await super().open()

    async def _close(self) -> None:
        await self.aws.close()


async def receive(queue: Queue, number: int = 1) -> list[Message]:
    """Exactly so many messages; the queue may need more than one request to find them."""
    found: list[Message] = []
    deadline = clock.now() + servers.PATIENCE
    while len(found) < number and clock.now() < deadline:
        found += await queue.receive(min(10, number - len(found)), 1.0)
    assert len(found) == number
    return found


class QueueContract:
    """The verbs of ``Queue``, between two workers."""

    @pytest.fixture
    async def opened(self) -> AsyncIterator[AsyncExitStack]:
        async with AsyncExitStack() as stack:
            yield stack

    @pytest.fixture
    def new_queue(self, opened: AsyncExitStack, make: Make) -> NewQueue:
        async def new(**durations: float) -> Queue:
            queue = make(STANDARD.but(**durations))
            await queue.open()
            opened.push_async_callback(queue.close)
            return queue

        return new

    @pytest.fixture
    async def here(self, new_queue: NewQueue) -> Queue:
        return await new_queue()

    @pytest.fixture
    async def there(self, new_queue: NewQueue) -> Queue:
        return await new_queue()

    async def test_a_message_arrives_as_it_was_sent(self, here: Queue, send: Send) -> None:
        sent = clock.now()
        await send('{"command": "echo \u2713"}')
        before = clock.now()
        [message] = await receive(here)
        assert message.body == '{"command": "echo \u2713"}'
        assert message.receive_count == 1
        assert message.group is None
        assert 0.0 <= message.age <= clock.now() - sent + 1.0, "a Date header counts whole seconds"
        assert message.sent_at > 1_600_000_000
        assert before <= message.received_at <= clock.now()

    async def test_a_message_says_which_identity_sent_it(self, here: Queue, send: Send, identity: str) -> None:
        await send("x")
        [message] = await receive(here)
        assert message.sender == identity

    async def test_an_empty_queue_answers_with_nothing(self, here: Queue) -> None:
        assert await here.receive(10, 0.0) == []

    async def test_no_more_messages_come_than_were_asked_for(self, here: Queue, send: Send) -> None:
        for _ in range(3):
            await send("x")
        assert len(await here.receive(1, 1.0)) == 1
        assert len(await receive(here, 2)) == 2

    async def test_what_is_received_is_hidden_from_everyone_else(self, here: Queue, there: Queue, send: Send) -> None:
        await send("x")
        [message] = await receive(here)
        assert await there.receive(10, 0.0) == []
        assert here.visibility.hidden_until(message) == message.received_at + STANDARD.first_hiding

    async def test_a_deleted_message_is_gone(
        self, here: Queue, there: Queue, send: Send, depth: Callable[[], Awaitable[int]]
    ) -> None:
        await send("x")
        [message] = await receive(here)
        await here.delete(message)
        await here.delete(message)
        assert await depth() == 0
        assert await there.receive(10, 0.0) == []
        assert here.visibility.hidden_until(message) == 0.0

    async def test_many_messages_are_deleted_together(
        self, here: Queue, send: Send, depth: Callable[[], Awaitable[int]]
    ) -> None:
        for _ in range(12):
            await send("x")
        messages = await receive(here, 12)
        await asyncio.gather(*(here.delete(message) for message in messages))
        assert await depth() == 0

    async def test_a_message_that_goes_back_is_visible_at_once_and_counts_its_deliveries(
        self, here: Queue, there: Queue, send: Send
    ) -> None:
        await send("x")
        [message] = await receive(here)
        await here.release(message)
        [again] = await receive(there)
        assert again.id == message.id
        assert again.receive_count == 2
        assert again.sent_at == message.sent_at

    async def test_a_message_that_goes_back_with_a_delay_stays_hidden(
        self, here: Queue, there: Queue, send: Send, depth: Callable[[], Awaitable[int]]
    ) -> None:
        await send("x")
        [message] = await receive(here)
        await here.release(message, 30.0)
        assert await there.receive(10, 0.0) == []
        assert await depth() == 1

    async def test_what_was_not_started_is_given_back_at_once(self, here: Queue, there: Queue, send: Send) -> None:
        for _ in range(12):
            await send("x")
        messages = await receive(here, 12)
        await asyncio.gather(*map(here.release, messages))
        assert {one.id for one in await receive(there, 12)} == {one.id for one in messages}

    async def test_a_second_delivery_renews_the_handle_and_is_not_handed_out_again(
        self, new_queue: NewQueue, send: Send, depth: Callable[[], Awaitable[int]]
    ) -> None:
        here = await new_queue(first_hiding=1.0, extend_after=0.9, hiding_look=60.0)
        await send("x")
        [message] = await receive(here)
        old = here.visibility.held[message.id].receipt
        deadline = clock.now() + servers.PATIENCE
        while here.visibility.held[message.id].receipt == old and clock.now() < deadline:
            assert await here.receive(1, 1.0) == []
        assert here.visibility.held[message.id].receipt != old
        await here.delete(message)
        assert await depth() == 0

    async def test_what_is_held_is_hidden_for_longer(self, new_queue: NewQueue, there: Queue, send: Send) -> None:
        here = await new_queue(first_hiding=5.0, extend_after=0.0, hiding_look=0.1)
        await send("x")
        [message] = await receive(here)
        await until(
            lambda: here.visibility.hidden_until(message) > message.received_at + STANDARD.hiding - 1.0,
            description="it was hidden again",
        )
        left = max(0.0, message.received_at + 5.2 - clock.now())
        assert await there.receive(1, float(int(left) + 1)) == []

    async def test_a_message_that_is_not_held_any_more_is_not_hidden_again(
        self, new_queue: NewQueue, there: Queue, send: Send, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """An extension that is under way must not overwrite the visibility of a message that was given back."""
        here = await new_queue(extend_after=0.0)
        under_way, may_go_on, hide = asyncio.Event(), asyncio.Event(), here._hide

        async def hide_when_told(entries: Sequence[Hiding]) -> Sequence[Exception | None]:
            under_way.set()
            await may_go_on.wait()
            return await hide(entries)

        await send("x")
        [message] = await receive(here)
        monkeypatch.setattr(here.visibility, "_hide", hide_when_told)
        await under_way.wait()
        settling = asyncio.create_task(here.release(message))
        await until(lambda: here.visibility.held[message.id].leaving, description="it is being given back")
        may_go_on.set()
        await settling
        assert [one.id for one in await receive(there)] == [message.id]

    async def test_a_delivery_that_is_deleted_elsewhere_lapses(self, here: Queue, there: Queue, send: Send) -> None:
        await send("x")
        [message] = await receive(here)
        receipt = here.visibility.held[message.id].receipt
        await there._delete([(message.id, receipt)])
        [failure] = await here._hide([Hiding(message.id, receipt, 30.0)])
        assert isinstance(failure, Lapsed)
        await here.delete(message)  # its job goes on and ends: no error

    async def test_one_delivery_that_lapses_does_not_spoil_its_batch(
        self, here: Queue, there: Queue, send: Send
    ) -> None:
        await send("x")
        await send("x")
        gone, kept = await receive(here, 2)
        await here.delete(gone)
        hidings = [
            Hiding(one.id, here.visibility.held[kept.id].receipt if one is kept else "no handle", 0.0)
            for one in (gone, kept)
        ]
        first, second = await here._hide(hidings)
        assert isinstance(first, Lapsed)
        assert second is None
        assert [one.id for one in await receive(there)] == [kept.id]

    async def test_a_message_that_is_no_job_is_buried_with_the_reason(
        self, here: Queue, there: Queue, send: Send, dead_letters: Callable[[], Awaitable[list[tuple[str, str]]]]
    ) -> None:
        await send("no job")
        [message] = await receive(here)
        await here.bury(message, Burial(reason="invalid: the body is not JSON"))
        assert await dead_letters() == [("no job", "invalid: the body is not JSON")]
        assert await there.receive(10, 0.0) == []


class TestOnSQLite(QueueContract):
    @pytest.fixture
    def identity(self) -> str:
        return pwd.getpwuid(os.geteuid()).pw_name

    @pytest.fixture
    def make(self, tmp_path: Path) -> Make:
        return lambda budget: SQLiteQueue(Store(tmp_path), budget=budget)

    @pytest.fixture
    def send(self, here: SQLiteQueue) -> Send:
        async def send(body: str) -> None:
            await here.send([body])

        return send

    @pytest.fixture
    def depth(self, here: SQLiteQueue) -> Callable[[], Awaitable[int]]:
        async def depth() -> int:
            visible, hidden, _ = await here.depth()
            return visible + hidden

        return depth

    @pytest.fixture
    def dead_letters(self, here: SQLiteQueue) -> Callable[[], Awaitable[list[tuple[str, str]]]]:
        async def read() -> list[tuple[str, str]]:
            return await here._store.read(lambda db: db.execute("SELECT body, reason FROM dead_letter").fetchall())

        return read

    async def test_a_delivery_that_was_delivered_anew_lapses(self, here: Queue, there: Queue, send: Send) -> None:
        await send("x")
        [message] = await receive(here)
        old = here.visibility.held[message.id].receipt
        await there._hide([Hiding(message.id, old, 0.0)])
        await receive(there)
        [failure] = await here._hide([Hiding(message.id, old, 30.0)])
        assert isinstance(failure, Lapsed)

    async def test_a_message_that_was_sent_with_a_delay_comes_later(self, here: SQLiteQueue) -> None:
        await here.send(["x"], delay=30.0)
        assert await here.receive(1, 0.0) == []
        assert await here.depth() == (0, 1, 0)

    async def test_processes_that_open_a_new_store_together_all_find_it_open(self, tmp_path: Path) -> None:
        stores = [Store(tmp_path / "new") for _ in range(8)]
        try:
            await asyncio.gather(*(store.open() for store in stores))
        finally:
            await asyncio.gather(*(store.close() for store in stores))

    async def test_a_store_that_could_not_be_opened_is_tried_again_as_if_new(self, tmp_path: Path) -> None:
        place = tmp_path / "store"
        place.write_text("a file, not a directory")
        store = Store(place)
        for _ in range(2):
            with pytest.raises(BackendRefused, match="cannot create the directory"):
                await store.open()
        place.unlink()
        await store.open()
        await store.close()


class OnSQS(QueueContract):
    @pytest.fixture
    def sqs_url(self, aws_url: str) -> str:
        return aws_url

    @pytest.fixture
    def jobs(
        self,
        aws_settings: None,
        make_fleet: Callable[..., Fleet],  # before sqs_url, so that fleets are removed after the server is gone
        sqs_url: str,
        monkeypatch: pytest.MonkeyPatch,
    ) -> Fleet:
        monkeypatch.setenv("AWS_ENDPOINT_URL", sqs_url)
        return make_fleet(sqs_url=sqs_url)

    @pytest.fixture
    def make(self, jobs: Fleet) -> Make:
        return lambda budget: OwnConnection(jobs.queue_url, budget)

    @pytest.fixture
    def send(self, jobs: Fleet) -> Send:
        async def send(body: str) -> None:
            jobs.send(body)

        return send

    @pytest.fixture
    def depth(self, jobs: Fleet) -> Callable[[], Awaitable[int]]:
        async def depth() -> int:
            return sum(jobs.depth())

        return depth

    @pytest.fixture
    def dead_letters(self, jobs: Fleet) -> Callable[[], Awaitable[list[tuple[str, str]]]]:
        async def read() -> list[tuple[str, str]]:
            found = jobs.dead_letters()
            return [(one["Body"], one["MessageAttributes"]["sqsjkr.reason"]["StringValue"]) for one in found]

        return read

    async def test_the_queue_says_what_it_is(self, here: Queue, jobs: Fleet) -> None:
        assert here.facts.name == jobs.name
        assert here.facts.retention == 345_600.0
        assert here.facts.dead_letters == f"{jobs.table}-dead"
        assert not here.facts.fifo

    async def test_a_queue_that_does_not_exist_is_refused(self, jobs: Fleet) -> None:
        queue = OwnConnection(f"{jobs.queue_url}-not")
        with pytest.raises(BackendRefused, match=r"(?i)exist"):
            await queue.open()
        await queue.aws.close()

    async def test_without_a_dead_letter_queue_bad_messages_stay_hidden(
        self, jobs: Fleet, caplog: pytest.LogCaptureFixture
    ) -> None:
        url = jobs.sqs("CreateQueue", QueueName=f"plain-{uuid.uuid4().hex[:12]}")["QueueUrl"]
        jobs.sqs("SendMessage", QueueUrl=url, MessageBody="no job")
        queue = OwnConnection(url)
        await queue.open()
        try:
            assert queue.facts.dead_letters is None
            [message] = await receive(queue)
            await queue.bury(message, Burial(reason="invalid: the body is not JSON"))
            assert await queue.receive(10, 0.0) == []
            told = jobs.sqs(
                "GetQueueAttributes", QueueUrl=url, AttributeNames=["ApproximateNumberOfMessagesNotVisible"]
            )
            assert told["Attributes"] == {"ApproximateNumberOfMessagesNotVisible": "1"}
            assert "has no dead-letter queue" in caplog.text
        finally:
            await queue.close()

    async def test_a_signature_comes_with_its_message_and_goes_to_the_dead_letters_with_the_sender(
        self, here: Queue, jobs: Fleet
    ) -> None:
        signature = {"DataType": "String", "StringValue": "a.b.c"}
        foreign = {"DataType": "Binary", "BinaryValue": "AAEC"}
        jobs.send("no job", MessageAttributes={"sqsjkr.signature": signature, "foreign": foreign})
        [message] = await receive(here)
        assert message.attributes == {"sqsjkr.signature": "a.b.c"}
        await here.bury(message, Burial(reason="invalid: no job"))
        [letter] = jobs.dead_letters()
        found = {name: value["StringValue"] for name, value in letter["MessageAttributes"].items()}
        assert found["sqsjkr.signature"] == "a.b.c"
        assert found["sqsjkr.sender"] == message.sender
        assert "foreign" not in found

    async def test_failures_and_the_end_of_the_output_go_to_the_dead_letters(self, here: Queue, jobs: Fleet) -> None:
        jobs.send("a job")
        [message] = await receive(here)
        output = "x" * 5000 + "end of it: \x00\x1b[0m\ud800 \u3042\n"
        await here.bury(message, Burial(reason="dead: exit status 3", failures=4, output=output))
        [letter] = jobs.dead_letters()
        found = {name: value["StringValue"] for name, value in letter["MessageAttributes"].items()}
        assert found["sqsjkr.failures"] == "4"
        assert found["sqsjkr.output"].endswith("xxend of it: \ufffd\ufffd[0m\ufffd \u3042\n")
        assert len(found["sqsjkr.output"]) == 2000


class TestOnMinistack(OnSQS):
    @pytest.fixture
    def identity(self) -> str:
        return "000000000000"  # ministack knows accounts, not the identities in them

    async def test_fifo_messages_carry_their_group_and_are_buried_in_it(
        self, jobs: Fleet, make_fleet: Callable[..., Fleet]
    ) -> None:
        fifo = make_fleet(sqs_url=jobs.sqs_url, FifoQueue="true")
        for number, group in enumerate(("a", "b", "a")):
            fifo.send(f"job {number}", MessageGroupId=group, MessageDeduplicationId=str(number))
        queue = OwnConnection(fifo.queue_url)
        await queue.open()
        try:
            assert queue.facts.fifo
            received: list[Message] = []
            while len(received) < 3:
                received += queue.followers() or await queue.receive(10, 1.0)
                for message in received:
                    await queue.bury(message, Burial(reason="invalid: no job"))
            assert [one.body for one in received if one.group == "a"] == ["job 0", "job 2"]
            assert [one.body for one in received if one.group == "b"] == ["job 1"]
            assert sorted(one["Body"] for one in fifo.dead_letters()) == ["job 0", "job 1", "job 2"]
        finally:
            await queue.close()


class TestOnTheBenchmarksStandIn(OnSQS):
    @pytest.fixture
    def identity(self) -> str:
        return "AIDAT6DNBAMIJR6WLGRP5"

    @pytest.fixture
    def sqs_url(self) -> Iterator[str]:
        command = [sys.executable, "-m", "benchmarks.standin", "--port", "0"]
        with subprocess.Popen(
            servers.ending_with_this_process(command),
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout is not None
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
            process.communicate(timeout=servers.PATIENCE)
