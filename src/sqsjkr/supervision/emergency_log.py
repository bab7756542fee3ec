"""Write what launcher and backstop did when the worker no longer can: one line, where and how the worker logs."""

from __future__ import annotations

import contextlib
import json
import os
import select

from sqsjkr.supervision.shared_state import SharedState

EVENT = "guard.killed"


def write(shared: SharedState, text: str) -> None:
    """Write the line to stderr, unless that would block: ending the jobs comes first."""
    from datetime import datetime  # noqa: PLC0415 - kept out of the memory of processes that rarely need it

    now = datetime.now().astimezone().isoformat(timespec="milliseconds")
    if shared.logs_as_json():
        line = json.dumps({"time": now, "level": "error", "event": EVENT, "message": text})
    else:
        line = f"{now} ERROR {EVENT}  {text}"
    with contextlib.suppress(OSError):
        if not select.select([], [2], [], 0)[1]:  # a full pipe that nothing reads
            return
        os.write(2, f"{line}\n".encode())
