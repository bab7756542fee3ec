"""The smallest faithful SQS: a standard queue in a dict, and workers' views of it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from sqsjkr import clock
from sqsjkr.leases.budget import STANDARD, LeaseBudget
from sqsjkr.message import Message
from sqsjkr.queue import Burial, Delivery, Hiding, Lapsed, Queue, QueueFacts

LONGEST = 43_200.0
"""Seconds after a receive that a message may stay hidden (AWS: Amazon SQS visibility timeout)."""


@dataclass
class Stored:
    """A message on the queue; ``received`` is the time of the receive whose handle is the newest."""

    id: str
    body: str
    sent: float
    visible: float
    group: str | None = None
    receipt: str = ""
    received: float = 0.0
    receives: int = 0


@dataclass
class SQS:
    """The server: one queue and its dead letters. ``now`` is its clock."""

    now: Callable[[], float]
    messages: dict[str, Stored] = field(default_factory=dict)
    dead: list[tuple[str, str]] = field(default_factory=list)
    """(message id, reason)"""
    old_handles_work: bool = True
    """Whether a delivery can be deleted and hidden after its message was delivered again: SQS promises neither."""
    _numbers: itertools.count[int] = field(default_factory=itertools.count)

    def send(self, body: str, *, message_id: str = "", group: str | None = None) -> str:
        """Put a message on the queue; its id."""
        message_id = message_id or f"m{next(self._numbers)}"
        self.messages[message_id] = Stored(message_id, body, self.now(), self.now(), group)
        return message_id

    def receive(self, limit: int, hiding: float) -> list[Stored]:
        """Hand out visible messages, the oldest first, each with a new handle."""
        visible = [each for each in self.messages.values() if each.visible <= self.now()]
        return [self.deliver(each, hiding) for each in visible[:limit]]

    def deliver(self, message: Stored, hiding: float) -> Stored:
        """Hand out a message, visible or not: a standard queue may deliver one twice."""
        message.receipt = f"{message.id}#{next(self._numbers)}"
        message.receives += 1
        message.received = self.now()
        message.visible = self.now() + hiding
        return Stored(**vars(message))

    def delete(self, message_id: str, receipt: str) -> None:
        """Delete, or do nothing by a handle that is void."""
        message = self.messages.get(message_id)
        if message is not None and (self.old_handles_work or message.receipt == receipt):
            del self.messages[message_id]

    def hide(self, entry: Hiding) -> Exception | None:
        """Change a visibility timeout, or refuse as SQS does: by a handle that is void, or beyond the 12 hours."""
        message = self.messages.get(entry.message_id)
        is_void = message is None or (message.receipt != entry.receipt and not self.old_handles_work)
        if message is None or is_void or message.visible <= self.now():
            return Lapsed("ReceiptHandleIsInvalid")
        if self.now() + entry.seconds - message.received > LONGEST:
            return Lapsed("InvalidParameterValue: beyond the limit [43200 seconds]")
        message.visible = self.now() + entry.seconds
        return None

    @property
    def depth(self) -> tuple[int, int]:
        """How many messages are visible, and hidden."""
        visible = sum(each.visible <= self.now() for each in self.messages.values())
        return visible, len(self.messages) - visible


class MemoryQueue(Queue):
    """One worker's view."""

    def __init__(self, sqs: SQS, *, budget: LeaseBudget = STANDARD) -> None:
        super().__init__(budget=budget)
        self.sqs = sqs
        self.hidings: list[Hiding] = []
        """All that was asked for."""
        self.trouble: list[Exception] = []
        """What the next answers to ``_hide`` are, entry by entry; the server is not asked then."""
        self.lost: list[Exception] = []
        """The same, but the server has acted: only its answer is lost."""
        self.no_burials: Exception | None = None
        """Why the dead-letter queue takes nothing."""

    async def _open(self) -> QueueFacts:
        return QueueFacts(name="jobs", retention=345_600.0, dead_letters="jobs-dead")

    async def _close(self) -> None:
        """Nothing to close."""

    async def _receive(self, limit: int, wait: float, hiding: float) -> list[Delivery]:
        return [delivery(each, self.sqs.now()) for each in self.sqs.receive(limit, hiding)]

    async def _delete(self, entries: Sequence[tuple[str, str]]) -> Sequence[Exception | None]:
        for entry in entries:
            self.sqs.delete(*entry)
        return [None] * len(entries)

    async def _hide(self, entries: Sequence[Hiding]) -> Sequence[Exception | None]:
        self.hidings += entries
        answers: list[Exception | None] = []
        for entry in entries:
            answer = self.trouble.pop(0) if self.trouble else self.sqs.hide(entry)
            answers.append(self.lost.pop(0) if self.lost else answer)
        return answers

    async def _bury(self, message: Message, burial: Burial) -> None:
        if self.no_burials:
            raise self.no_burials
        self.sqs.dead.append((message.id, burial.reason))


def delivery(stored: Stored, server_now: float) -> Delivery:
    """What a worker makes of a message that it was handed."""
    message = Message(
        id=stored.id,
        body=stored.body,
        sent_at=stored.sent,
        age=server_now - stored.sent,
        received_at=clock.now(),
        receive_count=stored.receives,
        group=stored.group,
    )
    return Delivery(message, stored.receipt)
