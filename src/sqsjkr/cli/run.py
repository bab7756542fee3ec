"""``sqsjkr run``: a launcher, and below it the worker.

The launcher stays in memory as long as the worker does: it imports no event loop and no configuration.
"""

from __future__ import annotations

import argparse

from sqsjkr.cli.options import add_stats, add_where
from sqsjkr.cli.reporting import exit_code, reported
from sqsjkr.errors import SqsjkrError
from sqsjkr.supervision.guard import guarded
from sqsjkr.supervision.shared_state import SharedState

# ruff: noqa: PLC0415 - what only the worker needs is imported in the worker

EPILOG = """\
examples:
  sqsjkr run --conf /etc/sqsjkr/config.toml
  sqsjkr run --local ./demo --until-empty

exit codes: 0 after an orderly stop, 1 if AWS, the store or the stats address refused, 2 if the configuration is
wrong, 3 if the worker died or hung
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what can be said to a worker."""
    add_where(parser)
    parser.add_argument("--log-level", metavar="LEVEL", type=_level, help="error, warn, info or debug (default: info)")
    parser.add_argument("--log-format", metavar="FORM", help="text or json (default: text)")
    add_stats(parser)
    parser.add_argument("--until-empty", action="store_true", help="run what is on the queue, then stop")


def execute(arguments: argparse.Namespace) -> int:
    """Run a worker in a child process until a signal stops it."""
    budget = arguments.budget
    return guarded(
        lambda shared: reported(lambda: _work(arguments, shared)),
        silence=budget.guard_silence,
        look_every=budget.guard_look,
        backstop_silence=budget.backstop_silence,
        glance_every=budget.backstop_look,
        title=arguments.title,
        leaves=True,
    )


def _work(arguments: argparse.Namespace, shared: SharedState) -> int:
    """Be the worker, in the launcher's child. Where the log is JSON, so is the error that ends the worker."""
    from sqsjkr import app, event_loop
    from sqsjkr.cli.settings import configured
    from sqsjkr.telemetry import logs
    from sqsjkr.telemetry.events import Event, emit

    log_format, log = arguments.log_format, None
    try:
        path, config = configured(arguments)
        log_format = config.log_format
        log = logs.set_up(config.log_level, log_format)
        if log_format == "json":
            shared.log_as_json()
        if path:
            emit(Event.CONFIG_LOADED, path)
        until_empty, budget = arguments.until_empty, arguments.budget
        return event_loop.run(app.run(config, shared=shared, logs=log, until_empty=until_empty, budget=budget))
    except SqsjkrError as why:
        if log_format != "json":
            raise
        log = log or logs.set_up("error", "json")
        for line in str(why).splitlines():
            emit(Event.WORKER_FAILED, line)
        return exit_code(why)
    finally:
        if log is not None:
            log.close()


def _level(text: str) -> str:
    """Read a level as the Go daemon's users write it: in any case, and ``warning`` for ``warn``."""
    level = text.lower()
    return "warn" if level == "warning" else level
