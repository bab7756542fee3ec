"""How a command's first process is made: the same from the launcher and from a worker that has none."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence

_DEFAULT = (
    *(signal.SIGPIPE, signal.SIGXFSZ),  # Python ignores them
    *(signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2),
)
"""What a command finds as a shell expects it, although the daemon may have been started with it ignored."""


def spawn(program: bytes, argv: Sequence[bytes], env: Mapping[bytes, bytes], *, stdin: int, stdout: int) -> int:
    """Start a process that leads a group of its own; return its pid when it executes ``program``.

    ``env`` is the whole environment, ``stdin`` a descriptor, or -1 for /dev/null; ``stdout`` is for errors, too. No
    other descriptor of this process is passed on, except those that are inheritable.

    Raises:
        OSError: why the kernel did not start it.
        ValueError: a string holds a NUL, or a variable's name "=".
    """
    actions: list[tuple[int, int, int] | tuple[int, int, str, int, int]] = []
    if stdin < 0:
        actions.append((os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0))
    else:
        actions.append((os.POSIX_SPAWN_DUP2, stdin, 0))
    actions += [(os.POSIX_SPAWN_DUP2, stdout, 1), (os.POSIX_SPAWN_DUP2, stdout, 2)]
    return os.posix_spawn(
        program, list(argv), env, file_actions=actions, setpgroup=0, setsigdef=_DEFAULT, setsigmask=[]
    )
