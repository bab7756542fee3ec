"""What starts the processes of a test: the test's own process, or a launcher above it.

A test that is marked `below_a_launcher` runs in a pytest of its own, which is a launcher's worker.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from weakref import WeakKeyDictionary

import pytest

from servers import clean_environment, ending_with_this_process
from sqsjkr.execution.launched_children import LaunchedChildren
from sqsjkr.execution.own_children import OwnChildren
from sqsjkr.execution.spawner import Spawner
from sqsjkr.supervision.guard import guarded
from sqsjkr.supervision.shared_state import SharedState

below: SharedState | None = None
"""What this process shares with its launcher; None: it has none."""
_launched: WeakKeyDictionary[asyncio.AbstractEventLoop, LaunchedChildren] = WeakKeyDictionary()
_TESTS = Path(__file__).parent
_BEGIN = (
    "import sys; sys.path.insert(0, sys.argv[1]); import spawners; spawners.be_a_launcher(sys.argv[2], sys.argv[3:])"
)


def new_spawner() -> Spawner:
    """A spawner for one test; below a launcher, the same one for each event loop."""
    if below is None:
        return OwnChildren(SharedState(), dict(os.environb))
    loop = asyncio.get_running_loop()
    if loop not in _launched:
        _launched[loop] = LaunchedChildren(below, dict(os.environb))
    return _launched[loop]


def run_below_a_launcher(*tests: str) -> None:
    """Run these tests in a pytest whose processes a launcher starts. Fails with all that it printed."""
    with tempfile.TemporaryDirectory(prefix="launched-") as directory:
        verdict = Path(directory, "verdict")
        options = ["-n", "0", "-q", "-p", "no:cacheprovider", f"--basetemp={directory}/tests"]
        command = [sys.executable, "-c", _BEGIN, str(_TESTS), str(verdict), *options, *tests]
        done = subprocess.run(
            ending_with_this_process(command),
            cwd=_TESTS.parent,
            env=clean_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if not verdict.exists() or verdict.read_text() != "0":
            pytest.fail(f"{done.stdout}\n{done.stderr}", pytrace=False)


def be_a_launcher(verdict: str, arguments: list[str]) -> None:
    """Launch for a pytest, which writes its exit code into a file: a test may kill its launcher."""

    def work(shared: SharedState) -> int:
        global below  # noqa: PLW0603 - it is set once, before the first test
        below = shared
        signal.signal(signal.SIGUSR2, signal.SIG_IGN)  # a worker would leave; the test wants to see what it does first
        Path(verdict).write_text(str(int(pytest.main(arguments))))
        return 0

    sys.exit(guarded(work, silence=10_000.0, backstop_silence=20_000.0))
