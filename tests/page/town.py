"""A fleet of two workers with a past and a present, and its page: what the views are looked at with."""

from __future__ import annotations

import contextlib
import json
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from daemons import Daemon
from fleet import Fleet
from pages import Page, serving
from servers import aws_environment, wait_until

SCRIPT = "<script>hacked=1</script>"
IMAGE = '"><img src=x onerror=hacked=1>'
"""What an attacker calls an event and a lock: short enough for the lists, which cut long names."""
_ENDINGS = 9
"""Of seven jobs, and of two messages that are none."""


@dataclass(frozen=True)
class Town:
    """A fleet of two workers that has seen failures, a flood of output, and attackers; and its page."""

    fleet: Fleet
    page: Page
    options: tuple[str, ...]
    env: Mapping[str, str]
    failed: str
    """The message of the run of ``nightly`` that failed."""
    attack: str
    """The message of the attacker's job that failed."""
    flood: str
    """The message of a job that printed 10 MB."""


def configured(fleet: Fleet, directory: Path) -> Path:
    path = directory / "config.toml"
    path.write_text(fleet.config(lock_table=fleet.table, kill_after=1))
    return path


@contextlib.contextmanager
def founded(aws_url: str, directory: Path) -> Iterator[Town]:
    """Builds a town on the servers, for the block."""
    env = aws_environment(aws_url)
    with contextlib.ExitStack() as stack:
        fleet = Fleet(aws_url, aws_url)
        stack.callback(fleet.remove)
        conf = configured(fleet, directory)
        options = ("--conf", str(conf))

        def worker(*more: str) -> Daemon:
            return stack.enter_context(Daemon(*options, *more, env=env))

        page = stack.enter_context(serving(*options, env=env)).enter()
        failed, attack, flood = _past(fleet)
        for one in (worker("--until-empty"), worker("--until-empty")):  # at their end they write what their lists lack
            assert one.wait() == 0
        for one in (worker(), worker()):
            one.wait_for_line("worker.started")
        _present(fleet)
        wait_until(lambda: len(page.ask("/now.json").json["waiting"]) == 2, description="heartbeats said what waits")
        wait_until(lambda: len(page.ask("/runs.json").json) == _ENDINGS, description="the lists were written")
        yield Town(fleet, page, options, env, failed, attack, flood)


def _past(fleet: Fleet) -> tuple[str, str, str]:
    for seconds in (0.1, 0.3, 0.2):
        fleet.send_job(command=f"sleep {seconds}", event_id="nightly", lock_id="db")
    fleet.send_job(command="true", event_id="thumbs")
    fleet.send(f"{SCRIPT}{IMAGE}", json.dumps({"command": "", "event_id": SCRIPT}))
    flood = "head -c 10000000 /dev/zero | tr '\\0' x | fold -w 99; echo; echo 'the last words'; exit 1"
    printing = f"echo {shlex.quote(SCRIPT)}; echo {shlex.quote(IMAGE)}; exit 4"
    return (
        fleet.send_job(command="echo 'no such column: created_on' >&2; exit 3", event_id="nightly", lock_id="db"),
        fleet.send_job(command=printing, event_id=IMAGE, lock_id=SCRIPT),
        fleet.send_job(command=flood, event_id="flood"),
    )


def _present(fleet: Fleet) -> None:
    for event_id, lock_id in (("index", "db"), (IMAGE, SCRIPT)):
        fleet.send_job(command=f": {shlex.quote(SCRIPT)}; exec sleep 600", event_id=event_id, lock_id=lock_id)
    wait_until(lambda: fleet.depth()[:2] == (0, 2), description="both were taken")
    fleet.send_job(command="true", event_id="vacuum", lock_id="db")
    fleet.send_job(command=f": {shlex.quote(IMAGE)}", event_id=SCRIPT, lock_id=SCRIPT)
