"""Opens what a verb works with, and closes it when the verb is done."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from sqsjkr.backends import Part
from sqsjkr.errors import ConfigError


@asynccontextmanager
async def opened(*parts: Part) -> AsyncIterator[None]:
    """Open the parts in this order for the block, and close them in reverse.

    Raises ``BackendUnavailable`` for one that does not answer: a verb does not wait for an outage to end.
    """
    async with AsyncExitStack() as stack:
        for part in parts:
            stack.push_async_callback(part.close)
            await part.open()
        yield


def confirmed(question: str, *, yes: bool) -> bool:
    """Ask on the terminal, unless ``--yes`` has answered. Raises ``ConfigError`` where there is nobody to ask."""
    if yes:
        return True
    if sys.stdin is None or not sys.stdin.isatty():
        raise ConfigError(f"nothing was changed: {question} Without a terminal, --yes must answer")
    sys.stdout.write(f"{question} [y/N] ")
    sys.stdout.flush()
    return sys.stdin.readline().strip().lower() in {"y", "yes"}
