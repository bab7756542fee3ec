"""The process that ``lookup.py`` starts: it reads one question, asks botocore, writes the answer, and ends.

Only this process imports botocore.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import socket
import sys
import threading
from typing import Any, NoReturn

from sqsjkr.supervision.process_tree import Census

_SET_DUMPABLE = 4


def main() -> NoReturn:
    """Answer the question that comes on the descriptor named on the command line."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a ^C on the terminal is for the program that asks
    line = socket.socket(fileno=int(sys.argv[1]))
    line.set_inheritable(False)
    _close_to_jobs()
    text = line.makefile("rb").readline()
    threading.Thread(target=_end_with_the_line, args=(line,), daemon=True).start()
    if text.endswith(b"\n"):
        line.sendall(json.dumps(_answer(json.loads(text))).encode())
    os._exit(0)


def _answer(question: dict[str, Any]) -> dict[str, Any]:
    os.environ.clear()
    os.environ.update(question.pop("environment"))
    # Imported where needed: the environment may say how botocore and its TLS are to start.
    from sqsjkr.backends.aws import botocore_account  # noqa: PLC0415

    return botocore_account.answer(**question)


def _close_to_jobs() -> None:
    """Give environment and memory of this process to root alone, as the worker's are (``supervision.guard``)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SET_DUMPABLE, 0, 0, 0, 0)


def _end_with_the_line(line: socket.socket) -> NoReturn:
    """End this process, and a ``credential_process`` that it waits for, when the worker has closed its end or died."""
    with contextlib.suppress(OSError):
        line.recv(1)
    with contextlib.suppress(OSError):
        census = Census()
        census.take(os.getpid())
        for pid in census.below(os.getpid()):
            census.processes[pid].send(signal.SIGKILL)
    os._exit(1)


if __name__ == "__main__":
    main()
