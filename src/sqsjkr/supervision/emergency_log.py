"""What guard and backstop say when the worker can say nothing any more: one line where the log goes, in its form."""

from __future__ import annotations

import contextlib
import json
import os
import select

from sqsjkr.supervision.shared_state import SharedState

EVENT = "guard.killed"


def write(page: SharedState, text: str) -> None:
    """Write the line to stderr; whether anybody reads it must not matter."""
    from datetime import datetime  # noqa: PLC0415 - kept out of the memory of processes that hope never to need it

    now = datetime.now().astimezone().isoformat(timespec="milliseconds")
    if page.speaks_json():
        line = json.dumps({"time": now, "level": "error", "event": EVENT, "message": text})
    else:
        line = f"{now} ERROR {EVENT}  {text}"
    with contextlib.suppress(OSError):
        if not select.select([], [2], [], 0)[1]:  # a pipe that nobody reads would hold us here
            return
        os.write(2, f"{line}\n".encode())
