"""Other daemons on the same queue and table: release 1.0.0 and the Go original.

Both are skipped with the reason where they cannot be had: in a source distribution without git's history, on a host
without Go.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
import tarfile
from io import BytesIO
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]
CACHE = TOP / ".cache" / "peers"
RELEASE = "62599e2"
"""The commit of release 1.0.0, which has no tag."""
GO = "SQSJKR_GO"
"""A variable that names the Go daemon, for hosts where it cannot be built."""


@functools.cache
def release(factor: float) -> tuple[list[str], dict[str, str]]:
    """The command of ``sqsjkr run`` of 1.0.0 with its durations scaled, and what its environment needs besides."""
    there = CACHE / RELEASE
    if not there.exists():
        asked = ["git", "archive", RELEASE, "src", "tests/faults/launcher.py"]
        done = subprocess.run(asked, cwd=TOP, capture_output=True, check=False)
        if done.returncode:
            pytest.skip(f"release 1.0.0 is not in git's history here: {done.stderr.decode().strip()}")
        fresh = there.with_name(f"{RELEASE}.{os.getpid()}")
        with tarfile.open(fileobj=BytesIO(done.stdout)) as tar:
            tar.extractall(fresh, filter="data")
        if not there.exists():
            fresh.rename(there)
    launcher = there / "tests" / "faults" / "launcher.py"
    return [sys.executable, "-P", str(launcher), f"{factor:g}", "run"], {"PYTHONPATH": str(there / "src")}


@functools.cache
def go() -> str:
    """The path of the Go daemon."""
    if given := os.environ.get(GO):
        return given
    built = CACHE / "sqsjkr-go"
    if built.exists():
        return str(built)
    build = next((each for top in TOP.parents if (each := top / "shared/peer/build").exists()), None)
    if build is None or shutil.which("go") is None:
        pytest.skip(f"no Go daemon: its source is not beside this checkout, or Go is not installed; name one in {GO}")
    CACHE.mkdir(parents=True, exist_ok=True)
    done = subprocess.run([str(build), str(CACHE)], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"the Go daemon could not be built: {done.stderr.strip()[-500:]}")
    return str(built)
