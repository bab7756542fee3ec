"""Every throttler that comes with sqsjkr is one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from contracts.stores import NewTable
from sqsjkr.leases.budget import STANDARD
from sqsjkr.leases.session import Session
from sqsjkr.leases.table import Claiming, Table
from sqsjkr.leases.throttler import TableThrottler
from sqsjkr.runs import MOST_EARLIER, Earlier, Run
from sqsjkr.telemetry.history import Keep, Rules
from sqsjkr.testing import ThrottlerContract
from sqsjkr.throttler import Answer, Claim, Throttler


class WholeThrottler(TableThrottler):
    """A throttler with a table, a connection and a session of its own: one worker process."""

    def __init__(self, table: Table) -> None:
        super().__init__(table, Session(table))

    async def open(self) -> None:
        await self._table.open()
        await super().open()

    async def close(self) -> None:
        await super().close()
        await self._table.close()


class OnTables(ThrottlerContract):
    tables: NewTable

    async def make(self) -> Throttler:
        return WholeThrottler(self.tables())


class Remembering:
    """What a claim's row remembers from one attempt to the next, on every table."""

    @pytest.fixture
    def tables(self) -> NewTable:
        raise NotImplementedError

    @pytest.fixture
    async def table(self, tables: NewTable) -> AsyncIterator[Table]:
        table = tables()
        await table.open()
        yield table
        await table.close()

    @pytest.fixture
    def here(self, table: Table) -> TableThrottler:
        return TableThrottler(table, Session(table))

    async def test_a_job_that_was_put_off_is_early_until_it_is_due(self, here: TableThrottler) -> None:
        assert await begin(here, "a") == Answer(claim=Claim.FRESH)
        await here.postpone("m", "a", failures=1, due=90.0)
        assert await begin(here, "b", age=30.0) == Answer(claim=Claim.EARLY, due=90.0)
        assert await begin(here, "c", age=90.0) == Answer(claim=Claim.FRESH, failures=1)
        await here.postpone("m", "c", failures=2, due=210.0)
        assert await here.claim("m", "d") is Claim.FRESH, "who asks without an age does not know of times"

    async def test_an_attempt_that_was_only_interrupted_changes_no_count(self, here: TableThrottler) -> None:
        await begin(here, "a")
        await here.postpone("m", "a", failures=1, due=90.0)
        await begin(here, "b", age=90.0)
        await here.forget("m", "b")
        assert await begin(here, "c", age=90.0) == Answer(claim=Claim.FRESH, failures=1)

    async def test_a_job_that_is_buried_after_its_last_try_is_done(self, here: TableThrottler) -> None:
        await begin(here, "a")
        await here.postpone("m", "a", failures=4, due=None)
        await here.end(Run(message_id="m"), "a")
        assert (await begin(here, "b", age=1000.0)).claim is Claim.DONE

    async def test_what_is_owed_for_a_run_is_told_to_whoever_asks_next(self, here: TableThrottler) -> None:
        run = Run(message_id="m", outcome="dead", detail="exit status 3", owed=True)
        await begin(here, "a")
        await here.end(run, "a")
        assert await begin(here, "b") == Answer(claim=Claim.DONE, owed=run)

    async def test_a_takeover_from_a_dead_worker_is_a_crash(self, table: Table) -> None:
        dead, here = TableThrottler(table, Session(table)), Watcher(table)
        await begin(dead, "a")
        assert (await begin(here, "b")).claim is Claim.BUSY
        here.now += STANDARD.lease
        crashed = Earlier(host="ip-10-0-0-1", begun_at=1000.5, outcome="crashed", detail="its worker died")
        assert await begin(here, "c") == Answer(claim=Claim.FRESH, crashes=1, earlier=(crashed,))
        await here.forget("m", "c")
        assert await begin(here, "d") == Answer(claim=Claim.FRESH, crashes=1, earlier=(crashed,))

    async def test_a_copy_learns_when_the_worker_that_runs_the_job_was_alive(self, table: Table) -> None:
        owner = Session(table, now=lambda: 0.0)
        await begin(TableThrottler(table, owner), "a")
        here = Watcher(table)
        answers = []
        for here.now in (10.0, 15.0, 20.0):
            answers.append(await begin(here, "b"))
            await table.beat(owner.name)
        assert [answer.claim for answer in answers] == [Claim.BUSY] * 3
        assert answers[0].alive_at < 0.0
        assert [answer.alive_at for answer in answers[1:]] == [10.0, 15.0]

    async def test_an_attempt_that_failed_is_remembered_by_the_next(self, here: TableThrottler) -> None:
        failed = Run(
            message_id="m", host="ip-10-0-0-1", begun_at=1000.5, ended_at=1002.0, outcome="retried", detail="no"
        )
        for number in range(1, 8):
            answer = await begin(here, f"a{number}", age=90.0 * number)
            assert len(answer.earlier) == min(number - 1, MOST_EARLIER)
            run = replace(failed, earlier=answer.earlier)
            await here.postpone("m", f"a{number}", failures=number, due=90.0 * number, run=run)
        (newest,) = (await begin(here, "b", age=1000.0)).earlier[-1:]
        assert newest == Earlier(host="ip-10-0-0-1", begun_at=1000.5, ended_at=1002.0, outcome="retried", detail="no")

    async def test_the_facts_of_a_run_stand_with_its_claim_from_begin_to_end(
        self, table: Table, here: TableThrottler
    ) -> None:
        run = Run(
            message_id="m",
            attempt="a",
            event_id="nightly",
            lock_id="report",
            command="echo 'gruezi'; exit 3",
            host="ip-10-0-0-1",
            queue="jobs",
            sender="AIDA123",
            sent_at=990.25,
            receive_count=2,
            fence=7,
            begun_at=1000.5,
        )
        await here.begin(run, "a", age=10.0)
        assert await facts(table) == run
        ended = replace(
            run,
            ended_at=1002.5,
            outcome="errored",
            detail="exit status 3 in 2.00s, cpu 0.50s",
            exit_status=3,
            seconds=2.0,
            cpu_seconds=0.5,
            max_rss_bytes=4096 * 1024,
            printed_bytes=12,
            output="line 1\nline 2\n",
            failures=1,
        )
        await here.end(ended, "a")
        assert await facts(table) == ended

    async def test_a_signal_a_refusal_and_a_key_of_its_own_are_facts_too(
        self, table: Table, here: TableThrottler
    ) -> None:
        killed = Run(message_id="1", claim_key="m", attempt="a", outcome="errored", signal=9, ended_at=5.0)
        await here.begin(Run(message_id="1", claim_key="m", attempt="a"), "a", age=0.0)
        await here.end(killed, "a")
        assert await facts(table) == killed

    @pytest.mark.parametrize("keep", list(Keep))
    async def test_only_what_is_to_be_kept_is_noted(self, table: Table, here: TableThrottler, keep: Keep) -> None:
        table.history = Rules(runs=keep, output=keep)
        for message, outcome in (("good", "succeeded"), ("bad", "errored")):
            run = Run(message_id=message, attempt="a", host="ip-10-0-0-1", begun_at=1000.0)
            await here.begin(run, "a", age=0.0)
            assert bool((await facts(table, message)).host) is (keep is not Keep.NONE)
            await here.end(replace(run, ended_at=1001.0, outcome=outcome, output="word\n"), "a")
            kept = keep is Keep.ALL or (keep is Keep.FAILURES and outcome == "errored")
            noted = await facts(table, message)
            assert (noted.outcome, noted.output) == ((outcome, "word\n") if kept else ("", ""))

    async def test_what_a_late_claim_of_this_worker_took_is_no_crash(self, table: Table) -> None:
        session = Session(table)
        here = TableThrottler(table, session)
        await begin(here, "a")
        session.drop("claim:a")  # as if its release had been answered, and the claim had arrived after it
        assert await begin(here, "b") == Answer(claim=Claim.FRESH)

    async def test_a_cancelled_job_is_done_by_an_order(self, table: Table, here: TableThrottler) -> None:
        await table.cancel_claim("m", "alice")
        assert await begin(here, "a") == Answer(claim=Claim.DONE, cancelled_by="alice")

    async def test_a_claim_with_a_key_of_its_own_is_cancelled_by_the_id_of_its_message(
        self, table: Table, here: TableThrottler
    ) -> None:
        signed = Run(message_id="m", claim_key="jti:deploy/1", attempt="a")
        await here.begin(signed, "a", age=0.0)
        await here.postpone("jti:deploy/1", "a", failures=1, due=90.0)
        await table.cancel_claim("m", "alice")
        for attempt in ("b", "c"):
            again = replace(signed, attempt=attempt)
            assert await here.begin(again, attempt, age=90.0) == Answer(claim=Claim.DONE, cancelled_by="alice")
        other = Run(message_id="n", claim_key="jti:deploy/2", attempt="d")
        assert await here.begin(other, "d", age=0.0) == Answer(claim=Claim.FRESH), "of another message"

    async def test_a_copy_of_a_job_that_was_cancelled_while_it_ran_is_a_duplicate(self, here: TableThrottler) -> None:
        """The attempt that ran has reported it: it must not be counted, kept and told a second time."""
        await begin(here, "a")
        ended = Run(message_id="m", outcome="cancelled", sent_at=1.0, begun_at=2.0, ended_at=3.0, cancelled_by="alice")
        await here.end(ended, "a")
        assert await begin(here, "b") == Answer(claim=Claim.DONE)

    async def test_a_job_whose_worker_died_under_an_order_to_stop_never_runs_again(self, table: Table) -> None:
        dead, here = TableThrottler(table, Session(table)), Watcher(table)
        await begin(dead, "a")
        await table.stop_claim("m", "alice")
        assert (await begin(here, "b")).claim is Claim.BUSY
        here.now += STANDARD.lease
        for attempt in ("c", "d"):
            assert await begin(here, attempt) == Answer(claim=Claim.DONE, cancelled_by="alice")

    async def test_an_order_that_arrives_between_look_and_takeover_is_obeyed(self, table: Table) -> None:
        dead, here = TableThrottler(table, Session(table)), Watcher(table)
        await begin(dead, "a")
        await begin(here, "b")
        here.now += STANDARD.lease
        looked = here.looks.is_dead

        async def order_meanwhile(session_id: str) -> bool:
            await table.stop_claim("m", "alice")
            return await looked(session_id)

        here.looks.is_dead = order_meanwhile  # type: ignore[method-assign]
        assert await begin(here, "c") == Answer(claim=Claim.DONE, cancelled_by="alice")


class Watcher(TableThrottler):
    """The throttler of a worker whose clock moves when the test says so."""

    def __init__(self, table: Table) -> None:
        self.now = 0.0
        session = Session(table, now=lambda: self.now)
        self.looks = session.sightings
        super().__init__(table, session)


async def facts(table: Table, message_id: str = "m") -> Run:
    """What the claim's row says of its run."""
    row = await table.take_claim(Claiming(run=Run(message_id=message_id), owner="nobody else's", age=0.0))
    assert row.run is not None
    return row.run


async def begin(throttler: TableThrottler, attempt: str, *, age: float = 0.0) -> Answer:
    run = Run(message_id="m", attempt=attempt, host="ip-10-0-0-1", begun_at=1000.5)
    return await throttler.begin(run, attempt, age=age)


class TestOnSQLite(OnTables):
    @pytest.fixture(autouse=True)
    def _on_a_file(self, sqlite_tables: NewTable) -> None:
        self.tables = sqlite_tables


class TestOnDynamoDB(OnTables):
    @pytest.fixture(autouse=True)
    def _on_a_server(self, dynamodb_tables: NewTable) -> None:
        self.tables = dynamodb_tables


class TestInMemory(OnTables):
    @pytest.fixture(autouse=True)
    def _in_a_dict(self, memory_tables: NewTable) -> None:
        self.tables = memory_tables


class TestRememberingOnSQLite(Remembering):
    @pytest.fixture
    def tables(self, sqlite_tables: NewTable) -> NewTable:
        return sqlite_tables


class TestRememberingOnDynamoDB(Remembering):
    @pytest.fixture
    def tables(self, dynamodb_tables: NewTable) -> NewTable:
        return dynamodb_tables


class TestRememberingInMemory(Remembering):
    @pytest.fixture
    def tables(self, memory_tables: NewTable) -> NewTable:
        return memory_tables
