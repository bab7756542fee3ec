"""The long form of the chaos suite, from the root of the clone: `python -m tests.faults.run --minutes 30`."""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # where pytest finds these modules, too

import servers
from faults import pairs
from faults.chaos import Chaos
from faults.proxy import Proxy
from faults.report import FAULTS, Plan
from fleet import Fleet


def main() -> int:
    """Run, print the table; 1 and the histories if a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.run", description="Faults at random, judged.")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--daemons", type=int, default=3)
    parser.add_argument("--scale", type=float, default=0.2, help="of the leases: 1 is the product as it is")
    parser.add_argument("--rate", type=float, default=3.0, help="jobs a second")
    parser.add_argument(
        "--pause", type=float, help="seconds between two faults, on average; default: two thirds of a lease"
    )
    parser.add_argument(
        "--pair",
        action="append",
        choices=sorted(pairs.PAIRS),
        help="only this pair of faults; may be given several times",
    )
    parser.add_argument("--keep", type=Path, help="leave history and logs in this directory")
    parser.add_argument("--quiet", action="store_true", help="do not print each fault")
    options = parser.parse_args()
    plan = Plan(
        seed=options.seed,
        seconds=options.minutes * 60,
        workers=options.daemons,
        scale=options.scale,
        jobs_a_second=options.rate,
        pause=options.pause or 20 * options.scale,
        faults={} if options.pair else FAULTS,
        pairs=tuple(options.pair or pairs.PAIRS),
    )
    say = (lambda _: None) if options.quiet else (lambda text: print(text, file=sys.stderr, flush=True))  # noqa: T201
    with tempfile.TemporaryDirectory(prefix="jkr-") as text, servers.ministack() as url:
        directory = options.keep or Path(text)
        directory.mkdir(exist_ok=True, parents=True)
        with Proxy(url, seed=plan.seed) as proxy:
            chaos = Chaos(plan, Fleet(url, url), proxy, directory, say=say)
            report = chaos.run()
        if options.keep:
            log = "\n".join(line for seat in chaos.seats for line in seat.log)
            (directory / "log").write_text(log)
    print(report.table())  # noqa: T201
    if report.violations:
        print(report.told())  # noqa: T201
    return int(bool(report.violations))


if __name__ == "__main__":
    sys.exit(main())
