"""Every exit code of the command, with its meaning; ``docs/reference/exit-codes.md`` holds the same list."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from sqsjkr.supervision.guard import EXIT_WORKER_DIED

OK = 0
FAILED = 1
USAGE = 2
INTERRUPTED = 130

MEANINGS: Mapping[int, str] = MappingProxyType(
    {
        OK: "done; for `run`: an orderly stop",
        FAILED: "AWS, the embedded store or the stats address refused; or jobs went back with `run --until-empty`",
        USAGE: "the command line or the configuration is wrong; nothing was done",
        EXIT_WORKER_DIED: "the worker died or hung; its launcher ended its jobs, which come back",
        INTERRUPTED: "interrupted by a signal",
    }
)
