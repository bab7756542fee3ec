"""``sqsjkr ps``: what runs, where and since when; what waits, for what, and who holds it."""

from __future__ import annotations

import argparse

from sqsjkr.cli.options import add_json, add_limit, add_watch, add_where
from sqsjkr.cli.showing import table
from sqsjkr.cli.viewing import Shown, show
from sqsjkr.views.model import Life, Running, Waiting, as_json, lasting
from sqsjkr.views.picture import Picture
from sqsjkr.views.viewer import Viewer

EPILOG = """\
examples:
  sqsjkr ps --conf /etc/sqsjkr/config.toml
  sqsjkr ps --watch

A job is shown from its worker's next heartbeat on, 5 seconds after its start or sooner. Shorter ones: sqsjkr runs

exit codes: 0, 1 if queue or table refused or did not answer, 2 if the command line or the configuration is wrong
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add where to look, and how much to show."""
    add_where(parser)
    add_json(parser)
    add_limit(parser, 50)
    add_watch(parser)


def execute(arguments: argparse.Namespace) -> int:
    """Show what runs and what waits."""
    return show(arguments, _look)


async def _look(viewer: Viewer, arguments: argparse.Namespace) -> Shown:
    seen = await viewer.picture(most=arguments.limit)
    values: list[object] = [{"kind": "running", **as_json(run)} for run in seen.running]
    values += [{"kind": "waiting", **as_json(wait)} for wait in seen.waiting]
    return Shown(lines=[*_running(seen), "", *_waiting(seen)], values=values)


def _running(seen: Picture) -> list[str]:
    if not seen.running and not seen.unnamed:
        return ["nothing runs"]
    lines = table(["SINCE", "HOST", "EVENT", "LOCK", "COMMAND", "MESSAGE"], map(_row, seen.running))
    return [*lines, f"... and {seen.unnamed} more"] if seen.unnamed else lines


def _row(run: Running) -> tuple[str | None, ...]:
    event_id = None if run.event_id == run.message_id else run.event_id
    host = run.host if run.worker_life is Life.BUSY else f"{run.host} ({run.worker_life})"
    return lasting(run.seconds), host, event_id, run.lock_id, run.command, run.message_id


def _waiting(seen: Picture) -> list[str]:
    if not seen.waiting:
        return ["nothing waits for a lock"]
    return table(
        ["WAITS FOR", "HELD BY", "JOBS", "SINCE", "HOST", "OLDEST", "MESSAGE"],
        [
            (
                f"lock {wait.lock_id}" if wait.lock_id else "its first delivery, which another worker runs",
                _holder(wait),
                str(wait.waiting),
                lasting(seen.at - wait.oldest_at),
                wait.host,
                wait.oldest_event_id,
                wait.oldest_message_id,
            )
            for wait in seen.waiting
        ],
    )


def _holder(wait: Waiting) -> str | None:
    if not (wait.held_by_event_id or wait.held_by_message_id):
        return None
    return f"{wait.held_by_event_id or wait.held_by_message_id} on {wait.held_by_host or 'an unknown host'}"
