"""The outbox of the embedded store."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sqsjkr.backends.sqlite.queue import SQLiteQueue
from sqsjkr.backends.sqlite.store import Store
from sqsjkr.errors import ConfigError
from sqsjkr.sender import Rejected, Sender, Terms


class SQLiteSender(Sender):
    """Puts messages into the store, durably, in one transaction a batch.

    Raises ``ConfigError`` for message groups: the store has none.
    """

    size = 200

    def __init__(self, directory: str | Path, terms: Terms) -> None:
        if terms.group or terms.dedup_id:
            raise ConfigError("--group and --dedup-id are for FIFO queues, and the embedded store is none")
        self._store = Store(directory)
        self._queue = SQLiteQueue(self._store)
        self._delay = terms.delay

    async def open(self) -> None:
        """Make the store where there is none. Raises ``BackendRefused`` if that is impossible."""
        await self._store.open()

    async def send(self, bodies: Sequence[str]) -> list[str | Rejected]:
        """All of them, or ``BackendUnavailable``."""
        return list(await self._queue.send(bodies, delay=self._delay))

    async def close(self) -> None:
        """Close the file."""
        await self._store.close()
