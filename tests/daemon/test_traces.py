"""Trace contexts through real queues, and spans at a real receiver."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from daemons import Daemon
from fleet import Fleet
from servers import clean_environment

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
CONTEXT = {"TRACEPARENT": PARENT, "TRACESTATE": "vendor=1", "BAGGAGE": "tenant=7"}
SHOW = 'echo "[$TRACEPARENT|$TRACESTATE|$BAGGAGE]"'


def send(env: Mapping[str, str], *words: str) -> None:
    subprocess.run([sys.executable, "-m", "sqsjkr", "send", *words], env=env, check=True, stdout=subprocess.DEVNULL)


def printed(worker: Daemon) -> str:
    """What the first job printed."""
    return worker.wait_for_line("job.output").partition(": ")[2]


def test_a_job_gets_the_context_of_its_producer_from_the_embedded_store(
    daemon: Callable[..., Daemon], tmp_path: Path
) -> None:
    store = ("--local", str(tmp_path))
    send(clean_environment() | CONTEXT, *store, SHOW)
    assert printed(daemon(*store, "--until-empty")) == f"[{PARENT}|vendor=1|tenant=7]"


def test_a_job_gets_the_context_of_its_producer_from_sqs(
    daemon: Callable[..., Daemon], fleet: Fleet, aws_env: Mapping[str, str], tmp_path: Path
) -> None:
    config = tmp_path / "config.toml"
    config.write_text(fleet.config(lock_table=fleet.table))
    send(aws_env | CONTEXT, "--conf", str(config), SHOW)
    assert printed(daemon("--until-empty", config=config.read_text())) == f"[{PARENT}|vendor=1|tenant=7]"


def test_a_job_gets_the_context_that_x_ray_gave_its_message(daemon: Callable[..., Daemon], fleet: Fleet) -> None:
    header = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1"
    system = {"AWSTraceHeader": {"DataType": "String", "StringValue": header}}
    fleet.send('{"command": "echo [$TRACEPARENT]"}', MessageSystemAttributes=system)
    worker = daemon("--until-empty", config=fleet.config(lock_table=fleet.table))
    assert printed(worker) == "[00-5759e988bd862e3fe1be46a994272793-53995c3f42cd8ad8-01]"


def test_a_jobs_own_variables_win(daemon: Callable[..., Daemon], tmp_path: Path) -> None:
    store = ("--local", str(tmp_path))
    send(clean_environment() | CONTEXT, *store, "--env", "BAGGAGE=mine", SHOW)
    assert printed(daemon(*store, "--until-empty")) == f"[{PARENT}|vendor=1|mine]"


def test_a_job_of_the_largest_size_is_sent_without_its_context(
    daemon: Callable[..., Daemon], fleet: Fleet, aws_env: Mapping[str, str], tmp_path: Path
) -> None:
    config = tmp_path / "config.toml"
    config.write_text(fleet.config(lock_table=fleet.table))
    jobs = tmp_path / "jobs.jsonl"
    jobs.write_text('{"command":"' + f"{SHOW}; : ".replace('"', '\\"').ljust(1_048_576 - 14, "x") + '"}\n')
    send(aws_env | CONTEXT, "--conf", str(config), "--json", str(jobs))
    assert fleet.depth()[0] == 1
