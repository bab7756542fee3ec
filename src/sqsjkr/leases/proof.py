"""The proof that an attempt runs nowhere else, and until when it holds."""

from __future__ import annotations

import math
from typing import Protocol

from sqsjkr.attempt import Attempt
from sqsjkr.locker import Locker
from sqsjkr.message import Message
from sqsjkr.throttler import Throttler


class Hides(Protocol):
    """The part of a queue that proves something."""

    def hidden_until(self, message: Message) -> float:
        """Return until when, on ``clock.now``, no other worker can receive this message."""

    async def still_holds(self, message: Message) -> bool:
        """Return whether the queue still knows this delivery. Raises ``BackendUnavailable``."""


class Proof:
    """Knows until when each attempt is proven, by its lock, its claim or its hidden message."""

    def __init__(self, locker: Locker, throttler: Throttler, queue: Hides) -> None:
        self._locker = locker
        self._throttler = throttler
        self._queue = queue

    def hidden_until(self, message: Message) -> float:
        """Return until when, on ``clock.now``, the queue surely hands this message to no other worker."""
        return self._queue.hidden_until(message)

    async def still_holds(self, message: Message) -> bool:
        """Ask the queue whether this delivery is still ours: else its message was deleted, or delivered anew.

        Raises ``BackendUnavailable``.
        """
        return await self._queue.still_holds(message)

    def until(self, attempt: Attempt) -> float:
        """Return until when, on ``clock.now``, this job surely runs nowhere else.

        A locked job is proven by its lock's lease alone. Another by its claim or by its hidden message, whichever lasts
        longer; forever once its message is deleted, since no worker can receive it any more.
        """
        if attempt.locked:
            return self._locker.proven_until()
        if attempt.deleted:
            return math.inf
        return max(self._throttler.proven_until(), self._queue.hidden_until(attempt.message))
