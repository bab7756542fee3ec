"""Every locker that comes with sqsjkr is one, and so is the one of the how-to page."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from contracts.stores import NewTable
from sqsjkr.leases.locker import TableLocker
from sqsjkr.leases.session import Session
from sqsjkr.leases.table import Table
from sqsjkr.locker import Locker
from sqsjkr.testing import LockerContract

HOW_TO = Path(__file__).resolve().parents[2] / "docs/how-to/write-your-own-locker.md"


class WholeLocker(TableLocker):
    """A locker with a table, a connection and a session of its own: one worker process."""

    def __init__(self, table: Table) -> None:
        super().__init__(table, Session(table))

    async def open(self) -> None:
        await self._table.open()
        await super().open()

    async def close(self) -> None:
        await super().close()
        await self._table.close()


class OnTables(LockerContract):
    tables: NewTable

    async def make(self) -> Locker:
        return WholeLocker(self.tables())


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


class TestTheHowTosExample(LockerContract):
    @pytest.fixture(autouse=True)
    def _from_the_page(self) -> None:
        code = re.search(r"```python\n(.*?)```", HOW_TO.read_text(), re.DOTALL)
        assert code, f"{HOW_TO} has no example"
        names: dict[str, type[Locker]] = {"__name__": "example"}  # type: ignore[dict-item]
        exec(compile(code[1], str(HOW_TO), "exec"), names)  # noqa: S102 - our own page
        self.locker = names["MyLocker"]

    async def make(self) -> Locker:
        return self.locker()


class ReadsThenWrites(Locker):
    """Not atomic: between its look and its write there is time for others."""

    def __init__(self) -> None:
        self.owners: dict[str, str] = {}

    async def lock(self, lock_id: str, owner: str, event_id: str) -> int | None:
        taken = self.owners.get(lock_id)
        await asyncio.sleep(0)
        if taken not in {None, owner}:
            return None
        self.owners[lock_id] = owner
        return 0

    async def unlock(self, lock_id: str, owner: str) -> None:
        if self.owners.get(lock_id) == owner:
            del self.owners[lock_id]


class UnlocksForAnyone(ReadsThenWrites):
    async def unlock(self, lock_id: str, owner: str) -> None:
        self.owners.pop(lock_id, None)


@pytest.mark.parametrize(
    ("wrong", "test"),
    [
        (ReadsThenWrites, LockerContract.test_of_many_racers_one_wins),
        (UnlocksForAnyone, LockerContract.test_only_the_owner_unlocks),
        (UnlocksForAnyone, LockerContract.test_a_second_unlock_leaves_the_next_owner_alone),
    ],
)
def test_a_wrong_locker_fails_the_contract(
    wrong: type[ReadsThenWrites], test: Callable[[LockerContract], None]
) -> None:
    locker = wrong()

    class Suite(LockerContract):
        async def make(self) -> Locker:
            return locker

    with pytest.raises(AssertionError, match="expected"):
        test(Suite())
