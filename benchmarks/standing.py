"""The stand-in as a benchmark uses it: started, filled, asked what it has seen, ended."""

from __future__ import annotations

import http.client
import json
import os
import select
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

ROOT = Path(__file__).resolve().parents[1]
ACCOUNT = "000000000000"
QUEUE, TABLE = "jobs", "sqsjkr"


class Standin:
    """A new, empty stand-in with one queue and one table, for as long as its `with` block.

    Args:
        tls: certificate and key, for a peer with AWS's addresses built in.
        answers_in: milliseconds for which every answer is held back.
    """

    def __init__(self, tls: Path | None = None, *, answers_in: float = 0.0) -> None:
        command = [sys.executable, "-m", "benchmarks.standin", "--port", "0", "--queue", QUEUE, "--table", TABLE]
        command += ["--tls", str(tls)] if tls else []
        command += ["--latency", f"{answers_in:g}"] if answers_in else []
        # Its stdin is a pipe of ours, so it ends with us, however we end.
        self._process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        if self._process.stdout is None:
            raise RuntimeError("the stand-in has no output")
        self.port = int(self._process.stdout.readline())
        self.url = f"http://127.0.0.1:{self.port}"
        self._http = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()
        self._process.communicate()

    def fill(self, command: str, number: int, **fields: object) -> None:
        """Lay jobs on the queue in one moment. `@N@` in a field becomes the job's number."""
        body = json.dumps({"command": command, **fields})
        self._ask("POST", f"/_fill?queue={QUEUE}&n={number}", body)

    def counts(self) -> dict[str, Any]:
        """What was asked of it since the start or the last reset."""
        return self._ask("GET", "/_counts")

    def reset(self) -> None:
        """Count anew."""
        self._ask("POST", "/_reset")

    def depth(self) -> dict[str, int]:
        """How many messages are visible, in flight, delayed."""
        return self._ask("GET", f"/_depth?queue={QUEUE}")

    def call(self, target: str, payload: dict[str, Any]) -> dict[str, Any]:
        """An unsigned call, which the stand-in takes: `AmazonSQS.SendMessage`, `DynamoDB_20120810.PutItem`."""
        return self._ask("POST", "/", json.dumps(payload), {"X-Amz-Target": target})

    def send(self, command: str) -> None:
        """Send one job."""
        url = f"{self.url}/{ACCOUNT}/{QUEUE}"
        self.call("AmazonSQS.SendMessage", {"QueueUrl": url, "MessageBody": json.dumps({"command": command})})

    def _ask(self, method: str, path: str, body: str = "", headers: dict[str, str] | None = None) -> dict[str, Any]:
        self._http.request(method, path, body, headers or {})
        answer = self._http.getresponse()
        content = answer.read()
        if answer.status != http.client.OK:
            raise RuntimeError(f"the stand-in said {answer.status} to {path}: {content.decode()}")
        decoded: dict[str, Any] = json.loads(content)
        return decoded


class Fifo:
    """A named pipe that tells to a few microseconds when a job's first instruction ran: `echo >fifo`."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.command = f"echo >{path}"
        self._descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK)  # a writer of our own: the job's open never waits

    def wait(self, seconds: float = 30.0) -> None:
        """Return as soon as a job has written its line."""
        if not select.select([self._descriptor], [], [], seconds)[0]:
            raise RuntimeError(f"the job did not run within {seconds:g} s")
        os.read(self._descriptor, 64)

    def close(self) -> None:
        """Let go of the pipe."""
        os.close(self._descriptor)
