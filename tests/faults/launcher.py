"""Runs `sqsjkr` on a lease budget shortened by one factor, so that a test need not wait for minutes.

`python -P launcher.py 0.2 run --conf ...`: every duration of the budget lasts a fifth, so the order of events is the
product's own; `--trigger=2` in between sets one of them. What an operator sets (grace_period, kill_after, life_time) is
left as it is given.
"""

from __future__ import annotations

import resource
import sys

import sqsjkr.app
import sqsjkr.backends.dynamodb.table
import sqsjkr.backends.sqs.queue
import sqsjkr.web.server  # noqa: F401
from sqsjkr.cli.main import main as run
from sqsjkr.leases.budget import STANDARD


def main() -> int:
    """Scale, then be `sqsjkr`."""
    factor, *arguments = sys.argv[1:]
    budget = STANDARD.scaled(float(factor))
    while arguments[0].startswith("--"):
        option, _, value = arguments.pop(0).partition("=")
        if option == "--nofile":  # how many descriptors it may have
            resource.setrlimit(resource.RLIMIT_NOFILE, (int(value), int(value)))
        else:  # one duration of the budget, in seconds
            budget = budget.but(**{option[2:]: float(value)})
    return run(arguments, budget=budget)


if __name__ == "__main__":
    sys.exit(main())
