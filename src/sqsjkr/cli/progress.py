"""How far a long `sqsjkr send` is, for eyes only."""

from __future__ import annotations

import os
import stat
import sys
import time
from collections.abc import Iterator
from typing import Any

from sqsjkr.cli.reporting import complain


class Progress:
    """A progress bar on a terminal; nothing in a pipe, in a file or on a dumb terminal."""

    EVERY = 0.1

    def __init__(self, fd: int) -> None:
        self._shown: Any = None
        self._read = 0
        self._next = 0.0
        if sys.stderr is not None and sys.stderr.isatty():
            self._shown = _bar(os.fstat(fd))

    def counting(self, lines: Iterator[bytes | None]) -> Iterator[bytes | None]:
        """Pass the lines through, and keep count of the bytes read."""
        for line in lines:
            self._read += 0 if line is None else len(line) + 1
            yield line

    def show(self, text: str) -> None:
        """Draw the bar, ten times a second at most."""
        if self._shown is None or time.monotonic() < self._next:
            return
        self._next = time.monotonic() + self.EVERY
        self._shown.update(self._shown.task_ids[0], completed=self._read, description=text, refresh=True)

    def complain(self, text: str) -> None:
        """Write an error, above the bar if there is one."""
        if self._shown is None:
            complain(text)
        else:
            self._shown.console.print(f"sqsjkr: {text}", markup=False, highlight=False, soft_wrap=True)

    def close(self) -> None:
        """Remove the bar."""
        if self._shown is not None:
            self._shown.stop()


def _bar(source: os.stat_result) -> Any:
    """A bar of rich's, drawn when it is asked to; None where the terminal cannot move its cursor."""
    # Imported for a terminal only: a script that sends a job does not wait for it.
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn  # noqa: PLC0415

    console = Console(stderr=True)
    if console.is_dumb_terminal:
        return None
    columns = (BarColumn(), TaskProgressColumn(), TextColumn("{task.description}", markup=False))
    bar = Progress(*columns, console=console, transient=True, auto_refresh=False, redirect_stderr=False)
    bar.add_task("", total=source.st_size if stat.S_ISREG(source.st_mode) else None)
    bar.start()
    return bar
