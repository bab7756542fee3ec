"""When the end of a job may be believed, and which pid may be signalled."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
from collections.abc import Iterator

import pytest

from sqsjkr.execution.sweeper import Ending
from sqsjkr.supervision import process_tree
from sqsjkr.supervision.process_tree import EMPTY_LOOKS, Process
from sqsjkr.supervision.shared_state import NO_LEADER, SharedState


@pytest.fixture
def sleeping() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "86400"], process_group=0) as process:
        yield process
        process.kill()


def seen(pid: int) -> Process:
    census = process_tree.Census()
    census.take(pid)
    return census.processes[pid]


async def test_a_leaders_pid_is_forgotten_when_its_group_is_empty(sleeping: subprocess.Popen[bytes]) -> None:
    """Else a job that leaves a deaf process behind could kill whoever gets the pid meanwhile."""
    leader, stray = seen(sleeping.pid), Process(pid=2**22 + 1, parent=1, group=2**22 + 1, started=1)
    ending = Ending(SharedState(), "mark", leader.pid, kill_after=86_400.0)
    ending.act_on({leader.pid: leader, stray.pid: stray})
    for look in range(EMPTY_LOOKS):
        assert ending.leader == leader.pid, look
        ending.act_on({stray.pid: stray})
    assert ending.leader == NO_LEADER


async def test_a_process_that_took_over_a_pid_is_not_signalled(sleeping: subprocess.Popen[bytes]) -> None:
    earlier = seen(sleeping.pid)._replace(started=1)
    ending = Ending(SharedState(), "mark", earlier.pid, kill_after=0.0)
    for _ in range(3):  # TERM, then KILL
        ending.act_on({earlier.pid: earlier})
    stray = Ending(SharedState(), "mark", os.getpid(), kill_after=0.0)
    for _ in range(3):
        stray.act_on({earlier.pid: earlier})
    assert sleeping.poll() is None


async def test_a_job_without_a_known_leader_is_looked_for_longer() -> None:
    known, unknown = (Ending(SharedState(), "mark", leader, kill_after=0.0) for leader in (2**22 + 1, NO_LEADER))
    for ending in (known, unknown):
        for _ in range(EMPTY_LOOKS + 1):  # the first look is before TERM
            ending.act_on({})
    assert (known.gone.done(), unknown.gone.done()) == (True, False)


@pytest.mark.parametrize("leader", [0, 1, -1])
def test_no_group_is_signalled_that_means_everybody(leader: int) -> None:
    with pytest.raises(ValueError, match="no process group"):
        process_tree.send_to_group(leader, process_tree.signal.SIGCONT)


def test_a_process_is_signalled_where_no_descriptor_is_left_to_look_at_it(
    sleeping: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    process = seen(sleeping.pid)

    def unreadable(_pid: int) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(process_tree, "_read", unreadable)
    process.send(signal.SIGKILL)
    assert sleeping.wait() == -signal.SIGKILL
