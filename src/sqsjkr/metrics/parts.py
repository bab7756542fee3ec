"""The parts of a worker that the metrics are read from. They are looked at and never changed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from sqsjkr.intake.backlog import Backlog
from sqsjkr.intake.brake import Brake
from sqsjkr.intake.slots import Slots
from sqsjkr.intake.waiting_room import WaitingRoom
from sqsjkr.locker import Locker
from sqsjkr.queue import Queue
from sqsjkr.settler import Settler
from sqsjkr.telemetry.history import HistoryStore
from sqsjkr.telemetry.logs import Logs
from sqsjkr.telemetry.measures import Measures
from sqsjkr.telemetry.requests import Requests
from sqsjkr.telemetry.stats import Stats
from sqsjkr.throttler import Throttler


class Stopping(Protocol):
    """The part of a worker that knows whether it stops."""

    @property
    def requested(self) -> bool:
        """Has a stop been asked for?"""


class Ports(Protocol):
    """What the worker works with."""

    queue: Queue
    locker: Locker
    throttler: Throttler
    history: HistoryStore

    @property
    def requests(self) -> Requests:
        """What was asked of AWS."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What counts, and what can be counted."""

    stats: Stats
    measures: Measures
    ports: Ports
    log: Logs | None
    slots: Slots
    backlog: Backlog
    room: WaitingRoom
    brake: Brake
    settler: Settler
    stopping: Stopping

    @property
    def wanted(self) -> int:
        """How many slots could be used here: the busy ones, and one for each message that waits for a slot."""
        return self.slots.busy + self.backlog.ready
