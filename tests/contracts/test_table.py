"""What a table must do for locks and claims: the verbs themselves, on every table; and beside a Go daemon's rows."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sqlite3
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import servers
from contracts.stores import NewTable, OwnConnection
from fleet import Fleet
from sqsjkr.backends.sqlite.store import FILE
from sqsjkr.backends.sqlite.table import SQLiteTable
from sqsjkr.leases.locker import TableLocker
from sqsjkr.leases.session import Session
from sqsjkr.leases.table import Claiming, Row, Table
from sqsjkr.leases.throttler import TableThrottler
from sqsjkr.runs import Holder, Run, from_note
from sqsjkr.throttler import Claim


def claiming(message_id: str, owner: str, **more: Any) -> Claiming:
    return Claiming(run=Run(message_id=message_id), owner=owner, **{"age": 0.0} | more)


async def take(table: Table, message_id: str, owner: str, **more: Any) -> Row | None:
    """Claim a message: None if it is taken, or the row that stood in the way."""
    row = await table.take_claim(claiming(message_id, owner, **more))
    return None if row.owner == owner and not row.done else row


async def finish(table: Table, message_id: str, owner: str) -> None:
    assert list(await table.finish_claims([(Run(message_id=message_id), owner)])) == [None]


class TableContract:
    """The verbs of ``Table``; each may be sent twice, and may arrive late."""

    @pytest.fixture
    def tables(self) -> NewTable:
        raise NotImplementedError

    @pytest.fixture
    async def table(self, tables: NewTable) -> AsyncIterator[Table]:
        table = tables()
        await table.open()
        yield table
        await table.close()

    async def test_a_lock_is_taken_kept_and_given_back(self, table: Table) -> None:
        assert await table.take_lock("report", "a/1", "event", over=None) == 1
        assert (await table.take_lock("report", "b/1", "event", over=None)).owner == "a/1"
        await table.release_lock("report", "b/1")
        assert (await table.take_lock("report", "b/2", "event", over=None)).owner == "a/1"
        await table.release_lock("report", "a/1")
        assert await table.take_lock("report", "b/3", "event", over=None) == 2

    async def test_a_lock_request_that_is_sent_twice_succeeds_twice(self, table: Table) -> None:
        first = await table.take_lock("report", "a/1", "event", over=None)
        again = await table.take_lock("report", "a/1", "event", over=None)
        assert isinstance(first, int)
        assert isinstance(again, int)
        assert again >= first
        await table.release_lock("report", "a/1")
        third = await table.take_lock("report", "b/1", "event", over=None)
        assert isinstance(third, int)
        assert third > again

    async def test_a_lock_is_taken_over_only_from_the_owner_that_was_seen(self, table: Table) -> None:
        await table.take_lock("report", "dead/1", "event", over=None)
        assert (await table.take_lock("report", "b/1", "event", over="dead/2")).owner == "dead/1"
        assert await table.take_lock("report", "b/1", "event", over="dead/1") == 2
        assert (await table.take_lock("report", "c/1", "event", over="dead/1")).owner == "b/1"
        await table.release_lock("report", "dead/1")
        assert (await table.take_lock("report", "c/1", "event", over=None)).owner == "b/1"

    async def test_a_lock_that_was_given_back_meanwhile_needs_no_takeover(self, table: Table) -> None:
        assert await table.take_lock("never taken", "b/1", "event", over="dead/1") == 1
        await table.take_lock("given back", "dead/1", "event", over=None)
        await table.release_lock("given back", "dead/1")
        assert await table.take_lock("given back", "b/1", "event", over="dead/1") == 2

    async def test_many_locks_are_released_at_once_each_by_its_owner(self, table: Table) -> None:
        locks = [(f"lock {number}", f"a/{number}") for number in range(25)]
        for lock_id, owner in locks:
            await table.take_lock(lock_id, owner, "event", over=None)
        await table.release_lock(*locks[0])
        await table.take_lock("lock 0", "b/0", "event", over=None)
        assert list(await table.release_locks(locks)) == [None] * 25
        there = await table.take_lock("lock 0", "c/0", "event", over=None)
        assert isinstance(there, Row)
        assert there.owner == "b/0"
        assert [await table.take_lock(lock_id, "c/1", "event", over=None) for lock_id, _ in locks[1:]] == [2] * 24

    async def test_a_lock_may_be_named_twice_among_those_that_are_released(self, table: Table) -> None:
        await table.take_lock("report", "a/1", "event", over=None)
        assert list(await table.release_locks([("report", "a/0"), ("report", "a/1")])) == [None] * 2
        assert await table.take_lock("report", "b/1", "event", over=None) == 2

    async def test_a_lock_request_that_arrives_after_its_release_takes_nothing(self, table: Table) -> None:
        await table.take_lock("report", "a/1", "event", over=None)
        await table.release_lock("report", "a/1")
        echo = await table.take_lock("report", "a/1", "event", over=None)
        assert isinstance(echo, Row)
        assert await table.take_lock("report", "b/1", "event", over=None) == 2

    async def test_a_refusal_says_who_holds_the_lock(self, table: Table) -> None:
        begun = time.time()
        await table.take_lock("report", "a/1", "nightly", over=None, message_id="m-1")
        refused = await table.take_lock("report", "b/1", "event", over=None, message_id="m-2")
        assert isinstance(refused, Row)
        holder = refused.holder
        assert (holder.event_id, holder.message_id, holder.host) == ("nightly", "m-1", socket.gethostname())
        assert abs(holder.since - begun) < 60.0

    async def test_a_lock_taken_over_shows_its_new_holder(self, table: Table) -> None:
        await table.take_lock("report", "dead/1", "nightly", over=None, message_id="m-1")
        await table.take_lock("report", "b/1", "hourly", over="dead/1", message_id="m-2")
        refused = await table.take_lock("report", "c/1", "event", over=None)
        assert isinstance(refused, Row)
        assert (refused.holder.event_id, refused.holder.message_id) == ("hourly", "m-2")

    async def test_releasing_what_nobody_ever_locked_is_no_error(self, table: Table) -> None:
        await table.release_lock("unheard of", "a/1")
        assert await table.take_lock("unheard of", "b/1", "event", over=None) == 1

    async def test_of_many_that_take_a_lock_over_one_gets_it(self, table: Table) -> None:
        await table.take_lock("report", "dead/1", "event", over=None)
        asked = (table.take_lock("report", f"b/{racer}", "event", over="dead/1") for racer in range(20))
        answers = await asyncio.gather(*asked)
        assert [answer for answer in answers if isinstance(answer, int)] == [2]

    async def test_a_claim_is_taken_kept_and_dropped(self, table: Table) -> None:
        assert await take(table, "m", "a/1") is None
        assert await take(table, "m", "a/1") is None
        assert await take(table, "m", "b/1") == Row(owner="a/1")
        await table.drop_claim("m", "b/1")
        assert await take(table, "m", "b/1") == Row(owner="a/1")
        await table.drop_claim("m", "a/1")
        assert await take(table, "m", "b/1") is None

    async def test_many_new_claims_are_taken_at_once_each_by_itself(self, table: Table) -> None:
        await take(table, "held", "a/1")
        await finish(table, "done", "a/1")
        await take(table, "free", "a/1")
        await table.postpone_claim("free", "a/1", failures=1, due=None)
        wanted = [claiming(message_id, "b/1") for message_id in ("1", "held", "2", "done", "3", "free")]
        mine = Row(owner="b/1")
        assert list(await table.take_new_claims(wanted)) == [mine, None, mine, None, mine, None]
        assert await take(table, "1", "c/1") == mine
        assert await take(table, "held", "b/1") == Row(owner="a/1")
        assert await table.take_claim(claiming("free", "b/1")) == Row(owner="b/1", failures=1)

    async def test_one_new_claim_is_as_good_as_many(self, table: Table) -> None:
        assert list(await table.take_new_claims([claiming("m", "a/1")])) == [Row(owner="a/1")]
        (answer,) = await table.take_new_claims([claiming("m", "b/1")])
        assert answer in {None, Row(owner="a/1")}

    async def test_new_claims_that_are_sent_twice_are_found_when_they_are_asked_for_alone(self, table: Table) -> None:
        wanted = [claiming(f"{number}", f"a/{number}") for number in range(25)]
        assert list(await table.take_new_claims(wanted)) == [Row(owner=one.owner) for one in wanted]
        assert list(await table.take_new_claims(wanted)) == [None] * 25
        assert [await table.take_claim(one) for one in wanted] == [Row(owner=one.owner) for one in wanted]

    async def test_of_two_new_claims_to_one_message_one_is_taken(self, table: Table) -> None:
        wanted = [claiming("m", "a/1"), claiming("m", "b/1"), claiming("n", "a/2")]
        first, second, third = await table.take_new_claims(wanted)
        assert (first, third) == (Row(owner="a/1"), Row(owner="a/2"))
        assert second in {None, Row(owner="a/1")}

    async def test_a_claim_is_taken_over_only_from_the_owner_that_was_seen(self, table: Table) -> None:
        await take(table, "m", "dead/1")
        assert await take(table, "m", "b/1", over="dead/2") == Row(owner="dead/1")
        assert await take(table, "m", "b/1", over="dead/1") is None
        assert await take(table, "m", "c/1", over="dead/1") == Row(owner="b/1")

    async def test_a_claim_that_was_dropped_meanwhile_is_fresh_and_not_taken_for_a_go_daemons(
        self, table: Table
    ) -> None:
        """A row without owner would mean "done", and delete the message of a job that never ran."""
        assert await take(table, "m", "b/1", over="dead/1") is None

    async def test_a_finished_claim_is_done_for_everyone_and_for_good(self, table: Table) -> None:
        await take(table, "m", "a/1")
        await finish(table, "m", "a/1")
        done = Row(owner="a/1", done=True)
        assert await take(table, "m", "a/1") == done
        assert await take(table, "m", "b/1") == done
        assert await take(table, "m", "b/1", over="a/1") == done
        await table.drop_claim("m", "a/1")
        assert await take(table, "m", "b/1") == done

    async def test_a_finished_claim_keeps_the_note_of_a_run_for_which_something_is_owed(self, table: Table) -> None:
        run = Run(message_id="m", outcome="errored", output="no such file", failures=2, owed=True)
        await take(table, "m", "a/1")
        for _ in range(2):  # it may be sent twice
            assert list(await table.finish_claims([(run, "a/1")])) == [None]
        answer = await take(table, "m", "b/1")
        assert isinstance(answer, Row)
        assert answer.done
        assert from_note(answer.owed) == run

    async def test_who_ends_a_job_marks_it_done_even_if_the_claim_was_taken_over(self, table: Table) -> None:
        await take(table, "m", "a/1")
        await take(table, "m", "b/1", over="a/1")
        await finish(table, "m", "a/1")
        await table.drop_claim("m", "b/1")
        answer = await take(table, "m", "c/1")
        assert isinstance(answer, Row)
        assert answer.done

    async def test_twenty_five_claims_are_finished_in_one_request(self, table: Table) -> None:
        claims = [(Run(message_id=f"m{number}"), "a/1") for number in range(25)]
        assert list(await table.finish_claims([*claims])) == [None] * 25
        answers = [await take(table, run.message_id, "b/1") for run, _ in claims]
        assert all(isinstance(answer, Row) and answer.done for answer in answers)

    async def test_a_postponed_claim_is_free_once_it_is_due_and_knows_its_failures(self, table: Table) -> None:
        await take(table, "m", "a/1")
        await table.postpone_claim("m", "a/1", failures=2, due=90.5)
        assert await take(table, "m", "b/1", age=90.4) == Row(owner=None, failures=2, due=90.5)
        assert await table.take_claim(claiming("m", "b/1", age=90.5)) == Row(owner="b/1", failures=2)
        assert await take(table, "m", "c/1", age=100.0) == Row(owner="b/1", failures=2)

    async def test_a_claim_that_is_postponed_without_a_time_is_due_at_once(self, table: Table) -> None:
        await take(table, "m", "a/1")
        await table.postpone_claim("m", "a/1", failures=1, due=60.0)
        await take(table, "m", "b/1", age=60.0)
        await table.postpone_claim("m", "b/1", failures=1, due=None)
        assert await table.take_claim(claiming("m", "c/1", age=0.0)) == Row(owner="c/1", failures=1)

    async def test_only_the_owner_postpones(self, table: Table) -> None:
        await table.postpone_claim("unheard of", "a/1", failures=1, due=60.0)
        assert await take(table, "unheard of", "b/1") is None
        await take(table, "m", "a/1")
        await table.postpone_claim("m", "b/1", failures=1, due=60.0)
        assert await take(table, "m", "c/1", age=100.0) == Row(owner="a/1")

    async def test_a_postponement_that_is_sent_twice_or_arrives_late_changes_nothing(self, table: Table) -> None:
        await take(table, "m", "a/1")
        for _ in range(2):
            await table.postpone_claim("m", "a/1", failures=1, due=60.0)
        assert await take(table, "m", "b/1", age=60.0) is None
        await table.postpone_claim("m", "a/1", failures=1, due=60.0)
        assert await take(table, "m", "c/1", age=60.0) == Row(owner="b/1", failures=1)
        await table.postpone_claim("m", "b/1", failures=2, due=180.0)
        await table.postpone_claim("m", "a/1", failures=1, due=60.0)
        assert await take(table, "m", "c/1", age=100.0) == Row(owner=None, failures=2, due=180.0)

    async def test_a_claim_that_arrives_late_cannot_take_back_what_was_postponed(self, table: Table) -> None:
        late = claiming("m", "a/1", age=5.0)
        await table.take_claim(late)
        await table.postpone_claim("m", "a/1", failures=1, due=60.0)
        assert await table.take_claim(late) == Row(owner=None, failures=1, due=60.0)

    async def test_a_dropped_claim_keeps_what_is_known_of_failures_and_crashes(self, table: Table) -> None:
        await take(table, "m", "a/1")
        await table.postpone_claim("m", "a/1", failures=1, due=60.0)
        await take(table, "m", "dead/1", age=60.0)
        await table.take_claim(claiming("m", "b/1", over="dead/1", crashes=1))
        await table.drop_claim("m", "a/1")
        assert await take(table, "m", "c/1") == Row(owner="b/1", failures=1, crashes=1)
        await table.drop_claim("m", "b/1")
        assert await table.take_claim(claiming("m", "c/1", age=0.0)) == Row(owner="c/1", failures=1, crashes=1)

    async def test_a_takeover_notes_a_crash_however_often_it_is_sent(self, table: Table) -> None:
        await take(table, "m", "dead/1")
        takeover = claiming("m", "b/1", over="dead/1", crashes=1)
        for _ in range(2):
            assert await table.take_claim(takeover) == Row(owner="b/1", crashes=1)
        await table.take_claim(claiming("m", "c/1", over="b/1"))
        assert await take(table, "m", "d/1") == Row(owner="c/1", crashes=1)

    async def test_what_was_postponed_and_is_finished_is_done(self, table: Table) -> None:
        await take(table, "m", "a/1")
        await table.postpone_claim("m", "a/1", failures=1, due=60.0)
        await take(table, "m", "b/1", age=60.0)
        await finish(table, "m", "b/1")
        await table.postpone_claim("m", "b/1", failures=2, due=120.0)
        answer = await take(table, "m", "c/1", age=1000.0)
        assert answer is not None
        assert answer.done

    async def test_a_job_that_is_cancelled_before_it_starts_is_done_for_everyone(self, table: Table) -> None:
        for _ in range(2):
            row = await table.cancel_claim("m", "alice")
            assert (row.done, row.cancelled_by) == (True, "alice")
        answer = await take(table, "m", "a/1")
        assert answer is not None
        assert (answer.done, answer.cancelled_by) == (True, "alice")
        assert await table.stop_claim("m", "bob") == answer

    async def test_a_job_that_waits_for_its_next_try_can_be_cancelled(self, table: Table) -> None:
        await take(table, "m", "a/1")
        await table.postpone_claim("m", "a/1", failures=1, due=60.0)
        assert (await table.cancel_claim("m", "alice")).done
        answer = await take(table, "m", "b/1", age=100.0)
        assert answer is not None
        assert (answer.done, answer.cancelled_by) == (True, "alice")

    async def test_a_job_that_runs_or_has_run_is_not_cancelled_but_can_be_stopped(self, table: Table) -> None:
        await take(table, "m", "a/1")
        assert await table.cancel_claim("m", "alice") == Row(owner="a/1")
        assert await table.stop_claim("m", "alice") == Row(owner="a/1", stop="alice")
        await finish(table, "m", "a/1")
        row = await table.cancel_claim("m", "alice")
        assert (row.done, row.cancelled_by) == (True, "")
        stopped = await table.stop_claim("m", "alice")
        assert stopped is not None
        assert not stopped.stop
        assert await table.stop_claim("unheard of", "alice") is None

    async def test_an_order_to_stop_outlives_the_worker(self, table: Table) -> None:
        """Nobody may run the job again: a takeover finds the order, and can only mark the job as done."""
        await take(table, "m", "dead/1")
        await table.stop_claim("m", "alice")
        stopped = Row(owner="dead/1", stop="alice")
        assert await take(table, "m", "b/1", over="dead/1", crashes=1) == stopped
        assert await table.cancel_claim("m", "alice", over="other/1") == stopped
        row = await table.cancel_claim("m", "alice", over="dead/1")
        assert (row.done, row.stop, row.cancelled_by) == (True, "", "alice")
        assert await take(table, "m", "c/1", over="dead/1") == row

    @pytest.mark.parametrize("failures", [None, 1], ids=["dropped", "postponed"])
    async def test_a_job_that_was_ordered_to_stop_is_done_when_its_worker_gives_it_back(
        self, table: Table, failures: int | None
    ) -> None:
        await take(table, "m", "a/1")
        await table.stop_claim("m", "alice")
        if failures is None:
            await table.drop_claim("m", "a/1")
        else:
            await table.postpone_claim("m", "a/1", failures=failures, due=60.0)
        answer = await take(table, "m", "b/1", age=100.0)
        assert answer is not None
        assert (answer.done, answer.cancelled_by) == (True, "alice")

    async def test_of_many_that_ask_for_a_free_row_one_gets_it(self, table: Table) -> None:
        await take(table, "m", "a/1")
        await table.postpone_claim("m", "a/1", failures=1, due=60.0)
        answers = await asyncio.gather(*(take(table, "m", f"b/{racer}", age=60.0) for racer in range(20)))
        assert answers.count(None) == 1

    async def test_a_job_that_was_cancelled_while_it_ran_is_done_and_says_by_whom(self, table: Table) -> None:
        await take(table, "m", "a/1")
        assert await table.finish_claims([(Run(message_id="m", cancelled_by="alice"), "a/1")]) == [None]
        answer = await take(table, "m", "b/1")
        assert answer is not None
        assert (answer.done, answer.cancelled_by) == (True, "alice")

    async def test_a_lock_and_a_claim_of_the_same_name_are_two_rows(self, table: Table) -> None:
        await table.take_lock("same", "a/1", "event", over=None)
        assert await take(table, "same", "b/1") is None
        await table.beat("same")
        assert (await table.take_lock("same", "c/1", "event", over=None)).owner == "a/1"

    async def test_a_beat_counts_up_and_is_seen_from_elsewhere(self, table: Table, tables: NewTable) -> None:
        elsewhere = tables()
        await elsewhere.open()
        try:
            assert await elsewhere.read_beat("a") is None
            await table.beat("a")
            assert (await elsewhere.read_beat("a")).beats == 1
            await table.beat("a")
            assert (await elsewhere.read_beat("a")).beats == 2
            seen = await elsewhere.read_beat("a")
            assert seen is not None
            assert (seen.host, seen.pid) == (socket.gethostname(), os.getpid())
            assert await elsewhere.read_beat("b") is None
        finally:
            await elsewhere.close()


class TestInMemory(TableContract):
    @pytest.fixture
    def tables(self, memory_tables: NewTable) -> NewTable:
        return memory_tables


class TestOnSQLite(TableContract):
    @pytest.fixture
    def tables(self, sqlite_tables: NewTable) -> NewTable:
        return sqlite_tables

    async def test_a_lock_that_version_1_0_0_took_over_does_not_show_the_holder_before_it(
        self, table: SQLiteTable, tmp_path: Path
    ) -> None:
        await table.take_lock("report", "dead/1", "nightly", over=None, message_id="m-1")
        with contextlib.closing(sqlite3.connect(tmp_path / FILE)) as older, older:
            older.execute("UPDATE row SET event_id = 'hourly', owner = 'b/2', fence = fence + 1 WHERE id = 'report'")
        refused = await table.take_lock("report", "c/1", "event", over=None)
        assert isinstance(refused, Row)
        assert refused.holder == Holder(event_id="hourly")


class GoDaemon:
    """The original's own requests (go-semantics section 7), word for word; True where DynamoDB said yes."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    def lock(self, lock_id: str, event_id: str) -> bool:
        return self._set("lock", lock_id, "EventId", {"S": event_id})

    def unlock(self, lock_id: str) -> None:
        self._fleet.dynamodb(
            "DeleteItem", TableName=self._fleet.table, Key={"Id": {"S": lock_id}, "Type": {"S": "lock"}}
        )

    def throttle(self, message_id: str) -> bool:
        return self._set("throttle", message_id, "Expired", {"N": str(int(time.time()) + 345_600)})

    def _set(self, kind: str, row_id: str, attribute: str, value: dict[str, str]) -> bool:
        status, answer = servers.call(
            self._fleet.dynamodb_url,
            "dynamodb",
            "UpdateItem",
            {
                "TableName": self._fleet.table,
                "Key": {"Id": {"S": row_id}, "Type": {"S": kind}},
                "UpdateExpression": "set #name = :value",
                "ConditionExpression": f"attribute_not_exists({attribute})",
                "ExpressionAttributeNames": {"#name": attribute},
                "ExpressionAttributeValues": {":value": value},
            },
        )
        assert status == 200 or "ConditionalCheckFailed" in answer["__type"], answer
        return status == 200


class TestOnDynamoDB(TableContract):
    @pytest.fixture
    def tables(self, dynamodb_tables: NewTable) -> NewTable:
        return dynamodb_tables

    @pytest.fixture
    def go(self, dynamodb_fleet: Fleet) -> GoDaemon:
        return GoDaemon(dynamodb_fleet)

    async def test_our_lock_stops_a_go_daemon_until_it_is_given_back(self, table: Table, go: GoDaemon) -> None:
        await table.take_lock("report", "a/1", "event", over=None)
        assert not go.lock("report", "go-event")
        await table.release_lock("report", "a/1")
        assert go.lock("report", "go-event")

    async def test_a_go_daemons_lock_is_never_taken_over(self, table: Table, go: GoDaemon) -> None:
        assert go.lock("report", "go-event")
        assert (await table.take_lock("report", "b/1", "event", over=None)).owner is None
        await table.release_lock("report", "b/1")
        now = 0.0
        locker = TableLocker(table, Session(table, now=lambda: now))
        for attempt in range(3):
            assert await locker.lock("report", f"{attempt}", "event") is None
            now += 3600.0  # whoever has a lease has lost it by the next look
        go.unlock("report")
        assert await locker.lock("report", "later", "event") == 1

    async def test_a_go_daemons_lock_over_our_released_row_is_honoured(self, table: Table, go: GoDaemon) -> None:
        await table.take_lock("report", "a/1", "event", over=None)
        await table.release_lock("report", "a/1")
        assert go.lock("report", "go-event")
        for over in (None, "a/1"):
            assert (await table.take_lock("report", "b/1", "event", over=over)).owner is None

    async def test_a_lock_that_version_1_0_0_took_over_does_not_show_the_holder_before_it(
        self, table: Table, dynamodb_fleet: Fleet
    ) -> None:
        await table.take_lock("report", "dead/1", "nightly", over=None, message_id="m-1")
        dynamodb_fleet.dynamodb(
            "UpdateItem",
            TableName=dynamodb_fleet.table,
            Key={"Id": {"S": "report"}, "Type": {"S": "lock"}},
            UpdateExpression="SET EventId = :event, #owner = :me REMOVE Expired, Released ADD Fence :one",
            ExpressionAttributeNames={"#owner": "Owner"},
            ExpressionAttributeValues={":event": {"S": "hourly"}, ":me": {"S": "b/2"}, ":one": {"N": "1"}},
        )
        refused = await table.take_lock("report", "c/1", "event", over=None)
        assert isinstance(refused, Row)
        assert refused.holder == Holder(event_id="hourly")

    async def test_a_lock_that_was_given_back_is_free_and_keeps_who_held_it_last(
        self, table: Table, dynamodb_fleet: Fleet
    ) -> None:
        await table.take_lock("report", "a/1", "nightly", over=None, message_id="m-1")
        await table.release_lock("report", "a/1")
        row = dynamodb_fleet.dynamodb(
            "GetItem", TableName=dynamodb_fleet.table, Key={"Id": {"S": "report"}, "Type": {"S": "lock"}}
        )["Item"]
        assert not {"EventId", "Owner"} & set(row)
        assert (row["Released"]["S"], row["Attempt"]["S"], row["Message"]["S"]) == ("a/1", "1", "m-1")
        assert await table.take_lock("report", "b/1", "hourly", over=None, message_id="m-2") == 2

    async def test_a_go_daemon_that_deletes_our_lock_row_makes_it_free(self, table: Table, go: GoDaemon) -> None:
        await table.take_lock("report", "a/1", "event", over=None)
        go.unlock("report")
        await table.release_lock("report", "a/1")
        assert await table.take_lock("report", "b/1", "event", over=None) == 1

    async def test_a_go_daemons_throttle_row_means_done(self, table: Table, go: GoDaemon) -> None:
        assert go.throttle("m")
        throttler = TableThrottler(table, Session(table))
        assert await throttler.claim("m", "a") is Claim.DONE
        await throttler.forget("m", "a")
        assert not go.throttle("m")

    async def test_our_claim_is_a_duplicate_to_a_go_daemon_whether_done_or_not(
        self, table: Table, go: GoDaemon
    ) -> None:
        await take(table, "m", "a/1")
        assert not go.throttle("m")
        await finish(table, "m", "a/1")
        assert not go.throttle("m")

    async def test_a_message_we_gave_back_is_fresh_to_a_go_daemon(self, table: Table, go: GoDaemon) -> None:
        await take(table, "m", "a/1")
        await table.drop_claim("m", "a/1")
        assert go.throttle("m")

    async def test_a_message_that_waits_for_its_next_try_is_fresh_to_a_go_daemon(
        self, table: Table, go: GoDaemon
    ) -> None:
        """It deletes what it takes for a duplicate: a job that never ended would be lost."""
        await take(table, "m", "a/1")
        await table.postpone_claim("m", "a/1", failures=1, due=60.0)
        assert go.throttle("m")
        answer = await take(table, "m", "b/1", age=100.0)
        assert answer is not None
        assert answer.done, "what a Go daemon has taken is done"

    async def test_a_go_daemon_obeys_a_cancelled_message_and_is_not_cancelled_itself(
        self, table: Table, go: GoDaemon
    ) -> None:
        await table.cancel_claim("m", "alice")
        assert not go.throttle("m")
        assert go.throttle("n")
        row = await table.cancel_claim("n", "alice")
        assert (row.done, row.cancelled_by) == (True, "")

    async def test_rows_are_kept_as_long_as_they_are_needed_and_then_expire(
        self, table: Table, dynamodb_fleet: Fleet
    ) -> None:
        """DynamoDB's TTL removes what has an ``Expired`` in the past: never a lock that is held."""
        table.retention = 345_600.0
        await take(table, "m", "a/1")
        await table.beat("a")
        await table.take_lock("held", "a/1", "event", over=None)
        await table.take_lock("free", "a/2", "event", over=None)
        await table.release_lock("free", "a/2")
        days = {kind: _days_left(dynamodb_fleet, *kind) for kind in _ROWS}
        assert days == {_ROWS[0]: 4, _ROWS[1]: 1, _ROWS[2]: None, _ROWS[3]: 366}

    async def test_a_taken_lock_loses_the_expiry_of_its_release(self, table: Table, dynamodb_fleet: Fleet) -> None:
        await table.take_lock("held", "a/1", "event", over=None)
        await table.release_lock("held", "a/1")
        await table.take_lock("held", "a/2", "event", over=None)
        assert _days_left(dynamodb_fleet, "lock", "held") is None

    async def test_rows_expire_by_the_servers_clock_and_not_by_this_hosts(
        self, table: Table, dynamodb_fleet: Fleet, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A host that lives in the past would write rows that DynamoDB removes while they are needed."""
        assert isinstance(table, OwnConnection)
        monkeypatch.setattr(table.aws, "server_offset", lambda: 864_000.0)
        table.retention = 345_600.0
        await take(table, "m", "a/1")
        assert _days_left(dynamodb_fleet, "throttle", "m") == 14


_ROWS = (("throttle", "m"), ("worker", "a"), ("lock", "held"), ("lock", "free"))


def _days_left(fleet: Fleet, kind: str, row_id: str) -> int | None:
    key = {"Id": {"S": row_id}, "Type": {"S": kind}}
    item: dict[str, Any] = fleet.dynamodb("GetItem", TableName=fleet.table, Key=key, ConsistentRead=True)["Item"]
    return round((int(item["Expired"]["N"]) - time.time()) / 86_400) if "Expired" in item else None
