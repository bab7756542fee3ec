"""One queue: messages, their visibility, and the receivers that wait for them."""

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from heapq import heapify, heappop, heappush

from benchmarks.standin.errors import ApiError, Json, invalid_value
from benchmarks.standin.shelves import Groups, Message, Row, Shelf, State

ACCOUNT = "000000000000"
VISIBILITY_CAP = 12 * 3600
"""Seconds a message may stay hidden after a receive, extensions included (ChangeMessageVisibility, AWS)."""

# Real receipt handles are about 400 characters long, and a client pays for sending them back.
_HANDLE_TAIL = "AQEB" * 90

Render = Callable[[list[Message]], Json]


@dataclass(slots=True, eq=False)
class _Receiver:
    future: asyncio.Future[Json]
    limit: int
    visibility: int
    render: Render
    timeout: asyncio.TimerHandle


class Queue:
    """A standard or FIFO queue (by its name). Every verb costs O(log n) of the messages on it.

    Receivers are woken in the call that makes a message visible, or by one timer set to the moment when the next
    hidden message comes back.
    """

    def __init__(self, name: str, attributes: dict[str, str]) -> None:
        self.name = name
        self.arn = f"arn:aws:sqs:us-east-1:{ACCOUNT}:{name}"
        self.fifo = name.endswith(".fifo")
        self.attributes = attributes
        self.created = int(time.time())
        self.deduplicated: OrderedDict[str, tuple[float, Message]] = OrderedDict()
        self.dead_letters: tuple[Queue, int] | None = None
        self.in_flight = 0
        self.delayed = 0
        self._messages: dict[str, Message] = {}
        self._shelf: Shelf = Groups() if self.fifo else Row()
        self._hidden: list[tuple[float, int, Message]] = []
        self._pushes = 0
        self._receivers: deque[_Receiver] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0

    @property
    def visible(self) -> int:
        """How many messages may be received now (but for closed groups of a FIFO queue)."""
        return len(self._messages) - self.in_flight - self.delayed

    def put(self, message: Message, delay: int = 0) -> None:
        """Lay a message on the queue, hidden for `delay` seconds. Call `wake` afterwards."""
        self._messages[message.id] = message
        if delay:
            message.state = State.DELAYED
            self.delayed += 1
            self._hide(message, time.monotonic() + delay)
        else:
            message.state = State.VISIBLE
            self._shelf.add(message)

    def take(self, limit: int, visibility: int) -> list[Message]:
        """Receive up to `limit` messages and hide them for `visibility` seconds."""
        now = time.monotonic()
        self.refresh(now)
        received: list[Message] = []
        while len(received) < limit and (batch := self._shelf.take(limit - len(received))):
            now_ms = time.time_ns() // 1_000_000
            for message in batch:
                if self._expired(message, now_ms) or self._redriven(message):
                    self._shelf.release(message)
                    continue
                message.state = State.IN_FLIGHT
                message.receives += 1
                message.first_receive_ms = message.first_receive_ms or now_ms
                message.received_at = now
                message.handle = f"{message.id}:{message.receives}:{_HANDLE_TAIL}"
                self.in_flight += 1
                self._hide(message, now + visibility)
                received.append(message)
        if visibility == 0:
            self.refresh(now)
        return received

    def delete(self, handle: str) -> None:
        """Delete by receipt handle. A message that is gone already is fine.

        A handle of an earlier receive does nothing: DeleteMessage (AWS) says the message might not be deleted then,
        and the stand-in takes the harder side.

        Raises:
            ApiError: the handle is none of this queue.
        """
        message = self._find(handle)
        if message is None or message.handle != handle:
            return
        if message.state is State.IN_FLIGHT:
            self.in_flight -= 1
            self._shelf.release(message)
        message.state = State.GONE
        del self._messages[message.id]

    def change_visibility(self, handle: str, seconds: int) -> None:
        """Hide a message in flight until `seconds` from now. Call `wake` afterwards.

        Raises:
            ApiError: the handle is none of this queue or is not the newest one, the message is not in flight, or it
                would be hidden for longer than the cap after its receive.
        """
        self.refresh(now := time.monotonic())
        message = self._find(handle)
        if message is None or message.handle != handle:
            raise invalid_value(
                f"Value {handle[:48]} for parameter ReceiptHandle is invalid. Reason: Message does not exist or is not "
                "available for visibility timeout change."
            )
        if message.state is not State.IN_FLIGHT:
            code = "MessageNotInflight"
            raise ApiError(code, f"{message.id} is not in flight", query_code=f"AWS.SimpleQueueService.{code}")
        if now + seconds > message.received_at + VISIBILITY_CAP:
            raise invalid_value(
                f"Total VisibilityTimeout for the message is beyond the limit [{VISIBILITY_CAP} seconds]"
            )
        self._hide(message, now + seconds)

    def purge(self) -> None:
        """Drop every message, those in flight too."""
        for message in self._messages.values():
            message.state = State.GONE
        self._messages.clear()
        self._hidden.clear()
        self._shelf = Groups() if self.fifo else Row()
        self.in_flight = self.delayed = 0

    def wait(self, limit: int, visibility: int, seconds: float, render: Render) -> asyncio.Future[Json]:
        """Receive as soon as there is a message, or `{}` after `seconds`. Cancel the future to stop waiting."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Json] = loop.create_future()
        timeout = loop.call_later(seconds, self._give_up, future)
        self._receivers.append(_Receiver(future, limit, visibility, render, timeout))
        self._set_timer()
        return future

    def wake(self) -> None:
        """Hand what is visible to those who wait."""
        while self._receivers:
            receiver = self._receivers[0]
            if not receiver.future.done():
                messages = self.take(receiver.limit, receiver.visibility)
                if not messages:
                    break
                receiver.future.set_result(receiver.render(messages))
            receiver.timeout.cancel()
            self._receivers.popleft()
        self._set_timer()

    def refresh(self, now: float | None = None) -> None:
        """Make visible what was hidden until `now` (monotonic seconds) or earlier."""
        now = time.monotonic() if now is None else now
        while self._hidden and self._hidden[0][0] <= now:
            until, _, message = heappop(self._hidden)
            if message.visible_at != until or message.state not in {State.IN_FLIGHT, State.DELAYED}:
                continue  # it was hidden anew or deleted since
            if message.state is State.IN_FLIGHT:
                self.in_flight -= 1
                self._shelf.release(message)
            else:
                self.delayed -= 1
            message.state = State.VISIBLE
            self._shelf.add(message)

    def _find(self, handle: str) -> Message | None:
        if not handle.endswith(_HANDLE_TAIL):
            raise ApiError("ReceiptHandleIsInvalid", f'The input receipt handle "{handle[:48]}" is not valid.')
        return self._messages.get(handle.partition(":")[0])

    def _hide(self, message: Message, until: float) -> None:
        message.visible_at = until
        self._pushes += 1
        heappush(self._hidden, (until, self._pushes, message))
        if len(self._hidden) > 2 * (self.in_flight + self.delayed) + 1024:
            # Deleted messages stay on the heap until their time. Drop them before they are the most of it.
            self._hidden = [entry for entry in self._hidden if entry[2].visible_at == entry[0] and _held(entry[2])]
            heapify(self._hidden)

    def _expired(self, message: Message, now_ms: int) -> bool:
        if now_ms - message.sent_ms < 1000 * int(self.attributes["MessageRetentionPeriod"]):
            return False
        message.state = State.GONE
        del self._messages[message.id]
        return True

    def _redriven(self, message: Message) -> bool:
        if self.dead_letters is None or message.receives < self.dead_letters[1]:
            return False
        del self._messages[message.id]
        moved = Message(
            id=message.id,
            body=message.body,
            md5=message.md5,
            sent_ms=message.sent_ms,
            sequence=message.sequence,
            attributes=message.attributes,
            attributes_md5=message.attributes_md5,
            group=message.group,
            deduplication=message.deduplication,
            source_arn=self.arn,
            sender=message.sender,
        )
        message.state = State.GONE
        self.dead_letters[0].put(moved)
        self.dead_letters[0].wake()
        return True

    def _give_up(self, future: asyncio.Future[Json]) -> None:
        if not future.done():
            future.set_result({})
        while self._receivers and self._receivers[0].future.done():
            self._receivers.popleft()

    def _set_timer(self) -> None:
        if not self._receivers or not self._hidden:
            return
        due = self._hidden[0][0]
        if self._timer is not None:
            if self._timer_at <= due:
                return
            self._timer.cancel()
        self._timer_at = due
        # At least a millisecond: uvloop's timers are no finer, and a zero would spin until the message is due.
        delay = max(0.001, due - time.monotonic())
        self._timer = asyncio.get_running_loop().call_later(delay, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self.refresh()
        self.wake()
        self._set_timer()


def _held(message: Message) -> bool:
    return message.state in {State.IN_FLIGHT, State.DELAYED}
