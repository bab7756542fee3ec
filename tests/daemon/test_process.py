from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemons import _process as process_of
from servers import until, wait_until
from spawners import new_spawner
from sqsjkr import clock
from sqsjkr.execution.command import CannotStart, Command, shell
from sqsjkr.execution.output import Output
from sqsjkr.execution.spawner import Spawner
from sqsjkr.execution.sweeper import sweeper_of
from sqsjkr.outcome import Exit, Reason
from sqsjkr.supervision import process_tree

_numbers = itertools.count(1)


class Job:
    """One command under test, its output, and the page on which it is written down."""

    def __init__(self, command: str, *, stdin: bytes | None = None, spawner: Spawner | None = None) -> None:
        self.mark = f"{os.getpid():08x}{next(_numbers):016x}"
        self.spawner = spawner or new_spawner()
        self.page = self.spawner.shared
        self.lines: list[str] = []
        self.output = Output(on_line=self.lines.append, on_cut=lambda _: None, rate=0, tail=1000, now=clock.now)
        self.shell = Command(self.mark, self.spawner)
        self.variables = {process_tree.MARK.encode(): self.mark.encode()}
        self._command = command
        self._stdin = stdin

    async def run(self) -> Exit:
        return await self.shell.run(shell(self._command), self.variables, self.output, stdin=self._stdin)

    def start(self) -> asyncio.Task[Exit]:
        return asyncio.create_task(self.run())


def lives(pid: int) -> bool:
    there = process_of(pid)
    return there is not None and there.state != "Z"


async def pid_in(file: Path) -> int:
    """The pid that a process wrote into a file."""
    await until(lambda: file.exists() and file.read_text().endswith("\n"), description=f"{file.name} was written")
    return int(file.read_text())


async def test_the_exit_code_is_told() -> None:
    end = await Job("exit 7").run()
    assert (end.status, end.reason, end.leftovers) == (7, None, False)


async def test_a_signal_is_a_negative_status() -> None:
    assert (await Job("kill -USR1 $$").run()).status == -signal.SIGUSR1


async def test_a_job_leads_a_process_group_of_its_own() -> None:
    job = Job("echo $$; ps -o pgid= -p $$")
    await job.run()
    shell, group = (int(line) for line in job.lines)
    assert shell == group != os.getpgrp()


async def test_a_job_finds_the_signals_as_a_shell_expects_them() -> None:
    job = Job("yes | head -n 1; sh -c 'kill -PIPE $$'; echo $?")
    await job.run()
    assert job.lines == ["y", str(128 + signal.SIGPIPE)]


async def test_no_signal_is_ignored_or_blocked_in_a_job() -> None:
    job = Job("grep -E '^Sig(Blk|Ign):' /proc/self/status; true")
    await job.run()
    standard = (1 << 31) - 1  # the C library's own come after them
    assert {int(line.split()[1], 16) & standard for line in job.lines} == {0}


async def test_a_job_finds_no_descriptor_of_the_daemon() -> None:
    job = Job("ls /proc/$$/fd; true")
    await job.run()
    given = {int(line) for line in job.lines} - {0, 1, 2}
    assert {number for number in given if not os.get_inheritable(number)} == set()


async def test_a_job_that_listens_ends_by_itself_after_term() -> None:
    job = Job('trap "echo told; exit 0" TERM; echo begun; sleep 60 & wait')
    running = job.start()
    await until(lambda: job.lines, description="it began")
    job.shell.interrupt(Reason.STOP, kill_after=30)
    end = await running
    assert (end.status, end.reason) == (0, Reason.STOP)
    assert job.lines == ["begun", "told"]


async def test_a_job_that_does_not_listen_is_killed_after_a_while() -> None:
    job = Job('trap "" TERM; echo begun; while true; do sleep 1; done')
    running = job.start()
    await until(lambda: job.lines, description="it began")
    begun = time.monotonic()
    job.shell.interrupt(Reason.STOP, kill_after=0.3)
    end = await running
    assert end.status == -signal.SIGKILL
    assert time.monotonic() - begun >= 0.3


async def test_asking_again_can_only_hurry_it() -> None:
    job = Job('trap "" TERM; echo begun; while true; do sleep 1; done')
    running = job.start()
    await until(lambda: job.lines, description="it began")
    for kill_after in (86_400.0, 0.0, 86_400.0):
        job.shell.interrupt(Reason.STOP, kill_after=kill_after)
    assert (await running).status == -signal.SIGKILL


async def test_a_job_that_is_interrupted_before_its_start_is_not_started(tmp_path: Path) -> None:
    job = Job(f"touch {tmp_path}/begun")
    job.shell.interrupt(Reason.STOP, kill_after=1)
    assert (await job.run()).reason is Reason.STOP
    assert not (tmp_path / "begun").exists()


async def test_a_job_that_has_ended_by_itself_keeps_its_own_ending(tmp_path: Path) -> None:
    job = Job(f"echo $$ > {tmp_path}/pid; exit 7")
    running = job.start()
    shell = await pid_in(tmp_path / "pid")
    while lives(shell):  # blocking on purpose: the loop must not see the end before it is asked to interrupt
        time.sleep(0.001)
    job.shell.interrupt(Reason.STOP, kill_after=1)
    end = await running
    assert (end.status, end.reason) == (7, None)


ESCAPES = {
    "a child": "{sleeper} & wait",
    "a child of a child": "sh -c '{sleeper} & wait' & wait",
    "a session of its own": "setsid sh -c '{sleeper}' & wait",
    "a double fork": "(setsid sh -c '{sleeper}' &) ; sleep 60",
    "an emptied environment": "env -i sh -c '{sleeper}' & wait",
    "an emptied environment and a session": "env -i setsid sh -c '{sleeper}' & wait",
    "a shell that is gone": "(setsid sh -c '{sleeper}' &) ; until [ -e {pid} ]; do sleep 0.01; done; exec sleep 60",
}


@pytest.mark.parametrize("escape", ESCAPES)
@pytest.mark.parametrize("deaf", [False, True], ids=["listens", "deaf"])
async def test_every_process_of_an_interrupted_job_ends(tmp_path: Path, escape: str, *, deaf: bool) -> None:
    pid = tmp_path / "pid"
    trap = 'trap "" TERM; ' if deaf else ""
    (tmp_path / "sleeper").write_text(f"{trap}echo $$ > {pid}; while true; do sleep 1; done")
    job = Job(trap + ESCAPES[escape].format(sleeper=f"sh {tmp_path}/sleeper", pid=pid))
    running = job.start()
    sleeper = await pid_in(pid)

    job.shell.interrupt(Reason.STOP, kill_after=0.2)
    await running

    assert not lives(sleeper)  # at once: a lock is given back the moment `run` returns
    assert job.mark not in job.page.attempts.running()


async def test_one_sweep_serves_all_jobs_that_are_being_ended() -> None:
    spawner = new_spawner()
    before = sweeper_of(spawner.shared).sweeps
    jobs = [Job("sleep 300 & sleep 300 & echo begun; wait", spawner=spawner) for _ in range(60)]
    running = [job.start() for job in jobs]
    await until(lambda: all(job.lines for job in jobs), description="they began")
    for job in jobs:
        job.shell.interrupt(Reason.STOP, kill_after=30)
    ends = await asyncio.gather(*running)
    assert {end.reason for end in ends} == {Reason.STOP}
    assert 0 < sweeper_of(spawner.shared).sweeps - before < len(jobs)


async def test_other_jobs_go_on_while_many_are_being_ended() -> None:
    spawner = new_spawner()
    jobs = [Job("sleep 300 & sleep 300 & echo begun; wait", spawner=spawner) for _ in range(20)]
    spared = Job("echo begun; read line; echo $line", spawner=spawner, stdin=b"bye\n")
    running = [job.start() for job in jobs]
    await until(lambda: all(job.lines for job in jobs), description="they began")
    for job in jobs:
        job.shell.interrupt(Reason.STOP, kill_after=30)
    assert (await spared.run()).reason is None
    await asyncio.gather(*running)


@contextlib.contextmanager
def three_processes() -> Iterator[subprocess.Popen[bytes]]:
    """A shell with two children, each past its exec: until then a child has no environment to read."""
    with subprocess.Popen(["sh", "-c", "sleep 300 & sleep 300 & wait"], start_new_session=True) as tree:
        children = Path(f"/proc/{tree.pid}/task/{tree.pid}/children")

        def have_begun() -> bool:
            names = [Path(f"/proc/{pid}/comm").read_text() for pid in children.read_text().split()]
            return names == ["sleep\n"] * 2

        wait_until(have_begun, description="both children run sleep")
        yield tree


def test_a_census_below_a_process_reads_nothing_beside_it() -> None:
    with three_processes() as tree:
        alone = process_tree.Census()
        alone.take(tree.pid)
        others = [subprocess.Popen(["sleep", "300"]) for _ in range(50)]
        try:
            beside = process_tree.Census()
            beside.take(tree.pid)
        finally:
            for other in others:
                other.kill()
                other.wait()
            os.killpg(tree.pid, signal.SIGKILL)
    assert len(beside.processes) == 3
    assert beside.reads == alone.reads


def test_a_second_census_reads_no_environment_again() -> None:
    with three_processes() as tree:
        census = process_tree.Census()
        census.take(tree.pid)
        first = census.reads
        census.take(tree.pid)
        os.killpg(tree.pid, signal.SIGKILL)
    assert first == 3 * 3  # of each process: what it is, its children, its environment
    assert census.reads == first + 3 * 2


def test_a_process_whose_first_thread_has_ended_lives() -> None:
    script = (
        "import ctypes, threading, time; threading.Thread(target=lambda: time.sleep(300)).start(); "
        "ctypes.CDLL(None).pthread_exit(None)"
    )
    with subprocess.Popen([sys.executable, "-S", "-c", script]) as headless:
        wait_until(lambda: not lives(headless.pid), description="its first thread was a zombie")
        census = process_tree.Census()
        census.take(headless.pid)
        headless.kill()
    assert set(census.processes) == {headless.pid}


async def test_a_job_that_ends_by_itself_leaves_its_background_alone(tmp_path: Path) -> None:
    job = Job(f"(echo $$; until [ -e {tmp_path}/end ]; do sleep 0.01; done; echo bye) & echo $! > {tmp_path}/pid")
    end = await job.run()
    background = await pid_in(tmp_path / "pid")
    assert (end.status, end.leftovers) == (0, True)
    assert job.mark not in job.page.attempts.running()
    assert lives(background)

    (tmp_path / "end").touch()
    await until(lambda: "bye" in job.lines, description="the background was still read")
    await until(lambda: not lives(background), description="the background ended by itself")


async def test_what_a_finished_job_left_is_not_ended_with_another_job(tmp_path: Path) -> None:
    first = Job(f"setsid sleep 60 > /dev/null 2>&1 & echo $! > {tmp_path}/pid")
    await first.run()
    left = await pid_in(tmp_path / "pid")
    second = Job("echo begun; sleep 60")
    running = second.start()
    await until(lambda: second.lines, description="it began")
    second.shell.interrupt(Reason.STOP, kill_after=1)
    await running
    assert lives(left)
    os.kill(left, signal.SIGKILL)


@pytest.mark.parametrize(
    ("command", "stdin", "expected"),
    [("cat | wc -c", b"x" * 5_000_000, "5000000"), ("echo unread", b"x" * 5_000_000, "unread"), ("wc -c", b"", "0")],
)
async def test_a_command_may_read_its_input_or_not(command: str, stdin: bytes, expected: str) -> None:
    job = Job(command, stdin=stdin)
    assert (await job.run()).status == 0
    assert [line.strip() for line in job.lines] == [expected]


async def test_what_a_job_has_not_read_is_dropped_when_it_ends() -> None:
    before = _descriptors()
    await Job("true", stdin=b"x" * 5_000_000).run()
    await until(lambda: _descriptors() == before, description="the pipe was closed")


@pytest.mark.parametrize("size", [100_000, 131_000])
async def test_a_long_command_is_run(size: int) -> None:
    job = Job(f": {'x' * size}; echo done")
    await job.run()
    assert job.lines == ["done"]


async def test_a_command_too_long_for_exec_can_never_start() -> None:
    job = Job(f": {'x' * 131_072}")
    with pytest.raises(CannotStart, match="too long for exec") as why:
        await job.run()
    assert why.value.again is False
    assert job.mark not in job.page.attempts.running()


async def test_a_megabyte_of_environment_reaches_the_job() -> None:
    job = Job("echo $(($(printenv V0 | wc -c) + $(printenv V9 | wc -c)))")
    job.variables |= {f"V{number}".encode(): b"x" * 100_000 for number in range(10)}
    await job.run()
    assert job.lines == ["200002"]


async def test_an_environment_too_long_for_exec_can_never_start() -> None:
    job = Job("true")
    job.variables |= {f"V{number}".encode(): b"x" * 120_000 for number in range(70)}  # exec takes 6 MiB at most
    with pytest.raises(CannotStart, match="too long for exec") as why:
        await job.run()
    assert why.value.again is False


async def test_a_program_that_may_not_be_run_any_more_may_be_run_later(tmp_path: Path) -> None:
    program, job = tmp_path / "program", Job("")
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    argv = [str(program).encode()]
    assert (await Job("").shell.run(argv, {}, job.output)).status == 0
    program.chmod(0o600)
    with pytest.raises(CannotStart, match="Permission denied") as why:
        await job.shell.run(argv, {}, job.output)
    assert (why.value.again, why.value.missing) == (True, True)


async def test_a_file_that_is_no_program_can_never_start(tmp_path: Path) -> None:
    program, job = tmp_path / "program", Job("")
    program.write_bytes(b"\x7fELF of another machine")
    program.chmod(0o755)
    with pytest.raises(CannotStart, match="Exec format error") as why:
        await job.shell.run([str(program).encode()], {}, job.output)
    assert (why.value.again, why.value.missing) == (False, False)


async def test_a_nul_can_never_start() -> None:
    with pytest.raises(CannotStart) as why:
        await Job("echo \0").run()
    assert why.value.again is False


async def test_nothing_is_left_open_by_a_command_that_cannot_start() -> None:
    before = _descriptors()
    with pytest.raises(CannotStart):
        await Job(f": {'x' * 131_072}", stdin=b"text").run()
    assert _descriptors() == before


@contextlib.contextmanager
def _descriptors_left(count: int) -> Iterator[None]:
    """Inside, no more than this many descriptors can be opened."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = (number for number in itertools.count() if not _is_open(number))
    resource.setrlimit(resource.RLIMIT_NOFILE, (next(itertools.islice(free, count, None)), limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


@pytest.mark.parametrize("left", [0, 1])
async def test_a_host_without_descriptors_may_start_it_later(left: int) -> None:
    job = Job("echo done")
    with _descriptors_left(left), pytest.raises(CannotStart, match="Too many open files") as why:
        await job.run()
    assert why.value.again is True
    assert (await job.run()).status == 0


async def test_a_job_is_ended_where_no_descriptor_is_left_to_look_with() -> None:
    job = Job("echo begun; exec sleep 300")
    running = job.start()
    await until(lambda: job.lines, description="it began")
    with _descriptors_left(0):
        job.shell.interrupt(Reason.STOP, kill_after=30)
        await until(lambda: job.shell._child is not None and job.shell._child.ended.done(), description="it ended")
    assert (await running).status == -signal.SIGTERM


async def test_many_jobs_are_seen_to_end_where_the_system_has_no_pidfd(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "pidfd_open")
    slow = [Job("sleep 300") for _ in range(40)]
    running = [job.start() for job in slow]
    await until(lambda: all(job.mark in job.page.attempts.running() for job in slow), description="the slow jobs ran")
    assert (await Job("exit 7").run()).status == 7
    assert not any(task.done() for task in running)
    for job in slow:
        job.shell.interrupt(Reason.STOP, kill_after=1)
    assert {end.status for end in await asyncio.gather(*running)} == {-signal.SIGTERM}


async def test_a_job_whose_runner_is_cancelled_stays_on_the_page() -> None:
    job = Job("echo begun; exec sleep 60")
    running = job.start()
    await until(lambda: job.lines, description="it began")
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    leader = job.page.attempts.running()[job.mark]
    os.killpg(leader, signal.SIGKILL)
    await until(lambda: process_of(leader) is None, description="it was reaped: no zombie is left")
    job.output.ended()


async def test_no_descriptor_is_left_by_a_hundred_jobs() -> None:
    await Job("true").run()
    before = _descriptors()
    for _ in range(10):
        await asyncio.gather(*(Job("echo done").run() for _ in range(10)))
    assert _descriptors() == before


async def test_the_cpu_of_a_job_is_told() -> None:
    end = await Job(f"{sys.executable} -S -c 'while sum(__import__(\"os\").times()[:2]) < 0.2: pass'").run()
    assert 0.1 < end.cpu < 2


async def test_the_memory_of_a_job_is_known() -> None:
    end = await Job(f"{sys.executable} -S -c 'b\"x\" * 100_000_000'").run()
    ours = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # the least that the kernel says of a child
    assert 100_000_000 < end.max_rss < 100_000_000 + max(100_000_000, ours)


async def test_what_a_job_printed_is_counted_to_the_byte() -> None:
    end = await Job("head -c 300000 /dev/zero; echo five 1>&2").run()
    assert end.printed == 300_005


async def test_a_program_is_run_with_its_words_as_they_are() -> None:
    job = Job("")
    end = await job.shell.run([b"printf", b"%s|", b"a b", b"", b"$HOME"], job.variables, job.output)
    assert (end.status, job.lines) == (0, ["a b||$HOME|"])


async def test_a_program_that_is_not_there_may_be_there_later() -> None:
    job = Job("")
    with pytest.raises(CannotStart, match="no nowhere-to-be-found on the daemon's PATH") as why:
        await job.shell.run([b"nowhere-to-be-found"], job.variables, job.output)
    assert why.value.again is True


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - a count is all we need
