"""Launcher, worker and backstop are killed under load, alone and together; the launcher stands still, and goes on."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import signal
import sqlite3
from pathlib import Path

import pytest

import daemons
from daemons import Daemon
from families import Start, backstop_of, impatient, lives, pid_in, send, sleeper, worker_of
from servers import wait_until
from sqsjkr.backends.sqlite.store import FILE

JOBS = 120
ROLES = ("launcher", "worker", "backstop")
SOME_OF_THEM = [each for count in (1, 2, 3) for each in itertools.combinations(ROLES, count)]
JOB = """
exec 9> {directory}/lock.$1
flock --nonblock 9 || echo $1 >> {directory}/overlaps
echo $1 >> {directory}/begun
sleep 0.0$1
echo $1 >> {directory}/ended
"""
"""Its lock is open in all its processes: the kernel frees it when the last of them is gone."""


BUG = """
from sqsjkr.supervision import launcher
spawn = launcher.spawn

def with_a_bug(program, argv, env, **more):
    if b"bug" in argv:
        raise RuntimeError("nobody foresaw this")
    return spawn(program, argv, env, **more)

launcher.spawn = with_a_bug
"""
"""A job with the command "bug" makes the launcher fail."""


def lines(file: Path) -> list[str]:
    return file.read_text().split() if file.exists() else []


def processes_of(daemon: Daemon) -> list[str]:
    """The command lines of all that came from it and lives."""
    return [process.command for process in daemons.marked(daemon._mark) if process.state != "Z"]


def beat_of(tmp_path: Path) -> int:
    """How often the worker has proven its session alive."""
    with contextlib.closing(sqlite3.connect(tmp_path / "store" / FILE)) as store:
        (beat,) = store.execute("SELECT MAX(beat) FROM row").fetchone()
    return int(beat or 0)


@pytest.mark.slow
@pytest.mark.parametrize("victims", SOME_OF_THEM, ids="+".join)
def test_whoever_is_killed_under_load_every_job_ends_and_none_beside_itself(
    start: Start, tmp_path: Path, victims: tuple[str, ...]
) -> None:
    (tmp_path / "job.sh").write_text(JOB.format(directory=tmp_path))
    names = [str(number) for number in range(JOBS)]
    send(tmp_path, *(f"sh {tmp_path}/job.sh {name}" for name in names))
    daemon = start(command=impatient())
    moment = random.Random("+".join(victims)).randrange(10, JOBS // 2)
    wait_until(lambda: len(lines(tmp_path / "begun")) > moment, description="it was busy")
    pids = {"launcher": daemon.pid, "worker": worker_of(daemon), "backstop": backstop_of(daemon)}
    for number in (signal.SIGSTOP, signal.SIGKILL):  # stopped first, so that none begins what another should do
        for victim in victims:
            os.kill(pids[victim], number)

    if victims != ("backstop",):
        wait_until(lambda: not processes_of(daemon), description="all that it had started was gone")
        start(command=impatient())
    wait_until(lambda: set(lines(tmp_path / "ended")) == set(names), description="every job had ended")
    assert lines(tmp_path / "overlaps") == []


@pytest.mark.slow
def test_a_worker_goes_on_while_its_launcher_stands_still(start: Start, tmp_path: Path) -> None:
    daemon = start(command=impatient())
    daemon.wait_for_line("worker.started")
    os.kill(daemon.pid, signal.SIGSTOP)
    send(tmp_path, *(f"echo {name} >> {tmp_path}/ran" for name in "abc"))
    wait_until(lambda: sum("job.started" in line for line in daemon.lines) == 3, description="three were to start")
    first = beat_of(tmp_path)
    # 1.5 seconds apart: without a sign of life, the backstop would have killed the worker by now.
    wait_until(lambda: beat_of(tmp_path) >= first + 6, description="the worker's heart went on beating")
    assert daemon.stats()["workers"]["busy"] == 3, "its event loop answers"
    assert daemon.get("/healthz") == (503, "the launcher does not answer\n")
    daemon.wait_for_line("worker.paused  no new jobs: the launcher does not answer")
    assert lines(tmp_path / "ran") == []

    os.kill(daemon.pid, signal.SIGCONT)

    wait_until(lambda: sum(" succeeded " in line for line in daemon.lines) == 3, description="all three had ended")
    assert sorted(lines(tmp_path / "ran")) == ["a", "b", "c"]
    daemon.wait_for_line("worker.resumed")
    assert daemon.get("/healthz") == (200, "ok\n")
    daemon.signal(signal.SIGTERM)
    assert daemon.wait() == 0


def test_a_stop_does_not_wait_for_a_launcher_that_stands_still(start: Start, tmp_path: Path) -> None:
    config = "[kicker]\ngrace_period = 0\nkill_after = 1\n"
    place = ("--local", str(tmp_path / "store"))
    daemon = start(*place, config=config, command=impatient())
    daemon.wait_for_line("worker.started")
    worker = worker_of(daemon)
    os.kill(daemon.pid, signal.SIGSTOP)
    send(tmp_path, f"echo $SQSJKR_RECEIVE_COUNT >> {tmp_path}/ran")
    daemon.wait_for_line("job.started")

    os.kill(worker, signal.SIGTERM)

    daemon.wait_for_line("launcher.hung")
    assert daemon.wait() == -signal.SIGKILL
    wait_until(lambda: not lives(worker), description="the worker was gone")
    assert lines(tmp_path / "ran") == []
    start(command=impatient()).wait_for_line("succeeded")
    assert lines(tmp_path / "ran") == ["2"]


def test_a_bug_in_the_launcher_leaves_no_job_alone(start: Start, tmp_path: Path) -> None:
    send(tmp_path, sleeper(tmp_path, "job"))
    daemon = start(command=impatient(BUG))
    job, worker = pid_in(tmp_path, "job"), worker_of(daemon)
    send(tmp_path, "bug")
    assert daemon.wait() == 1
    assert "nobody foresaw this" in daemon.stderr
    wait_until(lambda: not lives(job) and not lives(worker), description="job and worker were gone")


def test_a_trigger_below_a_launcher_is_fed(start: Start, tmp_path: Path) -> None:
    send(tmp_path, "true", life_time="1s", age=60.0)
    config = f'[kicker]\nlife_time_trigger = "cat > {tmp_path}/fed.new; mv {tmp_path}/fed.new {tmp_path}/fed"\n'
    daemon = start("--local", str(tmp_path / "store"), config=config)
    daemon.wait_for_line("expired")
    assert "command:true, life_time:1s" in (tmp_path / "fed").read_text()
