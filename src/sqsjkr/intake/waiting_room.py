"""The waiting room: messages whose jobs wait for a lock, or for a verdict about another worker's claim.

They are hidden from other workers and occupy no slot. Of each lock_id only the oldest waiter tries.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from sqsjkr import clock
from sqsjkr.leases.budget import STANDARD, LeaseBudget
from sqsjkr.message import Message

BODIES = 16 * 1024 * 1024
"""Characters of message bodies kept here at most."""


LOCK, COPY = "lock", "message"
"""The first word of the key that a message waits for: a lock, or a verdict about another worker's claim."""


@dataclass(slots=True)
class Crowd:
    """Those who wait for the same kind of thing."""

    count: int = 0
    since: float = float("inf")
    """Since when the one that came first waits, on ``clock.now``; infinity if there is none."""


@dataclass(order=True, slots=True)
class _Waiter:
    sent_at: float
    number: int
    message: Message = field(compare=False)
    weight: int = field(compare=False)
    expires: float = field(compare=False)
    since: float = field(compare=False)


@dataclass(frozen=True, slots=True)
class _Stay:
    """How long a message has waited for what, its tries in between included."""

    key: str
    since: float
    met_copy: bool = False

    def since_for(self, key: str, now: float) -> float:
        """Since when it waits for ``key``. A long wait for the lock must not cut short the one for a verdict."""
        return self.since if key == self.key else now


class WaitingRoom:
    """Keeps waiters by what they wait for, and lets the oldest of each out when its turn has come.

    ``bound`` waiters and ``bodies`` characters of message bodies at most.
    """

    def __init__(
        self,
        *,
        bound: int,
        bodies: int = BODIES,
        budget: LeaseBudget = STANDARD,
        now: Callable[[], float] = clock.now,
        jitter: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._left = [bound, bodies]
        self._pauses = budget.waiter_retry / 2, budget.waiter_retry
        self._now = now
        self._jitter = jitter
        self._waiters: dict[str, list[_Waiter]] = {}
        self._next_try: dict[str, float] = {}
        self._stays: dict[str, _Stay] = {}
        self._number = 0
        self._due_at = float("inf")

    def __len__(self) -> int:
        return sum(map(len, self._waiters.values()))

    @property
    def waiting(self) -> Mapping[str, Crowd]:
        """How many wait, and since when, by kind."""
        crowds = {LOCK: Crowd(), COPY: Crowd()}
        for key, waiters in self._waiters.items():
            crowd = crowds[key.partition(" ")[0]]
            crowd.count += len(waiters)
            crowd.since = min(crowd.since, *(waiter.since for waiter in waiters), float("inf"))
        return crowds

    def park(
        self, message: Message, key: str, *, expires: float, stay: float = float("inf"), weight: int | None = None
    ) -> bool:
        """Let a message wait for ``key``. False if there is no room for it, or it has waited longer than ``stay``.

        ``expires``: when its life_time is over (``clock.now``); it is let out then, to end as expired. ``weight``:
        the characters that wait in memory with it, those of the messages that follow it in its FIFO group included;
        None for its own body's.
        """
        weight = len(message.body) if weight is None else weight
        now = self._now()
        stay_so_far = self._stays.get(message.id, _Stay(key, now))
        since = stay_so_far.since_for(key, now)
        slots, characters = self._left
        if slots <= 0 or weight > characters or now - since > stay:
            self._stays.pop(message.id, None)
            return False
        self._stays[message.id] = _Stay(key, since, met_copy=stay_so_far.met_copy or key.startswith(COPY))
        self._number += 1
        heapq.heappush(
            self._waiters.setdefault(key, []), _Waiter(message.sent_at, self._number, message, weight, expires, since)
        )
        next_try = self._next_try.setdefault(key, now + self._jitter(*self._pauses))
        self._due_at = min(self._due_at, next_try, expires)
        self._left = [slots - 1, characters - weight]
        return True

    def waited(self, message: Message, key: str) -> float:
        """Return for how many seconds this message has waited for ``key``, from its first refusal on."""
        now = self._now()
        stay = self._stays.get(message.id)
        return now - stay.since_for(key, now) if stay else 0.0

    def met_copy(self, message: Message) -> bool:
        """Return whether this message once waited for a verdict about another delivery of it."""
        stay = self._stays.get(message.id)
        return stay is not None and stay.met_copy

    def has_older(self, key: str, message: Message) -> bool:
        """Return whether a message waits for ``key`` that was sent before this one."""
        waiters = self._waiters.get(key)
        return waiters is not None and waiters[0].sent_at < message.sent_at

    def lines(self) -> list[tuple[str, int, Message, float]]:
        """Return each thing that is waited for: its key, how many wait, the oldest message, for how many seconds."""
        now = self._now()
        return [
            (key, len(waiters), waiters[0].message, now - waiters[0].since)
            for key, waiters in self._waiters.items()
            if waiters
        ]

    def released(self, key: str) -> None:
        """Let the oldest waiter for ``key`` try now: what it waits for was given back on this host."""
        if key in self._waiters:
            self._next_try[key] = self._due_at = self._now()

    def due(self) -> list[Message]:
        """Let out every oldest waiter whose turn has come, and every one whose life_time is over; the oldest first."""
        now = self._now()
        if now < self._due_at:
            return []
        let_out: list[_Waiter] = []
        for key in [key for key, when in self._next_try.items() if when <= now]:
            let_out.append(heapq.heappop(self._waiters[key]))
            self._next_try[key] = now + self._jitter(*self._pauses)
        for waiters in self._waiters.values():
            if expired := [waiter for waiter in waiters if waiter.expires < now]:
                waiters[:] = [waiter for waiter in waiters if waiter.expires >= now]
                heapq.heapify(waiters)
                let_out += expired
        self._waiters = {key: waiters for key, waiters in self._waiters.items() if waiters}
        self._next_try = {key: self._next_try[key] for key in self._waiters}
        expiries = (waiter.expires for waiters in self._waiters.values() for waiter in waiters)
        self._due_at = min(min(self._next_try.values(), default=float("inf")), min(expiries, default=float("inf")))
        self._free(let_out)
        return [waiter.message for waiter in sorted(let_out)]

    def forget(self, message: Message) -> None:
        """Forget how long a message has waited: it is settled."""
        self._stays.pop(message.id, None)

    def clear(self) -> list[Message]:
        """Remove and return all, oldest first."""
        everyone = sorted(waiter for waiters in self._waiters.values() for waiter in waiters)
        self._waiters.clear()
        self._next_try.clear()
        self._stays.clear()
        self._due_at = float("inf")
        self._free(everyone)
        return [waiter.message for waiter in everyone]

    def _free(self, gone: list[_Waiter]) -> None:
        slots, characters = self._left
        self._left = [slots + len(gone), characters + sum(waiter.weight for waiter in gone)]
