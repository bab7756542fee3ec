"""What can stand behind the ports, by name: SQS, DynamoDB, and SQLite for one host.

A backend is a folder here and one line in ``BACKENDS``. Its modules are imported when one of its classes is asked for:
an embedded worker needs no AWS, an SQS worker no SQLite, and each costs start-up time and memory (docs/decisions/0003).
"""

from __future__ import annotations

import importlib
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ParamSpec, Protocol, TypeVar

from sqsjkr.telemetry.requests import Requests

P = ParamSpec("P")
T = TypeVar("T")

NONE = "none"
_PLUGIN = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """The classes of a backend, each as "module:Class" in its folder; "" for a port that it does not serve.

    A class is made by its ``configured``, from ``Connections`` (a sender from its ``Terms``, too; a table from its
    place, too).
    """

    queue: str = ""
    sender: str = ""
    table: str = ""
    roster: str = ""
    history: str = ""
    source: str = ""
    orders: str = ""
    """Beside each table: where workers enter themselves, where they keep how jobs ended, what viewers read, and where
    operators' orders are written."""
    queue_source: str = ""
    dead_letters: str = ""
    """Beside each queue: what viewers see of it, and of its dead letters."""
    place: str = ""
    """An example of what may follow the name and a colon in ``[kicker] locker``; "" if nothing may."""
    on_aws: bool = False
    """Whether it needs credentials and a region."""


BACKENDS = {
    "sqs": Backend(
        queue="queue:SQSQueue",
        sender="sender:SQSSender",
        queue_source="views:SQSView",
        dead_letters="dead_letters:SQSDeadLetters",
        on_aws=True,
    ),
    "dynamodb": Backend(
        table="table:DynamoDBTable",
        roster="fleet:DynamoDBRoster",
        history="history:DynamoDBHistory",
        source="views:DynamoDBSource",
        orders="orders:DynamoDBOrders",
        on_aws=True,
    ),
    "sqlite": Backend(
        queue="queue:SQLiteQueue",
        sender="sender:SQLiteSender",
        table="table:SQLiteTable",
        roster="fleet:SQLiteRoster",
        history="history:SQLiteHistory",
        source="views:SQLiteSource",
        orders="orders:SQLiteOrders",
        queue_source="views:SQLiteQueueView",
        dead_letters="dead_letters:SQLiteDeadLetters",
        place="/directory",
    ),
}
TABLES = tuple(name for name, backend in BACKENDS.items() if backend.table)


class _Settings(Protocol):
    """The part of ``Config`` that backends are made from."""

    @property
    def local(self) -> str: ...
    @property
    def profile(self) -> str: ...
    @property
    def region(self) -> str: ...
    @property
    def account_id(self) -> str: ...
    @property
    def queue_name(self) -> str: ...
    @property
    def queue_url(self) -> str: ...
    @property
    def locker(self) -> str: ...
    @property
    def throttler(self) -> str: ...
    @property
    def lock_table(self) -> str: ...


class Part(Protocol):
    """Something to open before use and to close after it."""

    async def open(self) -> object:
        """Raises ``BackendUnavailable`` if it does not answer, ``BackendRefused`` if trying again would not help."""

    async def close(self) -> None:
        """Let go of what ``open`` got."""


class Connections:
    """What the backends of one process share: a connection to AWS, one to each SQLite file."""

    def __init__(self, settings: _Settings, *, patience: float = 5.0) -> None:
        self.settings = settings
        self.patience = patience
        """Seconds that one answer may take."""
        self.requests = Requests()
        """What was asked of AWS, by all of them."""
        self._made: dict[object, Any] = {}
        self._links: list[Part] = []
        self._opened = 0
        self._account: Any = None

    @property
    def account(self) -> Any:
        """The AWS account of the settings, a ``backends.aws.credentials.Account``."""
        if self._account is None:
            make = _load("aws", "credentials:Account")
            self._account = make(profile=self.settings.profile, region=self.settings.region, patience=self.patience)
        return self._account

    def begin(self, *names: str) -> None:
        """Start to look for the AWS account, if the queue or these lockers and throttlers need one.

        It is looked for while the backends are imported. To be closed, opened or not.
        """
        if needs_aws(self.settings.local, *names):
            self.account.begin()

    def once(self, make: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What ``make`` returned for these arguments at the first call. Its users open and close it."""
        key = (make, args, tuple(kwargs.items()))
        if key not in self._made:
            self._made[key] = make(*args, **kwargs)
        made: T = self._made[key]
        return made

    def link(self, make: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """As ``once``, for a ``Part`` that ``open`` opens for all of its users."""
        made: Any = self.once(make, *args, **kwargs)
        if made not in self._links:
            self._links.append(made)
        return made  # type: ignore[no-any-return]

    async def open(self) -> None:
        """Open the links that are not open yet; may be called again after ``BackendUnavailable``."""
        while self._opened < len(self._links):
            await self._links[self._opened].open()
            self._opened += 1

    async def close(self) -> None:
        """Close the links, and end what ``begin`` began."""
        for link in reversed(self._links):
            await link.close()
        if self._account is not None:
            await self._account.close()


@dataclass(frozen=True, slots=True)
class Name:
    """What ``[kicker] locker`` or ``throttler`` names: a table, a class to import ("package.module:Class"), or nothing.

    ``table`` is a name in ``TABLES``, ``place`` what follows it ("sqlite:/directory"). At most one of ``table`` and
    ``plugin`` is not "".
    """

    table: str = ""
    place: str = ""
    plugin: str = ""


def parse(text: str) -> Name | None:
    """What ``text`` names; None if it is not a backend's name."""
    name, colon, place = text.partition(":")
    if text == NONE:
        return Name()
    if name in TABLES and (not colon or (place and BACKENDS[name].place)):
        return Name(table=name, place=place)
    return Name(plugin=text) if _PLUGIN.fullmatch(text) else None


def tables(*names: str) -> set[str]:
    """The backends whose tables these lockers and throttlers use."""
    found = (parse(name) for name in names)
    return {name.table for name in found if name is not None and name.table}


def needs_aws(local: str, *names: str) -> bool:
    """Whether a worker with this embedded store ("" for none) and these lockers and throttlers uses AWS."""
    return BACKENDS[_behind_queue(local)].on_aws or any(BACKENDS[table].on_aws for table in tables(*names))


def queue_class(settings: _Settings) -> Any:
    """The ``Queue`` of the settings' backend."""
    name = _behind_queue(settings.local)
    return _load(name, BACKENDS[name].queue)


def sender_class(settings: _Settings) -> Any:
    """The ``Sender`` of the settings' backend."""
    name = _behind_queue(settings.local)
    return _load(name, BACKENDS[name].sender)


def queue_source_class(settings: _Settings) -> Any:
    """The ``QueueSource`` of the settings' backend."""
    name = _behind_queue(settings.local)
    return _load(name, BACKENDS[name].queue_source)


def dead_letters_class(settings: _Settings) -> Any:
    """The ``DeadLetters`` of the settings' backend."""
    name = _behind_queue(settings.local)
    return _load(name, BACKENDS[name].dead_letters)


def table_class(name: str) -> Any:
    """The ``Table`` of this backend, which is one of ``TABLES``."""
    return _load(name, BACKENDS[name].table)


def history_class(name: str) -> Any:
    """The ``HistoryStore`` of this backend, which is one of ``TABLES``."""
    return _load(name, BACKENDS[name].history)


def roster_class(name: str) -> Any:
    """The ``Roster`` of this backend, which is one of ``TABLES``."""
    return _load(name, BACKENDS[name].roster)


def source_class(name: str) -> Any:
    """The ``Source`` of this backend, which is one of ``TABLES``."""
    return _load(name, BACKENDS[name].source)


def orders_class(name: str) -> Any:
    """The ``Orders`` of this backend, which is one of ``TABLES``."""
    return _load(name, BACKENDS[name].orders)


def fleet_of(settings: _Settings) -> str:
    """The name under which the workers of the settings' queue are found in the table, however the queue is given."""
    if settings.local:
        return os.path.realpath(settings.local)
    return settings.queue_url.rpartition("/")[2] or settings.queue_name


def _behind_queue(local: str) -> str:
    return "sqlite" if local else "sqs"


def _load(backend: str, path: str) -> Any:
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(f"{__name__}.{backend}.{module}"), name)
