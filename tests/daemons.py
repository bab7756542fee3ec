"""`sqsjkr run` as a real process, and the processes that a test must not leave behind."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import servers

#: The variable that every daemon, and so every job, carries: it finds those whose parents are gone.
MARK = "SQSJKR_TEST_MARK"
_RUN = f"{os.getpid()}.{time.time_ns()}"  # unique on this host, so runs side by side leave each other alone
_numbers = itertools.count(1)
RUN = (sys.executable, "-m", "sqsjkr", "run")


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """One process as /proc shows it. The start time tells it from a later one with the same pid."""

    pid: int
    parent: int
    state: str
    started: int

    @property
    def command(self) -> str:
        """Its command line, empty once it is a zombie or gone."""
        try:
            return Path(f"/proc/{self.pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        except OSError:
            return ""

    def lives(self) -> bool:
        """Whether it is still there, and no zombie."""
        now = _process(self.pid)
        return now is not None and now.started == self.started and now.state != "Z"

    def kill(self) -> None:
        """SIGKILL, unless it is gone; never another process that took over its pid."""
        with contextlib.suppress(ProcessLookupError):
            handle = os.pidfd_open(self.pid)
            try:
                if self.lives():
                    signal.pidfd_send_signal(handle, signal.SIGKILL)
            finally:
                os.close(handle)


def _process(pid: int) -> Process | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()  # the name before it may hold spaces and brackets; see proc(5)
    return Process(pid=pid, parent=int(fields[1]), state=fields[0], started=int(fields[19]))


def processes() -> dict[int, Process]:
    """All processes that this user can see, zombies included, by pid."""
    found = (_process(int(entry.name)) for entry in Path("/proc").iterdir() if entry.name.isdecimal())
    return {process.pid: process for process in found if process is not None}


def descendants(root: int, among: Mapping[int, Process] | None = None) -> list[Process]:
    """The children of `root`, theirs, and so on, zombies included."""
    everyone = processes() if among is None else among
    family = {root}
    found: list[Process] = []
    while new := [p for p in everyone.values() if p.parent in family and p.pid not in family]:
        family |= {process.pid for process in new}
        found += new
    return found


def marked(mark: str, among: Mapping[int, Process] | None = None) -> list[Process]:
    """The processes whose environment holds a mark that begins with this, wherever they hang in the tree."""
    wanted = f"\0{MARK}={mark}".encode()
    found = []
    for process in (processes() if among is None else among).values():
        with contextlib.suppress(OSError):  # gone meanwhile, or another user's
            if wanted in b"\0" + Path(f"/proc/{process.pid}/environ").read_bytes():
                found.append(process)
    return found


_BROWSER = "/chromium/"
"""In the command of the browser, which a run opens once, and of the processes that it starts when it likes."""


def ours() -> list[Process]:
    """Everything that was started by this test run and is neither one of its servers nor its browser."""
    everyone = processes()
    found = {process.pid: process for process in descendants(os.getpid(), everyone) + marked(f"{_RUN}.", everyone)}
    kept = {*servers.RUNNING, os.getpid()}
    return [process for process in found.values() if process.pid not in kept and _BROWSER not in process.command]


class Daemon:
    """One daemon process with its own directory, its stderr read live.

    Args:
        arguments: appended to the command.
        env: the whole environment; the mark is added.
        config: the text of a config file; it is written and `--conf` is added. None: neither.
        command: what is run before the arguments; a stub in this module's own tests.
        own_log: stderr is a file, `log`, so that its disk can be full.
        own_socket: add `--stats-socket` where neither arguments nor config name a place, so that no two daemons of a
            test meet on the default port.

    It is started from the main thread and ends with the test process.
    """

    def __init__(
        self,
        *arguments: str,
        env: Mapping[str, str],
        config: str | None = None,
        command: Sequence[str] = RUN,
        own_log: bool = False,
        own_socket: bool = True,
    ) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="jkr-"))  # short: a socket's path has 107 bytes at most
        self.log = self.directory / "log"
        self.lines: list[str] = []
        self._mark = f"{_RUN}.{next(_numbers)}."
        self._changed = threading.Condition()
        self._ended = False
        full = [*command]
        if config is not None:
            path = self.directory / "config.toml"
            path.write_text(config)
            full += ["--conf", str(path)]
        self._stats = _stats_place(arguments, config or "")
        if self._stats is None and own_socket:
            self._stats = str(self.directory / "stats.sock")
            full += ["--stats-socket", self._stats]
        with (self.directory / "stdout").open("wb") as output, self.log.open("ab") as log:
            self._popen = subprocess.Popen(
                servers.ending_with_this_process([*full, *arguments]),
                env={**env, MARK: self._mark},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=log if own_log else subprocess.PIPE,
            )
        self.pid = self._popen.pid
        self._reader = threading.Thread(target=self._read, name=f"stderr of {self.pid}", daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.kill_tree()

    @property
    def stderr(self) -> str:
        """What it has said so far."""
        return "\n".join(self.lines)

    @property
    def stdout(self) -> str:
        """What it has printed so far."""
        return (self.directory / "stdout").read_text(errors="replace")

    def wait_for_line(
        self, match: str | Callable[[str], object], *, timeout: float = servers.PATIENCE, after: int = 0
    ) -> str:
        """The first line of stderr, from line number `after` on, that holds the text or satisfies the predicate.

        Raises:
            AssertionError: it ended, or the seconds passed, without such a line; with all that it said.
        """
        fits = (lambda line: match in line) if isinstance(match, str) else match
        deadline = time.monotonic() + timeout
        seen = after
        with self._changed:
            while True:
                for line in self.lines[seen:]:
                    if fits(line):
                        return line
                seen = max(seen, len(self.lines))
                left = deadline - time.monotonic()
                if self._ended or left <= 0:
                    why = "it closed its stderr" if self._ended else f"{timeout:g} s passed"
                    raise AssertionError(f"no line with {match!r}: {why}; it said:\n{self.stderr}")
                self._changed.wait(left)

    def signal(self, number: int) -> None:
        """Send a signal to the process that was started, not to its children."""
        self._popen.send_signal(number)

    def wait(self, timeout: float = servers.PATIENCE) -> int:
        """Its exit code, negative for a signal.

        Raises:
            AssertionError: it still runs after `timeout` seconds; with all that it said.
        """
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = self._popen.wait(timeout)
            self._reader.join(10)  # so that `lines` is complete, unless a job holds stderr open
            return code
        raise AssertionError(f"still running after {timeout:g} s; it said:\n{self.stderr}")

    def is_running(self) -> bool:
        """Whether the process that was started still runs."""
        return self._popen.poll() is None

    def tree(self) -> list[Process]:
        """The living processes that came from it, itself excluded: children first, orphans by their mark after them.

        Its backstop is left out: it is no child of the daemon.
        """
        below = descendants(self.pid)
        inside = {self.pid, *(process.pid for process in below)}
        mine = processes().get(self.pid)
        backstop = (
            mine.command.replace("[launcher]", "[backstop]") if mine else ""
        )  # without titles the same as the launcher
        strays = [p for p in marked(self._mark) if p.pid not in inside and not (mine and p.command == backstop)]
        return [process for process in below + strays if process.state != "Z"]

    def stats(self, path: str = "/stats/metrics/v2") -> Any:
        """The decoded answer of its stats server, at the port or socket that its arguments or its config name.

        Raises:
            OSError: nobody listens there (yet).
        """
        status, body = self.get(path)
        assert status == 200, f"GET {path}: {status} {body}"
        return json.loads(body)

    def get(self, path: str) -> tuple[int, str]:
        """What its stats server answers there: the status and the body. Raises as ``stats``."""
        if self._stats is None:
            raise RuntimeError("this daemon was given no stats port or socket to ask")
        connection = http.client.HTTPConnection(
            "127.0.0.1", self._stats if isinstance(self._stats, int) else 0, timeout=servers.PATIENCE
        )
        try:
            if isinstance(self._stats, str):
                connection.sock = socket.socket(socket.AF_UNIX)
                connection.sock.settimeout(servers.PATIENCE)
                connection.sock.connect(self._stats)
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def kill_tree(self) -> None:
        """SIGKILL it and all that came from it; returns when they are gone. Its directory goes too."""
        family = self.tree()
        self._popen.kill()
        self._popen.wait()

        def gone() -> bool:
            left = {process.pid: process for process in [*family, *self.tree()] if process.lives()}
            for process in left.values():
                process.kill()
            return not left

        servers.wait_until(gone, description=f"what daemon {self.pid} started was gone")
        self._reader.join(5)
        if self._popen.stderr is not None and not self._reader.is_alive():
            self._popen.stderr.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _written(self) -> Iterator[bytes]:
        """The lines of a log that is a file, as they come, until its process has ended."""
        with self.log.open("rb") as log:
            rest, over = b"", False
            while not over:
                over = not self.is_running()
                *lines, rest = (rest + log.read()).split(b"\n")
                yield from lines
                time.sleep(0.02)

    def _read(self) -> None:
        for line in self._popen.stderr or self._written():
            with self._changed:
                self.lines.append(line.decode(errors="replace").rstrip("\n"))
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()


def _stats_place(arguments: Sequence[str], config: str) -> int | str | None:
    """The port or the socket that the command line names, or else the config."""
    given: dict[str, Any] = {}
    with contextlib.suppress(tomllib.TOMLDecodeError):  # a broken config is a test's business
        given = tomllib.loads(config).get("kicker", {})
    words = iter(arguments)
    for word in words:
        name, _, value = word.partition("=")
        if name in ("--stats-port", "--stats-socket"):
            given = {name[2:].replace("-", "_"): value or next(words, "")}
    port = given.get("stats_port")
    return int(port) if port else given.get("stats_socket")


def left_behind(before: Sequence[Process], *, patience: float = min(30.0, servers.PATIENCE)) -> list[str]:
    """Describe what this test run started after `before` and what is not gone in `patience` seconds; kill it."""
    known = {(process.pid, process.started) for process in before}

    def new() -> list[Process]:
        return [process for process in ours() if (process.pid, process.started) not in known]

    with contextlib.suppress(AssertionError):
        servers.wait_until(lambda: not new(), timeout=patience, description="all were gone")
        return []
    left = new()
    said = [f"{process.pid} {process.state} {process.command}" for process in left]
    for process in left:
        process.kill()
    return said
