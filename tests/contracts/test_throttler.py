"""Every throttler that comes with sqsjkr is one."""

from __future__ import annotations

import pytest

from contracts.stores import NewTable
from sqsjkr.leases.session import Session
from sqsjkr.leases.table import Table
from sqsjkr.leases.throttler import TableThrottler
from sqsjkr.testing import ThrottlerContract
from sqsjkr.throttler import Throttler


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
