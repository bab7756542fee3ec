"""Queue, locker and throttler as configured: made, opened, and closed in reverse order."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial
from typing import TypeVar

from sqsjkr.backends import Connections, Name, Part, history_class, parse, queue_class, roster_class, table_class
from sqsjkr.config import Config, plugins
from sqsjkr.leases.budget import STANDARD, LeaseBudget
from sqsjkr.leases.live import Presence, Roster
from sqsjkr.leases.locker import TableLocker
from sqsjkr.leases.session import Session
from sqsjkr.leases.table import Table
from sqsjkr.leases.throttler import TableThrottler
from sqsjkr.locker import Locker, NoLocker
from sqsjkr.message import LONGEST_SIGNATURE_LIFE
from sqsjkr.queue import Queue, QueueFacts
from sqsjkr.runs import SHORT
from sqsjkr.telemetry.events import Event, emit
from sqsjkr.telemetry.history import HistoryStore, Keep, NoHistory, Rules
from sqsjkr.telemetry.outage import Outage
from sqsjkr.telemetry.requests import Requests
from sqsjkr.telemetry.trace import tracer
from sqsjkr.throttler import NoThrottler, Throttler

T = TypeVar("T", bound=Part)


class Resources:
    """What a worker works with: ``queue``, ``locker``, ``throttler``; ``stack`` closes what ``open`` opened.

    ``locker`` and ``throttler`` take the place of the configured ones. Raises ``ConfigError`` for a plugin that cannot
    be made.
    """

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
        self._connections = Connections(config, patience=budget.answer)
        self._connections.begin(config.locker, config.throttler)
        stack.push_async_callback(self._connections.close)
        self._tables: dict[Name, tuple[Table, Session]] = {}
        self.table_outage = Outage(
            "the lock table",
            Event.TABLE_UNREACHABLE,
            Event.TABLE_RECOVERED,
            longest_pause=budget.longest_outage_pause,
        )
        """The outage that heartbeats, locks and claims report to."""
        self.queue: Queue = queue_class(config).configured(self._connections, budget)
        self.locker: Locker = (
            self._made("locker", Locker, NoLocker, partial(TableLocker, budget=budget))  # type: ignore[type-abstract]
            if locker is None
            else locker
        )
        self.throttler: Throttler = (
            self._made("throttler", Throttler, NoThrottler, partial(TableThrottler, budget=budget))  # type: ignore[type-abstract]
            if throttler is None
            else throttler
        )
        claims = parse(config.throttler) if throttler is None else None
        self._claims = claims if claims and claims.table else None
        self.history = _history(config, self._connections, self._claims)
        """Where the endings of jobs are kept."""
        self.tracer = tracer(
            config.otlp_endpoint, as_parent=config.trace_parent, system="sqsjkr" if config.local else "aws_sqs"
        )
        self._unopened = self._in_order()

    @property
    def shares_outage(self) -> bool:
        """Whether locker and throttler fail only when the table does. Else a heartbeat that succeeds proves nothing."""
        ours = (TableLocker, TableThrottler, NoLocker, NoThrottler)
        return isinstance(self.locker, ours) and isinstance(self.throttler, ours)

    @property
    def session(self) -> str:
        """The worker's name in the table once ``open`` is done; "" if it keeps no locks or claims in one."""
        return next((session.name for _, session in self._tables.values()), "")

    @property
    def steering(self) -> tuple[Roster, Presence] | None:
        """The roster beside the claims, and what their session shows; None if the throttler keeps no table of ours."""
        if self._claims is None:
            return None
        roster = roster_class(self._claims.table).configured(self._connections, self._claims.place)
        return roster, self._tables[self._claims][1].presence

    def present(self, presence: Presence) -> None:
        """Let the session that claims are made under show this worker."""
        if self._claims:
            session = self._tables[self._claims][1]
            session.presence, presence.name = presence, session.name[:SHORT]

    async def open(self) -> None:
        """Open what is not open yet; may be called again after ``BackendUnavailable``.

        Raises ``BackendRefused`` if there is no such queue or table, or no right to use it.
        """
        while self._unopened:
            part, outage = self._unopened[0]
            await part.open()
            if part is not self._connections:  # on the stack since it was made
                self._stack.push_async_callback(part.close)
            outage.ended()
            self._unopened.pop(0)
            if part is self.queue:
                self.tracer.queue = self.queue.facts.name
                later = LONGEST_SIGNATURE_LIFE if self._config.trust else 0.0
                self._keep_claims_for(self.queue.facts.retention + later)
                _announce(self.queue.facts, self._config.ack)

    def outage_of_opening(self) -> Outage:
        """The outage to report to when ``open`` has raised ``BackendUnavailable``. ``open`` ends it."""
        return self._unopened[0][1]

    @property
    def requests(self) -> Requests:
        """What was asked of AWS."""
        return self._connections.requests

    @property
    def waits_for(self) -> str:
        """What is not open yet and why, on one line; "" once all is open, or while the first answer is on its way."""
        return self._unopened[0][1].reason if self._unopened else ""

    def _in_order(self) -> list[tuple[Part, Outage]]:
        """Every part in the order of opening, with its outage."""

        def queue_outage(what: str) -> Outage:
            return Outage(what, Event.QUEUE_UNREACHABLE, Event.QUEUE_RECOVERED)

        return [
            (self._connections, queue_outage("the AWS credentials")),
            (self.queue, queue_outage("the queue")),
            *((table, self.table_outage) for table, _ in self._tables.values()),
            (self.locker, Outage("the locker", Event.TABLE_UNREACHABLE, Event.TABLE_RECOVERED)),
            (self.throttler, Outage("the throttler", Event.TABLE_UNREACHABLE, Event.TABLE_RECOVERED)),
            (self.history, self.table_outage),
            (self.tracer, Outage("the export of spans", Event.TRACES_FAILED, Event.TRACES_RECOVERED)),
        ]

    def _made(self, role: str, port: type[T], without: Callable[[], T], on_table: Callable[[Table, Session], T]) -> T:
        """The locker or throttler that the configuration names."""
        setting = str(getattr(self._config, role))
        name = parse(setting) or Name()
        if name.plugin:
            return plugins.load(setting, port, role)
        return on_table(*self._table(name)) if name.table else without()

    def _table(self, name: Name) -> tuple[Table, Session]:
        """One table and one session for locker and throttler together, so that one heartbeat serves both."""
        if name not in self._tables:
            table: Table = table_class(name.table).configured(self._connections, name.place)
            self._tables[name] = table, Session(table, budget=self._budget, outage=self.table_outage)
        return self._tables[name]

    def _keep_claims_for(self, retention: float) -> None:
        """No delivery of a message may outlive its claim; history may keep it for longer."""
        rules = self.history.rules
        for table, _ in self._tables.values():
            table.retention = max(retention, rules.seconds)
            table.history = rules


def _history(config: Config, connections: Connections, claims: Name | None) -> HistoryStore:
    if claims is None:
        return NoHistory()
    history: HistoryStore = history_class(claims.table).configured(connections, claims.place)
    history.rules = Rules(runs=Keep(config.history), output=Keep(config.history_output), days=config.history_days)
    return history


def _announce(facts: QueueFacts, ack: str) -> None:
    kind = ""
    if facts.fifo:
        kind = ", FIFO"
        if ack == "finish":
            kind += ': the jobs of one message group run one at a time, unless [kicker] ack = "start"'
    emit(Event.QUEUE_OPENED, f"{facts.name}, dead-letter queue {facts.dead_letters or 'none'}{kind}")
    if facts.dead_letters is None:
        advice = "invalid messages stay on the queue; next: sqsjkr setup"
        emit(Event.NO_DEAD_LETTER_QUEUE, f"{facts.name} has no dead-letter queue: {advice}")
