"""What was asked for: the endings in the history, each with sender and command."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from sqsjkr.runs import Run
from sqsjkr.views.viewer import Viewer

AT_ONCE = 100
"""Claims that are read at once."""


async def asked_for(viewer: Viewer, *, since: float, until: float, limit: int) -> AsyncIterator[Run]:
    """Yield the newest endings between two times, ``limit`` at most, with what the claims know of them.

    Lists in DynamoDB leave out sender and command, so the claims are read, a hundred in one request. An ending whose
    claim is gone is left out, and so is a signed job's: the trust file says already what its key may ask for.
    """
    waiting: list[Run] = []
    number = 0
    async for run in viewer.source.endings(viewer.fleet, since=since, until=until):
        number += 1
        if run.command or run.job:
            yield run
        else:
            waiting.append(run)
        if len(waiting) == AT_ONCE or number == limit:
            for known in await _known(viewer, waiting):
                yield known
            waiting = []
        if number == limit:
            return
    for known in await _known(viewer, waiting):
        yield known


async def _known(viewer: Viewer, runs: Sequence[Run]) -> Sequence[Run]:
    claims = await viewer.source.claims({run.message_id for run in runs}) if runs else {}
    return [claim.run for claim in claims.values()]
