"""What SQS tells of a queue without a message being received: counts, which are approximate."""

from __future__ import annotations

import asyncio

from sqsjkr.backends import Connections
from sqsjkr.backends.sqs.client import QueueClient
from sqsjkr.views.source import Depth, QueueSource

_VISIBLE = "ApproximateNumberOfMessages"
_HIDDEN = ("ApproximateNumberOfMessagesNotVisible", "ApproximateNumberOfMessagesDelayed")


class SQSView(QueueSource):
    """The counts of a queue and of its dead-letter queue."""

    def __init__(self, queue: QueueClient) -> None:
        self._queue = queue
        self._dead: QueueClient | None = None

    @classmethod
    def configured(cls, connections: Connections) -> SQSView:
        """The queue of the settings."""
        return cls(QueueClient.configured(connections))

    async def open(self) -> None:
        """Ask for the redrive policy, which names the dead-letter queue."""
        self._dead = await self._queue.dead_letter_queue()

    async def close(self) -> None:
        """Leave the connection open: others share it."""

    async def depth(self) -> Depth:
        """Send one GetQueueAttributes for each of the two queues."""
        counts, dead = await asyncio.gather(_counts(self._queue), _counts(self._dead))
        return Depth(
            name=self._queue.name,
            visible=counts.get(_VISIBLE, 0),
            hidden=sum(counts.get(name, 0) for name in _HIDDEN),
            dead=None if self._dead is None else sum(dead.values()),
        )


async def _counts(queue: QueueClient | None) -> dict[str, int]:
    found = await queue.attributes(_VISIBLE, *_HIDDEN) if queue is not None else None
    return {name: int(value) for name, value in (found or {}).items()}
