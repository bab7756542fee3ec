from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import daemons
from daemons import RUN
from families import Start, backstop_of, impatient, lives, pid_in, send, sleeper, worker_of
from servers import PATIENCE, clean_environment, wait_until
from sqsjkr.supervision.guard import EXIT_WORKER_DIED

BLOCKING = """
import time
from sqsjkr.telemetry import job_log
shorten = job_log.shorten
job_log.shorten = lambda text, *most: time.sleep(60) if text == "block" else shorten(text, *most)
"""
"""A job with the command "block" keeps the event loop from doing anything else."""

WAITING = """
import sys, time
from pathlib import Path
from sqsjkr.supervision.guard import guarded

def work(page):
    Path(sys.argv[1], "begun").touch()
    while not Path(sys.argv[1], "end").exists():
        time.sleep(0.01)
    return 7

sys.exit(guarded(work, title="waiting"))
"""
"""A worker without signal handlers of its own: it ends with 7 when there is a file "end" in its directory."""

LEAVING = """
import atexit, os, sys, time
from sqsjkr.cli.main import main
from sqsjkr.telemetry.logs import Logs

def hold(name):
    open(f"{sys.argv[1]}/{name} leaves", "w").close()
    while not os.path.exists(f"{sys.argv[1]}/{name} may leave"):
        time.sleep(0.01)

def held(logs, close=Logs.close):
    hold("worker")
    close(logs)

Logs.close = held
atexit.register(hold, "launcher")
sys.exit(main(["run", *sys.argv[2:]]))
"""
"""The command. Worker and launcher say when they are about to leave, and wait until they may."""


def has_taken_its_signals(pid: int) -> bool:
    """Whether no signal is pending, or it is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return True
    pending = [line.split()[1] for line in status.splitlines() if line.startswith(("SigPnd:", "ShdPnd:"))]
    return not any(int(signals, 16) for signals in pending)


def waiting(tmp_path: Path) -> tuple[str, ...]:
    return sys.executable, "-c", WAITING, str(tmp_path)


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
        wait_until(lambda: not any(map(lives, self.pids)), description=f"{self.pids} were dead")
        assert lives(self.left), "what the finished job left was ended too"


def test_the_jobs_of_a_killed_worker_die_and_what_finished_jobs_left_does_not(start: Start, tmp_path: Path) -> None:
    family = Family(tmp_path)
    launcher = start()
    family.wait()
    os.kill(worker_of(launcher), signal.SIGKILL)
    family.wait_until_dead()
    assert launcher.wait() == EXIT_WORKER_DIED
    launcher.wait_for_line("guard.killed  the worker was ended by SIGKILL")


def test_the_jobs_of_a_killed_launcher_die_and_the_worker_with_them(start: Start, tmp_path: Path) -> None:
    family = Family(tmp_path)
    launcher = start()
    family.wait()
    worker = worker_of(launcher)
    launcher.signal(signal.SIGKILL)
    family.wait_until_dead()
    wait_until(lambda: not lives(worker), description="the worker was gone")


def test_the_jobs_of_a_killed_process_group_die(start: Start, tmp_path: Path) -> None:
    family = Family(tmp_path)
    launcher = start(command=("setsid", *RUN))
    family.wait()
    worker = worker_of(launcher)
    assert os.getpgid(launcher.pid) == launcher.pid
    os.killpg(launcher.pid, signal.SIGKILL)
    family.wait_until_dead()
    wait_until(lambda: not lives(worker), description="the worker was gone")


def test_the_jobs_die_when_launcher_and_worker_are_killed_in_one_moment(start: Start, tmp_path: Path) -> None:
    family = Family(tmp_path)
    launcher = start()
    family.wait()
    # Stopped first, so that neither begins what the other should do; and the worker dies first, since the kernel wakes
    # a stopped process group that the death of a parent makes an orphan (setpgid(2), HUP and CONT).
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for pid in (worker_of(launcher), launcher.pid):
            os.kill(pid, number)
    family.wait_until_dead()
    launcher.wait_for_line("launcher and worker died together")


def test_the_jobs_die_when_launcher_and_worker_are_frozen_in_one_moment(start: Start, tmp_path: Path) -> None:
    family = Family(tmp_path)
    launcher = start(command=impatient())
    family.wait()
    for pid in (worker_of(launcher), launcher.pid):
        os.kill(pid, signal.SIGSTOP)
    family.wait_until_dead()
    launcher.wait()


def test_the_jobs_of_a_frozen_worker_die(start: Start, tmp_path: Path) -> None:
    family = Family(tmp_path)
    launcher = start(command=impatient())
    family.wait()
    os.kill(worker_of(launcher), signal.SIGSTOP)
    family.wait_until_dead()
    assert launcher.wait() == EXIT_WORKER_DIED
    launcher.wait_for_line("has been silent for 4.5s")


def test_the_jobs_of_a_worker_whose_event_loop_is_blocked_die(start: Start, tmp_path: Path) -> None:
    family = Family(tmp_path)
    launcher = start(command=impatient(BLOCKING))
    family.wait()
    send(tmp_path, "block")
    family.wait_until_dead()
    assert launcher.wait() == EXIT_WORKER_DIED


@pytest.mark.slow
def test_a_frozen_worker_is_noticed_under_the_products_own_lease_budget(start: Start, tmp_path: Path) -> None:
    send(tmp_path, sleeper(tmp_path, "job"))
    launcher = start()
    job = pid_in(tmp_path, "job")
    os.kill(worker_of(launcher), signal.SIGSTOP)
    wait_until(lambda: not lives(job), description="the job was dead")
    assert launcher.wait() == EXIT_WORKER_DIED


def test_the_job_of_a_killed_worker_runs_again(start: Start, tmp_path: Path) -> None:
    send(tmp_path, f"echo $SQSJKR_RECEIVE_COUNT >> {tmp_path}/runs; [ -e {tmp_path}/end ] || sleep 86400")
    launcher = start(command=impatient())
    wait_until((tmp_path / "runs").exists, description="the job ran")
    os.kill(worker_of(launcher), signal.SIGKILL)
    assert launcher.wait() == EXIT_WORKER_DIED

    (tmp_path / "end").touch()
    again = start(command=impatient())

    again.wait_for_line("succeeded")
    first, *others = (tmp_path / "runs").read_text().split()
    assert (first, len(others)) == ("1", 1)
    again.signal(signal.SIGTERM)
    assert again.wait() == 0


def test_what_loses_its_parent_leaves_no_zombie(start: Start, tmp_path: Path) -> None:
    send(tmp_path, f"(sh -c 'echo $$ > {tmp_path}/pid.new; mv {tmp_path}/pid.new {tmp_path}/pid' &)")
    launcher = start()
    orphan = pid_in(tmp_path, "pid")
    wait_until(lambda: daemons._process(orphan) is None, description="the orphan was reaped")
    assert launcher.is_running()


def test_what_finished_jobs_left_outlives_an_orderly_stop(start: Start, tmp_path: Path) -> None:
    send(tmp_path, f"setsid {sleeper(tmp_path, 'left')} > /dev/null 2>&1 &")
    launcher = start("--until-empty")
    left = pid_in(tmp_path, "left")
    assert launcher.wait() == 0
    assert lives(left)


def test_the_exit_code_is_the_workers(start: Start, tmp_path: Path) -> None:
    assert start("--until-empty").wait() == 0
    (tmp_path / "config.toml").write_text("[kicker]\nslots = 3\n")
    assert start("--conf", str(tmp_path / "config.toml")).wait() == 2
    (tmp_path / "file").touch()
    assert start("--local", str(tmp_path / "file")).wait() == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT])
def test_a_stop_signal_reaches_the_worker(start: Start, tmp_path: Path, number: signal.Signals) -> None:
    launcher = start()
    launcher.wait_for_line("worker.started")
    launcher.signal(number)
    assert launcher.wait() == 0
    launcher.wait_for_line(f"{number.name} received")
    assert not (tmp_path / "stats.sock").exists()


@pytest.mark.parametrize(("more", "code"), [((), 0), (("--stats-port", "1"), 1)], ids=["stopped", "refused"])
def test_a_stop_signal_that_comes_while_worker_and_launcher_leave_does_not_change_the_exit_code(
    start: Start, tmp_path: Path, more: tuple[str, ...], code: int
) -> None:
    (tmp_path / "config.toml").write_text('[kicker]\nstats_host = "192.0.2.1"\n')  # an address of no host
    place = "--conf", f"{tmp_path}/config.toml", "--local", f"{tmp_path}/store"
    launcher = start(*place, *more, config=None, command=(sys.executable, "-c", LEAVING, str(tmp_path)))
    worker = worker_of(launcher)
    if not code:
        launcher.wait_for_line("worker.started")
        launcher.signal(signal.SIGTERM)
    for name, pid in (("worker", worker), ("launcher", launcher.pid)):
        wait_until((tmp_path / f"{name} leaves").exists, description=f"the {name} was leaving")
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1):
            os.kill(pid, number)
        wait_until(lambda pid=pid: has_taken_its_signals(pid) or not lives(pid), description="it took the signals")
        (tmp_path / f"{name} may leave").touch()
    assert launcher.wait() == code


def test_stop_signals_without_a_pause_end_in_an_orderly_stop(start: Start) -> None:
    launcher = start()
    launcher.wait_for_line("worker.started")
    while launcher.is_running():
        launcher.signal(signal.SIGTERM)
    assert launcher.wait() == 0


def test_a_second_signal_ends_the_grace_period(start: Start, tmp_path: Path) -> None:
    send(tmp_path, sleeper(tmp_path, "job"))
    launcher = start("--local", str(tmp_path / "store"), config="[kicker]\ngrace_period = 86400\n")
    job = pid_in(tmp_path, "job")
    launcher.signal(signal.SIGTERM)
    launcher.wait_for_line("worker.stopping")
    assert lives(job)
    launcher.signal(signal.SIGTERM)
    assert launcher.wait() == 0
    assert not lives(job)


def test_an_orderly_stop_ends_every_process_of_the_running_jobs(start: Start, tmp_path: Path) -> None:
    family = Family(tmp_path)
    launcher = start()
    family.wait()
    launcher.signal(signal.SIGTERM)
    launcher.wait_for_line("worker.stopping")
    launcher.signal(signal.SIGTERM)
    assert launcher.wait() == 0
    family.wait_until_dead()
    assert "guard.killed" not in launcher.stderr


def test_many_jobs_are_stopped_in_order(start: Start, tmp_path: Path) -> None:
    jobs = 60
    background = "sleep 86400 & " * 4
    send(tmp_path, *(f"{background} : > {tmp_path}/begun.{number}; wait" for number in range(jobs)))
    config = f"[kicker]\nmax_concurrent_num = {jobs}\ngrace_period = 0\n"
    launcher = start("--local", str(tmp_path / "store"), config=config)
    wait_until(lambda: len(list(tmp_path.glob("begun.*"))) == jobs, description="all ran")
    launcher.signal(signal.SIGTERM)
    assert launcher.wait() == 0
    assert sum(" interrupted " in line for line in launcher.lines) == jobs
    assert "guard.killed" not in launcher.stderr


def test_usr1_before_the_worker_has_handlers_is_a_stop(start: Start, tmp_path: Path) -> None:
    launcher = start(command=waiting(tmp_path))
    wait_until((tmp_path / "begun").exists, description="the worker ran")
    launcher.signal(signal.SIGUSR1)
    assert launcher.wait() == 0


@pytest.mark.parametrize("number", [signal.SIGUSR2, signal.SIGALRM, signal.SIGPIPE])
def test_a_stray_signal_ends_neither_launcher_nor_worker_nor_backstop(
    start: Start, tmp_path: Path, number: signal.Signals
) -> None:
    launcher = start(command=waiting(tmp_path))
    wait_until((tmp_path / "begun").exists, description="the worker ran")
    all_three = launcher.pid, worker_of(launcher), backstop_of(launcher)
    for pid in all_three:
        os.kill(pid, number)
    wait_until(lambda: all(map(has_taken_its_signals, all_three)), description="the signals were taken")
    assert [lives(pid) for pid in all_three] == [True] * 3
    (tmp_path / "end").touch()
    assert launcher.wait() == 7


def test_a_stray_usr2_ends_no_job(start: Start, tmp_path: Path) -> None:
    send(tmp_path, f"touch {tmp_path}/begun; until [ -e {tmp_path}/end ]; do sleep 0.05; done")
    launcher = start()
    wait_until((tmp_path / "begun").exists, description="the job ran")
    for pid in (launcher.pid, worker_of(launcher)):
        os.kill(pid, signal.SIGUSR2)

    send(tmp_path, f"touch {tmp_path}/next")
    wait_until((tmp_path / "next").exists, description="the next job ran")
    (tmp_path / "end").touch()
    wait_until(lambda: launcher.stderr.count("succeeded") == 2, description="both ended by themselves")
    assert "worker.stopping" not in launcher.stderr


def test_usr1_lets_running_jobs_end_and_takes_no_new_ones(start: Start, tmp_path: Path) -> None:
    send(tmp_path, f"touch {tmp_path}/begun; until [ -e {tmp_path}/end ]; do sleep 0.05; done")
    config = "[kicker]\nmax_concurrent_num = 1\ngrace_period = 0\n"
    launcher = start("--local", str(tmp_path / "store"), config=config)
    wait_until((tmp_path / "begun").exists, description="the job ran")
    launcher.signal(signal.SIGUSR1)
    launcher.wait_for_line("worker.stopping")
    send(tmp_path, f"touch {tmp_path}/new")
    (tmp_path / "end").touch()
    assert launcher.wait() == 0
    assert " succeeded " in launcher.stderr
    assert not (tmp_path / "new").exists()


def test_usr1_does_not_end_the_backstop(start: Start, tmp_path: Path) -> None:
    launcher = start(command=waiting(tmp_path))
    wait_until((tmp_path / "begun").exists, description="the worker ran")
    backstop = backstop_of(launcher)
    os.kill(backstop, signal.SIGUSR1)
    wait_until(lambda: has_taken_its_signals(backstop), description="the signal was taken")
    assert lives(backstop)


def test_a_worker_without_handlers_ends_with_its_guard(start: Start, tmp_path: Path) -> None:
    launcher = start(command=waiting(tmp_path))
    wait_until((tmp_path / "begun").exists, description="the worker ran")
    worker, backstop = worker_of(launcher), backstop_of(launcher)
    launcher.signal(signal.SIGKILL)
    wait_until(lambda: not lives(worker) and not lives(backstop), description="worker and backstop were gone")


def test_launcher_worker_and_backstop_have_titles_of_their_own(start: Start, tmp_path: Path) -> None:
    launcher = start()
    launcher.wait_for_line("worker.started")
    command = f"sqsjkr run --stats-socket {launcher.directory}/stats.sock --local {tmp_path}/store"
    roles = {
        process.pid: process.command for process in daemons.marked(launcher._mark)
    }  # their environment is readable
    assert roles == {
        launcher.pid: f"{command} [launcher]",
        worker_of(launcher): f"{command} [worker]",
        backstop_of(launcher): f"{command} [backstop]",
    }


def test_a_title_that_is_too_long_is_cut_before_the_role() -> None:
    script = (
        "from pathlib import Path; from sqsjkr.supervision.process_title import set_title; "
        "set_title('x' * 100_000, 'launcher'); "
        "print(Path('/proc/self/cmdline').read_text().rstrip(chr(0)), Path('/proc/self/environ').read_text())"
    )
    command = [sys.executable, "-c", script]
    environment = {"PATH": os.environ["PATH"], "TITLE": "none"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    title, _, rest = done.stdout.partition(" [launcher] ")
    assert len(f"{title} [launcher]") == len("\0".join(command))
    assert "TITLE=none" in rest


def test_a_stop_while_it_is_being_started_is_orderly(start: Start) -> None:
    launcher = start()
    wait_until(lambda: daemons.descendants(launcher.pid), description="the worker was forked")
    launcher.signal(signal.SIGTERM)
    assert launcher.wait() == 0
    assert "guard.killed" not in launcher.stderr


def test_a_stop_while_aws_does_not_answer_is_orderly(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        deaf.settimeout(PATIENCE)
        aws = {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{deaf.getsockname()[1]}",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        config = '[account]\nid = "123456789012"\nregion = "us-east-1"\n[sqs]\nqueue_name = "jobs"\n'
        launcher = start(config=config, env=clean_environment() | aws)
        connection, _ = deaf.accept()
        launcher.signal(signal.SIGTERM)
        assert launcher.wait() == 0
        connection.close()


def test_a_daemon_whose_parent_ignores_its_children_still_sees_jobs_end(start: Start, tmp_path: Path) -> None:
    ignoring = (
        "import os, signal, sys; signal.signal(signal.SIGCHLD, signal.SIG_IGN); os.execv(sys.argv[1], sys.argv[1:])"
    )
    send(tmp_path, "exit 7")
    launcher = start("--until-empty", command=(sys.executable, "-c", ignoring, *RUN))
    launcher.wait_for_line("errored exit status 7")
    assert launcher.wait() == 0
