"""The short form of the chaos suite. The long form: `python -m tests.faults.run --minutes 30`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from faults.chaos import Chaos
from faults.pairs import PAIRS
from faults.proxy import Proxy
from faults.report import Plan
from fleet import Fleet

SEED = int(os.environ.get("SQSJKR_FAULT_SEED", "11"))
GENTLE = {"weather": 3, "redeliver": 2, "clock": 1, "freeze_launcher": 1}


@pytest.mark.slow
@pytest.mark.parametrize(
    "plan",
    [
        Plan(seed=SEED, seconds=15, scale=0.2, pause=1.0),
        Plan(seed=SEED, seconds=5, scale=1, pause=1, faults=GENTLE),  # the true leases, nothing that waits for one
        Plan(
            seed=SEED, seconds=1.25 * len(PAIRS), scale=0.2, pause=1.25, faults={}, pairs=tuple(PAIRS)
        ),  # each pair once
    ],
    ids=["short-leases", "true-leases", "pairs"],
)
def test_whatever_happens_every_promise_is_kept(plan: Plan, proxy: Proxy, fleet: Fleet, tmp_path: Path) -> None:
    report = Chaos(plan, fleet, proxy, tmp_path, say=lambda text: sys.stderr.write(f"{text}\n")).run()

    sys.stderr.write(report.table())
    assert not report.violations, report.told()
    assert report.attempts > plan.seconds, "the run was no idle one"
    assert not plan.pairs or sum(name.startswith("pair: ") for name in report.faults) > 2
