"""What each verb does with its options; errors are raised, and told by cli.py."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Callable

from sqsjkr.cli.exit_codes import FAILED, OK, USAGE
from sqsjkr.config import Config, load, rules
from sqsjkr.errors import ConfigError
from sqsjkr.leases.budget import LeaseBudget
from sqsjkr.supervision.shared_state import SharedState
from sqsjkr.telemetry.events import Event, emit

# Each verb imports what only it needs: a `send` from a shell script should not wait for a daemon to be loaded.
# ruff: noqa: PLC0415

DEFAULT_FILE = "/etc/sqsjkr/config.toml"
_SETTINGS = ("local", "profile", "region", "lock_table", "stats_port", "stats_socket", "log_level", "log_format")
"""Options that are settings too, and have the last word."""


def run(arguments: argparse.Namespace, page: SharedState, budget: LeaseBudget) -> int:
    """The worker, in the guard's child."""
    from sqsjkr import app
    from sqsjkr.telemetry import logs

    path, config = _configured(arguments)
    log = logs.set_up(config.log_level, config.log_format)
    if config.log_format == "json":
        page.speak_json()
    try:
        if path:
            emit(Event.CONFIG_LOADED, path)
        return asyncio.run(app.run(config, page=page, logs=log, until_empty=arguments.until_empty, budget=budget))
    finally:
        log.close()


def send(arguments: argparse.Namespace, complain: Callable[[str], None]) -> int:
    """One job, whose message id is printed; or a file of them, of which a summary is."""
    from sqsjkr.cli.send import send_many, send_one
    from sqsjkr.sender import Terms

    fields = _job_fields(arguments)
    _, config = _configured(arguments)
    terms = Terms(delay=_delay(arguments.delay), group=arguments.group, dedup_id=arguments.dedup_id)
    if not arguments.json:
        sys.stdout.write(f"{send_one(config, fields, terms)}\n")
        return OK
    tally = send_many(config, arguments.json, terms, complain)
    if tally.stopped:
        complain(tally.stopped)
    sys.stdout.write(f"{tally.text}\n")
    return FAILED if tally.rejected or tally.stopped else OK


def check(arguments: argparse.Namespace) -> int:
    """One line for each thing that ``run`` needs."""
    from sqsjkr.cli.check import look
    from sqsjkr.provision.finding import Finding, Level

    try:
        path, config = _configured(arguments)
    except ConfigError as why:
        for line in str(why).splitlines():
            sys.stdout.write(Finding(Level.FAIL, "config", line).text)
        return USAGE
    return OK if look(config, path or "", sys.stdout) else FAILED


def setup(arguments: argparse.Namespace) -> int:
    """What is to be made, then a question, then what was made."""
    from sqsjkr.cli.setup import carry_out

    _, config = _configured(arguments)
    left = carry_out(config, sys.stdout, may_go=lambda: _may_go(arguments))
    return OK if not left or arguments.dry_run else USAGE


def _may_go(arguments: argparse.Namespace) -> bool:
    """Whether the plan that was just printed is to be carried out."""
    if arguments.dry_run or arguments.yes:
        return not arguments.dry_run
    if sys.stdin is None or not sys.stdin.isatty():
        raise ConfigError("nothing was changed, as there is nobody to ask; next: sqsjkr setup --yes")
    sys.stdout.write("Proceed? [y/N] ")
    sys.stdout.flush()
    return sys.stdin.readline().strip().lower() in {"y", "yes"}


def _configured(arguments: argparse.Namespace) -> tuple[str | None, Config]:
    """The configuration, with the options in place, and the file it is from (None: no file)."""
    given = {name: getattr(arguments, name, None) for name in _SETTINGS}
    if given["local"] == "":
        raise ConfigError("--local: expected a directory")
    path = arguments.conf if arguments.conf is not None or given["local"] else DEFAULT_FILE
    return path, load(path, env=os.environ, overrides=given)


def _job_fields(arguments: argparse.Namespace) -> dict[str, object]:
    """The job on the command line, as a message's body would have it."""
    fields = {name: getattr(arguments, name) for name in ("event_id", "lock_id", "life_time")}
    for name in ("abort_if_locked", "disable_life_time_trigger"):
        fields[name] = getattr(arguments, name) or None
    env = {}
    for pair in arguments.env:
        name, equals, value = pair.partition("=")
        if not (name and equals):
            raise ConfigError("--env: expected KEY=VALUE")  # not shown: it may be a secret
        env[name] = value
    fields |= {"env": env or None, "command": arguments.command}
    if arguments.json is None:
        if not arguments.command:
            raise ConfigError("send: no job; give its shell command (in quotes, as one word), or --json FILE")
    elif given := [name for name, value in fields.items() if value is not None]:
        raise ConfigError(f"send --json: leave {given[0]} out; with --json the lines say what a job is")
    elif arguments.dedup_id:
        raise ConfigError("send --json: leave --dedup-id out; with one id for all, SQS would keep the first job only")
    return fields


def _delay(text: str) -> float:
    try:
        delay = rules.seconds(900)(float(text) if text.replace(".", "", 1).isdigit() else text)
    except ValueError as expected:
        raise ConfigError(f"--delay = {rules.shown(text)}: expected {expected}") from None
    if not delay.is_integer():
        raise ConfigError(f"--delay = {rules.shown(text)}: expected whole seconds, which is what SQS counts in")
    return delay
