"""``sqsjkr completion``: a script with which a shell completes verbs, options and files."""

from __future__ import annotations

import argparse
import sys
from importlib import import_module

from sqsjkr.cli.exit_codes import OK
from sqsjkr.errors import ConfigError

EPILOG = """\
examples:
  sqsjkr completion bash >/usr/share/bash-completion/completions/sqsjkr
  sqsjkr completion zsh >/usr/local/share/zsh/site-functions/_sqsjkr

exit codes: 0 if the script was printed, 2 if the command line is wrong or shtab is not installed
"""

SHELLS = ("bash", "zsh", "tcsh")
INSTALL = "completion needs shtab; next: pip install 'sqsjkr[completion]'"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add which shell."""
    parser.add_argument("shell", choices=SHELLS, help="the shell that is to complete")


def execute(arguments: argparse.Namespace) -> int:
    """Print the script."""
    try:
        import shtab  # noqa: PLC0415 - an extra
    except ModuleNotFoundError:
        raise ConfigError(INSTALL) from None
    sys.stdout.write(shtab.complete(_parser({"FILE": shtab.FILE, "DIR": shtab.DIRECTORY}), arguments.shell))
    return OK


def _parser(files: dict[str, object]) -> argparse.ArgumentParser:
    """Make one parser of all verbs; ``files`` says how arguments are completed, by their placeholders."""
    from sqsjkr.cli.main import VERBS  # noqa: PLC0415 - main imports this module by its name

    parser = argparse.ArgumentParser(prog="sqsjkr")
    verbs = parser.add_subparsers()
    for verb, summary in VERBS.items():
        options = verbs.add_parser(verb, help=summary)
        import_module(f"sqsjkr.cli.{verb}").add_options(options)
        for action in options._actions:  # noqa: SLF001 - shtab is told so
            if action.metavar in files:
                action.complete = files[action.metavar]  # type: ignore[attr-defined]
    return parser
