from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import daemon as daemons
from daemon import RUN, Daemon
from servers import clean_environment, wait_until
from sqsjkr.backends.sqlite.queue import SQLiteQueue
from sqsjkr.backends.sqlite.store import Store
from sqsjkr.supervision.guard import EXIT_WORKER_DIED

SOON = 5.0
"""Seconds within which the jobs of a dead worker are dead."""

IMPATIENT = """
import sys
from sqsjkr import queue
from sqsjkr.supervision import backstop
from sqsjkr.supervision import guard
from sqsjkr.leases import session
from sqsjkr.intake import waiting_room
guard.SILENCE = 1.0
backstop.PATIENCE = 2.0
queue.FIRST_HIDING = 1.0
waiting_room.RETRY = 0.5
session.Session.__init__.__kwdefaults__["lease"] = 3.0
from sqsjkr.cli.main import main
sys.exit(main(["run", *sys.argv[1:]]))
"""
"""The command, with every patience of minutes and seconds shortened."""

BLOCKING = """
import time
from sqsjkr import kicker
shorten = kicker.shorten
kicker.shorten = lambda text, *most: time.sleep(60) if text == "block" else shorten(text, *most)
"""
"""A job with the command "block" keeps the event loop from doing anything else."""

SLEEPER = """echo $$ > {directory}/{name}.new; mv {directory}/{name}.new {directory}/{name}; exec sleep 300"""
Start = Callable[..., Daemon]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a daemon on the store of the test; with `config`, on what that names."""
    with contextlib.ExitStack() as stack:

        def begin(*arguments: str, **more: Any) -> Daemon:
            place = () if "config" in more else ("--local", str(tmp_path / "store"))
            begun = stack.enter_context(Daemon(*place, *arguments, **{"env": clean_environment()} | more))
            stack.callback(lambda: sys.stderr.write(f"--- daemon {begun.pid} said:\n{begun.stderr}\n"))
            return begun

        yield begin


def impatient(script: str = "") -> tuple[str, ...]:
    return sys.executable, "-c", script + IMPATIENT


def send(tmp_path: Path, *commands: str) -> None:
    async def put() -> None:
        queue = SQLiteQueue(Store(tmp_path / "store"))
        await queue.open()
        await queue.send([json.dumps({"command": command}) for command in commands])
        await queue.close()

    asyncio.run(put())


def sleeper(tmp_path: Path, name: str) -> str:
    """A command that writes its pid into a file of this name and sleeps."""
    script = tmp_path / f"{name}.sh"
    script.write_text(SLEEPER.format(directory=tmp_path, name=name))
    return f"sh {script}"


def pid_in(tmp_path: Path, name: str) -> int:
    wait_until((tmp_path / name).exists, description=f"{name} ran")
    return int((tmp_path / name).read_text())


def worker_of(guard: Daemon) -> int:
    """The guard's eldest child."""
    wait_until(lambda: daemons.descendants(guard.pid), description="the worker was there")
    return min(daemons.descendants(guard.pid), key=lambda process: process.started).pid


def lives(pid: int) -> bool:
    there = daemons._process(pid)
    return there is not None and there.state != "Z"


class Family:
    """A job with processes that try to get away, and what a finished job left in the background."""

    def __init__(self, tmp_path: Path) -> None:
        names = ("child", "session", "orphan", "bare")
        child, session, orphan, bare = (sleeper(tmp_path, name) for name in names)
        leaving = f"setsid {sleeper(tmp_path, 'left')} > /dev/null 2>&1 &"
        running = f"{child} & setsid {session} & (setsid {orphan} &); env -i setsid {bare} & wait"
        send(tmp_path, leaving)
        self._begin = lambda: send(tmp_path, running)
        self._path = tmp_path
        self._names = names

    def wait(self) -> None:
        """Until all of it runs."""
        self.left = pid_in(self._path, "left")
        self._begin()
        self.pids = [pid_in(self._path, name) for name in self._names]

    def wait_until_dead(self) -> None:
        wait_until(lambda: not any(map(lives, self.pids)), timeout=SOON, description=f"{self.pids} were dead")
        assert lives(self.left), "what the finished job left was ended too"


def test_the_jobs_of_a_killed_worker_die_and_what_finished_jobs_left_does_not(start: Start, tmp_path: Path) -> None:
    family = Family(tmp_path)
    guard = start()
    family.wait()
    os.kill(worker_of(guard), signal.SIGKILL)
    family.wait_until_dead()
    assert guard.wait(SOON) == EXIT_WORKER_DIED
    guard.wait_for_line("guard.killed  the worker was ended by SIGKILL")


def test_the_jobs_of_a_killed_guard_die_and_the_worker_with_them(start: Start, tmp_path: Path) -> None:
    family = Family(tmp_path)
    guard = start()
    family.wait()
    worker = worker_of(guard)
    guard.signal(signal.SIGKILL)
    family.wait_until_dead()
    wait_until(lambda: not lives(worker), timeout=SOON, description="the worker was gone")


def test_the_jobs_of_a_killed_process_group_die(start: Start, tmp_path: Path) -> None:
    family = Family(tmp_path)
    guard = start(command=("setsid", *RUN))
    family.wait()
    worker = worker_of(guard)
    assert os.getpgid(guard.pid) == guard.pid
    os.killpg(guard.pid, signal.SIGKILL)
    family.wait_until_dead()
    wait_until(lambda: not lives(worker), timeout=SOON, description="the worker was gone")


def test_the_jobs_die_when_guard_and_worker_are_killed_in_one_moment(start: Start, tmp_path: Path) -> None:
    family = Family(tmp_path)
    guard = start()
    family.wait()
    both = guard.pid, worker_of(guard)
    for number in (signal.SIGSTOP, signal.SIGKILL):  # stopped first, so that neither begins what the other should do
        for pid in both:
            os.kill(pid, number)
    family.wait_until_dead()
    guard.wait_for_line("guard and worker died together")


def test_the_jobs_die_when_guard_and_worker_are_frozen_in_one_moment(start: Start, tmp_path: Path) -> None:
    family = Family(tmp_path)
    guard = start(command=impatient())
    family.wait()
    for pid in (worker_of(guard), guard.pid):
        os.kill(pid, signal.SIGSTOP)
    family.wait_until_dead()
    guard.wait(SOON)


def test_the_jobs_of_a_frozen_worker_die(start: Start, tmp_path: Path) -> None:
    family = Family(tmp_path)
    guard = start(command=impatient())
    family.wait()
    os.kill(worker_of(guard), signal.SIGSTOP)
    family.wait_until_dead()
    assert guard.wait(SOON) == EXIT_WORKER_DIED
    guard.wait_for_line("has been silent for 1s")


def test_the_jobs_of_a_worker_whose_event_loop_is_blocked_die(start: Start, tmp_path: Path) -> None:
    family = Family(tmp_path)
    guard = start(command=impatient(BLOCKING))
    family.wait()
    send(tmp_path, "block")
    family.wait_until_dead()
    assert guard.wait(SOON) == EXIT_WORKER_DIED


@pytest.mark.slow
def test_a_frozen_worker_is_noticed_within_half_a_lease(start: Start, tmp_path: Path) -> None:
    send(tmp_path, sleeper(tmp_path, "job"))
    guard = start()
    job = pid_in(tmp_path, "job")
    os.kill(worker_of(guard), signal.SIGSTOP)
    wait_until(lambda: not lives(job), timeout=17, description="the job was dead")
    assert guard.wait(SOON) == EXIT_WORKER_DIED


def test_the_job_of_a_killed_worker_runs_again(start: Start, tmp_path: Path) -> None:
    send(tmp_path, f"echo $SQSJKR_RECEIVE_COUNT >> {tmp_path}/runs; [ -e {tmp_path}/end ] || sleep 300")
    guard = start(command=impatient())
    wait_until((tmp_path / "runs").exists, description="the job ran")
    os.kill(worker_of(guard), signal.SIGKILL)
    assert guard.wait(SOON) == EXIT_WORKER_DIED

    (tmp_path / "end").touch()
    again = start(command=impatient())

    again.wait_for_line("succeeded", timeout=20)
    first, *others = (tmp_path / "runs").read_text().split()
    assert (first, len(others)) == ("1", 1)
    again.signal(signal.SIGTERM)
    assert again.wait() == 0


def test_what_loses_its_parent_leaves_no_zombie(start: Start, tmp_path: Path) -> None:
    send(tmp_path, f"(sh -c 'echo $$ > {tmp_path}/pid.new; mv {tmp_path}/pid.new {tmp_path}/pid' &)")
    guard = start()
    orphan = pid_in(tmp_path, "pid")
    wait_until(lambda: daemons._process(orphan) is None, description="the orphan was reaped")
    assert guard.is_running()


def test_what_finished_jobs_left_outlives_an_orderly_stop(start: Start, tmp_path: Path) -> None:
    send(tmp_path, f"setsid {sleeper(tmp_path, 'left')} > /dev/null 2>&1 &")
    guard = start("--until-empty")
    left = pid_in(tmp_path, "left")
    assert guard.wait() == 0
    assert lives(left)


def test_the_exit_code_is_the_workers(start: Start, tmp_path: Path) -> None:
    assert start("--until-empty").wait() == 0
    (tmp_path / "config.toml").write_text("[kicker]\nslots = 3\n")
    assert start("--conf", str(tmp_path / "config.toml")).wait() == 2
    (tmp_path / "file").touch()
    assert start("--local", str(tmp_path / "file")).wait() == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT])
def test_a_stop_signal_reaches_the_worker(start: Start, tmp_path: Path, number: signal.Signals) -> None:
    guard = start()
    guard.wait_for_line("worker.started")
    begun = time.monotonic()
    guard.signal(number)
    assert guard.wait() == 0
    assert time.monotonic() - begun < 0.5
    guard.wait_for_line(f"{number.name} received")
    assert not (tmp_path / "stats.sock").exists()


def test_a_second_signal_ends_the_grace_period(start: Start, tmp_path: Path) -> None:
    send(tmp_path, sleeper(tmp_path, "job"))
    guard = start()
    job = pid_in(tmp_path, "job")
    guard.signal(signal.SIGTERM)
    guard.wait_for_line("worker.stopping")
    assert lives(job)
    guard.signal(signal.SIGTERM)
    assert guard.wait(3) == 0
    assert not lives(job)


def test_a_stop_while_it_is_being_started_is_orderly(start: Start) -> None:
    guard = start()
    wait_until(lambda: daemons.descendants(guard.pid), description="the worker was forked")
    guard.signal(signal.SIGTERM)
    assert guard.wait(2) == 0
    assert "guard.killed" not in guard.stderr


def test_a_stop_while_aws_does_not_answer_is_orderly(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        deaf.settimeout(10)
        aws = {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{deaf.getsockname()[1]}",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        config = '[account]\nid = "123456789012"\nregion = "us-east-1"\n[sqs]\nqueue_name = "jobs"\n'
        guard = start(config=config, env=clean_environment() | aws)
        connection, _ = deaf.accept()
        begun = time.monotonic()
        guard.signal(signal.SIGTERM)
        assert guard.wait(5) == 0
        assert time.monotonic() - begun < 1
        connection.close()


def test_a_daemon_whose_parent_ignores_its_children_still_sees_jobs_end(start: Start, tmp_path: Path) -> None:
    ignoring = (
        "import os, signal, sys; signal.signal(signal.SIGCHLD, signal.SIG_IGN); os.execv(sys.argv[1], sys.argv[1:])"
    )
    send(tmp_path, "exit 7")
    guard = start("--until-empty", command=(sys.executable, "-c", ignoring, *RUN))
    guard.wait_for_line("errored exit status 7")
    assert guard.wait() == 0
