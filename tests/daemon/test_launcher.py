"""Commands that a launcher starts: what is as without one, and what happens when it is slow, stopped or dead."""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import spawners
from daemons import _process as process_of
from servers import clean_environment, until, wait_until
from sqsjkr.execution.command import CannotStart
from sqsjkr.execution.launched_children import _MOST_UNANSWERED, LaunchedChildren
from sqsjkr.outcome import Reason
from sqsjkr.supervision import protocol
from sqsjkr.supervision.launcher import Launcher
from sqsjkr.supervision.protocol import Report
from sqsjkr.supervision.shared_state import REAPED, SharedState
from test_process import Job, lives, pid_in

below_a_launcher = pytest.mark.below_a_launcher


def test_everything_about_commands_holds_below_a_launcher() -> None:
    spawners.run_below_a_launcher(str(Path(__file__).with_name("test_process.py")))


def launcher() -> int:
    """The pid of the launcher above this test."""
    assert spawners.below is not None
    assert spawners.below.launcher == os.getppid()
    return spawners.below.launcher


@contextmanager
def stopped() -> Iterator[None]:
    """Inside, the launcher does nothing."""
    os.kill(launcher(), signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(launcher(), signal.SIGCONT)


def spawner() -> LaunchedChildren:
    found = spawners.new_spawner()
    assert isinstance(found, LaunchedChildren)
    return found


@contextmanager
def limited(what: int, limit: int) -> Iterator[None]:
    """Inside, the launcher has no more than so much of something."""
    before = resource.prlimit(launcher(), what)
    resource.prlimit(launcher(), what, (limit, before[1]))
    try:
        yield
    finally:
        resource.prlimit(launcher(), what, before)


def state_of(pid: int) -> str:
    there = process_of(pid)
    return there.state if there else ""


def descriptors_of(pid: int) -> set[str]:
    return set(os.listdir(f"/proc/{pid}/fd"))  # noqa: PTH208 - names are all we need


@below_a_launcher
async def test_the_launcher_is_the_parent_of_a_command() -> None:
    job = Job("echo $PPID")
    await job.run()
    assert job.lines == [str(launcher())]


@below_a_launcher
async def test_the_event_loop_goes_on_while_the_launcher_is_stopped(tmp_path: Path) -> None:
    jobs = [Job(f": > {tmp_path}/{number}") for number in range(3)]
    with stopped():
        running = [job.start() for job in jobs]
        await asyncio.sleep(0)
        begun = asyncio.get_running_loop().time()
        await until(lambda: asyncio.get_running_loop().time() > begun + 0.2, description="the loop went round")
        assert not any(task.done() for task in running)
        assert all(job.mark in job.page.attempts.running() for job in jobs), (
            "launcher and backstop count them as running"
        )
        assert list(tmp_path.iterdir()) == []
    assert [(await task).status for task in running] == [0, 0, 0]


@below_a_launcher
async def test_a_thousand_commands_start_at_once_though_nobody_answers_at_first() -> None:
    before = descriptors_of(os.getpid())
    with stopped():
        jobs = [Job("exit 7").start() for _ in range(1000)]
        await until(lambda: spawner()._waiting, description="the launcher was asked")
        assert len(spawner()._unanswered) == _MOST_UNANSWERED
        assert len(descriptors_of(os.getpid()) - before) <= 2 * _MOST_UNANSWERED, "those that wait here have no pipes"
    assert {(await job).status for job in jobs} == {7}


def test_ends_are_kept_for_a_worker_that_does_not_listen() -> None:
    shared, (ours, theirs) = SharedState(), protocol.pair()
    with ours, theirs:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)  # the least that the kernel gives
        launcher, usage = Launcher(ours, shared, select.poll()), resource.getrusage(resource.RUSAGE_SELF)
        most = 10_000
        for number in range(most):
            launcher._slots[number] = number
            launcher.reaped(number, 7 << 8, usage)
            launcher.act(asked=True)
        assert launcher._reports, "the socket was full"
        got: list[Report] = []
        while len(got) < most:
            got += protocol.receive_reports(theirs) or []
            launcher.act(asked=True)
        assert [report.slot for report in got] == list(range(most))
        assert not launcher._reports


@below_a_launcher
async def test_a_start_that_was_sent_and_is_given_up_is_not_made(tmp_path: Path) -> None:
    job = Job(f": > {tmp_path}/begun")
    with stopped():
        running = job.start()
        await until(lambda: spawner()._unanswered, description="the launcher was asked")
        job.shell.interrupt(Reason.TIMEOUT, kill_after=86_400)
    end = await running
    assert (end.status, end.reason) == (-signal.SIGTERM, Reason.TIMEOUT)
    assert not (tmp_path / "begun").exists()
    assert job.mark not in job.page.attempts.running()


@below_a_launcher
async def test_a_start_that_was_not_sent_is_given_up_at_once(tmp_path: Path) -> None:
    jobs = [Job(f": > {tmp_path}/{number}") for number in range(_MOST_UNANSWERED + 1)]
    with stopped():
        running = [job.start() for job in jobs]
        await until(lambda: spawner()._waiting, description="one waited")
        jobs[-1].shell.interrupt(Reason.STOP, kill_after=86_400)
        assert (await running[-1]).reason is Reason.STOP
    assert [(await task).status for task in running[:-1]] == [0] * _MOST_UNANSWERED
    assert not (tmp_path / str(_MOST_UNANSWERED)).exists()


@below_a_launcher
async def test_a_job_that_is_interrupted_while_it_starts_ends_when_it_has(tmp_path: Path) -> None:
    job = Job(f": > {tmp_path}/begun; exec sleep 300")
    running = job.start()
    await asyncio.sleep(0)
    wait_until((tmp_path / "begun").exists, description="it ran")  # blocking: the loop has not heard of it
    job.shell.interrupt(Reason.STOP, kill_after=30)
    end = await running
    assert (end.status, end.reason) == (-signal.SIGTERM, Reason.STOP)


@below_a_launcher
async def test_a_launcher_that_does_not_say_whether_a_job_runs_is_killed(tmp_path: Path) -> None:
    sent, unsent = Job(f": > {tmp_path}/sent"), [Job(f": > {tmp_path}/unsent") for _ in range(_MOST_UNANSWERED)]
    os.kill(launcher(), signal.SIGSTOP)
    running = [job.start() for job in (sent, *unsent)]
    await until(lambda: spawner()._waiting, description="the launcher was asked")
    sent.shell.interrupt(Reason.LEASE, kill_after=0.1)
    ends = await asyncio.gather(*running)
    assert ends[0].reason is Reason.LEASE
    assert {end.reason for end in ends[1:]} == {Reason.LAUNCHER}
    assert os.getppid() != spawner().shared.launcher, "it is dead"
    assert list(tmp_path.iterdir()) == []
    assert spawner().shared.attempts.running() == {}


@below_a_launcher
async def test_when_the_launcher_dies_every_job_is_gone_before_its_end_is_known(tmp_path: Path) -> None:
    names = [f"pid.{number}" for number in range(10)]
    running = [
        Job(f"(setsid sh -c 'echo $$ > {tmp_path}/{name}; exec sleep 300' &); wait; exec sleep 300").start()
        for name in names
    ]
    pids = [await pid_in(tmp_path / name) for name in names]
    starting = [Job(f"echo $$ > {tmp_path}/late.{number}; exec sleep 300").start() for number in range(50)]
    await asyncio.sleep(0)
    os.kill(launcher(), signal.SIGKILL)
    ends = await asyncio.gather(*running, *starting)
    late = [int(file.read_text()) for file in tmp_path.glob("late.*") if file.read_text()]
    assert not any(map(lives, [*pids, *late]))
    assert {end.reason for end in ends} == {Reason.LAUNCHER}
    assert spawner().shared.attempts.running() == {}


@below_a_launcher
async def test_nothing_is_started_when_the_launcher_is_dead(tmp_path: Path) -> None:
    spawner()
    os.kill(launcher(), signal.SIGKILL)
    job = Job(f": > {tmp_path}/begun")
    assert (await job.run()).reason is Reason.LAUNCHER
    assert (await Job(f": > {tmp_path}/begun").run()).reason is Reason.LAUNCHER
    assert not (tmp_path / "begun").exists()


@below_a_launcher
async def test_an_end_that_the_launcher_reported_before_it_died_counts(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "end")
    job = Job(f"read line < {tmp_path}/end; exit 7")
    running = job.start()
    await until(lambda: job.shell._pid, description="it ran")
    # From here on blocking on purpose: the loop must not hear of the end before the launcher is dead.
    os.close(os.open(tmp_path / "end", os.O_WRONLY))
    wait_until(lambda: job.page.attempts.leader(0) == REAPED, description="the launcher knew that it had ended")
    wait_until(lambda: state_of(launcher()) == "S", description="it had said so, and slept")
    os.kill(launcher(), signal.SIGKILL)
    wait_until(lambda: os.getppid() != job.page.launcher, description="it was dead")
    assert (await running).status == 7


@below_a_launcher
@pytest.mark.parametrize("stdin", [None, b"text"])
async def test_a_launcher_without_descriptors_may_start_it_later(stdin: bytes | None) -> None:
    job = Job("echo done", stdin=stdin)
    await Job("true").run()  # so that the launcher is at rest
    most = max(map(int, descriptors_of(launcher()))) + 1
    before = descriptors_of(os.getpid())
    with limited(resource.RLIMIT_NOFILE, most), pytest.raises(CannotStart, match=os.strerror(errno.EMFILE)) as why:
        await job.run()
    assert why.value.again is True
    assert descriptors_of(os.getpid()) == before
    assert (await job.run()).status == 0
    assert max(map(int, descriptors_of(launcher()))) < most


CROWDED = """
import asyncio, os, resource, sys, tempfile
sys.path.insert(0, sys.argv[1])
import spawners
from servers import until
from sqsjkr.execution.command import CannotStart
from sqsjkr.supervision.guard import guarded
from test_process import Job

async def crowded():
    resource.prlimit(os.getppid(), resource.RLIMIT_NPROC, (0, resource.getrlimit(resource.RLIMIT_NPROC)[1]))
    try:
        await Job("true").run()
    except CannotStart as why:
        print(why, why.again, flush=True)
    resource.prlimit(os.getppid(), resource.RLIMIT_NPROC, resource.getrlimit(resource.RLIMIT_NPROC))
    print((await Job("exit 7").run()).status, flush=True)

def work(shared):
    spawners.below = shared
    asyncio.run(crowded())
    return 0

if os.getuid() == 0:  # the limit is none for root
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
sys.exit(guarded(work, silence=10_000.0, backstop_silence=20_000.0))
"""


def test_a_launcher_that_may_have_no_more_processes_may_start_it_later() -> None:
    command = [sys.executable, "-c", CROWDED, str(Path(spawners.__file__).parent)]
    environment = clean_environment() | {"PYTHONPATH": str(Path(__file__).parent)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == [f"sh could not be started: {os.strerror(errno.EAGAIN)} True", "7"], done.stderr


@below_a_launcher
async def test_no_descriptor_is_left_in_the_launcher_by_a_hundred_commands() -> None:
    await Job("true").run()
    before = descriptors_of(launcher())
    for _ in range(10):
        await asyncio.gather(*(Job("cat", stdin=b"x").run() for _ in range(10)))
        with pytest.raises(CannotStart):
            await Job(f": {'x' * 131_072}", stdin=b"x").run()
    assert descriptors_of(launcher()) == before
