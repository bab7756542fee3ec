"""`sqsjkr VERB` as a real process that ends by itself: what it said, and its exit code."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass

import servers

SQSJKR = (sys.executable, "-m", "sqsjkr")


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """One run of the command."""

    code: int
    out: str
    err: str

    @property
    def complaints(self) -> list[str]:
        """The lines of stderr that are errors."""
        return [line for line in self.err.splitlines() if line.startswith("sqsjkr: ")]


def sqsjkr(*words: str, env: Mapping[str, str] | None = None, stdin: bytes | None = None) -> Said:
    """Run the command to its end; without `stdin` it gets an empty one that is no terminal."""
    given = {"stdin": subprocess.DEVNULL} if stdin is None else {"input": stdin}
    done = subprocess.run(
        [*SQSJKR, *words],
        env={**servers.clean_environment(), **(env or {})},
        capture_output=True,
        timeout=servers.PATIENCE,
        check=False,
        **given,  # type: ignore[call-overload]
    )
    return Said(code=done.returncode, out=done.stdout.decode(), err=done.stderr.decode())


def read_terminal(fd: int) -> str:
    """All that was written to the other side of a pseudo-terminal, until that side is closed."""
    said = b""
    while True:
        try:
            chunk = os.read(fd, 65536)
        except OSError:  # Linux says EIO once the last descriptor of the other side is closed
            break
        if not chunk:
            break
        said += chunk
    return said.decode()
