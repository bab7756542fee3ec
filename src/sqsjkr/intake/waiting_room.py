"""The waiting room: messages whose jobs wait for a lock, or for a verdict about another worker's claim.

They are hidden from other workers and occupy no slot. Oldest first: of each lock_id only the oldest waiter asks.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from sqsjkr import clock
from sqsjkr.message import Message

RETRY = 5.0
"""Seconds between two tries of one waiter, at most (go-semantics section 6: the original waits exactly this long)."""
LONGEST_STAY = 45.0
"""Seconds a copy of a job that another worker runs is kept here: a lease and a half, enough to see that worker dead."""
BODIES = 16 * 1024 * 1024
"""Characters of message bodies kept here at most."""


@dataclass(order=True, slots=True)
class _Waiter:
    sent_at: float
    number: int
    message: Message = field(compare=False)
    expires: float = field(compare=False)
    since: float = field(compare=False)


class WaitingRoom:
    """Keeps waiters by what they wait for, and wakes the oldest of each when it is time."""

    def __init__(
        self,
        wake: Callable[[Message], None],
        *,
        bound: int,
        now: Callable[[], float] = clock.now,
        jitter: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._wake = wake
        self._bound = bound
        self._now = now
        self._jitter = jitter
        self._waiters: dict[str, list[_Waiter]] = {}
        self._next_try: dict[str, float] = {}
        self._since: dict[str, tuple[str, float]] = {}
        self._number = 0
        self._bytes = 0
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def park(self, message: Message, key: str, *, expires: float, stay: float = float("inf")) -> bool:
        """Let a message wait for ``key``. False if there is no room for it, or it has waited longer than ``stay``.

        ``expires``: when its life_time is over (``clock.now``); it is woken then, to be told so.
        """
        now = self._now()
        waits_for, since = self._since.get(message.id, ("", now))
        if waits_for != key:  # a long wait for the lock must not cut short the one for a verdict about a dead worker
            since = now
        self._since[message.id] = key, since
        size = len(message.body)
        if self._size >= self._bound or self._bytes + size > BODIES or now - since > stay:
            self._since.pop(message.id, None)
            return False
        self._number += 1
        waiter = _Waiter(message.sent_at, self._number, message, expires, since)
        heapq.heappush(self._waiters.setdefault(key, []), waiter)
        self._next_try.setdefault(key, now + self._jitter(RETRY / 2, RETRY))
        self._size += 1
        self._bytes += size
        return True

    def has_older(self, key: str, message: Message) -> bool:
        """Does somebody wait for ``key`` who was sent before this message?"""
        waiters = self._waiters.get(key)
        return waiters is not None and waiters[0].sent_at < message.sent_at

    def released(self, key: str) -> None:
        """What ``key`` stands for was given back on this host: its oldest waiter tries now."""
        if key in self._waiters:
            self._wake_oldest(key)

    def tick(self) -> None:
        """Wake every oldest waiter whose pause is over, and everyone whose life_time is."""
        now = self._now()
        for key in [key for key, when in self._next_try.items() if when <= now]:
            self._wake_oldest(key)
        for key, waiters in list(self._waiters.items()):
            for waiter in [waiter for waiter in waiters if waiter.expires < now]:
                waiters.remove(waiter)
                heapq.heapify(waiters)
                self._leave(key, waiter)

    def knows(self, message: Message) -> bool:
        """Has this message waited here before?"""
        return message.id in self._since

    def settled(self, message: Message) -> None:
        """The message waits no more: forget how long it has."""
        self._since.pop(message.id, None)

    def clear(self) -> list[Message]:
        """Everyone out, in order of age."""
        everyone = sorted(waiter for waiters in self._waiters.values() for waiter in waiters)
        self._waiters.clear()
        self._next_try.clear()
        self._since.clear()
        self._size = self._bytes = 0
        return [waiter.message for waiter in everyone]

    def _wake_oldest(self, key: str) -> None:
        waiter = heapq.heappop(self._waiters[key])
        self._next_try[key] = self._now() + self._jitter(RETRY / 2, RETRY)
        self._leave(key, waiter)

    def _leave(self, key: str, waiter: _Waiter) -> None:
        if not self._waiters.get(key):
            self._waiters.pop(key, None)
            self._next_try.pop(key, None)
        self._size -= 1
        self._bytes -= len(waiter.message.body)
        self._wake(waiter.message)
