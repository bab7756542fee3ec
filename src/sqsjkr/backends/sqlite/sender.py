"""Sends to the embedded store."""

from __future__ import annotations

from collections.abc import Sequence

from sqsjkr.backends import Connections
from sqsjkr.backends.sqlite.queue import SQLiteQueue
from sqsjkr.backends.sqlite.store import Store
from sqsjkr.errors import ConfigError
from sqsjkr.sender import Rejected, Sender, Terms


class SQLiteSender(Sender):
    """Puts messages into the store, durably, one transaction for each batch.

    Raises ``ConfigError`` for message groups: the store has none.
    """

    size = 200

    def __init__(self, store: Store, terms: Terms) -> None:
        if terms.group or terms.dedup_id:
            raise ConfigError("the embedded store has no message groups: leave --group and --dedup-id out")
        self._store = store
        self._queue = SQLiteQueue(store)
        self._terms = terms

    @classmethod
    def configured(cls, connections: Connections, terms: Terms) -> SQLiteSender:
        """Send to the store of the settings."""
        return cls(connections.once(Store, connections.settings.local), terms)

    async def open(self) -> None:
        """Open the store, or create it. Raises ``BackendRefused`` if that is impossible."""
        await self._store.open()

    async def send(self, bodies: Sequence[str], signatures: Sequence[str] = ()) -> list[str | Rejected]:
        """Send all of them, or raise ``BackendUnavailable``."""
        terms = self._terms
        sent = await self._queue.send(bodies, signatures, delay=terms.delay, attributes=terms.attributes)
        return list(sent)

    async def close(self) -> None:
        """Close the file."""
        await self._store.close()
