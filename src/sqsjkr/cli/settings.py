"""The configuration as the options have it. Apart from ``options``, since the launcher of ``sqsjkr run`` loads none."""

from __future__ import annotations

import argparse
import os

from sqsjkr.cli.options import DEFAULT_FILE
from sqsjkr.config import Config, load
from sqsjkr.errors import ConfigError

_SETTINGS = ("local", "profile", "region", "lock_table", "stats_port", "stats_socket", "log_level", "log_format")
"""Options that override settings of the file."""


def configured(arguments: argparse.Namespace) -> tuple[str | None, Config]:
    """Load the configuration, overridden by the options. Returns its file, None without one, and the configuration.

    Raises:
        ConfigError: one line for each mistake in the file and in the options.
    """
    given = {name: getattr(arguments, name, None) for name in _SETTINGS}
    if given["local"] == "":
        raise ConfigError("--local: expected a directory")
    path = arguments.conf if arguments.conf is not None or given["local"] else DEFAULT_FILE
    return path, load(path, env=os.environ, overrides=given)
