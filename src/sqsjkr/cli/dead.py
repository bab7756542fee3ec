"""``sqsjkr dead``: what lies on the dead-letter queue and why; back to the job queue with it, or away."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import sys
from collections.abc import Sequence

from sqsjkr.backends import Connections, dead_letters_class
from sqsjkr.cli.exit_codes import FAILED, OK, USAGE
from sqsjkr.cli.options import add_json, add_limit, add_where, add_yes
from sqsjkr.cli.parts import confirmed, opened
from sqsjkr.cli.reporting import complain
from sqsjkr.cli.settings import configured
from sqsjkr.cli.showing import moment, safe, table, write, write_json
from sqsjkr.errors import ConfigError
from sqsjkr.views.dead_letters import DeadLetters, Letter, Look, masked
from sqsjkr.views.model import as_json, lasting

EPILOG = """\
examples:
  sqsjkr dead list
  sqsjkr dead show 5fea7756-0ea4-451a-a703-a558b933e274
  sqsjkr dead redrive --all
  sqsjkr dead drop 5fea7756-0ea4-451a-a703-a558b933e274

To correct a message and send it again:
  sqsjkr dead show --body ID >job.json
  (edit job.json, one object on one line)
  sqsjkr send --json job.json && sqsjkr dead drop ID

exit codes: 0 if all that was asked for was done, 1 if a message is not there, or was refused, 2 if the command line
is wrong or the question was not answered with yes
"""

ACTIONS = ("list", "show", "redrive", "drop")
LONGEST_SHOWN = 4000
"""Characters of a body on the screen."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the action, the ids, and how to answer the questions."""
    add_where(parser, table=False)
    parser.add_argument("action", nargs="?", choices=ACTIONS, default="list", help="list is the default")
    parser.add_argument("ids", metavar="ID", nargs="*", help="ids as list shows them")
    parser.add_argument("--all", action="store_true", help="redrive: every message that is a valid job")
    parser.add_argument("--body", action="store_true", help="show: write the body alone, as it is")
    add_yes(parser)
    add_json(parser)
    add_limit(parser, 100)


def execute(arguments: argparse.Namespace) -> int:
    """Do what was asked, once its words fit together."""
    action, ids = arguments.action, list(dict.fromkeys(arguments.ids))
    if arguments.all and (action != "redrive" or ids):
        raise ConfigError("--all: only for redrive, and without ids")
    if arguments.body and (action != "show" or len(ids) != 1):
        raise ConfigError("--body: only for show, and with one id")
    if action == "list" and ids:
        raise ConfigError(f"unexpected {ids[0]!r}; to see one message: sqsjkr dead show {ids[0]}")
    if action != "list" and not ids and not arguments.all:
        raise ConfigError(f"{action}: expected an id, as sqsjkr dead list shows it")
    return asyncio.run(_execute(arguments, ids))


async def _execute(arguments: argparse.Namespace, ids: Sequence[str]) -> int:
    _, config = configured(arguments)
    connections = Connections(config)
    connections.begin()
    dead: DeadLetters = dead_letters_class(config).configured(connections)
    async with opened(connections, dead), Look(dead) as look:
        if arguments.action == "list":
            return await _list(look, arguments, dead.now())
        if arguments.all:
            return await _redrive_all(look, yes=arguments.yes)
        found = await look.find(ids)
        for name in ids:
            if name not in found:
                complain(f"{safe(name)}: not on the dead-letter queue, or hidden by another look for up to 30s")
        letters = list({letter.id: letter for letter in found.values()}.values())
        done = True
        if letters and arguments.action == "show":
            _show(letters, arguments, dead.now())
        elif letters and arguments.action == "redrive":
            done = _report(letters, await look.redrive(letters), "sent again as")
        elif letters:
            if not confirmed(f"Drop {_counted(letters)} for good?", yes=arguments.yes):
                return USAGE
            done = _report(letters, await look.drop(letters), "dropped")
        return OK if done and len(found) == len(ids) else FAILED


async def _list(look: Look, arguments: argparse.Namespace, now: float) -> int:
    letters = await look.first(arguments.limit + 1)
    shown, more = letters[: arguments.limit], len(letters) > arguments.limit
    if arguments.json:
        write_json(letter.shown() for letter in shown)
        return OK
    if not shown:
        write("no dead letters")
        return OK
    lines = table(
        ["ID", "AGE", "RECEIVED", "REASON", "COMMAND"],
        [
            (
                letter.id,
                None if at is None else lasting(now - at),
                None if letter.receive_count is None else str(letter.receive_count),
                letter.reason,
                letter.shown().command,
            )
            for letter in shown
            for at in (letter.died_at or letter.sent_at,)
        ],
    )
    write(*lines, *([f"... and more: --limit {arguments.limit * 10}"] if more else []))
    return OK


def _show(letters: Sequence[Letter], arguments: argparse.Namespace, now: float) -> None:
    if arguments.body:
        _write_body(letters[0].body)
        return
    if arguments.json:
        write_json({**as_json(letter.shown()), "body": letter.body} for letter in letters)
        return
    for n, letter in enumerate(letters):
        value = letter.shown()
        facts = {
            "id": value.id,
            "was": None if value.message_id == value.id else value.message_id,
            "reason": value.reason,
            "sender": value.sender,
            "sent": None if value.sent_at is None else moment(value.sent_at, now),
            "buried": None if value.died_at is None else moment(value.died_at, now),
            "received": _times(value.receive_count),
            "failed": _times(value.failures),
            "event": value.event_id,
            "lock": value.lock_id,
            "command": value.command,
            "output": value.output,
            "body": f"{value.body_bytes} bytes: {_readable(letter.body)}",
        }
        write(*([""] if n else []), *(f"{name:<9} {safe(text)}" for name, text in facts.items() if text is not None))


def _times(number: int | None) -> str | None:
    return None if number is None else "once" if number == 1 else f"{number} times"


def _readable(body: str) -> str:
    """Return a body for the screen, without the values of environment variables, which may be secrets."""
    text = masked(body)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}... (all of it: --body)"


def _write_body(body: str) -> None:
    """Write the body on one line, as ``send --json`` takes it. On a terminal nothing in it is obeyed."""
    line = body
    if "\n" in body:
        with contextlib.suppress(ValueError, RecursionError):
            line = json.dumps(json.loads(body), ensure_ascii=False)
    if sys.stdout.isatty():
        write(safe(line))
    else:
        sys.stdout.buffer.write(f"{line}\n".encode(errors="surrogatepass"))


async def _redrive_all(look: Look, *, yes: bool) -> int:
    """Send back, page by page, whatever is a job for this version; leave the rest where it is."""
    if not confirmed("Send every dead letter that is a valid job back to the job queue?", yes=yes):
        return USAGE
    sent = left = 0
    done = True
    while page := await look.next_page():
        jobs = [letter for letter in page if letter.is_job()]
        for letter in page:
            if letter not in jobs:
                write(f"{letter.id} stays: it is not a valid job ({safe(letter.reason)})")
        done = _report(jobs, await look.redrive(jobs), "sent again as") and done
        sent, left = sent + len(jobs), left + len(page) - len(jobs)
    write(f"redriven {sent}, left {left}")
    return OK if done else FAILED


def _report(letters: Sequence[Letter], answers: Sequence[object], what: str) -> bool:
    """Say what became of each. True if nothing was refused."""
    good = True
    for letter, answer in zip(letters, answers, strict=True):
        if isinstance(answer, Exception):
            complain(f"{letter.id}: {safe(str(answer))}")
            good = False
        else:
            write(f"{letter.id} {what}{f' {answer}' if answer else ''}")
    return good


def _counted(letters: Sequence[Letter]) -> str:
    return f"{letters[0].id} ({safe(letters[0].reason[:80])})" if len(letters) == 1 else f"{len(letters)} messages"
