"""Every store that a contract must hold on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from contracts.stores import NewTable, OwnConnection
from fleet import Fleet
from memory_table import MemoryTable, Rows
from sqsjkr.backends.sqlite.store import Store
from sqsjkr.backends.sqlite.table import SQLiteTable


@pytest.fixture
def aws_settings(aws_env: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Point this process's AWS settings at the server of the run."""
    for name, value in aws_env.items():
        if name.startswith("AWS_"):
            monkeypatch.setenv(name, value)


@pytest.fixture
def dynamodb_fleet(
    aws_settings: None,
    dynamodb_url: str,
    make_fleet: Callable[..., Fleet],
    monkeypatch: pytest.MonkeyPatch,
) -> Fleet:
    """A table on a DynamoDB server: the test runs once on each kind."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", dynamodb_url)
    return make_fleet(dynamodb_url=dynamodb_url)


@pytest.fixture
def dynamodb_tables(dynamodb_fleet: Fleet) -> NewTable:
    return lambda: OwnConnection(dynamodb_fleet.table)


@pytest.fixture
def sqlite_tables(tmp_path: Path) -> NewTable:
    return lambda: SQLiteTable(Store(tmp_path))


@pytest.fixture
def memory_tables() -> NewTable:
    rows = Rows()
    return lambda: MemoryTable(rows)
