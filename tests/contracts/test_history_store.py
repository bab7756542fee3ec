"""What is kept of endings, and what viewers read of it, on every table."""

from __future__ import annotations

import asyncio
import collections
import json
import time
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from contracts.stores import OwnConnection
from faults.proxy import Proxy
from faults.rules import Fault
from fleet import Fleet
from servers import until
from sqsjkr.backends.aws.client import AWS
from sqsjkr.backends.dynamodb import history as dynamodb_history
from sqsjkr.backends.dynamodb.facts import size_of
from sqsjkr.backends.dynamodb.history import DynamoDBHistory
from sqsjkr.backends.dynamodb.outbox import Outbox
from sqsjkr.backends.dynamodb.views import DynamoDBSource
from sqsjkr.backends.sqlite.history import SQLiteHistory
from sqsjkr.backends.sqlite.store import Store
from sqsjkr.backends.sqlite.table import SQLiteTable
from sqsjkr.backends.sqlite.views import SQLiteSource
from sqsjkr.leases.session import Session
from sqsjkr.leases.table import Table
from sqsjkr.leases.throttler import TableThrottler
from sqsjkr.runs import Run
from sqsjkr.telemetry.history import HistoryStore, Keep, Rules
from sqsjkr.views.endings import Filter
from sqsjkr.views.source import Source

NOON = 1_764_460_800.0 + 43_200.0
"""Of a day in November 2025, in UTC."""


@dataclass
class Kept:
    """A worker's history and its table, and what a viewer sees of both."""

    history: HistoryStore
    table: Table
    source: Source

    async def lines(self, *, since: float = 0.0, until: float = NOON * 2, failed: bool = False) -> list[Run]:
        since = max(since, NOON - 86_400.0)
        until = min(until, NOON + 86_400.0)
        return [run async for run in self.source.endings("jobs", since=since, until=until, failed=failed)]


def a_run(number: int, *, at: float = 0.0, outcome: str = "succeeded", **facts: Any) -> Run:
    given = {
        "message_id": f"m{number}",
        "event_id": f"m{number}",
        "attempt": f"a{number}",
        "host": "ip-10-0-0-1",
        "queue": "jobs",
        "begun_at": NOON + at - 1.5,
        "ended_at": NOON + at,
        "seconds": 1.5,
        "outcome": outcome,
        "exit_status": 0 if outcome == "succeeded" else 3,
    }
    return Run(**given | facts)


class HistoryContract:
    @pytest.fixture
    async def kept(self) -> AsyncIterator[Kept]:
        raise NotImplementedError

    async def test_endings_are_listed_newest_first_and_between_two_times(self, kept: Kept) -> None:
        for number in range(60):
            kept.history.ended(a_run(number, at=float(number)))
        await kept.history.close()
        assert [run.message_id for run in await kept.lines()] == [f"m{number}" for number in reversed(range(60))]
        some = await kept.lines(since=NOON + 20, until=NOON + 25)
        assert [run.message_id for run in some] == ["m25", "m24", "m23", "m22", "m21", "m20"]

    async def test_a_line_says_what_ended_how_and_where(self, kept: Kept) -> None:
        kept.history.ended(a_run(1, event_id="nightly", lock_id="report", sent_at=NOON - 5.5))
        kept.history.ended(a_run(2, at=1.0, outcome="errored", output="a\nb\nKeyError: 'x'\n\n", command="exit 3"))
        kept.history.ended(a_run(3, at=2.0, outcome="errored", exit_status=None, signal=9))
        await kept.history.close()
        killed, errored, good = await kept.lines()
        assert (good.event_id, good.lock_id, good.host, good.outcome) == (
            "nightly",
            "report",
            "ip-10-0-0-1",
            "succeeded",
        )
        assert (good.begun_at, good.ended_at, good.seconds, good.exit_status) == (NOON - 1.5, NOON, 1.5, 0)
        assert good.sent_at == pytest.approx(NOON - 5.5), "so it had waited 4 seconds"
        assert (errored.exit_status, errored.signal, killed.exit_status, killed.signal) == (3, None, None, 9)
        assert good.output == ""
        (_, errored) = await kept.lines(failed=True)
        assert errored.output == "KeyError: 'x'"

    async def test_a_line_of_a_job_that_never_started_says_why(self, kept: Kept) -> None:
        unstarted = {"begun_at": None, "seconds": None, "exit_status": None}
        kept.history.ended(a_run(1, outcome="invalid", detail="body: not JSON", **unstarted), claimed=False)
        await kept.history.close()
        for failed in (True, False):
            [line] = await kept.lines(failed=failed)
            assert (line.outcome, line.detail, line.output) == ("invalid", "body: not JSON", "")

    async def test_failures_are_listed_by_themselves(self, kept: Kept) -> None:
        for number in range(60):
            kept.history.ended(a_run(number, at=float(number), outcome="succeeded" if number % 3 else "errored"))
        await kept.history.close()
        assert [run.message_id for run in await kept.lines(failed=True)] == [
            f"m{number}" for number in reversed(range(0, 60, 3))
        ]

    async def test_a_failure_is_found_by_a_long_name(self, kept: Kept) -> None:
        name = "arn:aws:events:eu-central-1:123456789012:rule/nightly-report-of-customer-0815/2026-11-27"
        kept.history.ended(a_run(1, event_id=name, outcome="errored"))
        kept.history.ended(a_run(2, event_id="other", outcome="errored"))
        await kept.history.close()
        lines = await kept.lines(failed=True)
        assert [run.message_id for run in lines if Filter(event=name).lets_through(run)] == ["m1"]

    async def test_a_list_is_read_only_as_far_as_it_is_looked_at(self, kept: Kept) -> None:
        for number in range(300):
            kept.history.ended(a_run(number, at=float(number)))
        await kept.history.close()
        newest = []
        async for run in kept.source.endings("jobs", since=NOON - 60, until=NOON + 600):
            newest.append(run.message_id)
            if len(newest) == 3:
                break
        assert newest == ["m299", "m298", "m297"]

    async def test_the_endings_of_an_event_are_found_by_its_name(self, kept: Kept) -> None:
        for number in range(5):
            kept.history.ended(a_run(number, at=float(number), event_id="nightly", command="true"))
            kept.history.ended(a_run(10 + number, at=float(number), event_id="hourly"))
        await kept.history.close()
        found = await kept.source.endings_of("nightly", 3)
        assert [run.message_id for run in found.endings] == ["m4", "m3", "m2"]
        assert (found.endings[0].command, found.again) == ("true", None)
        nothing = await kept.source.endings_of("unheard of", 3)
        assert (list(nothing.endings), nothing.again) == ([], None)

    async def test_a_job_that_is_tried_again_is_found_by_its_event(self, kept: Kept) -> None:
        for number in range(5):
            kept.history.ended(a_run(number, at=float(number), event_id="nightly"))
        kept.history.tried(a_run(10, at=10.0, event_id="nightly", outcome="retried", detail="exit status 1"))
        kept.history.went_back(a_run(11, at=11.0, event_id="nightly", outcome="interrupted"))
        kept.history.tried(a_run(12, at=12.0, outcome="retried"))
        await kept.history.close()
        found = await kept.source.endings_of("nightly", 3)
        assert [run.message_id for run in found.endings] == ["m4", "m3", "m2"], "it has not ended"
        assert found.again is not None
        assert (found.again.message_id, found.again.outcome) == ("m11", "interrupted"), "the newest"
        assert {run.message_id for run in await kept.lines()} == {f"m{number}" for number in range(5)}

    async def test_a_job_that_was_cut_off_is_known_while_it_waits_and_afterwards(self, kept: Kept) -> None:
        throttler = TableThrottler(kept.table, Session(kept.table))
        cut_off = a_run(1, outcome="interrupted", detail="the worker is stopping", exit_status=None, signal=15)
        await throttler.begin(replace(cut_off, outcome=""), "a1", age=1.0)
        kept.history.went_back(cut_off)
        await throttler.forget("m1", "a1")
        await kept.history.close()
        waiting = await kept.source.story("m1")
        assert waiting is not None
        assert (waiting.row.owner, waiting.row.done, waiting.run.outcome) == (None, False, "")
        assert [(one.outcome, one.host) for one in waiting.run.earlier] == [("interrupted", "ip-10-0-0-1")]

        again = a_run(1, at=60.0, attempt="a2")
        await throttler.begin(again, "a2", age=60.0)
        await throttler.end(again, "a2")
        ended = await kept.source.story("m1")
        assert ended is not None
        assert (ended.row.done, ended.run.outcome) == (True, "succeeded")
        assert [one.detail for one in ended.run.earlier] == ["the worker is stopping"]
        assert await kept.lines() == [], "what was cut off has not ended"

    async def test_a_message_that_was_never_claimed_has_a_story(self, kept: Kept) -> None:
        kept.history.ended(a_run(1, outcome="invalid", begun_at=None, detail="no command"), claimed=False)
        await kept.history.close()
        story = await kept.source.story("m1")
        assert story is not None
        assert (story.row.done, story.run.outcome, story.run.detail) == (True, "invalid", "no command")
        assert await kept.source.story("unheard of") is None

    async def test_a_claim_under_another_key_is_found_by_its_message(self, kept: Kept) -> None:
        throttler = TableThrottler(kept.table, Session(kept.table))
        run = a_run(1, claim_key="a key of its own")
        await throttler.begin(run, "a1", age=1.0)
        await throttler.end(run, "a1")
        kept.history.ended(run)
        await kept.history.close()
        story = await kept.source.story("m1")
        assert story is not None
        assert (story.row.done, story.run.message_id, story.run.key) == (True, "m1", "a key of its own")


class TestOnSQLite(HistoryContract):
    @pytest.fixture
    async def kept(self, tmp_path: Path) -> AsyncIterator[Kept]:
        store = Store(tmp_path)
        await store.open()
        history = SQLiteHistory(store)
        history.rules = Rules(days=1e5)
        yield Kept(history, SQLiteTable(store), SQLiteSource(store))
        await history.close()
        await store.close()

    async def test_old_runs_are_removed(self, kept: Kept, tmp_path: Path) -> None:
        kept.history.rules = Rules(days=1.0)
        kept.history.ended(a_run(1))
        await kept.history.close()
        assert await kept.lines() == []

    async def test_a_file_that_cannot_be_written_costs_endings_and_nothing_else(
        self, kept: Kept, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level("INFO", logger="sqsjkr")
        assert isinstance(kept.history, SQLiteHistory)
        await kept.history._store.write(lambda db: db.execute("ALTER TABLE run RENAME TO elsewhere"))
        for number in range(2):
            kept.history.ended(a_run(number))
            await kept.history.close()
        assert kept.history.dropped == 2
        await kept.history._store.write(lambda db: db.execute("ALTER TABLE elsewhere RENAME TO run"))
        kept.history.ended(a_run(3))
        await kept.history.close()
        said = [record.__dict__["event"] for record in caplog.records]
        assert said.count("history.dropped") == 1
        assert said.count("history.recovered") == 1
        assert [run.message_id for run in await kept.lines()] == ["m3"]


class Clock:
    def __init__(self) -> None:
        self.time = 1000.0

    def now(self) -> float:
        return self.time


class TestOnDynamoDB(HistoryContract):
    @pytest.fixture
    def wire(self, dynamodb_fleet: Fleet, dynamodb_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
        """The way to DynamoDB, where requests are counted and meet faults."""
        with Proxy(dynamodb_url) as proxy:
            monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", proxy.url)
            yield proxy

    @pytest.fixture
    def clock(self) -> Clock:
        return Clock()

    @pytest.fixture
    async def kept(self, wire: Proxy, dynamodb_fleet: Fleet, clock: Clock) -> AsyncIterator[Kept]:
        table = OwnConnection(dynamodb_fleet.table)
        await table.open()
        outbox, name = table._outbox, dynamodb_fleet.table
        history = DynamoDBHistory(table.aws, name, outbox, worker="0badcafe", now=clock.now)
        history.rules = Rules(days=30_000)
        yield Kept(history, table, DynamoDBSource(table.aws, name))
        await history.close()
        await table.close()

    async def test_a_page_rides_with_the_claims_that_it_lists(self, kept: Kept, wire: Proxy, clock: Clock) -> None:
        throttler = TableThrottler(kept.table, Session(kept.table))
        runs = [a_run(number) for number in range(48)]
        await asyncio.gather(*(throttler.begin(run, run.attempt, age=1.0) for run in runs))
        kept.history.ended(a_run(99))  # so that the next page is not written at once
        await kept.history.close()
        before = len(wire.seen("BatchWriteItem"))
        for run in runs:
            kept.history.ended(run)
        await asyncio.gather(*(throttler.end(run, run.attempt) for run in runs))
        assert len(wire.seen("BatchWriteItem")) - before == 2
        assert len(await kept.lines()) == 49

    async def test_a_lone_ending_is_listed_by_the_request_that_ends_its_claim(self, kept: Kept, wire: Proxy) -> None:
        throttler = TableThrottler(kept.table, Session(kept.table))
        await throttler.begin(a_run(1), "a1", age=1.0)
        kept.history.ended(a_run(1))
        await throttler.end(a_run(1), "a1")
        assert len(wire.seen("BatchWriteItem")) == 1
        assert [run.message_id for run in await kept.lines()] == ["m1"]

    async def test_what_finds_no_request_to_ride_in_goes_alone(self, kept: Kept, wire: Proxy) -> None:
        kept.history.ended(a_run(1))
        await until(lambda: wire.seen("BatchWriteItem"), description="the page was sent")
        assert len(wire.seen("BatchWriteItem")) == 1

    async def test_a_page_costs_one_write_unit(self, kept: Kept, dynamodb_fleet: Fleet) -> None:
        for number in range(25):
            facts = {"message_id": str(uuid.uuid4()), "event_id": f"thumbnail-{number}"}
            kept.history.ended(a_run(number, at=float(number), sent_at=NOON - 9.7 - 1.237 * number**2, **facts))
        await kept.history.close()
        items = dynamodb_fleet.dynamodb("Scan", TableName=dynamodb_fleet.table)["Items"]
        pages = [item for item in items if item["Id"]["S"].startswith("runs/")]
        assert sorted(int(page["N"]["N"]) for page in pages) == [1, 24]
        assert max(size_of(page) for page in pages) <= 1024

    async def test_a_busy_workers_named_successes_are_sampled_and_its_failures_are_not(
        self, kept: Kept, clock: Clock
    ) -> None:
        for number in range(100):
            kept.history.ended(a_run(number, at=float(number), event_id="thumbnail"))
        kept.history.ended(a_run(101, at=101.0, event_id="thumbnail", outcome="errored"))
        clock.time += 5.0
        for number in range(200, 210):
            kept.history.ended(a_run(number, at=float(number), event_id="thumbnail"))
        await kept.history.close()
        found = await kept.source.endings_of("thumbnail", 200)
        assert len(found.endings) == 60 + 1 + 5
        assert [run.message_id for run in found.endings if run.outcome == "errored"] == ["m101"]

    async def test_a_failure_after_its_message_was_deleted_is_noted_with_its_claim(self, kept: Kept) -> None:
        throttler = TableThrottler(kept.table, Session(kept.table))
        run = a_run(1, outcome="errored", output="Traceback\n")
        await throttler.begin(replace(run, outcome=""), "a1", age=1.0)
        await throttler.end(replace(run, outcome="", ended_at=None), "a1")
        kept.history.ended(run, confirmed=True)
        await kept.history.close()
        story = await kept.source.story("m1")
        assert story is not None
        assert (story.row.done, story.run.outcome, story.run.output) == (True, "errored", "Traceback\n")

    async def test_a_table_that_is_throttled_costs_endings_and_nothing_else(
        self, kept: Kept, wire: Proxy, caplog: pytest.LogCaptureFixture
    ) -> None:
        throttler = TableThrottler(kept.table, Session(kept.table))
        refused = wire.add(Fault.REFUSE, operation="BatchWriteItem", text="runs/")
        for number in range(2):
            run = a_run(number)
            await throttler.begin(run, run.attempt, age=1.0)
            kept.history.ended(run)
            confirming = asyncio.create_task(asyncio.wait_for(_persist(throttler, run), 60))
            await confirming
        await kept.history.close()
        assert kept.history.dropped >= 1
        wire.release(refused)
        assert (await throttler.claim("m0", "b")).value == "done"
        said = [record.__dict__["event"] for record in caplog.records]
        assert said.count("history.dropped") == 1

    async def test_rows_of_the_history_expire(self, kept: Kept, dynamodb_fleet: Fleet) -> None:
        kept.history.rules = Rules(days=3)
        kept.history.ended(a_run(1, event_id="nightly", outcome="errored"))
        kept.history.went_back(a_run(2, outcome="interrupted"))
        await kept.history.close()
        rows = dynamodb_fleet.rows()
        three_days = time.time() + 3 * 86_400
        assert all(three_days - 60 <= int(row["Expired"]) <= three_days + 3700 for row in rows)
        kinds = collections.Counter(row["Id"].partition("/")[0] for row in rows)
        assert kinds == {"runs": 1, "bad": 1, "event": 1, "m2": 1}
        assert all("Expired" in row for row in rows)


async def _persist(throttler: TableThrottler, run: Run) -> None:
    """Confirm as the settler does: until it is answered."""
    while True:
        try:
            return await throttler.end(run, run.attempt)
        except Exception:  # noqa: BLE001 - whatever the test has put in its way
            await asyncio.sleep(0.01)


class Throttled(AWS):
    """A DynamoDB that leaves rows unprocessed, by the beginning of their ``Id``: no local server does."""

    def __init__(self, *leaves: str, times: int = 1) -> None:
        self.leaves = leaves
        self.times = times
        self.asked: list[list[str]] = []

    async def call(self, service: str, operation: str, payload: Mapping[str, Any], **_: Any) -> dict[str, Any]:
        puts = payload["RequestItems"]["t"]
        self.asked.append([put["PutRequest"]["Item"]["Id"]["S"] for put in puts])
        if self.times == 0:
            return {}
        self.times -= 1
        left = [put for put in puts if put["PutRequest"]["Item"]["Id"]["S"].startswith(self.leaves)]
        return {"UnprocessedItems": {"t": left}}

    def server_offset(self) -> float:
        return 0.0


async def test_a_row_is_tried_twice_and_a_claim_until_it_is_taken() -> None:
    aws = Throttled("page", times=10)
    outbox = Outbox(aws, "t")
    lost: list[int] = []
    outbox.lost = lambda number, _: lost.append(number)
    outbox.add({"Id": {"S": "page"}, "Type": {"S": "x"}})
    await outbox.flush()
    await outbox.flush()
    await outbox.flush()
    assert aws.asked == [["page"], ["page"]]
    assert lost == [1]


async def test_what_is_left_of_a_request_is_told_apart() -> None:
    """The claim is put again and again, what rode along once more."""
    aws = Throttled("m", "page", times=2)
    outbox = Outbox(aws, "t")
    outbox.add({"Id": {"S": "page"}, "Type": {"S": "x"}})
    claims = [{"Id": {"S": name}, "Type": {"S": "throttle"}} for name in ("m", "n")]
    assert await outbox.put(claims) == {}
    await outbox.flush()
    assert aws.asked == [["m", "n", "page"], ["m"], ["m"], ["page"]]


async def test_no_row_is_named_twice_in_one_request() -> None:
    """DynamoDB would refuse all of it, the claims too."""
    aws = Throttled()
    outbox = Outbox(aws, "t")
    for content in ("first", "second"):
        outbox.add({"Id": {"S": "m"}, "Type": {"S": "throttle"}, "Content": {"S": content}})
    assert outbox.take(25, but=[("m", "throttle")]) == []
    taken = outbox.take(25)
    assert [row["Content"]["S"] for row in taken] == ["second"], "the newest"
    outbox.add({"Id": {"S": "m"}, "Type": {"S": "throttle"}, "Content": {"S": "third"}})
    assert outbox.take(25) == [], "it is on its way"
    outbox.answered(taken, [])
    await outbox.flush()
    assert aws.asked == [["m"]]


async def test_a_table_that_is_out_for_long_costs_no_memory() -> None:
    outbox = Outbox(Throttled(), "t")
    lost: list[int] = []
    outbox.lost = lambda number, _: lost.append(number)
    for number in range(1100):
        outbox.add({"Id": {"S": f"m{number}"}, "Type": {"S": "x"}})
    assert sum(lost) == 100


def test_a_page_that_another_release_wrote_is_no_error() -> None:
    for page in ({}, {"P": {"B": "AAAA"}}, {"P": {"B": "!"}, "From": {"N": "1"}}, {"P": {"S": json.dumps([])}}):
        assert dynamodb_history.page_of(page, "jobs") == []


def test_what_is_kept_follows_the_rules() -> None:
    good, bad = a_run(1, output="x"), a_run(2, outcome="errored", output="x")
    kept = {
        (runs, output): [Rules(runs=runs, output=output).at_end(run) for run in (good, bad)]
        for runs in Keep
        for output in Keep
    }
    for (runs, output), (noted_good, noted_bad) in kept.items():
        assert bool(noted_good.outcome) is (runs is Keep.ALL)
        assert bool(noted_bad.outcome) is (runs is not Keep.NONE)
        assert bool(noted_good.output) is (runs is Keep.ALL and output is Keep.ALL)
        assert bool(noted_bad.output) is (runs is not Keep.NONE and output is not Keep.NONE)
