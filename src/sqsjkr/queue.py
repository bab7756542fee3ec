"""Port: where messages come from and where their fate is told.

What ``receive`` hands out stays hidden from every other worker until ``settle`` tells its fate. A backend brings the
requests; the rules of hiding, batching and burying stand here once.
"""

from __future__ import annotations

import asyncio
import contextlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqsjkr import clock
from sqsjkr.batcher import Batcher
from sqsjkr.errors import BackendUnavailable
from sqsjkr.message import Message
from sqsjkr.outcome import Ending, Outcome, Settlement
from sqsjkr.telemetry.events import Event, emit

FIRST_HIDING = 10.0
"""Seconds a delivery is hidden at first: what a cut or lost connection swallowed is back this soon."""
EXTEND_AFTER = 4.0
"""Seconds after which a message that is still held is hidden for longer; a short job never costs a request."""
EXTEND_EVERY = 10.0
"""Seconds between two extensions of one message."""
HIDING = 30.0
"""Seconds each extension hides a message for: after a crash it is back this soon."""
LOOK_EVERY = 1.0
"""Seconds between two looks at which messages are due."""
NO_GRAVE = 3600.0
"""Seconds that a message without a dead-letter queue is hidden for instead of being buried."""
MAX_BATCH = 10
"""Messages a request may name (AWS: Amazon SQS message quotas)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueFacts:
    """What the queue says of itself when it is opened."""

    name: str
    retention: float
    """Seconds until the queue drops a message that nobody took (``MessageRetentionPeriod``)."""
    dead_letters: str | None = None
    """The dead-letter queue's name, None where there is no redrive policy."""
    fifo: bool = False


@dataclass(frozen=True, slots=True)
class Delivery:
    """What a backend received: the message, and the handle that proves this delivery."""

    message: Message
    receipt: str


@dataclass(frozen=True, slots=True)
class Hiding:
    """One entry of a request that changes visibility: which delivery, and hidden for how many seconds from now."""

    message_id: str
    receipt: str
    seconds: float


class _Held:
    """A message in our hands: the newest handle, when to hide it again, until when it is surely hidden."""

    __slots__ = ("buried", "due", "extending", "hidden_until", "message", "receipt")

    def __init__(self, delivery: Delivery) -> None:
        self.message = delivery.message
        self.extending: asyncio.Task[None] | None = None
        self.buried = False
        self.renew(delivery)

    def renew(self, delivery: Delivery) -> None:
        self.receipt = delivery.receipt
        self.due = delivery.message.received_at + EXTEND_AFTER
        self.hidden_until = delivery.message.received_at + FIRST_HIDING


class Queue(ABC):
    """Messages in, verdicts out. Every verb may raise ``BackendUnavailable``; nothing is lost when one does."""

    def __init__(self) -> None:
        self._held: dict[str, _Held] = {}
        self._facts: QueueFacts | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._deleting = Batcher(self._delete, size=MAX_BATCH, linger=0.1)
        self._hiding = Batcher(self._hide, size=MAX_BATCH, linger=0.01)

    async def open(self) -> QueueFacts:
        """Ask the queue for its facts and begin to keep hidden what is received.

        Raises ``BackendRefused`` if there is no such queue or no right to use it.
        """
        self._facts = await self._open()
        self._keeper = asyncio.create_task(self._keep_hidden())
        return self._facts

    async def close(self) -> None:
        """Stop hiding; what is still held comes back to the queue by itself."""
        if self._keeper is not None:
            self._keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeper
        await self._close()

    async def receive(self, limit: int, wait: float) -> list[Message]:
        """Up to ``limit`` (1-10) messages, after at most ``wait`` seconds (0-20); none of them is held already.

        A second delivery of a message that is held here only renews its handle: the newest one deletes it for sure
        (AWS: Amazon SQS queue and message identifiers, "Receipt handle").
        """
        fresh = []
        for delivery in await self._receive(limit, wait, FIRST_HIDING):
            message = delivery.message
            held = self._held.get(message.id)
            if held is None:
                self._held[message.id] = _Held(delivery)
                fresh.append(message)
            else:
                held.renew(delivery)
                emit(Event.MESSAGE_DUPLICATE, f"{message.id} was delivered again while it is held here")
        return fresh

    async def settle(self, message: Message, ending: Ending) -> None:
        """Carry out the ending's settlement. A message that is settled already is left alone.

        DELETE and BURY may be asked for again after ``BackendUnavailable``: the message stays hidden meanwhile.
        """
        held = self._held.get(message.id)
        settlement = ending.outcome.settlement
        if held is None:
            return
        if settlement is Settlement.DELETE:
            await self._deleting((message.id, held.receipt))
            self._held.pop(message.id, None)
        elif settlement is Settlement.RETRY:
            await self._give_back(held, ending.delay)
        elif settlement is Settlement.BURY:
            await self._lay_to_rest(held, ending)

    async def give_back(self, messages: Iterable[Message], outcome: Outcome = Outcome.INTERRUPTED) -> None:
        """Make messages that were not started visible at once. A failure is logged: they come back by themselves."""
        ending = Ending(outcome)
        given = [self.settle(message, ending) for message in messages]
        for failure in await asyncio.gather(*given, return_exceptions=True):
            if isinstance(failure, Exception):
                emit(
                    Event.MESSAGE_RETURNED,
                    f"could not be made visible again, it will be by itself: {failure}",
                    level="warn",
                )

    def hidden_until(self, message: Message) -> float:
        """Until when, on ``clock.now``, nobody else is handed this message."""
        held = self._held.get(message.id)
        return held.hidden_until if held else 0.0

    @property
    def facts(self) -> QueueFacts:
        """What ``open`` learnt."""
        if self._facts is None:
            raise BackendUnavailable("the queue is not open yet")
        return self._facts

    async def _give_back(self, held: _Held, delay: float) -> None:
        self._held.pop(held.message.id, None)
        if held.extending is not None:  # its answer must not overwrite the visibility that is set next
            await asyncio.wait({held.extending})
        with contextlib.suppress(Lapsed):  # delivered anew already, or deleted: it is out of our hands, as it should be
            await self._hiding(Hiding(held.message.id, held.receipt, delay))

    async def _lay_to_rest(self, held: _Held, ending: Ending) -> None:
        message = held.message
        if self.facts.dead_letters is None:
            emit(
                Event.NO_DEAD_LETTER_QUEUE,
                f"{message.id} is no job and {self.facts.name} has no dead-letter queue: it stays, hidden for an hour "
                f"({ending.detail}). Next: sqsjkr setup, or delete the message",
                message_id=message.id,
                level="error",
            )
            await self._give_back(held, NO_GRAVE)
            return
        if not held.buried:
            await self._bury(message, ending)
            held.buried = True
            text = f"{message.id} went to the dead-letter queue {self.facts.dead_letters}: {ending.detail}"
            emit(Event.JOB_BURIED, text, message_id=message.id)
        await self._deleting((message.id, held.receipt))
        self._held.pop(message.id, None)

    async def _keep_hidden(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY)
            now = clock.now()
            due = [held for held in self._held.values() if held.due <= now and held.extending is None]
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
            results = await self._hide([Hiding(held.message.id, held.receipt, HIDING) for held in batch])
        except BackendUnavailable as failure:
            results = [failure] * len(batch)
        finally:
            for held in batch:
                held.extending = None
        for held, receipt, result in zip(batch, receipts, results, strict=True):
            if held.receipt != receipt:  # delivered anew meanwhile
                continue
            if result is None:
                held.due, held.hidden_until = sent + EXTEND_EVERY, sent + HIDING
            elif isinstance(result, Lapsed):
                held.due = float("inf")
                if self._held.get(held.message.id) is not held:  # settled meanwhile: no wonder
                    continue
                emit(Event.MESSAGE_LAPSED, f"{held.message.id} cannot be hidden any longer: {result}")
            else:
                held.due = clock.now() + 2.0

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
    async def _bury(self, message: Message, ending: Ending) -> None:
        """Send the body to the dead-letter queue with attributes that say why."""


class Lapsed(BackendUnavailable):
    """The queue will not hide this delivery any longer: its handle is void, or the 12-hour cap is reached."""
