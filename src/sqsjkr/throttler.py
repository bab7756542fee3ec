"""Port: one run per message, however often the queue delivers it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from enum import Enum


class Claim(Enum):
    """What a throttler answers. Two answers are too few: the copy of a crashed job must not count as done."""

    FRESH = "fresh"
    """Yours: run it."""
    BUSY = "busy"
    """A live worker runs it: look again later."""
    DONE = "done"
    """It has been run: delete the message."""


class Throttler(ABC):
    """Knows which messages have been run. Any verb may raise ``BackendUnavailable``: then nothing runs."""

    @abstractmethod
    async def claim(self, message_id: str, owner: str) -> Claim:
        """Claim the message for ``owner``, atomically. Asking again for the same owner answers FRESH again."""

    @abstractmethod
    async def confirm(self, message_id: str, owner: str) -> None:
        """Remember that the message's job has ended by itself, for as long as the queue could deliver it again."""

    @abstractmethod
    async def forget(self, message_id: str, owner: str) -> None:
        """Give the claim back if it is still ``owner``'s, so that the next delivery runs."""

    def proven_until(self) -> float:
        """Until when, on ``clock.now``, a claim made here is surely still ours."""
        return float("inf")

    async def open(self) -> None:
        """Called once before the first claim, in the event loop that will do the claiming."""

    async def close(self) -> None:
        """Called once after the last confirm."""


class NoThrottler(Throttler):
    """Every delivery is fresh: a duplicate delivery runs a second time."""

    async def claim(self, message_id: str, owner: str) -> Claim:  # noqa: ARG002 - a null twin
        """Say yes to everyone."""
        return Claim.FRESH

    async def confirm(self, message_id: str, owner: str) -> None:
        """Remember nothing."""

    async def forget(self, message_id: str, owner: str) -> None:
        """Forget nothing."""
