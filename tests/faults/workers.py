"""Starting workers for fault tests: behind the proxy, each with a port and a name of its own, leases scaled."""

from __future__ import annotations

import contextlib
import os
import resource
import sys
import time
from pathlib import Path

import daemons
import servers
from faults.history import WORKER

LEASE = 30.0  # seconds, unscaled: the product's
SILENCE = 15.0
LAUNCHER = Path(__file__).with_name("launcher.py")


def now() -> float:
    """Seconds since boot, as in the history."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def launch(scale: float, *options: str) -> list[str]:
    """The command that runs the daemon with its constants scaled; see the launcher."""
    return [sys.executable, "-P", str(LAUNCHER), f"{scale:g}", *options, "run"]


def environment(url: str, worker: str) -> dict[str, str]:
    """The environment of a worker that knows only the server at `url`."""
    return servers.clean_environment() | {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        WORKER: worker,
    }


def fill_disk(daemon: daemons.Daemon) -> None:
    """Let the disk of a daemon's log be full (`own_log`): its worker can write no byte more."""
    if worker := worker_of(daemon):
        with contextlib.suppress(OSError):  # it is gone
            resource.prlimit(worker.pid, resource.RLIMIT_FSIZE, (daemon.log.stat().st_size, resource.RLIM_INFINITY))


def clean_disk(daemon: daemons.Daemon) -> None:
    """Let there be room again."""
    if worker := worker_of(daemon):
        with contextlib.suppress(OSError):
            resource.prlimit(worker.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def starve(daemon: daemons.Daemon) -> None:
    """Leave launcher and worker no descriptor beyond those that they have: no pipe, no process, no connection."""
    for pid in (daemon.pid, *(worker.pid for worker in [worker_of(daemon)] if worker)):
        with contextlib.suppress(OSError):  # it is gone
            used = len(list(Path(f"/proc/{pid}/fd").iterdir()))
            _, most = resource.prlimit(pid, resource.RLIMIT_NOFILE)
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (used, most))


def feed(daemon: daemons.Daemon) -> None:
    """Give back what `starve` took."""
    for pid in (daemon.pid, *(worker.pid for worker in [worker_of(daemon)] if worker)):
        with contextlib.suppress(OSError):
            _, most = resource.prlimit(pid, resource.RLIMIT_NOFILE)
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (most, most))


def worker_of(daemon: daemons.Daemon) -> daemons.Process | None:
    """The worker below a daemon's launcher, None if there is none (yet, or any more)."""
    below = daemons.processes().values()
    return next((each for each in below if each.parent == daemon.pid and each.command.endswith("[worker]")), None)
