"""From open to closed, as docs/how-to/close-a-queue.md says it: step by step, and no job is lost on the way."""

from __future__ import annotations

import getpass
import itertools
import json
import re
from pathlib import Path

import pytest

from commands import sqsjkr

ME = getpass.getuser()


class Queue:
    """A store, its configuration and its trust file, and the ledger of what was sent to it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.trust = folder / "trust.toml"
        self.lines: list[dict[str, object]] = []
        self._config = folder / "config.toml"
        self._config.write_text("")
        self._where = ("--local", str(folder / "store"), "--conf", str(self._config))
        self._numbers = itertools.count(1)
        self._sent: list[str] = []

    def send(self, *words: str) -> str:
        """Send one job; it leaves its event id in the ledger when it runs."""
        event_id = f"job-{next(self._numbers)}"
        said = sqsjkr("send", *self._where, "--event-id", event_id, *words)
        assert said.code == 0, said.err
        self._sent.append(event_id)
        return event_id

    def work(self) -> None:
        """Run what is on the queue."""
        ran = sqsjkr("run", *self._where, "--until-empty", "--log-format", "json")
        self.lines += [json.loads(line) for line in ran.err.splitlines()]

    def write(self, text: str) -> None:
        """Put a trust file in place."""
        self.trust.write_text(text)
        self.trust.chmod(0o644)
        self._config.write_text(f'[kicker]\ntrust = "{self.trust}"\n')
        found = sqsjkr("check", *self._where)
        assert found.code == 0, found.out

    def check(self, body: str) -> str:
        return sqsjkr("check", *self._where, "--message", "-", "--sender", ME, stdin=body.encode()).out

    def events(self, name: str) -> list[str]:
        """The event ids of the lines of one event."""
        return [str(line["event_id"]) for line in self.lines if line["event"] == name]

    @property
    def log(self) -> bytes:
        return "\n".join(map(json.dumps, self.lines)).encode()

    def account(self) -> None:
        """Every job that was sent has ended once, or is a dead letter with its reason."""
        ended = self.events("job.ended") + self.events("job.refused")
        assert sorted(ended) == sorted(self._sent)


@pytest.fixture
def queue(tmp_path: Path) -> Queue:
    return Queue(tmp_path)


def test_an_open_queue_is_closed_in_four_steps_without_losing_a_job(queue: Queue) -> None:
    batch = queue.folder / "batch.sh"
    batch.write_text("#!/bin/sh\necho batch $1\n")
    batch.chmod(0o755)

    # 1: see who sends what, and draft a file from it.
    for words in ((f"{batch} users",), (f"{batch} orders",), ("echo report | cat",)):
        queue.send(*words)
    queue.work()
    drafted = sqsjkr("learn", "-", stdin=queue.log)
    assert drafted.code == 0
    assert f'sender = "{ME}"' in drafted.out
    assert '"command"' in drafted.out

    # 2: warn. What was not seen before runs all the same, and is named.
    strict = drafted.out.replace(', "command"]', "]")
    queue.write(strict)
    new = queue.send("echo something new | cat")
    queue.send(f"{batch} carts")
    queue.work()
    assert queue.events("job.untrusted") == [new]

    # 3: name the jobs; producers change one by one, and old commands go on meanwhile.
    named = strict.replace('may = ["', 'may = ["report", "', 1) + "\n[job.report]\ncommand = 'echo report | cat'\n"
    queue.write(named)
    assert queue.check('{"job": "report"}').startswith("verdict    it would run\n")
    queue.send("--job", "report")
    queue.send("echo report | cat")
    queue.send(f"{batch} users")
    queue.work()

    # 4: enforce.
    queue.write(re.sub('(?m)^mode = "warn"', 'mode = "enforce"', named))
    allowed = [queue.send("--job", "report"), queue.send(f"{batch} users")]
    refused = [
        queue.send("echo report | cat"),
        queue.send(f"{batch} users; id"),
        queue.send("--job", "report", "--arg", "x=1"),
    ]
    queue.work()
    assert sorted(queue.events("job.refused")) == sorted(refused)
    assert set(allowed) <= {str(line["event_id"]) for line in queue.lines if line.get("outcome") == "succeeded"}
    queue.account()
    assert {line.get("outcome") for line in queue.lines if line["event"] == "job.ended"} == {"succeeded"}
