"""Pages, and a real browser to click in."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

from fleet import Fleet
from pages import Page, serving

StartPage = Callable[..., Page]


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
    path = tmp_path / "config.toml"
    path.write_text(fleet.config(lock_table=fleet.table, kill_after=1))
    return path


@pytest.fixture
def browser(request: pytest.FixtureRequest) -> Iterator[webdriver.Chrome]:
    """A real browser, headless, new for the test. Skips without Chromium and its driver; CI must have them."""
    missing = [tool for tool in ("chromium", "chromedriver") if shutil.which(tool) is None]
    if missing:
        excuse = f"the page is clicked in Chromium, which needs {' and '.join(missing)}"
        if os.environ.get("CI") == "true":
            pytest.fail(excuse)
        pytest.skip(excuse)
    with tempfile.TemporaryDirectory(prefix="jkr-browser-", ignore_cleanup_errors=True) as profile:
        options = webdriver.ChromeOptions()
        options.binary_location = str(shutil.which("chromium"))
        for flag in (
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--window-size=1280,900",
            f"--user-data-dir={profile}",
        ):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
        try:
            yield driver
        finally:
            driver.quit()
