"""Where the visible messages of a queue lie: in one row (standard), or by group (FIFO)."""

from collections import deque
from dataclasses import dataclass, field
from enum import Enum, auto
from heapq import heappop, heappush
from typing import Protocol

from benchmarks.standin.errors import Json


class State(Enum):
    """Where a message is."""

    VISIBLE = auto()
    DELAYED = auto()
    IN_FLIGHT = auto()
    GONE = auto()


@dataclass(slots=True, eq=False)
class Message:
    """A message on a queue. Times are epoch milliseconds (`*_ms`) or monotonic seconds (`*_at`)."""

    id: str
    body: str
    md5: str
    sent_ms: int
    sequence: int
    attributes: Json = field(default_factory=dict)
    attributes_md5: str = ""
    group: str = ""
    deduplication: str = ""
    source_arn: str = ""
    sender: str = ""
    handle: str = ""
    receives: int = 0
    first_receive_ms: int = 0
    received_at: float = 0.0
    visible_at: float = 0.0
    state: State = State.VISIBLE


class Shelf(Protocol):
    """Hands out visible messages. Each call costs O(1) or O(log n)."""

    def add(self, message: Message) -> None:
        """Lay down a message that has become visible."""

    def take(self, limit: int) -> list[Message]:
        """Take up to `limit` messages that may be delivered now; they are in flight until `release`."""

    def release(self, message: Message) -> None:
        """Say that a message taken earlier is no longer in flight (deleted, moved, or about to be added again)."""


class Row:
    """The shelf of a standard queue: first in, first out; a message that comes back goes to the end."""

    def __init__(self) -> None:
        self._messages: deque[Message] = deque()

    def add(self, message: Message) -> None:
        """See `Shelf.add`."""
        self._messages.append(message)

    def take(self, limit: int) -> list[Message]:
        """See `Shelf.take`."""
        taken: list[Message] = []
        while self._messages and len(taken) < limit:
            message = self._messages.popleft()
            if message.state is State.VISIBLE:  # else it was deleted where it lay
                taken.append(message)
        return taken

    def release(self, message: Message) -> None:
        """See `Shelf.release`. Nobody waits for a message of a standard queue."""


@dataclass(slots=True, eq=False)
class _Group:
    waiting: list[tuple[int, Message]] = field(default_factory=list)
    in_flight: int = 0
    listed: bool = False


class Groups:
    """The shelf of a FIFO queue: a group is closed while any message of it is in flight.

    A message that comes back takes its old place, in front of the later ones of its group.
    """

    def __init__(self) -> None:
        self._groups: dict[str, _Group] = {}
        self._open: deque[str] = deque()

    def add(self, message: Message) -> None:
        """See `Shelf.add`."""
        group = self._groups.setdefault(message.group, _Group())
        heappush(group.waiting, (message.sequence, message))
        self._list(message.group, group)

    def take(self, limit: int) -> list[Message]:
        """See `Shelf.take`. As many as possible come from one group, as on AWS."""
        taken: list[Message] = []
        while self._open and len(taken) < limit:
            name = self._open.popleft()
            group = self._groups[name]
            group.listed = False
            while group.waiting and len(taken) < limit:
                message = heappop(group.waiting)[1]
                if message.state is State.VISIBLE:
                    group.in_flight += 1
                    taken.append(message)
            if not group.in_flight:
                del self._groups[name]
        return taken

    def release(self, message: Message) -> None:
        """See `Shelf.release`."""
        group = self._groups[message.group]
        group.in_flight -= 1
        if group.waiting:
            self._list(message.group, group)
        elif not group.in_flight:
            del self._groups[message.group]

    def _list(self, name: str, group: _Group) -> None:
        if not group.in_flight and not group.listed:
            group.listed = True
            self._open.append(name)
