"""Fixtures of the fault tests: a history, and workers behind the proxy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from daemons import Daemon
from faults.history import History
from faults.proxy import Proxy
from faults.workers import environment, launch
from fleet import Fleet

StartWorker = Callable[..., Daemon]


@pytest.fixture
def history(tmp_path: Path) -> History:
    """An empty history, and the script whose jobs write it."""
    return History(tmp_path)


@pytest.fixture
def worker(proxy: Proxy, fleet: Fleet, daemon: Callable[..., Daemon], tmp_path: Path) -> StartWorker:
    """Starts the worker of this name, `worker("a", max_concurrent_num=1)`, with leases that last a tenth.

    Returns once it receives, unless `ready` is false.
    """

    def start(
        name: str,
        *,
        scale: float = 0.2,
        fleet: Fleet = fleet,
        url: str = "",
        ready: bool = True,
        own_log: bool = False,
        options: tuple[str, ...] = (),
        **kicker: str | int | bool,
    ) -> Daemon:
        settings = {"max_concurrent_num": 4, "lock_table": fleet.table, "kill_after": "1s", "grace_period": "1s"}
        settings |= {"stats_socket": str(tmp_path / name)} | kicker
        begun = daemon(
            env=environment(url or proxy.listen(name), name),
            config=fleet.config(**settings),
            command=launch(scale, *options),
            own_log=own_log,
            own_socket=False,
        )
        if ready:
            begun.wait_for_line("worker.started")
        return begun

    return start
