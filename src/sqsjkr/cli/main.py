"""argv in, exit code out: pick the verb, import its module, and run it.

Only what every verb needs is imported at the top: the launcher of ``sqsjkr run`` stays in memory as long as the worker.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Collection, Mapping, Sequence
from importlib import import_module
from types import MappingProxyType
from typing import NoReturn

from sqsjkr.cli.exit_codes import OK
from sqsjkr.cli.reporting import reported
from sqsjkr.errors import ConfigError
from sqsjkr.leases.budget import STANDARD, LeaseBudget

# ruff: noqa: PLC0415 - see above

VERBS: Mapping[str, str] = MappingProxyType(
    {
        "run": "Receive jobs and run them until a signal says stop.",
        "send": "Put one job on the queue, or many.",
        "status": "Say whether all is well, and if not, what to do next.",
        "explain": "Tell the story of one job: where it is, or how it ended and why.",
        "runs": "List how jobs ended, newest first.",
        "ps": "Show what runs, and what waits for which lock.",
        "locks": "Show which locks are held and waited for; free one whose worker is dead.",
        "fleet": "Show the workers; pause, resume or drain them.",
        "cancel": "Keep a job from starting, or end it where it runs.",
        "dead": "Look into the dead-letter queue; send messages back from it, or drop them.",
        "web": "Show all of that on a page for your browser, and give the same orders there.",
        "keygen": "Make a key that a producer signs its jobs with.",
        "sign": "Sign one job, for producers in other languages.",
        "learn": "Draft a trust file from what ran.",
        "check": "Look at everything that run needs, and say what to do about it.",
        "setup": "Create the queue, its dead-letter queue and the table, or what is missing of them.",
        "completion": "Print a script that completes command lines in your shell.",
    }
)
"""Every verb with its summary. Its options and its code are in ``sqsjkr.cli.VERB``."""

_GO_OPTIONS = ("conf", "log-level", "lock-table", "profile", "region", "stats-port", "stats-socket", "version", "help")
"""What the original spells with one dash (go-semantics section 1): unit files keep working."""
_GO_TRUE = ("1", "t", "T", "true", "TRUE", "True")
_HELP = ("help", "--help", "-h")


def main(argv: Sequence[str] | None = None, *, budget: LeaseBudget = STANDARD) -> int:
    """Run one command line (``sys.argv`` if None) and return its exit code. Errors are lines on stderr.

    ``budget`` replaces the durations of the leases of ``run``: for tests that cannot wait for the real ones.
    """
    words = _in_our_spelling(sys.argv[1:] if argv is None else argv)
    return reported(lambda: _main(words, budget))


def _main(words: list[str], budget: LeaseBudget) -> int:
    if words and words[0] in _HELP:
        if len(words) == 1:
            return _show_help()
        words = [words[1], "--help"]
    elif words == ["version"]:
        return _show_version()
    verb, options = ("run", words) if not words or words[0].startswith("-") else (words[0], words[1:])
    if verb not in VERBS:
        near = _nearest(verb, VERBS)
        hint = f"did you mean {near}?" if near else f"expected {', '.join(VERBS)}"
        sys.stderr.write("usage: sqsjkr VERB [options]\n")
        raise ConfigError(f"unknown command {verb!r}; {hint}")
    module = import_module(f"sqsjkr.cli.{verb}")
    parser = _Parser(verb, module.EPILOG, has_actions=hasattr(module, "ACTIONS"))
    module.add_options(parser)
    try:
        arguments = parser.parsed(options, verb_is_given=options is not words)
    except SystemExit as leaving:  # argparse, after --help
        return leaving.code if isinstance(leaving.code, int) else OK
    if arguments.version:
        return _show_version()
    arguments.budget, arguments.title = budget, " ".join(["sqsjkr", *words])
    code: int = module.execute(arguments)
    return code


class _Parser(argparse.ArgumentParser):
    """The options of one verb. Says what is wrong with a command line, and which word was meant."""

    def __init__(self, verb: str, epilog: str, *, has_actions: bool) -> None:
        super().__init__(
            prog=f"sqsjkr {verb}",
            description=VERBS[verb],
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        self._verb = verb
        self._has_actions = has_actions
        self.add_argument("--version", action="store_true", help=argparse.SUPPRESS)

    def parsed(self, words: Sequence[str], *, verb_is_given: bool) -> argparse.Namespace:
        """Parse the words that follow the verb. Raises ConfigError for what no option takes."""
        # Where a verb has actions, an id may follow an option. For send this would swallow its "--".
        parse = self.parse_known_intermixed_args if self._has_actions else self.parse_known_args
        arguments, extra = parse(words)
        if extra and not arguments.version:
            self._refuse(extra, words, verb_is_given=verb_is_given)
        return arguments

    def _refuse(self, extra: Sequence[str], words: Sequence[str], *, verb_is_given: bool) -> NoReturn:
        verb = next((word for word in extra if word in VERBS), "")
        if verb and not verb_is_given:
            rest = list(words)
            rest.remove(verb)
            self.error(f"put the verb first: sqsjkr {shlex.join([verb, *rest])}")
        name = next((word for word in extra if word.startswith("-")), "").partition("=")[0]
        if name:
            near = _nearest(name, list(self._option_string_actions))
            self.error(f"unknown option {name}; {f'did you mean {near}?' if near else f'see {self.prog} --help'}")
        hint = "; a command is one word: put it in quotes" if self._verb == "send" else ""
        self.error(f"unexpected {extra[0]!r}{hint}")

    def error(self, message: str) -> NoReturn:
        """Show the usage and raise ConfigError."""
        self.print_usage(sys.stderr)
        raise ConfigError(message.replace("argument ", "").replace("arguments: ", "arguments "))


def _nearest(word: str, known: Collection[str]) -> str:
    from sqsjkr.config.rules import nearest

    return nearest(word, known)


def _in_our_spelling(argv: Sequence[str]) -> list[str]:
    """Spell the original's options as ours: one dash becomes two, ``-version=true`` becomes ``--version``."""
    end = list(argv).index("--") if "--" in argv else len(argv)
    words = []
    for word in argv[:end]:
        name, _, value = word.lstrip("-").partition("=")
        if word == "-v" or (name in {"version", "help"} and value in _GO_TRUE and word.startswith("-")):
            words.append("--version" if word == "-v" else f"--{name}")
        elif word[:1] == "-" and word[:2] != "--" and name in _GO_OPTIONS:
            words.append(f"-{word}")
        else:
            words.append(word)
    return [*words, *argv[end:]]


def _show_help() -> int:
    summaries = "\n".join(f"  {verb:<10} {summary}" for verb, summary in VERBS.items())
    sys.stdout.write(
        "usage: sqsjkr VERB [options]\n\nRun the shell commands that arrive on an SQS queue.\n\n"
        f"{summaries}\n\n"
        "Options without a verb are those of run. `sqsjkr help VERB` shows a verb's options, examples and exit codes;\n"
        "`sqsjkr version` shows the version. The documentation is in docs/ of the source: begin with docs/index.md.\n"
    )
    return OK


def _show_version() -> int:
    from sqsjkr import __version__

    sys.stdout.write(f"sqsjkr version: {__version__}\nPython version: {'.'.join(map(str, sys.version_info[:3]))}\n")
    return OK
