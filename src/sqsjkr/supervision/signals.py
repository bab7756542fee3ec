"""Signals for a loop that waits in ``poll``: noted as they come, and each wakes the loop up."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Collection
from types import FrameType

_CHUNK = 4_096


class Signals:
    """Catches these signals from now on, in the main thread, until ``close``. Poll ``wakeup`` for reading."""

    def __init__(self, numbers: Collection[signal.Signals]) -> None:
        self._caught: list[int] = []
        self.wakeup, self._alarm = os.pipe()
        for end in (self.wakeup, self._alarm):
            os.set_blocking(end, False)
        # A full pipe loses no signal: it only wakes the loop up, and the handler notes the number.
        self._old_alarm = signal.set_wakeup_fd(self._alarm, warn_on_full_buffer=False)
        self._before = {number: signal.signal(number, self._note) for number in numbers}

    def take(self) -> list[int]:
        """Return what has been caught since the last call, in the order of arrival."""
        with contextlib.suppress(BlockingIOError):
            os.read(self.wakeup, _CHUNK)
        caught, self._caught = self._caught, []
        return caught

    def close(self, *, ignored: Collection[int] = ()) -> None:
        """Let signals do what they did before; those that are ``ignored`` do nothing from now on."""
        for number, handler in self._before.items():
            before = signal.SIG_DFL if handler is None else handler  # None: it was not Python's
            signal.signal(number, signal.SIG_IGN if number in ignored else before)
        signal.set_wakeup_fd(self._old_alarm)
        os.close(self.wakeup)
        os.close(self._alarm)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self._caught.append(number)
