"""Errors as lines on stderr and as exit codes."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable

from sqsjkr.cli.exit_codes import FAILED, INTERRUPTED, USAGE
from sqsjkr.errors import ConfigError, SqsjkrError

_OUTPUT_FAILS = frozenset({errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})
"""What a write to stdout raises if its reader is gone or its disk is full."""


def complain(text: str) -> None:
    """Write each line of ``text`` to stderr as an error of the command."""
    for line in text.splitlines():
        sys.stderr.write(f"sqsjkr: {line}\n")


def exit_code(error: SqsjkrError) -> int:
    """Return the exit code that stands for ``error``."""
    return USAGE if isinstance(error, ConfigError) else FAILED


def reported(work: Callable[[], int]) -> int:
    """Do ``work`` and return its exit code. An error that is raised on purpose becomes a line and its exit code."""
    try:
        code = work()
        sys.stdout.flush()
    except SqsjkrError as why:
        complain(str(why))
        return exit_code(why)
    except KeyboardInterrupt:
        complain("interrupted")
        return INTERRUPTED
    except OSError as why:
        if why.errno not in _OUTPUT_FAILS:
            raise
        if why.errno != errno.EPIPE:  # a reader that has seen enough, such as head(1), is no error
            complain(f"cannot write the output: {(why.strerror or str(why)).lower()}")
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python fails once more when it exits
        return FAILED
    return code
