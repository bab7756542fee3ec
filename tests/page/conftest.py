"""Pages, a real browser to click in, and a fleet of two workers with a past to look at."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

import daemons
from browsing import Browser, Chromium, chromium
from fleet import Fleet
from pages import Page, serving
from servers import wait_until
from town import Town, configured, founded

StartPage = Callable[..., Page]
_running: list[Chromium] = []


@pytest.fixture
def start_page(aws_env: Mapping[str, str]) -> Iterator[StartPage]:
    """Starts pages: ``start_page("--local", store)``. They end with the test."""
    with contextlib.ExitStack() as stack:

        def start(*options: str, env: Mapping[str, str] | None = None) -> Page:
            return stack.enter_context(serving(*options, env={**aws_env, **(env or {})}))

        yield start


@pytest.fixture
def conf(fleet: Fleet, tmp_path: Path) -> Path:
    """A config file for the fleet of the test."""
    return configured(fleet, tmp_path)


@pytest.fixture(scope="session")
def the_browser() -> Iterator[Chromium]:
    """A real browser, headless, one for all. Skips without Chromium and its driver; CI must have them."""
    missing = [tool for tool in ("chromium", "chromedriver") if shutil.which(tool) is None]
    if missing:
        excuse = f"the page is clicked in Chromium, which needs {' and '.join(missing)}"
        if os.environ.get("CI") == "true":
            pytest.fail(excuse)
        pytest.skip(excuse)
    with chromium(str(shutil.which("chromium")), str(shutil.which("chromedriver"))) as running:
        _running.append(running)
        yield running
        _running.remove(running)


@pytest.fixture
def browser(the_browser: Chromium) -> Iterator[Chromium]:
    """The browser, as if it were new."""
    the_browser.renew()
    yield the_browser
    the_browser.renew()


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """Fails a test after which processes are left that were not there before. Those of the browser come and go."""
    before = {(process.pid, process.started) for process in daemons.ours()}

    def left() -> list[str]:
        browsers = {pid for each in _running for pid in each.processes()}
        new = [each for each in daemons.ours() if (each.pid, each.started) not in before and each.pid not in browsers]
        return [f"{each.pid} {each.command}" for each in new]

    yield
    wait_until(lambda: not left(), description="all that the test started was gone")


@pytest.fixture(scope="module")
def town(aws_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    """What the views are looked at with; no test changes it."""
    with founded(aws_url, tmp_path_factory.mktemp("town")) as there:
        yield there


@pytest.fixture
def visitor(browser: Chromium, town: Town) -> Browser:
    """A browser in front of the town."""
    return Browser(browser, town.page)
