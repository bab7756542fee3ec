"""`sqsjkr dead` beside real workers: what was buried is seen, sent back and dropped, and nothing is lost or obeyed."""

from __future__ import annotations

import json
import os
import pty
import signal
import sqlite3
import subprocess
from collections.abc import Callable, Mapping
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
from places import SQS, Embedded, Place

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


@pytest.fixture(params=["sqs", "embedded"])
def place(request: pytest.FixtureRequest, tmp_path: Path, aws_env: Mapping[str, str]) -> Place:
    """Both backends."""
    if request.param == "sqs":
        return SQS(request.getfixturevalue("fleet"), tmp_path, aws_env)
    return Embedded(tmp_path / "store")


def verb(place: Place, *words: str) -> tuple[str, ...]:
    return ("dead", *words, *place.options)


def listed(place: Place) -> list[dict[str, Any]]:
    return place.look("dead", "list", "--limit", "1000")


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

    there = listed(place)
    assert len(there) == len(shapes)
    assert {value["body_bytes"] for value in there} == {len(body.encode()) for body in shapes}
    assert all(value["reason"].startswith("invalid: ") for value in there)
    ids = [value["id"] for value in there]
    for words in (verb(place, "list"), verb(place, "show", *ids)):
        seen = on_a_terminal(words, place.env)
        styles = ("\x1b[1m", "\x1b[0m")
        for style in styles:
            seen = seen.replace(style, "")
        assert all(character.isprintable() or character in "\r\n" for character in seen), words
        assert SECRET not in seen
        assert "\nsqsjkr: all is well" not in seen
    long = max(there, key=lambda value: value["body_bytes"])
    said = place.say("dead", "show", "--body", long["id"])
    assert said.out == f"{SHAPES['long']}\n"


def test_what_is_corrected_is_sent_and_the_rest_dropped(
    place: Place, daemon: Callable[..., Daemon], tmp_path: Path
) -> None:
    place.send('{"command": "", "event_id": "nightly"}', "hopeless")
    worker = place.worker(daemon)
    servers.wait_until(lambda: worker.stderr.count("job.buried") == 2, description="both were buried")
    [one, other] = sorted(listed(place), key=lambda value: value["body_bytes"], reverse=True)

    body = place.say("dead", "show", "--body", one["id"]).out
    (tmp_path / "fixed.jsonl").write_text(body.replace('""', '"echo corrected"'))
    assert sqsjkr("send", *place.options, "--json", str(tmp_path / "fixed.jsonl"), env=place.env).code == 0
    worker.wait_for_line("]: corrected")

    refused = place.say("dead", "drop", one["id"], other["id"])
    assert (refused.code, len(listed(place))) == (2, 2), "nobody was there to ask"
    said = place.say("dead", "drop", "--yes", one["id"], other["id"])
    assert said.code == 0, said.err
    assert listed(place) == []
    again = place.say("dead", "drop", "--yes", one["id"])
    assert again.code == 1
    assert "not on the dead-letter queue" in again.err


def test_a_redrive_of_all_sends_jobs_back_and_leaves_what_would_be_buried_again(
    place: Place, daemon: Callable[..., Daemon]
) -> None:
    place.send("hopeless", '{"command": "x' + "x" * 200_000 + '"}')  # too long for one argument of exec: unstartable
    worker = place.worker(daemon)
    servers.wait_until(lambda: worker.stderr.count("job.buried") == 2, description="both were buried")

    said = place.say("dead", "redrive", "--all", "--yes")
    assert said.code == 0, said.err
    assert said.out.splitlines()[-1] == "redriven 1, left 1"
    assert "stays: it is not a valid job" in said.out
    servers.wait_until(lambda: worker.stderr.count("job.buried") == 3, description="it was tried once more")
    assert len(listed(place)) == 2


def test_a_redrive_that_dies_between_send_and_delete_loses_nothing(
    fleet: Fleet, proxy: Proxy, aws_env: Mapping[str, str], tmp_path: Path
) -> None:
    bodies = {json.dumps({"command": f"echo {n}"}) for n in range(10)}
    for body in bodies:
        fleet.sqs("SendMessage", QueueUrl=fleet.dlq_url, MessageBody=body)
    place = SQS(fleet, tmp_path, {**aws_env, "AWS_ENDPOINT_URL": proxy.url})
    held = proxy.add(Fault.HANG, operation="DeleteMessageBatch")
    begun = subprocess.Popen(
        [*SQSJKR, *verb(place, "redrive", "--all", "--yes")],
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
    path, total = place.directory / "sqsjkr.db", 3000
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("DELETE FROM message")
        letters = [(f"id{n}", json.dumps({"command": f"echo {n}"})) for n in range(total)]
        db.executemany("INSERT INTO dead_letter VALUES (?, ?, 0, 0, 'why')", letters)

    def counts() -> tuple[int, int]:
        with closing(sqlite3.connect(path, timeout=30)) as db:
            return db.execute("SELECT (SELECT COUNT(*) FROM message), (SELECT COUNT(*) FROM dead_letter)").fetchone()

    begun = subprocess.Popen(
        [*SQSJKR, *verb(place, "redrive", "--all", "--yes")],
        env=servers.clean_environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    servers.wait_until(lambda: counts()[0] > 0, description="some were sent")
    begun.kill()
    begun.wait()
    assert sum(counts()) == total
    assert place.say("dead", "redrive", "--all", "--yes").code == 0
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
