"""argv in, exit code out; the only place that prints errors.

Only what every verb needs is imported at the top: the guard of ``sqsjkr run`` stays in memory as long as the worker.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Collection, Sequence
from typing import NoReturn

from sqsjkr.cli.exit_codes import FAILED, INTERRUPTED, OK, USAGE
from sqsjkr.errors import ConfigError, SqsjkrError
from sqsjkr.supervision.guard import guarded
from sqsjkr.supervision.shared_state import SharedState

# ruff: noqa: PLC0415 - see above

_VERBS = ("run", "send", "check", "setup")
_GO_OPTIONS = ("conf", "log-level", "lock-table", "profile", "region", "stats-port", "stats-socket", "version", "help")
"""What the original spells with one dash (go-semantics section 1): unit files keep working."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line (``sys.argv`` if None): the exit code. What goes wrong is told on stderr, line by line."""
    words = _in_our_spelling(sys.argv[1:] if argv is None else argv)
    if words[:1] == ["--version"]:
        return _tell_version()
    try:
        arguments = _parsed(words)
    except SystemExit as leaving:  # argparse, after --help
        return leaving.code if isinstance(leaving.code, int) else OK
    except ConfigError as why:
        _complain(str(why))
        return USAGE
    if arguments.verb == "run":
        return guarded(lambda page: _reported(lambda: _work(arguments, page)))
    return _reported(lambda: _work(arguments))


def _work(arguments: argparse.Namespace, page: SharedState | None = None) -> int:
    from sqsjkr.cli import verbs

    match arguments.verb:
        case "run":
            return verbs.run(arguments, page or SharedState())
        case "send":
            return verbs.send(arguments, _complain)
        case "check":
            return verbs.check(arguments)
        case _:
            return verbs.setup(arguments)


def _reported(work: Callable[[], int]) -> int:
    """The exit code of ``work``, whatever it raises on purpose."""
    try:
        code = work()
        sys.stdout.flush()
    except ConfigError as why:
        _complain(str(why))
        return USAGE
    except SqsjkrError as why:
        _complain(str(why))
        return FAILED
    except BrokenPipeError:  # whoever read our output has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except KeyboardInterrupt:
        _complain("interrupted")
        return INTERRUPTED
    return code


def _complain(text: str) -> None:
    for line in text.splitlines():
        sys.stderr.write(f"sqsjkr: {line}\n")


class _Parser(argparse.ArgumentParser):
    """Says what is wrong with a command line, and which word was meant."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        raise ConfigError(message.replace("argument ", "").replace("arguments: ", "arguments "))

    def unknown(self, extra: Sequence[str]) -> NoReturn:
        """Tell of what no option takes."""
        word = next((word for word in extra if word.startswith("-")), "")
        if not word:
            hint = "; a command is one word: put it in quotes" if self.prog.endswith("send") else ""
            self.error(f"unexpected {extra[0]!r}{hint}")
        name = word.partition("=")[0]
        near = _nearest(name, list(self._option_string_actions))
        self.error(f"unknown option {name}; {f'did you mean {near}?' if near else f'see {self.prog} --help'}")


def _nearest(word: str, known: Collection[str]) -> str:
    from sqsjkr.config.rules import nearest

    return nearest(word, known)


def _in_our_spelling(argv: Sequence[str]) -> list[str]:
    """The command line with the original's spelling made ours: no verb means run, one dash means two."""
    words = list(argv)
    if not words or (words[0].startswith("-") and words[0].lstrip("-") not in {"h", "help", "version"}):
        words.insert(0, "run")
    end = words.index("--") if "--" in words else len(words)
    return [
        f"-{word}"
        if n < end and word[:2] != "--" and word[:1] == "-" and word[1:].split("=")[0] in _GO_OPTIONS
        else word
        for n, word in enumerate(words)
    ]


def _parsed(words: Sequence[str]) -> argparse.Namespace:
    parser = _parser()
    if words and not words[0].startswith("-") and words[0] not in _VERBS:
        near = _nearest(words[0], _VERBS)
        hint = f"did you mean {near}?" if near else f"expected {', '.join(_VERBS)}"
        parser.error(f"unknown command {words[0]!r}; {hint}")
    arguments, extra = parser.parse_known_args(words)
    if extra:
        arguments.parser.unknown(extra)
    return arguments


def _parser() -> _Parser:
    parser = _Parser(
        prog="sqsjkr", description="Run the shell commands that arrive on an SQS queue.", allow_abbrev=False
    )
    parser.add_argument("--version", action="store_true", help="show the version and stop")
    verbs = parser.add_subparsers(dest="verb", metavar="run|send|check|setup", required=True)

    def verb(name: str, text: str) -> _Parser:
        made = verbs.add_parser(name, help=text, description=text, allow_abbrev=False)
        made.set_defaults(parser=made)
        where = made.add_argument_group("which queue")
        where.add_argument(
            "--conf", metavar="FILE", help="configuration (default /etc/sqsjkr/config.toml; none with --local)"
        )
        where.add_argument("--local", metavar="DIR", help="the embedded store in this directory, instead of AWS")
        where.add_argument("--profile", metavar="NAME", help="profile in the AWS configuration files")
        where.add_argument("--region", metavar="NAME", help="AWS region")
        if name != "send":
            where.add_argument("--lock-table", metavar="NAME", help="DynamoDB table for locks and throttle rows")
        return made

    _add_run(verb("run", "Receive jobs and run them, until a signal says stop."))
    _add_send(verb("send", "Put one job on the queue, or many."))
    _add_stats(verb("check", "Look at everything that run needs, and say what to do about it."))
    _add_setup(verb("setup", "Create the queue, its dead-letter queue and the table, or what is missing of them."))
    return parser


def _add_stats(parser: _Parser) -> None:
    parser.add_argument("--stats-port", metavar="PORT", type=_number, help="TCP port of the stats")
    parser.add_argument("--stats-socket", metavar="PATH", help="Unix socket of the stats, instead of a port")


def _add_run(parser: _Parser) -> None:
    parser.add_argument("--log-level", metavar="LEVEL", help="error, warn, info or debug")
    parser.add_argument("--log-format", metavar="FORM", help="text or json")
    _add_stats(parser)
    parser.add_argument("--until-empty", action="store_true", help="run what is on the queue, then stop")


def _add_send(parser: _Parser) -> None:
    parser.add_argument("command", metavar="COMMAND", nargs="?", help="the shell command, as one word")
    parser.add_argument("--json", metavar="FILE", help='many jobs, one JSON object a line; "-" is stdin')
    job = parser.add_argument_group("the job")
    job.add_argument("--env", metavar="KEY=VALUE", action="append", default=[], help="a variable; may be repeated")
    job.add_argument("--event-id", metavar="ID", help="your name for this event (default: the message id)")
    job.add_argument("--lock-id", metavar="ID", help="never runs together with another job of this lock id")
    job.add_argument("--life-time", metavar="TIME", help="start it within this time or never: 90, 1h30m")
    job.add_argument("--abort-if-locked", action="store_true", help="give up, rather than wait, if the lock is taken")
    job.add_argument("--disable-life-time-trigger", action="store_true", help="no trigger if it comes too late")
    how = parser.add_argument_group("how it is sent")
    how.add_argument("--delay", metavar="SECONDS", default="0", help="hide it at first, 900 at most")
    how.add_argument("--group", metavar="ID", default="", help="message group; FIFO queues need one")
    how.add_argument("--dedup-id", metavar="ID", default="", help="deduplication id, FIFO queues only (default: new)")


def _add_setup(parser: _Parser) -> None:
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, and stop")


def _number(text: str) -> int | str:
    """A number if it is one; what is none is for the configuration's check to tell."""
    return int(text) if text.isascii() and text.isdigit() else text


def _tell_version() -> int:
    from sqsjkr import __version__

    sys.stdout.write(f"sqsjkr version: {__version__}\nPython version: {'.'.join(map(str, sys.version_info[:3]))}\n")
    return OK
