"""How long the worker's event loop does not come round: our daemon, with a probe in its loop.

Starts as the daemon does: ``python -m benchmarks.stalls FILE run ...``. The probe asks to be called every millisecond
and notes how late it is: that is how long a heartbeat, an answer or a signal would have waited. It runs inside the
measured loop, so it costs the daemon something; the other experiments run without it.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import sqsjkr.app
from sqsjkr.cli.main import main

EVERY = 0.001


async def probe(looks: list[tuple[float, float]]) -> None:
    """Note when each look came (``time.monotonic``), and how many seconds late it was; until cancelled."""
    while True:
        asked = time.monotonic()
        await asyncio.sleep(EVERY)
        now = time.monotonic()
        looks.append((now, max(0.0, now - asked - EVERY)))


def between(looks: list[tuple[float, float]], begun: float, done: float) -> dict[str, float]:
    """Milliseconds: the latest look of a time, and the lateness that one look in a thousand exceeds."""
    late = [1000 * seconds for when, seconds in looks if begun <= when <= done]
    return {"stall_p999": statistics.quantiles(late, n=1000, method="inclusive")[-1], "stall_longest": max(late)}


def _with_probe(file: Path) -> None:
    run = sqsjkr.app.run

    async def probed(*args: Any, **kwargs: Any) -> int:
        looks: list[tuple[float, float]] = []
        probing = asyncio.create_task(probe(looks))
        try:
            return await run(*args, **kwargs)
        finally:
            probing.cancel()
            file.write_text(json.dumps(looks))

    sqsjkr.app.run = probed


if __name__ == "__main__":
    _with_probe(Path(sys.argv.pop(1)))
    sys.exit(main())
