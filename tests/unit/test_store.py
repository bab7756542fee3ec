"""The thread that works on the embedded store."""

from __future__ import annotations

from pathlib import Path

import pytest

from sqsjkr.backends.sqlite.store import Store
from sqsjkr.errors import BackendRefused


async def test_no_cursor_leaves_the_thread_that_made_it(tmp_path: Path) -> None:
    """Freed in another thread, it would reset a statement that is in use again by then."""
    store = Store(tmp_path)
    await store.open()
    assert await store.write(lambda db: db.execute("DELETE FROM message")) is None
    await store.close()


async def test_a_file_that_is_no_database_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / "sqsjkr.db").write_text("a shopping list\n" * 100)
    with pytest.raises(BackendRefused, match=r"sqsjkr\.db: file is not a database"):
        await Store(tmp_path).open()
