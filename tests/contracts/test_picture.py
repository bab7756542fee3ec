"""What the picture of the fleet says of workers, jobs and locks, on every table: from rows as workers write them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from fleet import Fleet
from sqsjkr.backends.aws.client import AWS
from sqsjkr.backends.dynamodb.fleet import DynamoDBRoster
from sqsjkr.backends.dynamodb.orders import DynamoDBOrders
from sqsjkr.backends.dynamodb.table import DynamoDBTable
from sqsjkr.backends.dynamodb.views import DynamoDBSource
from sqsjkr.backends.sqlite.fleet import SQLiteRoster
from sqsjkr.backends.sqlite.orders import SQLiteOrders
from sqsjkr.backends.sqlite.store import Store
from sqsjkr.backends.sqlite.table import SQLiteTable
from sqsjkr.backends.sqlite.views import SQLiteSource
from sqsjkr.leases.live import Entry, Live, LiveRun, LiveWait, Roster
from sqsjkr.leases.table import Claiming, Table
from sqsjkr.runs import Run
from sqsjkr.views.model import Life
from sqsjkr.views.picture import ANSWERED_WITHIN, STILL, Picture
from sqsjkr.views.source import Depth, Orders, QueueSource, Source
from sqsjkr.views.viewer import Viewer

A, B = "aaaaaaaa", "bbbbbbbb"
"""Two workers; their sessions' names begin with these."""


class Queue(QueueSource):
    """Counts that a test sets."""

    def __init__(self) -> None:
        self.now = Depth(name="jobs", visible=0, hidden=0, dead=0)

    async def open(self) -> None:
        """Nothing to open."""

    async def close(self) -> None:
        """Nothing to close."""

    async def depth(self) -> Depth:
        return self.now


@dataclass(kw_only=True)
class World:
    table: Table
    roster: Roster
    source: Source
    orders: Orders
    queue: Queue
    later: float = 0.0
    """How much later the viewer looks."""

    async def worker(
        self, name: str, *, session: str = "s1", host: str = "host", beats: bool = True, **live: object
    ) -> None:
        facts = {"slots": 10, "busy": 0, "ready": 0, "parked": 0} | live
        await self.roster.enter(
            "jobs", Entry(worker=name, host=host, pid=1, version="1", slots=10, session=name + session)
        )
        if beats:
            await self.table.beat(name + session, Live(worker=name, **facts).encode())  # type: ignore[arg-type]

    async def claim(self, message_id: str, owner: str) -> None:
        await self.table.take_claim(Claiming(run=Run(message_id=message_id), owner=owner, age=1.0))

    async def look(self, most: int = 50) -> Picture:
        now = self.source.now
        self.source.now = lambda: now() + self.later  # type: ignore[method-assign]
        try:
            return await Viewer(source=self.source, lock_source=self.source, queue=self.queue, fleet="jobs").picture(
                most=most
            )
        finally:
            self.source.now = now  # type: ignore[method-assign]

    async def life(self, name: str) -> Life:
        return next(worker.life for worker in (await self.look()).workers if worker.worker == name)


def runs(*ids: str) -> tuple[LiveRun, ...]:
    return tuple(LiveRun(message_id=name, seconds=10.0 * (len(ids) - n)) for n, name in enumerate(ids))


class PictureContract:
    @pytest.fixture
    async def opened(self) -> AsyncIterator[AsyncExitStack]:
        async with AsyncExitStack() as stack:
            yield stack

    @pytest.fixture
    async def world(self) -> World:
        raise NotImplementedError

    async def test_a_worker_that_beats_is_busy_and_its_jobs_run(self, world: World) -> None:
        await world.worker(A, busy=2, running=runs("m1", "m2"), endings={"succeeded": 7})
        await world.claim("m1", f"{A}s1/1")
        await world.claim("m2", f"{A}s1/2")
        seen = await world.look()
        [worker] = seen.workers
        assert (worker.life, worker.busy, worker.endings) == (Life.BUSY, 2, {"succeeded": 7})
        assert [run.message_id for run in seen.running] == ["m1", "m2"], "the oldest first"
        assert seen.running[0].seconds == pytest.approx(20.0, abs=2)
        assert seen.unnamed == 0

    async def test_a_job_that_has_ended_since_the_heartbeat_does_not_run(self, world: World) -> None:
        await world.worker(A, busy=2, running=runs("m1", "m2"))
        await world.claim("m1", f"{A}s1/1")
        await world.table.finish_claims([(Run(message_id="m1"), f"{A}s1/1")])
        await world.claim("m2", f"{A}s1/2")
        assert [run.message_id for run in (await world.look()).running] == ["m2"]

    async def test_what_is_not_named_is_counted(self, world: World) -> None:
        names = [f"{n:08d}-0000-0000-0000-000000000000" for n in range(40)]
        await world.worker(A, busy=40, slots=40, running=runs(*names))
        seen = await world.look(most=5)
        assert [run.message_id for run in seen.running] == names[:5]
        assert seen.unnamed == 35

    async def test_a_worker_that_holds_nothing_is_idle_however_old_its_heartbeat_is(self, world: World) -> None:
        await world.worker(A, beats=False)
        assert await world.life(A) is Life.IDLE
        await world.worker(B, busy=1, running=runs("m1"))
        await world.claim("m1", f"{B}s1/1")
        await world.table.finish_claims([(Run(message_id="m1"), f"{B}s1/1")])
        world.later = 10 * STILL
        assert await world.life(B) is Life.IDLE, "its job has ended, and it beat no more"
        assert (await world.look()).scale.workers == 2

    async def test_a_worker_that_holds_a_job_and_stands_still_is_silent(self, world: World) -> None:
        await world.worker(A, busy=1, running=runs("m1"))
        await world.claim("m1", f"{A}s1/1")
        assert await world.life(A) is Life.BUSY
        world.later = STILL + 2
        seen = await world.look()
        assert (seen.workers[0].life, seen.workers[0].busy) == (Life.SILENT, 1)
        assert [(run.message_id, run.worker_life) for run in seen.running] == [("m1", Life.SILENT)]
        assert (seen.scale.workers, seen.scale.slots) == (0, 0), "it is of no use now"

    async def test_a_worker_whose_job_another_one_took_over_is_lost(self, world: World) -> None:
        await world.worker(A, busy=1, running=runs("m1"))
        await world.claim("m1", f"{A}s1/1")
        await world.worker(B, busy=1, running=runs("m1"))
        taken = Claiming(run=Run(message_id="m1"), owner=f"{B}s1/1", age=1.0, over=f"{A}s1/1")
        assert (await world.table.take_claim(taken)).owner == f"{B}s1/1"
        world.later = STILL + 2
        await world.table.beat(f"{B}s1")
        assert await world.life(A) is Life.LOST
        assert A not in {run.worker for run in (await world.look()).running}, "it runs elsewhere"

    async def test_a_worker_that_takes_its_own_job_again_in_a_later_session_is_not_lost(self, world: World) -> None:
        await world.worker(A, busy=1, running=runs("m1"))
        await world.claim("m1", f"{A}s2/7")
        world.later = STILL + 2
        assert await world.life(A) is Life.SILENT

    async def test_a_worker_that_does_not_answer_a_call_is_lost(self, world: World) -> None:
        await world.worker(A, beats=False)
        await world.worker(B, beats=False)
        number = await world.orders.call("jobs")
        await world.roster.enter("jobs", Entry(worker=B, host="host", pid=1, version="1", slots=10, call=number))
        assert await world.life(A) is Life.IDLE, "it may still answer"
        world.later = ANSWERED_WITHIN + 2
        assert (await world.life(A), await world.life(B)) == (Life.LOST, Life.IDLE)

    async def test_lines_of_waiters_name_who_holds_the_lock(self, world: World) -> None:
        await world.table.take_lock("report", f"{A}s1/1", "nightly", over=None, message_id="m1")
        await world.worker(A, busy=1, running=runs("m1"), host="host-a")
        waits = (
            LiveWait(key="lock report", number=3, oldest="m2", seconds=40.0, event="weekly"),
            LiveWait(key="message m9", number=1, oldest="m9", seconds=5.0),
        )
        await world.worker(B, host="host-b", parked=4, waits=waits)
        seen = await world.look()
        first, second = seen.waiting
        assert (first.lock_id, first.waiting, first.oldest_message_id, first.host) == ("report", 3, "m2", "host-b")
        assert (first.oldest_event_id, second.oldest_event_id) == ("weekly", None)
        assert (first.held_by_event_id, first.held_by_message_id) == ("nightly", "m1")
        assert seen.at - first.oldest_at == pytest.approx(40.0, abs=2)
        assert (second.lock_id, second.oldest_message_id, second.held_by_event_id) == (None, "m9", None)
        [lock] = seen.locks
        assert (lock.lock_id, lock.held, lock.waiting, lock.worker, lock.worker_life) == (
            "report",
            True,
            3,
            A,
            Life.BUSY,
        )
        assert seen.scale.waiting == 4

    async def test_the_scaling_signal_counts_visible_and_running_only(self, world: World) -> None:
        await world.worker(A, busy=10, parked=5, running=runs("m1"))
        await world.worker(B, busy=4)
        world.queue.now = Depth(name="jobs", visible=11, hidden=30, dead=0)
        scale = (await world.look()).scale
        assert (scale.visible, scale.busy, scale.waiting, scale.slots, scale.workers) == (11, 14, 5, 20, 2)
        assert (scale.wanted_slots, scale.wanted_workers) == (25, 3)


class TestOnDynamoDB(PictureContract):
    @pytest.fixture
    async def world(self, dynamodb_fleet: Fleet, opened: AsyncExitStack) -> World:
        aws, name = AWS(), dynamodb_fleet.table
        await aws.open()
        opened.push_async_callback(aws.close)
        source = DynamoDBSource(aws, name)
        await source.open()
        return World(
            table=DynamoDBTable(aws, name),
            roster=DynamoDBRoster(aws, name),
            source=source,
            orders=DynamoDBOrders(aws, name),
            queue=Queue(),
        )


class TestOnSQLite(PictureContract):
    @pytest.fixture
    async def world(self, tmp_path: Path, opened: AsyncExitStack) -> World:
        store = Store(tmp_path)
        await store.open()
        opened.push_async_callback(store.close)
        return World(
            table=SQLiteTable(store),
            roster=SQLiteRoster(store),
            source=SQLiteSource(store),
            orders=SQLiteOrders(store),
            queue=Queue(),
        )
