"""Port: one job at a time per lock id."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

from sqsjkr.runs import Holder


class Locker(ABC):
    """Keeps two jobs with one lock_id apart, on any number of hosts.

    A locker of your own needs ``lock`` and ``unlock``; the rest has a default. Both may raise
    ``BackendUnavailable``: the job is then not run and its message comes back (a guard fails closed).
    """

    @abstractmethod
    async def lock(self, lock_id: str, owner: str, event_id: str) -> int | None:
        """Take ``lock_id`` for ``owner``, atomically. The fencing token if it was taken, None if someone else holds it.

        ``owner`` is new for every attempt to run a job, so two jobs of one worker exclude each other too.
        Asking again for an owner that holds the lock already must succeed (the first answer may have been lost).
        The fencing token grows with every lock of a lock_id; 0 means that this locker has none to give.
        """

    async def acquire(self, lock_id: str, owner: str, event_id: str, message_id: str) -> int | Holder:  # noqa: ARG002 - for lockers that keep it
        """As ``lock``, but a refusal says who holds the lock.

        The default asks ``lock``, and knows nothing of the holder.
        """
        token = await self.lock(lock_id, owner, event_id)
        return Holder() if token is None else token

    @abstractmethod
    async def unlock(self, lock_id: str, owner: str) -> None:
        """Give ``lock_id`` back if ``owner`` still holds it; leave it alone if it has another owner by now."""

    def proven_until(self) -> float:
        """Until when, on ``clock.now``, what was locked here is surely still ours. Forever, unless it is a lease.

        A worker that reaches this moment ends its locked jobs.
        """
        return math.inf

    async def open(self) -> None:
        """Called once before the first lock, in the event loop that will do the locking."""

    async def close(self) -> None:
        """Called once after the last unlock."""


class NoLocker(Locker):
    """Every lock is free: for a fleet whose jobs have no lock_id."""

    async def lock(self, lock_id: str, owner: str, event_id: str) -> int | None:  # noqa: ARG002 - a null twin
        """Take nothing, and say yes."""
        return 0

    async def unlock(self, lock_id: str, owner: str) -> None:
        """Give nothing back."""
