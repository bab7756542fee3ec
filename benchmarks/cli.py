"""The command: `python -m benchmarks`. Measures, prints one Markdown table, and writes JSON and plots if asked to."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from collections import defaultdict
from functools import partial
from pathlib import Path

from benchmarks import experiments, peers, plots, report
from benchmarks.experiments import Bench
from benchmarks.figures import EXPERIMENTS, LONG, OURS_ALONE
from benchmarks.subject import Subject
from sqsjkr.errors import SqsjkrError

Samples = dict[str, dict[str, list[float]]]
"""Subject, figure, one value for each run."""


def main() -> None:
    """Measure what was asked for. Exit code 1 if a subject broke, 0 otherwise: a missed target is a result."""
    options = _options()
    with tempfile.TemporaryDirectory(prefix="sqsjkr-benchmarks-") as name:
        folder = Path(name)
        peer = peers.build_original(folder) if options.go else options.peer
        tls = peers.make_certificates(folder, options.peer_host) if options.peer or options.tls else None
        subjects = [Subject.ours(partial(peers.same_way, tls=tls)) if options.tls else Subject.ours()]
        if options.go:  # built to honour AWS_ENDPOINT_URL: no proxy and no TLS in its way
            subjects.append(Subject.peer(peer, lambda _: {}))
        elif options.peer:
            subjects.append(Subject.peer(options.peer, partial(peers.environment, tls=tls)))
        bench = Bench(folder=folder, tls=tls, quick=options.quick)
        _warm_up(bench, subjects)
        machine = report.machine() | {"sh_cpu_ms": round(experiments.sh_cpu(), 2)}
        samples, broken = _measure(bench, subjects, options.only or list(EXPERIMENTS), options.runs)
        machine["load_after"] = report.load()
    table = report.table(samples, machine, runs=options.runs, quick=options.quick)
    print(table)
    if options.page:
        report.put_into(options.page, table)
    for what in broken:
        print(f"\nnot measured: {what}")
    if options.json:
        options.json.write_text(json.dumps({"machine": machine, "samples": samples}, indent=1) + "\n")
    if options.plots:
        plots.write(options.plots, samples)
    sys.exit(1 if broken else 0)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=list(EXPERIMENTS), metavar="NAME", help=", ".join(EXPERIMENTS))
    parser.add_argument("--runs", type=int, default=5, help="runs of each, of which the median counts; the long ones 2")
    parser.add_argument("--quick", action="store_true", help="one run with small numbers: to see that it works")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every sample here")
    parser.add_argument("--plots", type=Path, metavar="DIR", help="write SVG plots here")
    parser.add_argument("--page", type=Path, metavar="FILE", help="put the table into this page, between its marks")
    beside = parser.add_mutually_exclusive_group()
    beside.add_argument("--go", action="store_true", help="build the Go original and measure it side by side")
    beside.add_argument("--peer", metavar="CMD", help="measure CMD -conf FILE side by side: same stand-in, same file")
    parser.add_argument(
        "--peer-host",
        action="append",
        default=[],
        metavar="HOST",
        help="one more host that a peer with AWS's addresses built in asks for",
    )
    parser.add_argument("--tls", action="store_true", help="ours through the proxy and TLS, too, as a Go peer must go")
    options = parser.parse_args()
    if options.quick:
        options.runs = 1
    return options


def _warm_up(bench: Bench, subjects: list[Subject]) -> None:
    """Start everything once: the first start of a program compiles what it imports, and that is not measured."""
    for subject in subjects:
        experiments.life(bench, subject)


def _measure(bench: Bench, subjects: list[Subject], names: list[str], runs: int) -> tuple[Samples, list[str]]:
    samples: Samples = {subject.name: defaultdict(list) for subject in subjects}
    broken: list[str] = []
    for name in names:
        for run in range(min(runs, LONG.get(name, runs))):
            for subject in subjects:  # ours, peer, ours, peer: both meet the same moods of the machine
                if subject.name == "peer" and name in OURS_ALONE:
                    continue
                _say(f"{name}, {subject.name}, run {run + 1}, load {os.getloadavg()[0]:.2f}")
                try:
                    sample = EXPERIMENTS[name](bench, subject)
                except (RuntimeError, OSError, ArithmeticError, SqsjkrError, asyncio.CancelledError) as why:
                    broken.append(f"{name}, {subject.name}, run {run + 1}: {why}")
                    continue
                for key, value in sample.items():
                    samples[subject.name][key].append(value)
    return samples, broken


def _say(text: str) -> None:
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {text}\n")
