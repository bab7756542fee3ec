"""The fixtures any test may ask for: servers started once a run, a fleet of its own, daemons that end with it."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import signal
import sys
from collections.abc import Callable, Generator, Iterator, Mapping
from typing import Any

import pytest

import daemons
import servers
import spawners
from faults.proxy import Proxy
from fleet import Fleet

_WAITING = {
    "test_chaos.py",
    "test_five_questions.py",
    "test_history_is_an_observer.py",
    "test_retries.py",
    "test_steering.py",
}
"""The files whose tests take longest."""


def pytest_configure() -> None:
    """Let daemons hear Ctrl-C: a shell has what it runs in the background ignore it, and that is inherited."""
    for number in (signal.SIGINT, signal.SIGQUIT):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Spread the tests that wait for real leases over the run: at its end they would wait with nothing beside them."""
    waiting = [item for item in items if item.path.name in _WAITING]
    others = [item for item in items if item.path.name not in _WAITING]
    placed, done = 0, 0
    items.clear()
    for _, group in itertools.groupby(others, key=lambda item: item.path):  # a file's own fixtures are made once
        items += (together := list(group))
        done += len(together)
        due = len(waiting) * done // len(others)
        items += waiting[placed:due]
        placed = due
    items += waiting[placed:]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Escape half a surrogate pair in what a test logged: pytest-xdist cannot send it from one process to another."""
    report = yield
    report.sections = [(name, text.encode(errors="backslashreplace").decode()) for name, text in report.sections]
    return report


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run what is marked `below_a_launcher` there, unless this is there already."""
    if spawners.below is not None or pyfuncitem.get_closest_marker("below_a_launcher") is None:
        return None
    spawners.run_below_a_launcher(pyfuncitem.nodeid)
    return True


@pytest.fixture(scope="session")
def aws_url() -> Iterator[str]:
    """One server for SQS and DynamoDB, the same for the whole run."""
    with servers.ministack() as url:
        yield url


@pytest.fixture(scope="session")
def dynamodb_local_url() -> Iterator[str]:
    """Amazon's own DynamoDB engine, the same for the whole run. Skips without Java and npm; CI must have them."""
    missing = [tool for tool in ("java", "npm") if shutil.which(tool) is None]
    if missing:
        excuse = f"DynamoDB Local needs {' and '.join(missing)}"
        if os.environ.get("CI") == "true":
            pytest.fail(excuse)
        pytest.skip(excuse)
    with servers.dynamodb_local() as url:
        yield url


# Not session-scoped: in random order a parametrized session fixture starts its server anew at each change.
@pytest.fixture(params=["aws_url", pytest.param("dynamodb_local_url", marks=pytest.mark.dynamodb_local)])
def dynamodb_url(request: pytest.FixtureRequest) -> str:
    """A DynamoDB server: the test runs once on each kind."""
    return str(request.getfixturevalue(request.param))


@pytest.fixture
def aws_env(aws_url: str) -> dict[str, str]:
    """The environment for a daemon: the server, keys that open nothing, none of the developer's own settings."""
    return servers.aws_environment(aws_url)


@pytest.fixture
def make_fleet(aws_url: str) -> Iterator[Callable[..., Fleet]]:
    """Makes fleets: `make_fleet(FifoQueue="true")`, `make_fleet(dynamodb_url=...)`. They are removed after the test."""
    with contextlib.ExitStack() as stack:

        def make(*, sqs_url: str = aws_url, dynamodb_url: str = aws_url, **queue_attributes: str) -> Fleet:
            fleet = Fleet(sqs_url, dynamodb_url, **queue_attributes)
            stack.callback(fleet.remove)
            return fleet

        yield make


@pytest.fixture
def fleet(make_fleet: Callable[..., Fleet]) -> Fleet:
    """A queue, its dead-letter queue and a table that only this test uses."""
    return make_fleet()


@pytest.fixture
def proxy(aws_url: str) -> Iterator[Proxy]:
    """A fault proxy before the server of the run; set SQSJKR_FAULT_SEED to see other faults."""
    with Proxy(aws_url, seed=int(os.environ.get("SQSJKR_FAULT_SEED", "1"))) as running:
        yield running


@pytest.fixture
def daemon(aws_env: Mapping[str, str]) -> Iterator[Callable[..., daemons.Daemon]]:
    """Starts daemons, `daemon("--lock-table", fleet.table, config=fleet.config())`; `env` goes on top of `aws_env`.

    They are killed after the test, with all that they started; what they said is shown if it failed.
    """
    with contextlib.ExitStack() as stack:

        def start(*arguments: str, env: Mapping[str, str] | None = None, **more: Any) -> daemons.Daemon:
            begun = stack.enter_context(daemons.Daemon(*arguments, env={**aws_env, **(env or {})}, **more))
            stack.callback(lambda: sys.stderr.write(f"--- daemon {begun.pid} said:\n{begun.stderr}\n"))
            return begun

        yield start


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """Fails a test after which processes are left that were not there before; they are killed then."""
    if sys.platform != "linux":
        yield
        return
    before = daemons.ours()
    yield
    left = daemons.left_behind(before)
    assert not left, f"the test left processes behind: {left}"
