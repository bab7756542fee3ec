"""The daemon that is measured, ours or a peer's: how it is started, what it costs, how it is stopped."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from benchmarks.standing import ACCOUNT, QUEUE, ROOT, Standin

_TICK = os.sysconf("SC_CLK_TCK")
_CONFIG = """[account]
id = "{account}"
region = "us-east-1"
[sqs]
queue_name = "{queue}"
[kicker]
max_concurrent_num = {slots}
stats_port = {port}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """Who is measured."""

    name: str
    command: tuple[str, ...]
    """What is started; the configuration file's option follows."""
    option: str
    environment: Callable[[Standin], dict[str, str | None]] = lambda _: {}
    """What it needs beside AWS's own settings; None takes a variable away."""

    @classmethod
    def ours(cls, environment: Callable[[Standin], dict[str, str | None]] = lambda _: {}) -> Subject:
        """This checkout, as the Python that runs the benchmark sees it."""
        command = (sys.executable, "-m", "sqsjkr", "run")
        return cls(name="ours", command=command, option="--conf", environment=environment)

    def probed(self, found: Path) -> Subject:
        """Our daemon with a probe in its event loop, which writes its findings into a file."""
        command = (sys.executable, "-m", "benchmarks.stalls", str(found), "run")
        return replace(self, command=command)

    @classmethod
    def peer(cls, command: str, environment: Callable[[Standin], dict[str, str | None]]) -> Subject:
        """Any daemon that takes the original's file: `command -conf FILE`."""
        return cls(name="peer", command=tuple(shlex.split(command)), option="-conf", environment=environment)


class Daemon:
    """A running daemon, for as long as its `with` block. Its log goes to a file, as it would under most supervisors."""

    def __init__(
        self,
        subject: Subject,
        standin: Standin | None,
        folder: Path,
        *,
        slots: int = 20,
        local: Path | None = None,
        settings: str = "",
    ) -> None:
        self._port = _free_port()
        config = folder / f"{self._port}.toml"
        config.write_text(_CONFIG.format(account=ACCOUNT, queue=QUEUE, slots=slots, port=self._port) + settings)
        self.log = folder / f"{self._port}.log"
        command = [*subject.command, subject.option, str(config), *(["--local", str(local)] if local else [])]
        with self.log.open("wb") as log:
            self.started = time.monotonic()
            self._process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=_environment(standin, subject),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def __enter__(self) -> Self:
        try:
            self.wait(0)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(15)
            except subprocess.TimeoutExpired:
                for pid in self.pids():
                    os.kill(pid, signal.SIGKILL)
                self._process.wait()

    def ended(self) -> int:
        """How many jobs have ended by themselves, by its own stats."""
        numbers = self._stats()["invocations"]
        return numbers["succeeded"] + numbers["failed"] + numbers["errored"]

    def busy(self) -> int:
        """How many slots are taken."""
        return self._stats()["workers"]["busy"]

    def wait(self, jobs: int, seconds: float = 120.0) -> float:
        """Wait until so many jobs have ended. When that was, on the monotonic clock."""
        until = time.monotonic() + seconds
        while True:
            done = -1
            with contextlib.suppress(ConnectionError, http.client.HTTPException):
                done = self.ended()
            now = time.monotonic()
            if done >= jobs:
                return now
            if self._process.poll() is not None or now > until:
                raise RuntimeError(f"{done} of {jobs} jobs after {seconds:g} s, see {self.log}:\n{self._last_words()}")
            # A look costs the daemon about as much as a tenth of a job: look seldom until it is nearly done.
            time.sleep(0.01 if done < 0 or jobs - done < 100 or jobs <= 200 else 0.05)

    def stop(self) -> float:
        """TERM; seconds until it has ended."""
        begun = time.monotonic()
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(30)
        return time.monotonic() - begun

    def pids(self) -> list[int]:
        """The daemon's processes: what we started, its backstop (no child of it), and all that descends from them."""
        parents: dict[int, list[int]] = {}
        for entry in os.scandir("/proc"):
            if entry.name.isdigit() and (stat := _stat(int(entry.name))):
                parents.setdefault(int(stat[1]), []).append(int(entry.name))
        found = [self._process.pid]
        found += [pid for pid in parents.get(1, []) if pid != found[0] and _words(pid) == _words(found[0])]
        for pid in found:
            found += parents.get(pid, [])
        return found

    def cpu(self) -> float:
        """Seconds of CPU so far: its processes and every child they have waited for."""
        stats = [stat for pid in self.pids() if (stat := _stat(pid))]
        return sum(int(ticks) for stat in stats for ticks in stat[11:15]) / _TICK

    def resident(self) -> float:
        """MiB resident: the largest process, and what the others have beside it for themselves (a forked pair shares).

        Unlike PSS it does not shrink when other programs on the host happen to use the same libraries.
        """
        sizes = sorted((_field(f"/proc/{pid}/smaps_rollup", "Rss:"), _private(pid)) for pid in self.pids())
        return (sizes[-1][0] + sum(private for _, private in sizes[:-1])) / 1024

    def proportional(self) -> float:
        """MiB of PSS: a page that is shared counts in parts, also with programs that are not the daemon's."""
        return sum(_field(f"/proc/{pid}/smaps_rollup", "Pss:") for pid in self.pids()) / 1024

    def forget_peaks(self) -> None:
        """From now on, `peak` knows only what comes (proc_pid_clear_refs(5))."""
        for pid in self.pids():
            Path(f"/proc/{pid}/clear_refs").write_text("5")

    def peak(self, pids: list[int]) -> float:
        """The most MiB that these processes had resident, each for itself."""
        return sum(_field(f"/proc/{pid}/status", "VmHWM:") for pid in pids) / 1024

    def _stats(self) -> dict[str, dict[str, int]]:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        try:
            connection.request("GET", "/stats/metrics/v2")
            answer: dict[str, dict[str, int]] = json.loads(connection.getresponse().read())
        finally:
            connection.close()
        return answer

    def _last_words(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-10:])


def _environment(standin: Standin | None, subject: Subject) -> dict[str, str]:
    env: dict[str, str | None] = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    env |= {
        "PYTHONDONTWRITEBYTECODE": None,  # an installed program has its bytecode beside it
        "AWS_ACCESS_KEY_ID": "benchmark",
        "AWS_SECRET_ACCESS_KEY": "benchmark",
        "AWS_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }
    if standin is not None:
        env |= {"AWS_ENDPOINT_URL": standin.url} | subject.environment(standin)
    return {name: value for name, value in env.items() if value is not None}


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def _words(pid: int) -> bytes:
    """The command line a process was started with; forks share it, but for their role at its end."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().partition(b" [")[0]
    return b""


def _stat(pid: int) -> list[str] | None:
    """State, parent, ..., from the third field of proc_pid_stat(5) on; None for what has ended."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return None


def _private(pid: int) -> int:
    return sum(_field(f"/proc/{pid}/smaps_rollup", name) for name in ("Private_Clean:", "Private_Dirty:"))


def _field(path: str, name: str) -> int:
    with contextlib.suppress(OSError):
        for line in Path(path).read_text().splitlines():
            if line.startswith(name):
                return int(line.split()[1])
    return 0
