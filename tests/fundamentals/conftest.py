"""The one fixture of this folder: sqsjkr, on a store of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from embedded import Sqsjkr

HELD = "SELECT id FROM row WHERE type = 'throttle' AND NOT done AND owner != 'nobody/0'"


@pytest.fixture
async def sqsjkr(tmp_path: Path) -> AsyncIterator[Sqsjkr]:
    """A queue, a table and a worker for one test; fails it if a lock or a claim of a stopped worker is left."""
    running = Sqsjkr(tmp_path / "store")
    await running.open()
    yield running
    await running.close()
    assert running.sql("SELECT id FROM row WHERE type = 'lock' AND owner IS NOT NULL") == [], "a lock was left"
    assert running.sql(HELD) == [], "a claim was left"
