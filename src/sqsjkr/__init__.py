"""sqsjkr runs the shell commands that arrive on an Amazon SQS queue: a cron for fleets.

Every name is imported when it is first used: the launcher of ``sqsjkr run`` comes through here, and has to stay small.
The types of the names stand in ``__init__.pyi``.
"""

from __future__ import annotations

from importlib import import_module

_HOMES = {
    "BackendRefused": "sqsjkr.errors",
    "BackendUnavailable": "sqsjkr.errors",
    "BindError": "sqsjkr.errors",
    "Claim": "sqsjkr.throttler",
    "Config": "sqsjkr.config",
    "ConfigError": "sqsjkr.errors",
    "Holder": "sqsjkr.runs",
    "InvalidJob": "sqsjkr.errors",
    "Job": "sqsjkr.job",
    "Locker": "sqsjkr.locker",
    "NoLocker": "sqsjkr.locker",
    "NoThrottler": "sqsjkr.throttler",
    "SqsjkrError": "sqsjkr.errors",
    "Throttler": "sqsjkr.throttler",
    "load_config": "sqsjkr.api",
    "run": "sqsjkr.api",
    "run_async": "sqsjkr.api",
}

__all__ = [
    "BackendRefused",
    "BackendUnavailable",
    "BindError",
    "Claim",
    "Config",
    "ConfigError",
    "Holder",
    "InvalidJob",
    "Job",
    "Locker",
    "NoLocker",
    "NoThrottler",
    "SqsjkrError",
    "Throttler",
    "__version__",
    "load_config",
    "run",
    "run_async",
]


def __getattr__(name: str) -> object:
    """Import a public name from where it lives."""
    if name == "__version__":
        value = import_module("importlib.metadata").version("sqsjkr")
    elif name in _HOMES:
        value = getattr(import_module(_HOMES[name]), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """The public names, whether they are imported yet or not."""
    return sorted({*globals(), *__all__})
