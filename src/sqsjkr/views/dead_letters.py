"""Port: the dead-letter queue. What lies there and why; back to the job queue with it, or away.

A letter that is looked at is hidden from others for ``HIDDEN`` seconds at most, and visible again after the look. One
that goes back is put on the job queue first and removed here second: whatever stops that in between, it is on both
queues at worst, never on none.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from sqsjkr.errors import BackendUnavailable, InvalidJob
from sqsjkr.job import decode
from sqsjkr.runs import shortened
from sqsjkr.views.model import DeadLetter

HIDDEN = 30
"""Seconds that a look hides a letter: after a crash of the look it is visible again this soon."""
PAGE = 10
"""Letters in one receive (AWS: Amazon SQS message quotas)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """A message on the dead-letter queue, as it lies there."""

    id: str
    body: str = field(repr=False)
    message_id: str | None
    """Its id on the job queue, if it is known."""
    reason: str
    sender: str | None = None
    """Which identity sent it, as the queue says."""
    sent_at: float | None
    died_at: float | None
    receive_count: int | None
    failures: int | None = None
    """How often its job has failed, if it has run."""
    output: str | None = field(default=None, repr=False)
    """The last of what its job printed."""
    handle: str = ""
    """What the backend needs to release or remove it."""
    more: object = None
    """What the backend must send along with the body."""

    def shown(self) -> DeadLetter:
        """Return what a list shows of it."""
        try:
            job = decode(self.body, self.message_id or self.id)
        except InvalidJob:
            job = None
        return DeadLetter(
            id=self.id,
            message_id=self.message_id,
            reason=self.reason,
            sender=self.sender,
            sent_at=self.sent_at,
            died_at=self.died_at,
            receive_count=self.receive_count,
            failures=self.failures,
            output=self.output,
            event_id=job.event_id if job else None,
            lock_id=(job.lock_id or None) if job else None,
            command=shortened(job.command) if job else None,
            body_bytes=len(self.body.encode(errors="surrogatepass")),
        )

    def is_job(self) -> bool:
        """Whether this version would run it: else a redrive buries it again."""
        try:
            decode(self.body, self.id)
        except InvalidJob:
            return False
        return True


class DeadLetters(ABC):
    """The dead-letter queue of a job queue. Every verb may raise ``BackendUnavailable``."""

    @abstractmethod
    async def open(self) -> None:
        """Raises ``BackendRefused`` if there is no queue, no dead-letter queue, or no right to look into it."""

    @abstractmethod
    async def close(self) -> None:
        """Called once after the last verb."""

    @abstractmethod
    def now(self) -> float:
        """The time on the clock by which letters are dated: seconds since 1970."""

    @abstractmethod
    async def receive(self) -> list[Letter]:
        """Return at most ``PAGE`` letters that are not hidden, and hide them for ``HIDDEN`` seconds. [] at the end."""

    @abstractmethod
    async def release(self, letters: Sequence[Letter]) -> None:
        """Make at most ``PAGE`` letters visible again at once."""

    @abstractmethod
    async def redrive(self, letters: Sequence[Letter]) -> list[str | Exception]:
        """Put letters on the job queue, then remove them here. For each its new message id, or why it is still here.

        It is a new message there: its id is new, and its ``life_time`` begins again.
        """

    @abstractmethod
    async def drop(self, letters: Sequence[Letter]) -> list[Exception | None]:
        """Remove letters for good. For each None, or why it is still here."""


class Look:
    """One look through a dead-letter queue: ``async with Look(dead) as look``. Each letter is shown once.

    What was taken and not removed is released at the end of the block.
    """

    def __init__(self, dead: DeadLetters) -> None:
        self._dead = dead
        self._taken: dict[str, Letter] = {}
        self._removed: set[str] = set()
        self._sent: set[str] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        left = [letter for name, letter in self._taken.items() if name not in self._removed]
        try:
            for page in pages(left):
                await self._dead.release(page)
        except BackendUnavailable:
            pass  # they are visible again by themselves, after HIDDEN seconds

    async def next_page(self) -> list[Letter]:
        """Return some letters that were not shown yet; [] at the end. What was redriven and came straight back is not.

        Else a redrive of all would chase it.
        """
        while letters := await self._dead.receive():
            new = [letter for letter in letters if letter.id not in self._taken]
            self._taken.update((letter.id, letter) for letter in letters)
            if not new:  # the look takes longer than letters are hidden: it has come round
                return []
            if others := [letter for letter in new if letter.message_id not in self._sent]:
                return others
        return []

    async def first(self, limit: int) -> list[Letter]:
        """Return at most ``limit`` letters."""
        found: list[Letter] = []
        while len(found) < limit and (page := await self.next_page()):
            found += page
        return found[:limit]

    async def find(self, ids: Collection[str]) -> dict[str, Letter]:
        """Return letters by the ids that were asked for: those they have, or those they had on the job queue."""
        found: dict[str, Letter] = {}
        while len(found) < len(ids) and (page := await self.next_page()):
            named = ((name, letter) for letter in page for name in (letter.id, letter.message_id))
            found |= {name: letter for name, letter in named if name is not None and name in ids}
        return found

    async def redrive(self, letters: Sequence[Letter]) -> list[str | Exception]:
        """See ``DeadLetters.redrive``; any number of letters."""
        answers: list[str | Exception] = []
        for page in pages([self._taken[letter.id] for letter in letters]):
            answers += await self._dead.redrive(page)
        self._note(letters, answers)
        self._sent |= {answer for answer in answers if isinstance(answer, str)}
        return answers

    async def drop(self, letters: Sequence[Letter]) -> list[Exception | None]:
        """See ``DeadLetters.drop``; any number of letters."""
        answers: list[Exception | None] = []
        for page in pages([self._taken[letter.id] for letter in letters]):
            answers += await self._dead.drop(page)
        self._note(letters, answers)
        return answers

    def _note(self, letters: Sequence[Letter], answers: Sequence[object]) -> None:
        both = zip(letters, answers, strict=True)
        self._removed |= {letter.id for letter, answer in both if not isinstance(answer, Exception)}


def pages(letters: Sequence[Letter]) -> list[Sequence[Letter]]:
    """Cut a list into pieces of one request each."""
    return [letters[start : start + PAGE] for start in range(0, len(letters), PAGE)]


def masked(text: str, depth: int = 6) -> str:
    """Return a body with the values of environment variables left out: they may be secrets.

    They are looked for under ``env`` and ``envs`` in JSON, also in JSON that is a text within it.
    """
    if depth == 0 or not text.lstrip().startswith(("{", '"')):
        return text
    try:
        return json.dumps(_without_values(json.loads(text), depth), ensure_ascii=False)
    except (ValueError, RecursionError):  # no JSON, or more than can be read
        return text


def _without_values(value: Any, depth: int) -> Any:
    if isinstance(value, str):
        return masked(value, depth - 1)
    if not isinstance(value, dict):
        return value
    return {
        name: dict.fromkeys(inner, "...")
        if name.casefold() in {"env", "envs"} and isinstance(inner, dict)
        else _without_values(inner, depth)
        for name, inner in value.items()
    }
