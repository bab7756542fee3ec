"""What a command reads: written to its pipe as fast as it takes it, and never faster."""

from __future__ import annotations

import asyncio
import os


class Feeder:
    """Writes a text to a pipe, which it takes over; closes it when all is written, or nothing reads it any more.

    It never blocks and never fails.
    """

    def __init__(self, descriptor: int, text: bytes) -> None:
        self._descriptor = descriptor
        self._rest = memoryview(text)
        self._loop = asyncio.get_running_loop()
        self._waits = False
        os.set_blocking(descriptor, False)
        self._write()

    def close(self) -> None:
        """Give up what has not been read; the command has ended."""
        if self._descriptor >= 0:
            if self._waits:
                self._loop.remove_writer(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1

    def _write(self) -> None:
        try:
            while self._rest:
                self._rest = self._rest[os.write(self._descriptor, self._rest) :]
        except BlockingIOError:
            if not self._waits:
                self._loop.add_writer(self._descriptor, self._write)
                self._waits = True
            return
        except OSError:  # it reads no more
            pass
        self.close()
