"""What a job can learn of the daemon that runs it: a daemon and its jobs of a user without any privilege."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from servers import clean_environment, wait_until

NOBODY = 65534
PYTHON = shutil.which("python3", path="/usr/bin:/usr/local/bin")
SPY = """
import ctypes, json, os, sys

def tries(pid):
    found = {}
    for name in ("environ", "mem", "maps", "auxv", "fd/0"):
        try:
            with open(f"/proc/{pid}/{name}", "rb") as file:
                file.read(1)
            found[name] = "read"
        except OSError as why:
            found[name] = why.strerror
    attached = ctypes.CDLL(None, use_errno=True).ptrace(16, pid, 0, 0)  # PTRACE_ATTACH
    found["ptrace"] = "attached" if attached == 0 else os.strerror(ctypes.get_errno())
    if attached == 0:
        os.waitpid(pid, 0x40000000)  # __WALL
        ctypes.CDLL(None).ptrace(17, pid, 0, 0)  # PTRACE_DETACH
    found["title"] = open(f"/proc/{pid}/cmdline", "rb").read().replace(b"\\0", b" ").decode().strip()
    return found

everyone = [int(name) for name in os.listdir("/proc") if name.isdecimal()]
daemon = {}
for pid in everyone:
    try:
        title = open(f"/proc/{pid}/cmdline", "rb").read().replace(b"\\0", b" ").decode().strip()
    except OSError:
        continue
    for role in ("launcher", "worker", "backstop"):
        if sys.argv[1] in title and title.rstrip().endswith(f"[{role}]"):
            daemon[role] = tries(pid)
own = len(open(f"/proc/{os.getppid()}/environ").read())
print(json.dumps({"daemon": daemon, "environ": dict(os.environ), "own": own}))
"""


@pytest.fixture
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory of nobody's."""
    if os.geteuid() != 0 or shutil.which("setpriv") is None or PYTHON is None:
        pytest.skip("needs root, to become a user without privileges, setpriv, and a Python that everybody may run")
    directory = Path("/tmp") / f"sqsjkr-privacy-{os.getpid()}"  # noqa: S108 - pytest's directories are root's alone
    directory.mkdir(mode=0o700)
    os.chown(directory, NOBODY, NOBODY)
    yield directory
    shutil.rmtree(directory)


def as_nobody(*words: str) -> list[str]:
    nobody = ["--reuid", str(NOBODY), "--regid", str(NOBODY), "--clear-groups", "--bounding-set=-all"]
    return ["setpriv", *nobody, sys.executable, "-m", "sqsjkr", *words]


SECRETS = {"AWS_ACCESS_KEY_ID": "AKIDAEMON", "AWS_SECRET_ACCESS_KEY": "the daemon's secret", "NOTIFY_SOCKET": "/run/x"}


@pytest.fixture
def env(home: Path) -> dict[str, str]:
    return {**clean_environment(), **SECRETS, "HOME": str(home), "AWS_CONFIG_FILE": os.devnull}


Spied = Callable[..., dict[str, Any]]


@pytest.fixture
def spied(home: Path, env: dict[str, str]) -> Spied:
    """Runs a daemon whose one job looks around; what it saw."""

    def run(settings: str) -> dict[str, Any]:
        (home / "spy.py").write_text(SPY)
        (home / "config.toml").write_text(f"[kicker]\n{settings}\n")
        store = str(home / "store")
        command = f"{PYTHON} {home}/spy.py {store} > {home}/seen.json"
        subprocess.run(as_nobody("send", "--local", store, command), env=env, check=True, capture_output=True)
        conf = ("--conf", str(home / "config.toml"))
        ran = as_nobody("run", *conf, "--local", store, "--until-empty")
        subprocess.run(ran, env=env, check=True, capture_output=True, timeout=60)
        seen: dict[str, Any] = json.loads((home / "seen.json").read_text())
        return seen

    return run


def test_a_job_reads_neither_environment_nor_memory_of_the_daemon(spied: Spied) -> None:
    seen = spied('job_aws = "none"')
    assert set(seen["daemon"]) == {"launcher", "worker", "backstop"}
    for role, found in seen["daemon"].items():
        assert "read" not in found.values(), role
        assert found["ptrace"] == "Operation not permitted", role
        assert SECRETS["AWS_SECRET_ACCESS_KEY"] not in json.dumps(found)
    assert seen["own"], "jobs are as open as ever, or the worker could not find them"
    assert not SECRETS.keys() & seen["environ"].keys()
    assert seen["environ"]["AWS_EC2_METADATA_DISABLED"] == "true"


def test_a_job_inherits_what_its_operator_lists_and_never_what_systemd_says(spied: Spied) -> None:
    assert spied("")["environ"]["AWS_ACCESS_KEY_ID"] == "AKIDAEMON"


def test_with_a_list_of_names_a_job_gets_those_and_ours(spied: Spied) -> None:
    names = spied('job_env = ["PATH", "HOM*"]')["environ"].keys()
    ours = {"SQSJKR_JOB_ID", "SQSJKR_EVENT_ID", "SQSJKR_RECEIVE_COUNT", "SQSJKR_SENT_AT", "SQSJKR_ATTEMPT"}
    assert names - ours - {"PWD", "SHLVL", "_", "OLDPWD", "LC_CTYPE"} <= {"PATH", "HOME"}
    assert ours <= names


def test_the_process_that_asks_botocore_is_closed_like_the_worker(home: Path, env: dict[str, str]) -> None:
    """A source of credentials runs below it, as the same user: it looks as a job could."""
    (home / "spy.py").write_text(
        SPY.partition("everyone =")[0]
        + f"with open('{home}/seen.json', 'w') as file: json.dump(tries(os.getppid()), file)\n"
        + "print(json.dumps({'Version': 1, 'AccessKeyId': 'AKID', 'SecretAccessKey': 'secret'}))\n"
    )
    (home / "aws").write_text(f"[profile p]\nregion = us-east-1\ncredential_process = {PYTHON} {home}/spy.py\n")
    program = (
        f"import sys; sys.path[:0] = {[path for path in sys.path if path.endswith(('/src', '/site-packages'))]!r}\n"
        "import asyncio, sqsjkr.backends.aws.credentials as c; asyncio.run(c.Account(profile='p').open())"
    )
    words = as_nobody()
    command = [*words[: words.index(sys.executable)], str(PYTHON), "-c", program]
    subprocess.run(command, env={**env, "AWS_CONFIG_FILE": str(home / "aws")}, check=True, timeout=60)
    seen = json.loads((home / "seen.json").read_text())
    assert "botocore_process" in seen.pop("title")
    assert "read" not in seen.values()
    assert seen["ptrace"] == "Operation not permitted"


@pytest.mark.parametrize("victim", ["worker", "launcher"])
def test_the_jobs_of_an_unprivileged_daemon_that_is_killed_die_with_it(
    home: Path, env: dict[str, str], victim: str
) -> None:
    """Closed to jobs, launcher and worker are closed to each other, too: they find jobs all the same."""
    store = str(home / "store")
    job = f"echo $$ > {home}/job; setsid sh -c 'echo $$ > {home}/child; exec sleep 600'"
    subprocess.run(as_nobody("send", "--local", store, job), env=env, check=True, capture_output=True)
    with subprocess.Popen(as_nobody("run", "--local", store), env=env, stderr=subprocess.DEVNULL) as daemon:
        try:
            wait_until(lambda: _number(home / "child"), description="the job runs")
            job_pid, child = _number(home / "job"), _number(home / "child")
            worker = int(Path(f"/proc/{daemon.pid}/task/{daemon.pid}/children").read_text().split()[0])
            os.kill(worker if victim == "worker" else daemon.pid, signal.SIGKILL)
            wait_until(lambda: not _lives(job_pid) and not _lives(child), description="the job is gone")
        finally:
            daemon.kill()


def _number(path: Path) -> int:
    return int(path.read_text() or 0) if path.exists() else 0


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
