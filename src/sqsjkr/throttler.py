"""Port: one run per message, however often the queue delivers it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import Enum

from sqsjkr.runs import Earlier, Holder, Run


class Claim(Enum):
    """What a throttler answers. Two answers are too few: the copy of a crashed job must not count as done."""

    FRESH = "fresh"
    """Yours: run it."""
    BUSY = "busy"
    """A live worker runs it: look again later."""
    DONE = "done"
    """It has been run: delete the message."""
    EARLY = "early"
    """It was put off, and its time has not come: hide the message until then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a throttler answers, with what it remembers of the message."""

    claim: Claim
    failures: int = 0
    """FRESH: how often its job has failed before."""
    crashes: int = 0
    """FRESH: how many workers have died while they ran it."""
    due: float = 0.0
    """EARLY: the age of the message, in seconds, from which it may run (``Message.age_at``)."""
    alive_at: float = float("-inf")
    """BUSY: when the worker that runs it was alive for sure, on ``clock.now``; "never" if that is not known."""
    owed: Run | None = None
    """DONE: the run for whose end something is still owed; None if nothing is."""
    holder: Holder = Holder()  # noqa: RUF009 - immutable
    """BUSY: who runs it, as far as that is known."""
    cancelled_by: str = ""
    """DONE: by this operator's order, and no attempt has reported it: the job never ran, or its worker died."""
    earlier: tuple[Earlier, ...] = ()
    """FRESH: what is known of earlier attempts, oldest first."""


class Throttler(ABC):
    """Knows which messages have been run. Any verb may raise ``BackendUnavailable``: then nothing runs.

    A throttler of your own needs ``claim``, ``confirm`` and ``forget``; the rest has a default.
    """

    remembers: bool = False
    """Whether ``begin`` says how often the job has failed and how many workers have died with it: the claim of a dead
    worker must then be taken over."""

    @abstractmethod
    async def claim(self, message_id: str, owner: str) -> Claim:
        """Claim the message for ``owner``, atomically. Asking again for the same owner answers FRESH again."""

    @abstractmethod
    async def confirm(self, message_id: str, owner: str) -> None:
        """Remember that the message's job has ended by itself, for as long as the queue could deliver it again."""

    @abstractmethod
    async def forget(self, message_id: str, owner: str) -> None:
        """Give the claim back if it is still ``owner``'s, so that the next delivery runs."""

    async def begin(self, run: Run, owner: str, *, age: float) -> Answer:  # noqa: ARG002 - for those that remember
        """Claim the message of ``run``, and note its facts. ``age``: seconds since the message was sent.

        By default it is ``claim``, and no fact is noted.
        """
        return Answer(claim=await self.claim(run.key, owner))

    async def end(self, run: Run, owner: str) -> None:
        """Remember that the job of ``run`` has ended by itself, and how. By default it is ``confirm``."""
        await self.confirm(run.key, owner)

    async def postpone(
        self,
        message_id: str,
        owner: str,
        *,
        failures: int,  # noqa: ARG002 - for those that remember
        due: float | None,  # noqa: ARG002 - as above
        run: Run | None = None,  # noqa: ARG002 - as above
    ) -> None:
        """Give the claim back if it is still ``owner``'s, and remember until the next attempt.

        ``failures``: how often the job has failed by now. ``due``: the age of the message from which ``begin`` may
        answer FRESH again; None for at once. ``run``: the attempt that is over. By default it is ``forget``: every
        delivery is then the first. A job that is never tried again (its message is buried) is remembered with ``end``
        after this.
        """
        await self.forget(message_id, owner)

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
