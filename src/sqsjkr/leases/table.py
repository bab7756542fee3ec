"""Port: the table of locks, claims and beats. Rows change on a condition, atomically.

Rows are those of the original (go-semantics section 7); ``Owner`` is ours: ``session/attempt``. A row without ``Owner``
was written by a Go daemon: its throttle row means done, its lock is never taken over.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What stood in the row that could not be taken."""

    owner: str | None
    """``session/attempt``; None if a Go daemon wrote the row."""
    done: bool = False
    """Of a claim: its job has ended by itself."""

    @property
    def session(self) -> str | None:
        """The session part of the owner."""
        return self.owner.split("/", 1)[0] if self.owner else None


class Table(ABC):
    """Rows that change on a condition, atomically. Every verb may raise ``BackendUnavailable``.

    Each verb may be sent twice (its first answer may be lost): the second time must find what the first one did.
    """

    retention: float = 1_209_600.0
    """Seconds a throttle row is kept: the queue's retention, set by the wiring. No delivery outlives its row."""

    @abstractmethod
    async def open(self) -> None:
        """Raises ``BackendRefused`` if there is no such table or no right to use it."""

    @abstractmethod
    async def close(self) -> None:
        """Called once after the last verb."""

    @abstractmethod
    async def take_lock(self, lock_id: str, owner: str, event_id: str, *, over: str | None) -> int | Row:
        """Take a free lock, or one whose owner is exactly ``over``. The new fencing token, or the row that was there.

        An owner that has released the lock as its newest owner cannot take it again: that would be a late echo.
        """

    @abstractmethod
    async def release_lock(self, lock_id: str, owner: str) -> None:
        """Free the lock if it is ``owner``'s; keep its fencing token."""

    @abstractmethod
    async def take_claim(self, message_id: str, owner: str, *, over: str | None) -> Row | None:
        """Claim a message that has no claim, or whose owner is ``over``. None if taken, or the row that was there."""

    @abstractmethod
    async def finish_claims(self, claims: Sequence[tuple[str, str]]) -> Sequence[Exception | None]:
        """Mark (message id, owner) claims as done, even if they have another owner by now: their jobs have ended."""

    @abstractmethod
    async def drop_claim(self, message_id: str, owner: str) -> None:
        """Remove the claim if it is ``owner``'s and not done."""

    @abstractmethod
    async def beat(self, session_id: str) -> None:
        """Add one to the session's beat."""

    @abstractmethod
    async def read_beat(self, session_id: str) -> int | None:
        """The session's beat, strongly consistent; None if it has never beaten."""
