"""Queue, locker and throttler as configured: built, opened, and closed in reverse order."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Protocol

from sqsjkr.config import Config, plugins
from sqsjkr.errors import ConfigError
from sqsjkr.leases.budget import STANDARD, LeaseBudget
from sqsjkr.leases.locker import TableLocker
from sqsjkr.leases.session import Session
from sqsjkr.leases.table import Table
from sqsjkr.leases.throttler import TableThrottler
from sqsjkr.locker import Locker, NoLocker
from sqsjkr.queue import Queue
from sqsjkr.telemetry.events import Event, emit
from sqsjkr.telemetry.outage import Outage
from sqsjkr.throttler import NoThrottler, Throttler

# The backends are imported where they are made: an embedded worker needs no AWS, an SQS worker no SQLite, and each
# costs start-up time and memory (docs/decisions/0003).
# ruff: noqa: PLC0415


class _Part(Protocol):
    async def open(self) -> object: ...

    async def close(self) -> None: ...


class Resources:
    """What a worker works with: ``queue``, ``locker``, ``throttler``. Raises ``ConfigError`` for a bad plugin."""

    def __init__(
        self,
        config: Config,
        stack: AsyncExitStack,
        *,
        locker: Locker | None = None,
        throttler: Throttler | None = None,
        budget: LeaseBudget = STANDARD,
    ) -> None:
        self._config = config
        self._budget = budget
        self._stack = stack
        self._parts: list[_Part] = []  # in the order in which they are opened
        self.opening = ""
        """What ``open`` is, or was, waiting for."""
        self._table_beside_queue: Callable[[], Table] | None = None
        self.table_outage = Outage(
            "the lock table",
            Event.TABLE_UNREACHABLE,
            Event.TABLE_RECOVERED,
            longest_pause=budget.longest_outage_pause,
        )
        """Trouble with the table, whoever meets it first."""
        self._tables: dict[str, tuple[Table, Session]] = {}
        self.queue = self._make_queue()
        self.locker = locker or self._make_locker(config.locker)
        self.throttler = throttler or self._make_throttler(config.throttler)
        self._parts += [self.locker, self.throttler]
        ours = (TableLocker, TableThrottler, NoLocker, NoThrottler)
        self.shares_outage = isinstance(self.locker, ours) and isinstance(self.throttler, ours)
        """Is trouble of theirs always the table's? Else a beat that gets through says nothing of it."""

    async def open(self) -> None:
        """Open what is not open yet; may be called again after ``BackendUnavailable``.

        Raises ``BackendRefused`` if there is no such queue or table, or no right to use it.
        """
        while self._parts:
            part = self._parts[0]
            self.opening = "the queue" if part is self.queue else "what the worker needs"
            if any(part is table for table, _ in self._tables.values()):
                self.opening = "the lock table"
            await part.open()
            self._stack.push_async_callback(part.close)
            self._parts.pop(0)
            if part is self.queue:
                self._say_what_was_found()

    def _say_what_was_found(self) -> None:
        facts = self.queue.facts
        for table, _ in self._tables.values():
            table.retention = facts.retention
        emit(Event.QUEUE_OPENED, f"{facts.name}, dead-letter queue {facts.dead_letters or 'none'}")
        if facts.dead_letters is None:
            advice = "bad messages stay on the queue; next: sqsjkr setup"
            emit(Event.NO_DEAD_LETTER_QUEUE, f"{facts.name} has no dead-letter queue: {advice}")

    def _make_queue(self) -> Queue:
        config = self._config
        if config.local:
            from sqsjkr.backends.sqlite.queue import SQLiteQueue
            from sqsjkr.backends.sqlite.store import Store
            from sqsjkr.backends.sqlite.table import SQLiteTable

            store = Store(config.local)
            queue: Queue = SQLiteQueue(store, budget=self._budget)
            # One connection for both: two would wait for each other's transactions.
            self._table_beside_queue = lambda: SQLiteTable(store)
        else:
            from sqsjkr.backends.aws.client import AWS
            from sqsjkr.backends.sqs.queue import SQSQueue

            self._aws = AWS(profile=config.profile, region=config.region)
            self._parts.append(self._aws)
            queue = SQSQueue(
                self._aws,
                url=config.queue_url,
                account_id=config.account_id,
                name=config.queue_name,
                budget=self._budget,
            )
        self._parts.append(queue)
        return queue

    def _make_locker(self, name: str) -> Locker:
        if name == "none":
            return NoLocker()
        if ":" in name and not name.startswith("sqlite:"):
            return plugins.load(name, Locker, "locker")  # type: ignore[type-abstract]
        return TableLocker(*self._table(name), budget=self._budget)

    def _make_throttler(self, name: str) -> Throttler:
        if name == "none":
            return NoThrottler()
        if ":" in name and not name.startswith("sqlite:"):
            return plugins.load(name, Throttler, "throttler")  # type: ignore[type-abstract]
        return TableThrottler(*self._table(name), budget=self._budget)

    def _table(self, name: str) -> tuple[Table, Session]:
        """One table and one session for locker and throttler together, so that one beat serves both."""
        if name not in self._tables:
            table = self._sqlite_table(name) if name.startswith("sqlite") else self._dynamodb_table()
            self._parts.append(table)
            self._tables[name] = table, Session(table, budget=self._budget, outage=self.table_outage)
        return self._tables[name]

    def _sqlite_table(self, name: str) -> Table:
        directory = name.removeprefix("sqlite").removeprefix(":") or self._config.local
        if not directory:
            raise ConfigError(f'[kicker] locker or throttler = "{name}": expected "sqlite:/directory", or --local')
        if directory == self._config.local and self._table_beside_queue is not None:
            return self._table_beside_queue()
        from sqsjkr.backends.sqlite.store import Store
        from sqsjkr.backends.sqlite.table import SQLiteTable

        return SQLiteTable(Store(directory))

    def _dynamodb_table(self) -> Table:
        from sqsjkr.backends.aws.client import AWS
        from sqsjkr.backends.dynamodb.table import DynamoDBTable

        if self._config.local:
            self._aws = AWS(profile=self._config.profile, region=self._config.region)
            self._parts.append(self._aws)
        return DynamoDBTable(self._aws, self._config.lock_table)
