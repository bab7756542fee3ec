"""A worker on an embedded store of its own, in the event loop of the test: no AWS, no configuration, real commands."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import sqlite3
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from servers import PATIENCE, until
from sqsjkr.app import authority_of, build_worker
from sqsjkr.backends.sqlite.queue import SQLiteQueue
from sqsjkr.backends.sqlite.store import FILE, Store
from sqsjkr.config import Config
from sqsjkr.resources import Resources
from sqsjkr.supervision.shared_state import SharedState
from sqsjkr.telemetry.events import LOGGER
from sqsjkr.telemetry.stats import Stats
from sqsjkr.worker import Worker


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of the log: its event's name, its text, and the facts that stand beside them in the JSON form."""

    event: str
    text: str
    facts: Mapping[str, Any]


class Sqsjkr:
    """What a test needs of sqsjkr: send jobs, run them, look at what happened."""

    def __init__(self, directory: Path) -> None:
        self.lines: list[Line] = []
        self.stats = Stats(slots=0)
        self._directory = directory
        self._mail = SQLiteQueue(Store(directory))
        self._worker: Worker | None = None
        self._running: asyncio.Task[None] | None = None
        self._stack = AsyncExitStack()
        self._handler = _Handler(self.lines)

    async def open(self) -> None:
        """Make the store, and read the log."""
        LOGGER.addHandler(self._handler)
        LOGGER.setLevel(logging.INFO)
        await self._mail.open()

    async def close(self) -> None:
        """Stop the worker if it runs."""
        await self.stop()
        await self._mail.close()
        LOGGER.removeHandler(self._handler)
        LOGGER.setLevel(logging.NOTSET)

    async def send(self, *, age: float = 0.0, **job: Any) -> str:
        """Send one job, ``send(command="true", lock_id="report")``, as if ``age`` seconds ago. Its message's id."""
        return await self.send_body(json.dumps(job), age=age)

    async def send_body(self, body: str, *, age: float = 0.0, signature: str = "") -> str:
        """Send a body, whatever it holds. The message's id."""
        (message_id,) = await self._mail.send([body], [signature] if signature else ())
        self.sql("UPDATE message SET sent = sent - ? WHERE id = ?", age, message_id)
        return message_id

    def start(
        self,
        *,
        slots: int = 2,
        grace: float = 5.0,
        kill_after: float = 5.0,
        trigger: str = "",
        ack: str = "finish",
        **settings: Any,
    ) -> None:
        """Start a worker with these settings; it goes on until ``stop``."""
        config = Config(
            local=str(self._directory),
            max_concurrent_num=slots,
            grace_period=grace,
            kill_after=kill_after,
            life_time_trigger=trigger,
            ack=ack,
            **settings,
        )
        self._running = asyncio.create_task(self._run(config))

    async def stop(self, *, times: int = 1) -> None:
        """Tell the worker to stop, as a signal would; returns when it has."""
        if self._running is not None:
            await until(lambda: self._worker, description="the worker was built")
            for _ in range(times):
                if self._worker is not None:
                    self._worker.stop("SIGTERM received")
            await self._running
            self._running = self._worker = None

    async def run_until_empty(self, **settings: Any) -> None:
        """Run a worker until every message has left the queue."""
        self.start(**settings)
        await until(lambda: self.is_empty, description="the queue was empty")
        await self.stop()

    @property
    def is_empty(self) -> bool:
        """Has every message left the queue?"""
        return self.sql("SELECT COUNT(*) FROM message") == [(0,)]

    @property
    def visible(self) -> int:
        """How many messages any worker could receive now."""
        ((count,),) = self.sql("SELECT COUNT(*) FROM message WHERE visible <= ?", time.time())
        return int(count)

    @property
    def counters(self) -> dict[str, int]:
        """The invocations of ``/stats/metrics/v2``: succeeded, failed, errored."""
        told: dict[str, dict[str, int]] = json.loads(self.stats.metrics_v2())
        return told["invocations"]

    @property
    def dead_letters(self) -> list[tuple[str, str]]:
        """Body and reason of each."""
        return self.sql("SELECT body, reason FROM dead_letter ORDER BY died")

    def log(self, event: str) -> list[str]:
        """The texts of all lines of one event."""
        return [line.text for line in self.lines if line.event == event]

    def said(self, event: str) -> list[str]:
        """As ``log``, but each run is called by its event alone: without the start of its message id."""
        return [re.sub(r"^(.*?)\[\w+\]: ", r"\1: ", text) for text in self.log(event)]

    def sql(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Look into the store, or change it behind the worker's back."""
        connection = sqlite3.connect(self._directory / FILE, timeout=PATIENCE)
        try:
            with connection:
                return connection.execute(statement, values).fetchall()
        finally:
            connection.close()

    async def _run(self, config: Config) -> None:
        async with AsyncExitStack() as stack:
            resources = Resources(config, stack)
            await resources.open()
            self.stats = Stats(slots=config.max_concurrent_num)
            authority = await stack.enter_async_context(authority_of(config))
            self._worker = build_worker(config, resources, self.stats, SharedState(), authority=authority)
            await self._worker.run("a worker of a test")


class _Handler(logging.Handler):
    def __init__(self, lines: list[Line]) -> None:
        super().__init__()
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        told = record.__dict__
        self._lines.append(Line(event=told["event"], text=record.getMessage(), facts=told["facts"]))
