"""A fixture for tests of the whole daemon."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from daemons import Daemon
from families import Start
from servers import clean_environment


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a daemon on the store of the test; with `config`, on what that names."""
    with contextlib.ExitStack() as stack:

        def begin(*arguments: str, **more: Any) -> Daemon:
            place = () if "config" in more else ("--local", str(tmp_path / "store"))
            begun = stack.enter_context(Daemon(*place, *arguments, **{"env": clean_environment()} | more))
            stack.callback(lambda: sys.stderr.write(f"--- daemon {begun.pid} said:\n{begun.stderr}\n"))
            return begun

        yield begin
