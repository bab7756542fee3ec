"""The long form of the pairs in simulated time, from the root of the clone: ``python -m tests.model.run``."""

from __future__ import annotations

import argparse
import logging
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # where pytest finds these modules, too

from model.corridor import SimHost
from model.pairs import PAIRS, play
from model.world import Breach
from sqsjkr.telemetry.events import LOGGER


def main() -> int:
    """Play each pair with many seeds and print a table; 1 and the breaches if a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.model.run", description="Pairs of faults, simulated.")
    parser.add_argument(
        "--pair", action="append", choices=sorted(PAIRS), help="only this pair; may be given several times"
    )
    parser.add_argument("--seeds", type=int, default=200, help="how many runs of each pair")
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--log", action="store_true", help="print what the workers log, with the model's time")
    options = parser.parse_args()
    if options.log:
        LOGGER.addHandler(_Told())
        LOGGER.propagate = False
    broken = []
    print(f"| {'pair':27} | runs | jobs started | seconds | violations |\n| {'-' * 27} | ---: | ---: | ---: | ---: |")  # noqa: T201
    for name in options.pair or PAIRS:
        begun, started, found = time.monotonic(), 0, []
        for seed in range(options.seed, options.seed + options.seeds):
            try:
                started += len(play(name, seed, log=options.log).ran)
            except Breach as breach:
                found.append(f"{name}: {breach}")
        took = time.monotonic() - begun
        print(f"| {name:27} | {options.seeds} | {started} | {took:.0f} | {len(found)} |", flush=True)  # noqa: T201
        broken += found
    print(*broken, sep="\n")  # noqa: T201
    return int(bool(broken))


class _Told(logging.Handler):
    """Prints what happens where and when."""

    def emit(self, record: logging.LogRecord) -> None:
        daemon = SimHost.running().daemon
        event, text = record.__dict__.get("event", ""), record.getMessage()
        print(f"{daemon.sim.time:8.2f} {daemon.name:4} {event:18} {text}")  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
