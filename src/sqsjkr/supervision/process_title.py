"""What `ps` shows of launcher, worker and backstop, which are forks of one command and would look alike.

The title is written over the process's own argument strings (proc_pid_stat(5), ``arg_start`` and ``arg_end``) and never
beyond them: the environment behind them stays readable in ``/proc``, where jobs and nested daemons are known by it.
setproctitle from PyPI overwrites it, or has the same limit (docs/decisions/0008). Linux only.
"""

from __future__ import annotations

import ctypes
import sys

_ARG_START, _ARG_END = 45, 46  # fields 48 and 49, counted from the state


def set_title(command: str, role: str) -> None:
    """Show ``command [role]`` as this process's command line; a command that is too long is cut, the role is not."""
    if sys.platform != "linux":
        return
    try:
        with open("/proc/self/stat", "rb", buffering=0) as file:  # noqa: PTH123 - the launcher does without pathlib
            fields = file.readall().rpartition(b") ")[2].split()
        start, end = int(fields[_ARG_START]), int(fields[_ARG_END])
    except (OSError, IndexError):  # a title is a comfort: without it the daemon runs all the same
        return
    room = end - start - 1  # the last byte stays 0: it tells the kernel that the strings end here
    ending = f" [{role}]".encode()
    if start and room >= len(ending):
        title = command.encode(errors="surrogateescape")[: room - len(ending)] + ending
        ctypes.memmove(start, title.ljust(room + 1, b"\0"), room + 1)
