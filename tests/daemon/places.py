"""Where a test's jobs are: on SQS and DynamoDB servers, or in the embedded store; with workers and operators."""

from __future__ import annotations

import json
import sqlite3
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from commands import Said, sqsjkr
from daemons import Daemon
from fleet import Fleet


class Place:
    """A queue and its table; the options and the environment of a verb."""

    forbidden = ""
    """Characters that the queue does not take."""
    directory: Path
    options: tuple[str, ...] = ()
    env: Mapping[str, str] | None = None

    def worker(self, daemon: Callable[..., Daemon], **kicker: object) -> Daemon:
        """Start a worker; returns once it receives."""
        raise NotImplementedError

    def send(self, *bodies: str) -> list[str]:
        """Send bodies unchecked. Returns the messages' ids."""
        raise NotImplementedError

    def send_job(self, **fields: object) -> str:
        """Send one job. Returns its message's id."""
        return self.send(json.dumps(fields))[0]

    def say(self, verb: str, *words: str) -> Said:
        """Run a verb to its end."""
        return sqsjkr(verb, *words, *self.options, env=self.env)

    def look(self, verb: str, *words: str) -> list[dict[str, Any]]:
        """The objects that a verb prints with --json."""
        said = self.say(verb, *words, "--json")
        assert not said.err, said.err
        return [json.loads(line) for line in said.out.splitlines()]


class SQS(Place):
    """On the server of the run."""

    forbidden = "\x1b\x07"

    def __init__(self, fleet: Fleet, directory: Path, env: Mapping[str, str]) -> None:
        self.fleet = fleet
        self.directory = directory
        self.env = env
        path = directory / f"{uuid.uuid4().hex}.toml"
        path.write_text(fleet.config(lock_table=fleet.table))
        self.options = ("--conf", str(path))

    def worker(self, daemon: Callable[..., Daemon], **kicker: object) -> Daemon:
        """Start a worker."""
        begun = daemon(config=self.fleet.config(lock_table=self.fleet.table, **kicker))
        begun.wait_for_line("worker.started")
        return begun

    def send(self, *bodies: str) -> list[str]:
        """Send each body."""
        return self.fleet.send(*bodies)


class Embedded(Place):
    """In a store of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.options = ("--local", str(directory))
        assert sqsjkr("send", *self.options, "true").code == 0
        with closing(sqlite3.connect(directory / "sqsjkr.db", timeout=30)) as db, db:
            db.execute("DELETE FROM message")

    def worker(self, daemon: Callable[..., Daemon], **kicker: object) -> Daemon:
        """Start a worker."""
        settings = "\n".join(f"{key} = {json.dumps(value)}" for key, value in kicker.items())
        begun = daemon(*self.options, config=f"[kicker]\n{settings}\n")
        begun.wait_for_line("worker.started")
        return begun

    def send(self, *bodies: str) -> list[str]:
        """Put each body into the table."""
        rows = [(str(uuid.uuid4()), body, time.time()) for body in bodies]
        with closing(sqlite3.connect(self.directory / "sqsjkr.db", timeout=30)) as db, db:
            db.executemany("INSERT INTO message (id, body, sent, visible) VALUES (?, ?, ?, 0)", rows)
        return [row[0] for row in rows]
