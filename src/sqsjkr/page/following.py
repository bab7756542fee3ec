"""Orders that take a while: how far each of them is."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass

from sqsjkr.errors import BackendUnavailable

MOST_REMEMBERED = 500
"""Orders of which the last words are remembered."""


@dataclass(frozen=True, slots=True)
class Said:
    """What became of an order, for the operator."""

    text: str
    tone: str = "good"
    """``bad`` if it was not done, ``warn`` while it is under way."""


class Following:
    """Remembers what was said about orders, and runs what waits for their end."""

    def __init__(self) -> None:
        self._said: dict[str, Said] = {}
        self._under_way: set[asyncio.Task[None]] = set()

    def note(self, what: str, said: Said) -> None:
        """Say how far an order is. ``what``: ``message ID``, ``lock ID``, or any other key."""
        self._said.pop(what, None)
        self._said[what] = said
        while len(self._said) > MOST_REMEMBERED:
            del self._said[next(iter(self._said))]

    def said(self, what: str) -> Said | None:
        """Return the last words about an order; None if there are none."""
        return self._said.get(what)

    def follow(self, what: str, work: Coroutine[None, None, Said]) -> None:
        """Wait for the end of an order in the background, and note what became of it."""
        task = asyncio.create_task(self._wait(what, work))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def close(self) -> None:
        """Follow nothing any more. What was ordered stands in the table, and is obeyed all the same."""
        for task in self._under_way:
            task.cancel()
        await asyncio.gather(*self._under_way, return_exceptions=True)

    async def _wait(self, what: str, work: Coroutine[None, None, Said]) -> None:
        try:
            said = await work
        except BackendUnavailable as outage:
            said = Said(f"It is not known how far this is: {outage}", "bad")
        self.note(what, said)
