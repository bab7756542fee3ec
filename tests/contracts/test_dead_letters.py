"""What a dead-letter queue must do for those who look into it, on every backend."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from fleet import Fleet
from sqsjkr.backends.aws.client import AWS
from sqsjkr.backends.sqlite.dead_letters import SQLiteDeadLetters
from sqsjkr.backends.sqlite.queue import SQLiteQueue
from sqsjkr.backends.sqlite.store import Store
from sqsjkr.backends.sqs.client import QueueClient
from sqsjkr.backends.sqs.dead_letters import SQSDeadLetters
from sqsjkr.backends.sqs.queue import SQSQueue
from sqsjkr.errors import BackendRefused
from sqsjkr.message import Message
from sqsjkr.queue import Burial, Queue
from sqsjkr.views.dead_letters import DeadLetters, Letter, Look

NewLook = Callable[[], Awaitable[DeadLetters]]
Bury = Callable[..., Awaitable[list[str]]]
POISON = ["no json", '{"command": ""}', '{"command": "echo again", "event_id": "e", "lock_id": "l"}']


async def everything(dead: DeadLetters) -> dict[str, Letter]:
    async with Look(dead) as look:
        return {letter.body: letter for letter in await look.first(1000)}


async def receive_all(queue: Queue, number: int) -> list[Message]:
    found: list[Message] = []
    while len(found) < number:
        found += await queue.receive(min(10, number - len(found)), 1.0)
    return found


class DeadLettersContract:
    """The verbs of ``DeadLetters``, between a worker that buries and two operators."""

    @pytest.fixture
    async def opened(self) -> AsyncIterator[AsyncExitStack]:
        async with AsyncExitStack() as stack:
            yield stack

    @pytest.fixture
    async def queue(self) -> Queue:
        raise NotImplementedError

    @pytest.fixture
    def send(self) -> Callable[[Sequence[str]], Awaitable[None]]:
        raise NotImplementedError

    @pytest.fixture
    def operator(self) -> NewLook:
        raise NotImplementedError

    @pytest.fixture
    async def bury(self, queue: Queue, send: Callable[[Sequence[str]], Awaitable[None]]) -> Bury:
        async def bury(*bodies: str, why: str = "invalid: why") -> list[str]:
            await send(bodies)
            messages = await receive_all(queue, len(bodies))
            for message in messages:
                await queue.bury(message, Burial(reason=why))
            ids = {message.body: message.id for message in messages}
            return [ids[body] for body in bodies]

        return bury

    async def test_a_letter_says_why_it_is_there_and_what_it_was(self, bury: Bury, operator: NewLook) -> None:
        ids = await bury(*POISON)
        dead = await operator()
        found = await everything(dead)

        assert set(found) == set(POISON)
        for body, message_id in zip(POISON, ids, strict=True):
            letter = found[body]
            assert (letter.reason, letter.message_id) == ("invalid: why", message_id)
            assert letter.receive_count
            assert letter.receive_count >= 1
            assert letter.sent_at is not None
            assert letter.died_at is not None
            assert letter.sent_at <= letter.died_at + 1 <= dead.now() + 2
        again = found[POISON[2]].shown()
        assert (again.command, again.event_id, again.lock_id) == ("echo again", "e", "l")
        assert again.body_bytes == len(POISON[2])
        assert found[POISON[0]].shown().command is None

    async def test_a_look_leaves_everything_visible_for_the_next(self, bury: Bury, operator: NewLook) -> None:
        await bury(*POISON)
        assert len(await everything(await operator())) == 3
        assert len(await everything(await operator())) == 3

    async def test_letters_are_found_by_either_of_their_ids(self, bury: Bury, operator: NewLook) -> None:
        ids = await bury(*POISON)
        listed = await everything(await operator())
        wanted = {ids[0], listed[POISON[1]].id, "somebody-elses"}
        async with Look(await operator()) as look:
            found = await look.find(wanted)
        assert {name: letter.body for name, letter in found.items()} == {
            ids[0]: POISON[0],
            listed[POISON[1]].id: POISON[1],
        }

    async def test_what_is_redriven_is_on_the_job_queue_and_not_here(
        self, bury: Bury, operator: NewLook, queue: Queue
    ) -> None:
        ids = await bury(*POISON)
        async with Look(await operator()) as look:
            found = await look.find(ids[:2])
            answers = await look.redrive(list(found.values()))

        messages = await receive_all(queue, 2)
        assert {message.id for message in messages} == set(answers)
        assert {message.body for message in messages} == set(POISON[:2])
        assert not {message.id for message in messages} & set(ids)
        assert set(await everything(await operator())) == {POISON[2]}

    async def test_what_is_dropped_is_nowhere(self, bury: Bury, operator: NewLook) -> None:
        ids = await bury(*POISON)
        async with Look(await operator()) as look:
            found = await look.find(ids[1:])
            assert await look.drop(list(found.values())) == [None, None]
        assert set(await everything(await operator())) == {POISON[0]}

    async def test_many_letters_are_each_shown_once(self, bury: Bury, operator: NewLook) -> None:
        bodies = [f"poison {n}" for n in range(33)]
        await bury(*bodies)
        async with Look(await operator()) as look:
            seen = [letter.body for letter in await look.first(1000)]
        assert sorted(seen) == sorted(bodies)

    async def test_what_is_redriven_and_buried_again_is_not_chased(
        self, bury: Bury, operator: NewLook, queue: Queue
    ) -> None:
        await bury("first")
        async with Look(await operator()) as look:
            await look.redrive(await look.first(1))
            for message in await receive_all(queue, 1):
                await queue.bury(message, Burial(reason="again"))
            assert await look.next_page() == []
        assert [letter.reason for letter in (await everything(await operator())).values()] == ["again"]


class TestSQS(DeadLettersContract):
    @pytest.fixture
    async def aws(self, aws_settings: None, opened: AsyncExitStack) -> AWS:
        aws = AWS()
        await aws.open()
        opened.push_async_callback(aws.close)
        return aws

    @pytest.fixture
    async def queue(self, fleet: Fleet, aws: AWS, opened: AsyncExitStack) -> Queue:
        queue = SQSQueue(QueueClient(aws, url=fleet.queue_url))
        await queue.open()
        opened.push_async_callback(queue.close)
        return queue

    @pytest.fixture
    def send(self, fleet: Fleet) -> Callable[[Sequence[str]], Awaitable[None]]:
        async def send(bodies: Sequence[str]) -> None:
            fleet.send(*bodies)

        return send

    @pytest.fixture
    def operator(self, fleet: Fleet, aws: AWS) -> NewLook:
        async def new() -> DeadLetters:
            dead = SQSDeadLetters(QueueClient(aws, url=fleet.queue_url))
            await dead.open()
            return dead

        return new

    async def test_a_look_hides_what_it_takes_for_half_a_minute(
        self, bury: Bury, operator: NewLook, fleet: Fleet
    ) -> None:
        await bury(*POISON)
        dead = await operator()
        letters = [letter for _ in range(3) for letter in await dead.receive()]
        assert len(letters) == 3
        assert fleet.dead_letters() == []

    async def test_what_the_producer_sent_along_is_sent_again(self, operator: NewLook, fleet: Fleet) -> None:
        given = {
            "sqsjkr.signature": {"DataType": "String", "StringValue": "s"},
            "raw": {"DataType": "Binary", "BinaryValue": "AAE="},
            "sqsjkr.reason": {"DataType": "String", "StringValue": "invalid: why"},
        }
        fleet.sqs("SendMessage", QueueUrl=fleet.dlq_url, MessageBody="x", MessageAttributes=given)
        async with Look(await operator()) as look:
            assert all(isinstance(answer, str) for answer in await look.redrive(await look.first(1)))
        wanted = {"MessageAttributeNames": ["All"]}
        [message] = fleet.sqs("ReceiveMessage", QueueUrl=fleet.queue_url, **wanted)["Messages"]
        attributes = message["MessageAttributes"]
        assert set(attributes) == {"sqsjkr.signature", "raw"}
        assert attributes["sqsjkr.signature"]["StringValue"] == "s"
        assert attributes["raw"]["BinaryValue"] == "AAE="

    async def test_a_letter_of_a_fifo_queue_goes_back_to_its_group_once(
        self, aws: AWS, make_fleet: Callable[..., Fleet]
    ) -> None:
        fleet = make_fleet(FifoQueue="true")
        about = {"MessageGroupId": "g", "MessageDeduplicationId": "d"}
        fleet.sqs("SendMessage", QueueUrl=fleet.dlq_url, MessageBody="x", **about)
        dead = SQSDeadLetters(QueueClient(aws, url=fleet.queue_url))
        await dead.open()
        async with Look(dead) as look:
            letters = await look.first(1)
            assert await dead._send(letters[0])  # sent, and stopped before the removal
            await look.redrive(letters)
        wanted = {"MaxNumberOfMessages": 10, "MessageSystemAttributeNames": ["All"]}
        [message] = fleet.sqs("ReceiveMessage", QueueUrl=fleet.queue_url, **wanted)["Messages"]
        assert message["Attributes"]["MessageGroupId"] == "g"
        assert fleet.dead_letters() == []

    async def test_a_queue_without_a_dead_letter_queue_is_one_clear_line(self, aws: AWS, fleet: Fleet) -> None:
        with pytest.raises(BackendRefused, match=r"has no dead-letter queue; next: sqsjkr setup"):
            await SQSDeadLetters(QueueClient(aws, url=fleet.dlq_url)).open()

    async def test_attributes_that_somebody_else_wrote_are_only_text(self, operator: NewLook, fleet: Fleet) -> None:
        strange = {
            name: {"DataType": "String", "StringValue": value}
            for name, value in {"sqsjkr.reason": "\t", "sqsjkr.sent_at": "1e999", "sqsjkr.message_id": "x"}.items()
        }
        fleet.sqs("SendMessage", QueueUrl=fleet.dlq_url, MessageBody="{}", MessageAttributes=strange)
        [letter] = (await everything(await operator())).values()
        assert (letter.sent_at, letter.message_id) == (None, "x")
        json.dumps(letter.shown().body_bytes)


class TestSQLite(DeadLettersContract):
    @pytest.fixture
    async def queue(self, tmp_path: Path, opened: AsyncExitStack) -> Queue:
        queue = SQLiteQueue(Store(tmp_path))
        await queue.open()
        opened.push_async_callback(queue.close)
        return queue

    @pytest.fixture
    def send(self, queue: SQLiteQueue) -> Callable[[Sequence[str]], Awaitable[None]]:
        async def send(bodies: Sequence[str]) -> None:
            await queue.send(bodies)

        return send

    @pytest.fixture
    def operator(self, tmp_path: Path, opened: AsyncExitStack, queue: Queue) -> NewLook:
        async def new() -> DeadLetters:
            dead = SQLiteDeadLetters(Store(tmp_path, create=False))
            await dead.open()
            opened.push_async_callback(dead.close)
            return dead

        return new

    async def test_a_letter_that_somebody_else_removed_is_not_sent(self, bury: Bury, operator: NewLook) -> None:
        await bury("x")
        async with Look(await operator()) as here, Look(await operator()) as there:
            letters = await here.first(1)
            await there.drop(await there.first(1))
            [answer] = await here.redrive(letters)
        assert isinstance(answer, Exception)
        assert "is gone" in str(answer)

    async def test_a_letter_of_a_worker_of_1_0_0_lacks_its_receive_count(self, tmp_path: Path, bury: Bury) -> None:
        await bury("x")
        store = Store(tmp_path)
        await store.open()
        await store.write(lambda db: db.execute("DELETE FROM dead_letter_origin"))
        [letter] = (await everything(SQLiteDeadLetters(store))).values()
        assert (letter.receive_count, letter.reason) == (None, "invalid: why")
        await store.close()
