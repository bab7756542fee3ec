"""Ask botocore about the operator's account: in a process of its own, which ends with its answer.

botocore costs 9 MiB and a tenth of a second, for one question at the start and one whenever keys expire: the worker
keeps neither (docs/decisions/0003). Question and answer are one JSON object each, on a socket that only the two have.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from sqsjkr import clock
from sqsjkr.errors import BackendUnavailable
from sqsjkr.supervision.process_tree import MARK

_MODULE = "sqsjkr.backends.aws.botocore_process"
_LINE = 3
"""The number of the socket in the process; its standard streams are ours, as a source of keys may ask for a code."""
_LONGEST = 120.0
"""Seconds after which a source of keys counts as hung. AWS's SDK for Go gives a ``credential_process`` 60."""
_ENDING = 1.0
"""Seconds that the process has to end by itself, and to end what it has started."""
_LOOK_EVERY = 0.001
_CHUNK = 65_536
_NEEDED_TO_START = ("PYTHON", "__PYVENV_LAUNCHER__", "LD_", "DYLD_", "LANG", "LC_", "HOME", "PATH", "TZ", MARK)
"""Beginnings of the names of what Python, and an outer daemon's search for its processes, need before the question."""
_PYTHON_IGNORES = (signal.SIGPIPE, signal.SIGXFSZ)
_AGAIN = 300.0
"""Seconds after which a line of botocore's is logged again: a failed renewal repeats it every few seconds."""
_REMEMBERED = 100


class Lookup:
    """One question, as a process that works on it from now on. Await ``answer`` or ``end`` once.

    ``what`` begins the text of an error. The process has the environment, directory, standard streams and ``sys.path``
    of this one. It ends, with all that it has started, when this end of the line closes: with this process at the
    latest.

    Raises:
        BackendUnavailable: the host cannot start a process now.
    """

    def __init__(self, what: str, **question: object) -> None:
        self._what = what
        level = logging.getLogger("botocore").getEffectiveLevel()
        text = json.dumps({**question, "environment": dict(os.environ), "log_level": level})
        try:
            self._line, theirs = socket.socketpair()
            with theirs, contextlib.ExitStack() as stack:
                stack.callback(self._line.close)
                self._pid = _spawned(theirs)
                stack.pop_all()
        except OSError as error:
            raise BackendUnavailable(f"{what}: cannot start {sys.executable}: {error.strerror}") from error
        self._status: int | None = None
        self._line.setblocking(False)
        self._unsent = f"{text}\n".encode()
        with contextlib.suppress(OSError):  # what does not fit, or finds nobody, is noticed in ``answer``
            self._unsent = self._unsent[self._line.send(self._unsent) :]

    async def answer(self) -> dict[str, Any]:
        """Wait for what botocore found, and log what it logged.

        Raises:
            BackendRefused: trying again would not help; the text is one line.
            BackendUnavailable: it may.
        """
        raw = bytearray()
        try:
            async with asyncio.timeout(_LONGEST):
                await self._exchange(raw)
        except TimeoutError:
            raise BackendUnavailable(f"{self._what}: their source has not answered within {_LONGEST:g} s") from None
        finally:
            await self.end()
        try:
            answer = json.loads(raw)
        except ValueError:
            raise BackendUnavailable(f"{self._what}: the process that asks botocore {self._how_it_ended()}") from None
        _log(answer.get("log", ()))
        if error := answer.get("error"):
            raise _error(**error)
        found: dict[str, Any] = answer.get("found", {})
        return found

    async def end(self) -> None:
        """End the process, and what it has started, unless it has ended. Takes a second at most."""
        self._line.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_ENDING):
                while not self._has_ended():  # noqa: ASYNC110 - not every system has an event to wait for
                    await asyncio.sleep(_LOOK_EVERY)
        if not self._has_ended():
            os.kill(self._pid, signal.SIGKILL)
            self._has_ended()

    async def _exchange(self, raw: bytearray) -> None:
        loop = asyncio.get_running_loop()
        with contextlib.suppress(ConnectionError):  # it has ended, perhaps with an answer
            await loop.sock_sendall(self._line, self._unsent)
        with contextlib.suppress(ConnectionError):
            while part := await loop.sock_recv(self._line, _CHUNK):
                raw += part

    def _has_ended(self) -> bool:
        if self._status is None:
            try:
                ended, status = os.waitpid(self._pid, os.WNOHANG)
            except ChildProcessError:  # our program ignores SIGCHLD, or waits for every child
                ended, status = self._pid, 0
            self._status = status if ended else None
        return self._status is not None

    def _how_it_ended(self) -> str:
        code = os.waitstatus_to_exitcode(self._status or 0)
        return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"gave no answer (exit code {code})"


def _spawned(line: socket.socket) -> int:
    """Start the process, in the process group of this one: a source of keys may ask for a code on the terminal.

    Its environment is what ``/proc`` shows of it, so the credentials in ours go with the question.
    """
    env = {name: value for name, value in os.environ.items() if name.startswith(_NEEDED_TO_START)}
    env["PYTHONPATH"] = os.pathsep.join(sys.path)
    return os.posix_spawn(
        sys.executable,
        [sys.executable, "-P", "-m", _MODULE, str(_LINE)],
        env,
        file_actions=[(os.POSIX_SPAWN_DUP2, line.fileno(), _LINE)],
        setsigdef=_PYTHON_IGNORES,
        setsigmask=[],
    )


def _error(*, refused: bool, text: str, action: str, **facts: Any) -> BackendUnavailable:
    # Imported where needed: it brings aiohttp, whose import runs beside the first lookup.
    from sqsjkr.backends.aws.errors import AWSRefused, AWSUnavailable, Call  # noqa: PLC0415

    return (AWSRefused if refused else AWSUnavailable)(text, call=Call(action), **facts)


class _Said:
    """What was logged a short while ago."""

    def __init__(self) -> None:
        self._at: Mapping[str, float] = {}

    def lately(self, text: str) -> bool:
        """Whether ``text`` was; from now on it was."""
        now = clock.now()
        if now - self._at.get(text, -_AGAIN) < _AGAIN:
            return True
        self._at = {text: now} if len(self._at) > _REMEMBERED else {**self._at, text: now}
        return False


_said = _Said()


def _log(lines: Iterable[tuple[str, int, str]]) -> None:
    for name, level, text in lines:
        if not _said.lately(text):
            logging.getLogger(name).log(level, "%s", text)
