"""What views and orders must find in a table, on every table: what workers write, and what operators write for them."""

from __future__ import annotations

import base64
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
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
from sqsjkr.leases.live import Board, Entry, Live, LiveRun, Notice, Roster
from sqsjkr.leases.table import Claiming, Heartbeat, Table
from sqsjkr.runs import HOST, Holder, Run
from sqsjkr.views.source import Orders, Source

ENTRY = Entry(worker="ab12cd34", host="host-a", pid=4711, version="1.1.0", slots=20)
LIVE = Live(worker="ab12cd34", slots=20, busy=1, ready=0, parked=0, running=(LiveRun(message_id="m", seconds=1.0),))


@dataclass(frozen=True, kw_only=True)
class Place:
    """One table, as a worker, a viewer and an operator know it."""

    table: Table
    roster: Roster
    source: Source
    orders: Orders


class ViewsContract:
    @pytest.fixture
    async def opened(self) -> AsyncIterator[AsyncExitStack]:
        async with AsyncExitStack() as stack:
            yield stack

    @pytest.fixture
    async def place(self) -> Place:
        raise NotImplementedError

    async def test_a_table_without_workers_shows_none(self, place: Place) -> None:
        assert await place.source.fleet("jobs") == ([], Board())
        assert await place.source.sessions(["s"]) == {}
        assert await place.source.claims(["m"]) == {}
        assert await place.source.locks(["l"]) == {}
        assert await place.source.claims([]) == {}

    async def test_a_worker_is_seen_from_its_entry_to_its_leave(self, place: Place) -> None:
        before = place.source.now()
        started = await place.roster.enter("jobs", ENTRY)
        assert before - 2 < started < place.source.now() + 2
        [seen], _ = await place.source.fleet("jobs")
        assert seen == replace(ENTRY, started=pytest.approx(started, abs=0.001))

        again = replace(ENTRY, session="s1", call=3, started=started)
        assert await place.roster.enter("jobs", again) == pytest.approx(started, abs=0.001)
        [seen], _ = await place.source.fleet("jobs")
        assert (seen.session, seen.call) == ("s1", 3)

        assert (await place.source.fleet("other"))[0] == []
        await place.roster.leave("jobs", ENTRY.worker)
        await place.roster.leave("jobs", ENTRY.worker)
        assert (await place.source.fleet("jobs"))[0] == []

    async def test_a_heartbeat_shows_what_the_worker_wrote_with_it(self, place: Place) -> None:
        await place.table.beat("s1", LIVE.encode())
        await place.table.beat("s1", LIVE.encode())
        await place.table.beat("s2")
        seen = await place.source.sessions(["s1", "s2", "s3"])
        assert set(seen) == {"s1", "s2"}
        assert (seen["s1"].beat, seen["s1"].live) == (2, LIVE)
        assert seen["s1"].at == pytest.approx(place.source.now(), abs=2)
        assert (seen["s2"].beat, seen["s2"].live) == (1, None)

    async def test_more_rows_than_one_request_may_ask_for_are_read(self, place: Place) -> None:
        names = [f"s{n}" for n in range(130)]
        for name in names:
            await place.table.beat(name)
        assert set(await place.source.sessions(names)) == set(names)

    async def test_an_order_comes_with_the_heartbeat_until_it_was_seen(self, place: Place) -> None:
        await place.table.beat("s1")
        await place.orders.order("s1", "cancel 1 ann")
        await place.orders.order("s1", "cancel 1 ann")
        await place.orders.order("s1", "cancel 2 ann b")
        assert set(await place.table.beat("s1")) == {"cancel 1 ann", "cancel 2 ann b"}
        assert set(await place.table.beat("s1", b"", ["cancel 1 ann"])) == {"cancel 2 ann b"}
        assert set(await place.table.beat("s2")) == set()
        assert set(await place.table.beat("s1", b"", ["cancel 2 ann b", "never there"])) == set()

    async def test_an_order_to_a_session_that_has_not_beaten_is_no_heartbeat(self, place: Place) -> None:
        """Else the observer of a dead worker's session would wait for one more lease."""
        await place.orders.order("s1", "cancel 1 ann")
        assert await place.table.read_beat("s1") is None
        assert await place.source.sessions(["s1"]) == {}
        assert set(await place.table.beat("s1", LIVE.encode())) == {"cancel 1 ann"}
        assert (await place.table.read_beat("s1") or Heartbeat(0)).beats == 1

    async def test_the_board_says_what_was_ordered_until_it_is_taken_back(self, place: Place) -> None:
        deploy, disk = Notice(by="ann", at=1.5, why="deploy"), Notice(by="bob", at=2.0)
        await place.orders.pause("jobs", deploy)
        await place.orders.drain("jobs", "host-a", disk)
        await place.orders.drain("jobs", "host-b", disk)
        await place.orders.drain("jobs", "host-b", replace(disk, at=3.0))
        assert await place.orders.call("jobs") == 1
        assert await place.orders.call("jobs") == 2
        board = await place.roster.read_board("jobs")
        assert board == Board(
            paused=deploy,
            drained={"host-a": disk, "host-b": replace(disk, at=3.0)},
            call=2,
            called_at=pytest.approx(place.source.now(), abs=2),
        )
        assert (await place.source.fleet("jobs"))[1] == board
        assert await place.roster.read_board("other") == Board()

        await place.orders.pause("jobs", None)
        assert await place.orders.undrain("jobs", "host-b")
        assert not await place.orders.undrain("jobs", "host-b")
        assert await place.roster.read_board("jobs") == Board(
            drained={"host-a": disk}, call=2, called_at=board.called_at
        )

    async def test_a_lock_is_shown_while_it_is_held(self, place: Place) -> None:
        await place.table.take_lock("l", "s1/1", "nightly", over=None, message_id="m")
        [lock] = (await place.source.locks(["l", "other"])).values()
        assert (lock.lock_id, lock.held, lock.owner, lock.fence) == ("l", True, "s1/1", 1)
        assert (lock.holder.event_id, lock.holder.message_id, lock.holder.host) == ("nightly", "m", HOST)
        assert lock.holder.since == pytest.approx(place.source.now(), abs=2)
        await place.table.release_lock("l", "s1/1")
        [lock] = (await place.source.locks(["l"])).values()
        assert (lock.held, lock.owner, lock.holder) == (False, None, Holder())

    async def test_a_free_lock_says_who_held_it_last(self, place: Place) -> None:
        for number in range(2):
            await place.table.take_lock("l", f"s1/{number}", "nightly", over=None, message_id=f"m{number}")
            [lock] = (await place.source.locks(["l"])).values()
            assert lock.last is None, "it is held"
            await place.table.release_lock("l", f"s1/{number}")
        [lock] = (await place.source.locks(["l"])).values()
        assert lock.last is not None
        assert (lock.last.message_id, lock.last.host) == ("m1", HOST)
        assert lock.last.since == pytest.approx(place.source.now(), abs=2)

        locks = [(name, f"s1/{name}") for name in "ab"]
        for name, owner in locks:
            await place.table.take_lock(name, owner, "nightly", over=None, message_id=f"m-{name}")
        assert await place.table.release_locks(locks) == [None, None]
        found = await place.source.locks(["a", "b"])
        assert {name: lock.last and lock.last.message_id for name, lock in found.items()} == {"a": "m-a", "b": "m-b"}

    async def test_a_lock_is_freed_only_as_it_was_seen(self, place: Place) -> None:
        await place.table.take_lock("l", "s1/1", "nightly", over=None)
        [seen] = (await place.source.locks(["l"])).values()
        await place.table.release_lock("l", "s1/1")
        await place.table.take_lock("l", "s2/1", "nightly", over=None)
        assert not await place.orders.free_lock(seen)
        [seen] = (await place.source.locks(["l"])).values()
        assert await place.orders.free_lock(seen)
        assert not await place.orders.free_lock(seen)
        assert not isinstance(await place.table.take_lock("l", "s2/1", "nightly", over=None), int), "a late echo"
        assert await place.table.take_lock("l", "s3/1", "nightly", over=None) == 3

    async def test_a_claim_is_shown_with_its_owner_and_its_end(self, place: Place) -> None:
        run = Run(message_id="m")
        await place.table.take_claim(Claiming(run=run, owner="s1/1", age=1.0))
        [claim] = (await place.source.claims(["m"])).values()
        assert (claim.row.owner, claim.row.done) == ("s1/1", False)
        await place.table.finish_claims([(run, "s1/1")])
        [claim] = (await place.source.claims(["m"])).values()
        assert claim.row.done


class TestOnDynamoDB(ViewsContract):
    @pytest.fixture
    async def place(self, dynamodb_fleet: Fleet, opened: AsyncExitStack) -> Place:
        aws, name = AWS(), dynamodb_fleet.table
        await aws.open()
        opened.push_async_callback(aws.close)
        source = DynamoDBSource(aws, name)
        await source.open()
        return Place(
            table=DynamoDBTable(aws, name),
            roster=DynamoDBRoster(aws, name),
            source=source,
            orders=DynamoDBOrders(aws, name),
        )

    async def test_a_go_daemons_lock_has_no_owner_and_is_freed_as_it_was_seen(
        self, place: Place, dynamodb_fleet: Fleet
    ) -> None:
        item = {"Id": {"S": "l"}, "Type": {"S": "lock"}, "EventId": {"S": "of go"}}
        dynamodb_fleet.dynamodb("PutItem", TableName=dynamodb_fleet.table, Item=item)
        [seen] = (await place.source.locks(["l"])).values()
        assert (seen.held, seen.owner) == (True, None)
        assert not await place.orders.free_lock(replace(seen, holder=Holder(event_id="another")))
        assert await place.orders.free_lock(seen)
        assert await place.table.take_lock("l", "s1/1", "nightly", over=None) == 1

    async def test_the_row_of_a_heartbeat_costs_one_write_unit(self, place: Place, dynamodb_fleet: Fleet) -> None:
        full = replace(
            LIVE,
            busy=500,
            running=tuple(LiveRun(message_id=str(uuid.uuid4()), seconds=n * 3.7) for n in range(500)),
        )
        await place.table.beat(uuid.uuid4().hex, full.encode())
        [row] = dynamodb_fleet.rows("worker")
        row["Live"] = base64.b64decode(row["Live"])
        assert sum(len(name) + size(value) for name, value in row.items()) <= 1024
        live = Live.decode(row["Live"])
        assert live is not None
        assert len(live.running) == 24

    async def test_what_a_later_release_wrote_is_left_out(self, place: Place, dynamodb_fleet: Fleet) -> None:
        for item in (
            {"Id": {"S": "fleet/jobs"}, "Type": {"S": "worker/new"}, "Other": {"S": "x"}},
            {"Id": {"S": "fleet/jobs"}, "Type": {"S": "board"}, "Paused": {"S": "v2"}, "Drain": {"SS": ["v2"]}},
        ):
            dynamodb_fleet.dynamodb("PutItem", TableName=dynamodb_fleet.table, Item=item)
        assert await place.source.fleet("jobs") == ([], Board())
        assert await place.roster.read_board("jobs") == Board()


def size(value: object) -> int:
    """What DynamoDB counts for a value, at the most (AWS: DynamoDB item sizes and formats)."""
    if isinstance(value, str):
        return len(value.encode())
    return 21 if not isinstance(value, bytes) else len(value)


class TestOnSQLite(ViewsContract):
    @pytest.fixture
    async def place(self, tmp_path: Path, opened: AsyncExitStack) -> Place:
        worker, viewer = Store(tmp_path), Store(tmp_path, create=False)
        for store in (worker, viewer):
            await store.open()
            opened.push_async_callback(store.close)
        return Place(
            table=SQLiteTable(worker),
            roster=SQLiteRoster(worker),
            source=SQLiteSource(viewer),
            orders=SQLiteOrders(viewer),
        )
