"""`sqsjkr dead` beside real workers: what was buried is seen, sent back and dropped, and nothing is lost or obeyed."""

from __future__ import annotations

import json
import os
import pty
import signal
import sqlite3
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import servers
from commands import SQSJKR, read_terminal, sqsjkr
from daemons import Daemon
from faults.proxy import Proxy
from faults.rules import Fault
from fleet import Fleet

SECRET = "s3cret-value"
SHAPES = {
    "clear screen": "\x1b[2J\x1b[H no json",
    "window title": "\x1b]0;pwned\x07{",
    "eight-bit": "\x9b31m\x9d0;pwned\x9c",
    "line of its own": 'x\r\nsqsjkr: all is well\u2028\u2029\u0085"',
    "reversed": "\u202egnp.exe\u2066",
    "command": json.dumps({"command": "", "event_id": "\x1b[31mred", "env": {"TOKEN": SECRET}}),
    "wrapped": json.dumps(
        {"Type": "Notification", "TopicArn": "arn", "Message": json.dumps({"envs": {"TOKEN": SECRET}})}
    ),
    "deep": "[" * 50_000,
    "long": json.dumps({"command": ["x" * 250_000]}),
    "empty object": "{}",
}


class Place:
    """Where a test's jobs are."""

    forbidden = ""
    """Characters that the queue does not take."""
    options: tuple[str, ...] = ()
    env: Mapping[str, str] | None = None

    def worker(self, daemon: Callable[..., Daemon]) -> Daemon:
        raise NotImplementedError

    def send(self, *bodies: str) -> None:
        raise NotImplementedError

    def verb(self, *words: str) -> tuple[str, ...]:
        return ("dead", *words, *self.options)

    def say(self, *words: str) -> Any:
        return sqsjkr(*self.verb(*words), env=self.env)

    def listed(self) -> list[dict[str, Any]]:
        said = self.say("list", "--json", "--limit", "1000")
        assert said.code == 0, said.err
        return [json.loads(line) for line in said.out.splitlines()]


class SQS(Place):
    forbidden = "\x1b\x07"

    def __init__(self, fleet: Fleet, directory: Path, env: Mapping[str, str]) -> None:
        self.fleet = fleet
        self.env = env
        path = directory / "dead.toml"
        path.write_text(fleet.config())
        self.options = ("--conf", str(path))

    def worker(self, daemon: Callable[..., Daemon]) -> Daemon:
        return daemon("--lock-table", self.fleet.table, config=self.fleet.config())

    def send(self, *bodies: str) -> None:
        self.fleet.send(*bodies)


class Embedded(Place):
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.options = ("--local", str(directory))

    def worker(self, daemon: Callable[..., Daemon]) -> Daemon:
        return daemon(*self.options)

    def send(self, *bodies: str) -> None:
        if not self.directory.exists():
            assert sqsjkr("send", *self.options, "true").code == 0
        rows = [(f"00000000-0000-0000-0000-{n:012x}", body) for n, body in enumerate(bodies)]
        with closing(sqlite3.connect(self.directory / "sqsjkr.db", timeout=30)) as db, db:
            db.executemany("INSERT INTO message (id, body, sent, visible) VALUES (?, ?, unixepoch(), 0)", rows)


@pytest.fixture(params=["sqs", "embedded"])
def place(request: pytest.FixtureRequest, tmp_path: Path, aws_env: Mapping[str, str]) -> Iterator[Place]:
    """Both backends: the options and the environment of a verb, and how to send a body unchecked."""
    if request.param == "sqs":
        yield SQS(request.getfixturevalue("fleet"), tmp_path, aws_env)
    else:
        yield Embedded(tmp_path / "store")


def on_a_terminal(words: tuple[str, ...], env: Mapping[str, str] | None) -> str:
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "wb") as terminal:
        begun = subprocess.Popen(
            [*SQSJKR, *words],
            env={**servers.clean_environment(), **(env or {}), "TERM": "xterm", "COLUMNS": "120"},
            stdin=subprocess.DEVNULL,
            stdout=terminal,
            stderr=terminal,
        )
    said = read_terminal(ours)
    os.close(ours)
    assert begun.wait() == 0, said
    return said


def test_poison_of_any_shape_is_shown_and_not_obeyed(place: Place, daemon: Callable[..., Daemon]) -> None:
    shapes = [body for body in SHAPES.values() if not set(body) & set(place.forbidden)]
    place.send(*shapes)
    worker = place.worker(daemon)
    servers.wait_until(lambda: worker.stderr.count("job.buried") == len(shapes), description="all were buried")
    worker.signal(signal.SIGTERM)
    worker.wait()

    listed = place.listed()
    assert len(listed) == len(shapes)
    assert {value["body_bytes"] for value in listed} == {len(body.encode()) for body in shapes}
    assert all(value["reason"].startswith("invalid: ") for value in listed)
    ids = [value["id"] for value in listed]
    for words in (place.verb("list"), place.verb("show", *ids)):
        seen = on_a_terminal(words, place.env)
        styles = ("\x1b[1m", "\x1b[0m")
        for style in styles:
            seen = seen.replace(style, "")
        assert all(character.isprintable() or character in "\r\n" for character in seen), words
        assert SECRET not in seen
        assert "\nsqsjkr: all is well" not in seen
    long = max(listed, key=lambda value: value["body_bytes"])
    said = place.say("show", "--body", long["id"])
    assert said.out == f"{SHAPES['long']}\n"


def test_what_is_corrected_is_sent_and_the_rest_dropped(
    place: Place, daemon: Callable[..., Daemon], tmp_path: Path
) -> None:
    place.send('{"command": "", "event_id": "nightly"}', "hopeless")
    worker = place.worker(daemon)
    servers.wait_until(lambda: worker.stderr.count("job.buried") == 2, description="both were buried")
    [one, other] = sorted(place.listed(), key=lambda value: value["body_bytes"], reverse=True)

    body = place.say("show", "--body", one["id"]).out
    (tmp_path / "fixed.jsonl").write_text(body.replace('""', '"echo corrected"'))
    assert sqsjkr("send", *place.options, "--json", str(tmp_path / "fixed.jsonl"), env=place.env).code == 0
    worker.wait_for_line("nightly: corrected")

    refused = place.say("drop", one["id"], other["id"])
    assert (refused.code, len(place.listed())) == (2, 2), "nobody was there to ask"
    said = place.say("drop", "--yes", one["id"], other["id"])
    assert said.code == 0, said.err
    assert place.listed() == []
    again = place.say("drop", "--yes", one["id"])
    assert again.code == 1
    assert "not on the dead-letter queue" in again.err


def test_a_redrive_of_all_sends_jobs_back_and_leaves_what_would_be_buried_again(
    place: Place, daemon: Callable[..., Daemon]
) -> None:
    place.send("hopeless", '{"command": "x' + "x" * 200_000 + '"}')  # too long for one argument of exec: unstartable
    worker = place.worker(daemon)
    servers.wait_until(lambda: worker.stderr.count("job.buried") == 2, description="both were buried")

    said = place.say("redrive", "--all", "--yes")
    assert said.code == 0, said.err
    assert said.out.splitlines()[-1] == "redriven 1, left 1"
    assert "stays: it is not a valid job" in said.out
    servers.wait_until(lambda: worker.stderr.count("job.buried") == 3, description="it was tried once more")
    assert len(place.listed()) == 2


def test_a_redrive_that_dies_between_send_and_delete_loses_nothing(
    fleet: Fleet, proxy: Proxy, aws_env: Mapping[str, str], tmp_path: Path
) -> None:
    bodies = {json.dumps({"command": f"echo {n}"}) for n in range(10)}
    for body in bodies:
        fleet.sqs("SendMessage", QueueUrl=fleet.dlq_url, MessageBody=body)
    place = SQS(fleet, tmp_path, {**aws_env, "AWS_ENDPOINT_URL": proxy.url})
    held = proxy.add(Fault.HANG, operation="DeleteMessageBatch")
    begun = subprocess.Popen(
        [*SQSJKR, *place.verb("redrive", "--all", "--yes")],
        env={**servers.clean_environment(), **place.env},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    servers.wait_until(lambda: held.hits, description="it had sent, and asked to delete")
    begun.kill()
    begun.wait()

    def left() -> int:
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        told = fleet.sqs("GetQueueAttributes", QueueUrl=fleet.dlq_url, AttributeNames=names)["Attributes"]
        return sum(int(told[name]) for name in names)

    assert left() == 10, "nothing was removed before"
    sent: set[str] = set()
    while page := fleet.sqs("ReceiveMessage", QueueUrl=fleet.queue_url, MaxNumberOfMessages=10).get("Messages"):
        sent |= {message["Body"] for message in page}
    assert sent
    assert sent <= bodies


def test_a_redrive_of_the_embedded_store_that_is_killed_loses_nothing_and_doubles_nothing(tmp_path: Path) -> None:
    place = Embedded(tmp_path / "store")
    place.send()
    path, total = place.directory / "sqsjkr.db", 3000
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("DELETE FROM message")
        letters = [(f"id{n}", json.dumps({"command": f"echo {n}"})) for n in range(total)]
        db.executemany("INSERT INTO dead_letter VALUES (?, ?, 0, 0, 'why')", letters)

    def counts() -> tuple[int, int]:
        with closing(sqlite3.connect(path, timeout=30)) as db:
            return db.execute("SELECT (SELECT COUNT(*) FROM message), (SELECT COUNT(*) FROM dead_letter)").fetchone()

    begun = subprocess.Popen(
        [*SQSJKR, *place.verb("redrive", "--all", "--yes")],
        env=servers.clean_environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    servers.wait_until(lambda: counts()[0] > 0, description="some were sent")
    begun.kill()
    begun.wait()
    assert sum(counts()) == total
    assert place.say("redrive", "--all", "--yes").code == 0
    assert counts() == (total, 0)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["show"], "show: expected an id, as sqsjkr dead list shows it"),
        (["redrive"], "redrive: expected an id, as sqsjkr dead list shows it"),
        (["list", "x"], "unexpected 'x'; to see one message: sqsjkr dead show x"),
        (["drop", "--all"], "--all: only for redrive, and without ids"),
        (["list", "--body"], "--body: only for show, and with one id"),
        (["bury"], "action: invalid choice: 'bury' (choose from 'list', 'show', 'redrive', 'drop')"),
    ],
)
def test_words_that_do_not_fit_together_are_one_line(tmp_path: Path, words: list[str], complaint: str) -> None:
    said = sqsjkr("dead", *words, "--local", str(tmp_path))
    assert (said.code, said.complaints) == (2, [f"sqsjkr: {complaint}"])


def test_a_store_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    said = sqsjkr("dead", "--local", str(tmp_path / "typo"))
    assert said.code == 1
    assert "there is no store at" in said.err
    assert not (tmp_path / "typo").exists()
