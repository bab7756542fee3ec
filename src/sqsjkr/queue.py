"""Port: where messages come from, and where they leave to.

What ``receive`` hands out stays hidden from every other worker until it is deleted, released or buried. A backend
brings the requests; the rules of visibility, batching, burial and FIFO order stand here once.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sqsjkr import clock
from sqsjkr.batcher import Batcher
from sqsjkr.errors import BackendRefused, BackendUnavailable
from sqsjkr.leases.budget import STANDARD, LeaseBudget
from sqsjkr.message import Message
from sqsjkr.runs import label
from sqsjkr.telemetry.events import Event, emit
from sqsjkr.telemetry.outage import Outage

NO_GRAVE = 3600.0
"""Seconds that a message is hidden for where it cannot be buried: there is no dead-letter queue, or it is refused."""
LONGEST_HIDING = 43_000.0
"""Seconds after its receive that a message may be hidden, in all: SQS allows 12 hours, and refuses any longer delay
(AWS: Amazon SQS visibility timeout)."""
MAX_BATCH = 10
"""Messages a request may name (AWS: Amazon SQS message quotas)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueFacts:
    """What the queue reports of itself when it is opened."""

    name: str
    retention: float
    """Seconds until the queue drops a message that no worker took (``MessageRetentionPeriod``)."""
    dead_letters: str | None = None
    """The dead-letter queue's name, None where there is no redrive policy."""
    fifo: bool = False
    most_deliveries: int = 0
    """``maxReceiveCount``: after so many deliveries SQS moves a message to the dead-letter queue; 0: never."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Burial:
    """Why a message goes to the dead-letter queue."""

    reason: str
    event_id: str = ""
    """What the log calls the job beside its message's id."""
    failures: int | None = None
    """How often its job has failed, if it has run."""
    output: str = ""
    """The last of what it printed."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """A received message, and the receipt handle of this delivery."""

    message: Message
    receipt: str


@dataclass(frozen=True, slots=True)
class Hiding:
    """One entry of a request that changes visibility: which delivery, and hidden for how many seconds from now."""

    message_id: str
    receipt: str
    seconds: float


class Lapsed(BackendUnavailable):
    """The queue does not hide this delivery any longer: its handle is void, or the 12-hour cap is reached."""


class QueueRequests(ABC):
    """The requests that a backend brings. Each may raise ``BackendUnavailable``."""

    @abstractmethod
    async def _open(self) -> QueueFacts: ...

    @abstractmethod
    async def _close(self) -> None: ...

    @abstractmethod
    async def _receive(self, limit: int, wait: float, hiding: float) -> list[Delivery]: ...

    @abstractmethod
    async def _delete(self, entries: Sequence[tuple[str, str]]) -> Sequence[Exception | None]:
        """Delete (message id, receipt) entries; a message that is gone already is no failure."""

    @abstractmethod
    async def _hide(self, entries: Sequence[Hiding]) -> Sequence[Exception | None]:
        """Change visibility; ``Lapsed`` for an entry that can never be hidden by this handle again."""

    @abstractmethod
    async def _bury(self, message: Message, burial: Burial) -> None:
        """Send the body to the dead-letter queue, with attributes that give the reason and the origin.

        Raises ``BackendRefused`` if the dead-letter queue will never take it.
        """


class _Held:
    """A message in our hands: the newest receipt handle, when to extend it, until when it is surely hidden."""

    __slots__ = ("buried", "due", "extending", "hidden_until", "leaving", "message", "receipt", "received_at")

    def __init__(self, delivery: Delivery, budget: LeaseBudget) -> None:
        self.message = delivery.message
        self.extending: asyncio.Task[None] | None = None
        self.buried = False
        self.leaving = False
        """It is being released, and may be delivered again before the answer arrives."""
        self.renew(delivery, budget)

    def renew(self, delivery: Delivery, budget: LeaseBudget) -> None:
        self.receipt = delivery.receipt
        self.received_at = delivery.message.received_at
        self.due = delivery.message.received_at + budget.extend_after
        self.hidden_until = delivery.message.received_at + budget.first_hiding

    def hides(self, sent: float, budget: LeaseBudget) -> None:
        """Its visibility timeout was extended by a request that was sent then."""
        self.due, self.hidden_until = sent + budget.extend_every, sent + budget.hiding


Hide = Callable[[Sequence[Hiding]], Awaitable[Sequence[Exception | None]]]
"""Changes visibility timeouts; answers for each entry, in order, None or why that one failed."""


class Visibility:
    """Keeps held messages hidden: extends their visibility timeouts before they are over, all together."""

    def __init__(self, hide: Hide, budget: LeaseBudget) -> None:
        self._hide = hide
        self._budget = budget
        self.held: dict[str, _Held] = {}
        """By message id."""
        self.outage = Outage(
            "extending visibility timeouts", Event.VISIBILITY_FAILED, Event.VISIBILITY_RECOVERED, over="works again"
        )

    def add(self, delivery: Delivery) -> bool:
        """Hold a delivery. False if its message is held already: then only the receipt handle is renewed."""
        held = self.held.get(delivery.message.id)
        if held is None or held.leaving:
            self.held[delivery.message.id] = _Held(delivery, self._budget)
            return True
        held.renew(delivery, self._budget)
        return False

    def of(self, message: Message) -> _Held | None:
        """What is held of this delivery; None if it is settled, though the message may be back by another delivery."""
        held = self.held.get(message.id)
        return held if held is not None and held.message is message else None

    def hidden_until(self, message: Message) -> float:
        """Return until when, on ``clock.now``, no other worker can receive this message."""
        held = self.of(message)
        return held.hidden_until if held else 0.0

    async def still_holds(self, message: Message) -> bool:
        """Hide the message for longer, and return whether the queue does. Else it was deleted, or delivered anew.

        Raises ``BackendUnavailable``.
        """
        held = self.of(message)
        if held is None or held.due == math.inf:
            return False
        sent = clock.now()
        (failure,) = await self._hide([Hiding(message.id, held.receipt, self._budget.hiding)])
        if isinstance(failure, Lapsed):
            held.due = math.inf
            return False
        if failure is not None:
            raise failure
        held.hides(sent, self._budget)
        return True

    def remove(self, held: _Held) -> None:
        """Hold it no longer, unless the message has been delivered anew."""
        if self.held.get(held.message.id) is held:
            del self.held[held.message.id]

    async def keep(self) -> None:
        """Extend what is due, until cancelled."""
        while True:
            await asyncio.sleep(self._budget.hiding_look)
            now = clock.now()
            due = [held for held in self.held.values() if held.due <= now and held.extending is None]
            for start in range(0, len(due), MAX_BATCH):
                batch = due[start : start + MAX_BATCH]
                task = asyncio.create_task(self._extend(batch))
                for held in batch:
                    held.extending = task

    async def _extend(self, batch: Sequence[_Held]) -> None:
        """Hide a batch for longer. What fails for a moment is due again soon; what the queue refuses is let go.

        The queue refuses at its 12-hour cap and when a newer delivery exists: the job goes on, its claim proves it.
        """
        sent = clock.now()
        receipts = [held.receipt for held in batch]
        results: Sequence[Exception | None]
        try:
            results = await self._hide([Hiding(held.message.id, held.receipt, self._budget.hiding) for held in batch])
        except BackendUnavailable as failure:
            results = [failure] * len(batch)
        finally:
            for held in batch:
                held.extending = None
        for held, receipt, result in zip(batch, receipts, results, strict=True):
            if held.receipt != receipt or held.leaving:  # delivered anew, or on its way back, meanwhile
                continue
            if result is None:
                self.outage.ended()
                held.hides(sent, self._budget)
                _note(Event.MESSAGE_EXTENDED, held.message, f"hidden for {self._budget.hiding:g}s more")
            elif isinstance(result, Lapsed):
                held.due = math.inf
                if self.held.get(held.message.id) is not held:  # settled meanwhile
                    continue
                text = f"{held.message.id} can't be hidden any longer: {result}"
                emit(Event.MESSAGE_LAPSED, text, **_facts(held.message))
            else:
                self.outage.failed(result)
                held.due = clock.now() + 2.0


class Queue(QueueRequests):
    """Messages in, settlements out. Every verb may raise ``BackendUnavailable``; nothing is lost when one does.

    A FIFO queue keeps its order here, too: ``receive`` hands out the first message of each group, ``followers`` the
    next one once that has left the queue.
    """

    def __init__(self, *, budget: LeaseBudget = STANDARD) -> None:
        self._budget = budget
        self.visibility = Visibility(self._hide, budget)
        """What is hidden here, and until when."""
        self._order = GroupOrder()
        self._followers: deque[Message] = deque()
        self._facts: QueueFacts | None = None
        self._burial_refused = ""
        self._keeper: asyncio.Task[None] | None = None
        self._deleting = Batcher(self._delete, size=MAX_BATCH, linger=0.1)
        self._hiding = Batcher(self._hide, size=MAX_BATCH, linger=0.01)

    async def open(self) -> QueueFacts:
        """Ask the queue for its facts, and keep hidden from now on what is received.

        Raises ``BackendRefused`` if there is no such queue or no right to use it.
        """
        self._facts = await self._open()
        self._keeper = asyncio.create_task(self.visibility.keep())
        return self._facts

    async def close(self) -> None:
        """Stop extending visibility timeouts; what is still held becomes visible again by itself."""
        if self._keeper is not None:
            self._keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeper
        await self._close()

    async def receive(self, limit: int, wait: float) -> list[Message]:
        """Return up to ``limit`` (1-10) messages, after at most ``wait`` seconds (0-20); none of them is held already.

        A second delivery of a message that is held here only renews its receipt handle: the newest one deletes it for
        sure (AWS: Amazon SQS queue and message identifiers, "Receipt handle"). What follows a message of its FIFO group
        is held back: see ``followers``.
        """
        fresh = []
        for delivery in await self._receive(limit, wait, self._budget.first_hiding):
            message = delivery.message
            if not self.visibility.add(delivery):
                text = f"{message.id} was delivered again while it is held here"
                emit(Event.MESSAGE_DUPLICATE, text, **_facts(message))
                continue
            _note(Event.MESSAGE_RECEIVED, message, f"delivery {message.receive_count}")
            _warn_if_last(message, self._facts)
            if self._order.may_go(message):
                fresh.append(message)
        return fresh

    def followers(self) -> list[Message]:
        """Return the messages whose predecessor in their FIFO group has left the queue since the last call."""
        ready = list(self._followers)
        self._followers.clear()
        return ready

    def behind(self, message: Message | None) -> list[Message]:
        """Give up the FIFO order behind a message that goes back (None: behind every one).

        Returns what must go back, too, or a later message would overtake it.
        """
        return self._order.clear() if message is None else self._order.returned(message)

    def weight_behind(self, message: Message) -> int:
        """Return how many characters of bodies are held back behind this message of a FIFO group."""
        return self._order.weight_behind(message)

    @property
    def reason(self) -> str:
        """Why messages can't be kept hidden or moved to the dead-letter queue, on one line; "" while they can."""
        return "; ".join(filter(None, (self.visibility.outage.reason, self._burial_refused)))

    @property
    def facts(self) -> QueueFacts:
        """What ``open`` learnt."""
        if self._facts is None:
            raise BackendUnavailable("the queue is not open yet")
        return self._facts

    async def delete(self, message: Message) -> None:
        """Remove the message from the queue. May be called again.

        A delivery that is settled already is left alone, even if its message has come back by another one.
        """
        held = self.visibility.of(message)
        if held is not None:
            await self._deleting((message.id, held.receipt))
            self.visibility.remove(held)
            _note(Event.MESSAGE_DELETED, message, "deleted")
            if (follower := self._order.settled(message)) is not None:
                self._followers.append(follower)

    async def release(self, message: Message, delay: float = 0.0) -> None:
        """Make the message visible again in ``delay`` seconds. May be called again until it is answered."""
        held = self.visibility.of(message)
        if held is None:
            return
        held.leaving = True
        held.due = math.inf
        if held.extending is not None:  # its answer must not overwrite the visibility that is set next
            await asyncio.wait({held.extending})
        delay = max(0.0, min(delay, LONGEST_HIDING - (clock.now() - held.received_at)))
        with contextlib.suppress(Lapsed):  # deleted, or delivered anew: it is out of our hands, as it should be
            await self._hiding(Hiding(held.message.id, held.receipt, delay))
        self.visibility.remove(held)
        _note(Event.MESSAGE_RELEASED, message, f"visible again in {delay:g}s")

    async def bury(self, message: Message, burial: Burial) -> bool:
        """Move the message to the dead-letter queue with the reason; where that is impossible, hide it for an hour.

        Returns whether it has left this queue. May be called again until it is answered: the body is then on both
        queues at worst, never on none.
        """
        held = self.visibility.of(message)
        if held is None:
            return message.id not in self.visibility.held
        if (dead_letters := self.facts.dead_letters) is None:
            text = f"stays on {self.facts.name}, which has no dead-letter queue, hidden for an hour"
            _tell(Event.NO_DEAD_LETTER_QUEUE, message, burial, text, "; next: sqsjkr setup, or delete the message")
            await self.release(message, NO_GRAVE)
            return False
        if not held.buried:
            try:
                await self._bury(message, burial)
            except BackendRefused as refused:
                self._burial_refused = f"moving messages to the dead-letter queue: {refused}"
                text = f"can't be moved to the dead-letter queue {dead_letters}, and is hidden for an hour"
                _tell(Event.JOB_BURIED, message, burial, text, f": {refused}")
                await self.release(message, NO_GRAVE)
                return False
            held.buried, self._burial_refused = True, ""
            _tell(Event.JOB_BURIED, message, burial, f"moved to the dead-letter queue {dead_letters}", "", dead_letters)
        await self.delete(message)
        return True


def _note(event: Event, message: Message, what: str) -> None:
    """Log a step of a message at debug; nearly always that is off."""
    emit(event, lambda: f"{message.id}: {what}", about=lambda: _facts(message))


def _facts(message: Message) -> dict[str, Any]:
    """Return what every log line about a message carries for machines."""
    return {"message_id": message.id, "delivery": message.receive_count}


def _tell(
    event: Event, message: Message, burial: Burial, text: str, more: str, dead_letters: str | None = None
) -> None:
    """Log what became of a message that can never run, and why it can't."""
    name, reason = label(burial.event_id, message.id), burial.reason
    where = "" if name == message.id else f" (message {message.id})"
    facts = _facts(message) | {"event_id": burial.event_id or message.id, "reason": reason}
    emit(event, f"{name}: {text}: {reason}{where}{more}", level="error", **facts, dead_letter_queue=dead_letters)


def _warn_if_last(message: Message, facts: QueueFacts | None) -> None:
    """Name a message that SQS may move to the dead-letter queue next, of which no worker hears."""
    if facts and facts.dead_letters and 0 < facts.most_deliveries <= message.receive_count:
        text = f"{message.id}: delivery {message.receive_count} of {facts.most_deliveries}: unless its job ends here,"
        text = f"{text} SQS moves it to the dead-letter queue {facts.dead_letters}"
        emit(Event.MESSAGE_LAST_DELIVERY, text, **_facts(message), dead_letter_queue=facts.dead_letters)


class _Group:
    """A message under way, and what follows it."""

    __slots__ = ("followers", "head")

    def __init__(self, head: Message) -> None:
        self.head = head
        self.followers: deque[Message] = deque()


class GroupOrder:
    """Holds back what follows a message of the same group until that one has left the queue.

    SQS hands out a group's next messages only in one batch or after a delete (AWS: FIFO queue delivery logic), so
    what is held back here is at most a batch.
    """

    def __init__(self) -> None:
        self._groups: dict[str, _Group] = {}

    def may_go(self, message: Message) -> bool:
        """True if nothing of the message's group is under way; else it is held back until ``settled``."""
        if message.group is None:
            return True
        group = self._groups.get(message.group)
        if group is None:
            self._groups[message.group] = _Group(message)
            return True
        group.followers.append(message)
        return False

    def settled(self, message: Message) -> Message | None:
        """The message has left the queue: the next of its group, which may go now. Saying so twice changes nothing."""
        group = self._under_way(message)
        if group is None:
            return None
        if group.followers:
            group.head = group.followers.popleft()
            return group.head
        del self._groups[message.group or ""]
        return None

    def returned(self, message: Message) -> list[Message]:
        """The message goes back to the queue: all that was held back behind it, which must go back too."""
        group = self._under_way(message)
        if group is None:
            return []
        del self._groups[message.group or ""]
        return list(group.followers)

    def weight_behind(self, message: Message) -> int:
        """How many characters the bodies of those that are held back behind this message have."""
        group = self._under_way(message)
        return sum(len(follower.body) for follower in group.followers) if group else 0

    def clear(self) -> list[Message]:
        """Everything that is held back, out."""
        held = [message for group in self._groups.values() for message in group.followers]
        self._groups.clear()
        return held

    def _under_way(self, message: Message) -> _Group | None:
        group = self._groups.get(message.group) if message.group is not None else None
        return group if group is not None and group.head is message else None
