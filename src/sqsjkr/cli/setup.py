"""``sqsjkr setup``: create the queue, its dead-letter queue and the table, or what is missing of them.

First the plan, then a question, then the steps. Existing resources are never changed, except to add a missing redrive
policy, index or TTL.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Callable
from typing import TextIO

from sqsjkr.backends import Connections
from sqsjkr.backends.aws.connection import connection
from sqsjkr.cli.exit_codes import OK, USAGE
from sqsjkr.cli.options import add_where
from sqsjkr.cli.settings import configured
from sqsjkr.config import Config
from sqsjkr.errors import ConfigError
from sqsjkr.provision.plan import Plan, make_plan

EPILOG = """\
examples:
  sqsjkr setup --conf /etc/sqsjkr/config.toml --dry-run
  sqsjkr setup --conf /etc/sqsjkr/config.toml --yes

exit codes: 0 if everything is there at the end, and for --dry-run; 1 if AWS refused a step; 2 if something is to be
done and was not confirmed
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the two answers that can be given beforehand."""
    add_where(parser)
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, and stop")


def execute(arguments: argparse.Namespace) -> int:
    """Print the plan, ask, and carry the plan out."""
    _, config = configured(arguments)
    left = carry_out(config, sys.stdout, may_go=lambda: _may_go(arguments))
    return OK if not left or arguments.dry_run else USAGE


def _may_go(arguments: argparse.Namespace) -> bool:
    """Ask whether to carry out the plan that was just printed."""
    if arguments.dry_run or arguments.yes:
        return not arguments.dry_run
    if sys.stdin is None or not sys.stdin.isatty():
        raise ConfigError(
            "nothing was changed: without a terminal the plan must be confirmed; next: sqsjkr setup --yes"
        )
    sys.stdout.write("Proceed? [y/N] ")
    sys.stdout.flush()
    return sys.stdin.readline().strip().lower() in {"y", "yes"}


def carry_out(config: Config, out: TextIO, may_go: Callable[[], bool]) -> int:
    """Show the plan, ask ``may_go``, carry the plan out. Returns the number of steps left undone after a no.

    Steps that were done stay done, and the next call goes on from there.

    Raises:
        ConfigError: an existing resource stands in the way.
        BackendUnavailable: AWS refuses or does not answer.
    """
    if config.local:
        out.write("nothing to set up: the first send or run creates the embedded store\n")
        return 0
    with asyncio.Runner() as runner:
        aws = connection(Connections(config))
        try:
            runner.run(aws.open())
            plan = runner.run(make_plan(aws, config))
            _show(plan, out)
            if not plan.steps:
                return 0
            if not may_go():
                out.write("nothing was changed\n")
                return len(plan.steps)
            for step in plan.steps:
                runner.run(step.do())
                out.write(f"done: {step.what}\n")
                out.flush()
            out.write(f"{'done' if plan.advice else 'everything is as it should be'}; next: sqsjkr check\n")
        finally:
            runner.run(aws.close())
    return 0


def _show(plan: Plan, out: TextIO) -> None:
    out.write(f"{plan.where}\n")
    out.writelines(f"is there: {there}\n" for there in plan.there)
    out.writelines(f"to do: {step.what}\n" for step in plan.steps)
    out.writelines(f"left as it is: {advice}\n" for advice in plan.advice)
    if not plan.steps:
        out.write("everything is as it should be\n" if not plan.advice else "nothing to do\n")
    out.flush()
