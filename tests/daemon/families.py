"""Daemons on an embedded store with what belongs to them: launcher, worker, backstop, jobs."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path

import daemons
from daemons import Daemon
from servers import wait_until
from sqsjkr.backends.sqlite.queue import SQLiteQueue
from sqsjkr.backends.sqlite.store import FILE, Store

IMPATIENT = """
import sys
from sqsjkr.cli.main import main
from sqsjkr.leases.budget import STANDARD
sys.exit(main(["run", *sys.argv[1:]], budget=STANDARD.scaled(0.3)))
"""
"""The command, on a third of the lease budget."""

SLEEPER = """echo $$ > {directory}/{name}.new; mv {directory}/{name}.new {directory}/{name}; exec sleep 86400"""
Start = Callable[..., Daemon]


def impatient(script: str = "") -> tuple[str, ...]:
    return sys.executable, "-c", script + IMPATIENT


def send(tmp_path: Path, *commands: str, age: float = 0.0, **job: str) -> None:
    """Send these commands, as if `age` seconds ago; `job` holds other fields."""

    async def put() -> None:
        queue = SQLiteQueue(Store(tmp_path / "store"))
        await queue.open()
        await queue.send([json.dumps({"command": command, **job}) for command in commands])
        await queue.close()

    asyncio.run(put())
    if age:
        with contextlib.closing(sqlite3.connect(tmp_path / "store" / FILE)) as store, store:
            store.execute("UPDATE message SET sent = sent - ?", (age,))


def sleeper(tmp_path: Path, name: str) -> str:
    """A command that writes its pid into a file of this name and sleeps."""
    script = tmp_path / f"{name}.sh"
    script.write_text(SLEEPER.format(directory=tmp_path, name=name))
    return f"sh {script}"


def pid_in(tmp_path: Path, name: str) -> int:
    wait_until((tmp_path / name).exists, description=f"{name} ran")
    return int((tmp_path / name).read_text())


def worker_of(launcher: Daemon) -> int:
    """The launcher's eldest child."""
    wait_until(lambda: daemons.descendants(launcher.pid), description="the worker was there")
    return min(daemons.descendants(launcher.pid), key=lambda process: process.started).pid


def backstop_of(launcher: Daemon) -> int:
    def found() -> list[int]:
        return [each.pid for each in daemons.marked(launcher._mark) if each.command.endswith("[backstop]")]

    wait_until(found, description="the backstop had its title")
    (backstop,) = found()
    return backstop


def lives(pid: int) -> bool:
    there = daemons._process(pid)
    return there is not None and there.state != "Z"
