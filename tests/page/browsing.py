"""A real browser in front of the page: one for all tests, as new before each."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from typing import Any

from selenium import webdriver
from selenium.common.exceptions import NoAlertPresentException, NoSuchElementException, StaleElementReferenceException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

import daemons
from pages import Page
from servers import wait_until

BLANK = "about:blank"


class Chromium:
    """Chromium, headless, with a profile that is gone afterwards."""

    def __init__(self, browser: str, driver: str, profile: str) -> None:
        options = webdriver.ChromeOptions()
        options.binary_location = browser
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
        self._service = Service(driver)
        self.driver = webdriver.Chrome(options=options, service=self._service)

    def processes(self) -> set[int]:
        """The pids of the driver and the browser, which come and go."""
        root = int(self._service.process.pid)
        return {root} | {process.pid for process in daemons.descendants(root)}

    def renew(self) -> None:
        """Forget what a test has set, seen and been given."""
        with contextlib.suppress(NoAlertPresentException):
            self.driver.switch_to.alert.accept()
        self.command("Emulation.setScriptExecutionDisabled", value=False)
        self.command("Emulation.clearDeviceMetricsOverride")
        self.command("Emulation.setEmulatedMedia", features=[])
        self.command("Network.clearBrowserCookies")
        self.driver.get(BLANK)
        self.complaints()

    def command(self, name: str, **arguments: Any) -> None:
        self.driver.execute_cdp_cmd(name, arguments)

    def complaints(self) -> list[str]:
        """What the browser refused or could not do since the last look."""
        return [str(entry["message"]) for entry in self.driver.get_log("browser")]  # type: ignore[no-untyped-call]


@contextlib.contextmanager
def chromium(browser: str, driver: str) -> Iterator[Chromium]:
    """Runs the browser for the block."""
    with tempfile.TemporaryDirectory(prefix="jkr-browser-", ignore_cleanup_errors=True) as profile:
        os.environ.setdefault("SE_AVOID_STATS", "true")
        running = Chromium(browser, driver, profile)
        try:
            yield running
        finally:
            running.driver.quit()


class Browser:
    """The browser, and the page that it has open."""

    def __init__(self, chromium: Chromium, page: Page) -> None:
        self.chromium = chromium
        self.driver = chromium.driver
        self.page = page
        self.driver.get(page.url)

    @property
    def text(self) -> str:
        """What can be read on the page."""
        return self.driver.find_element(By.TAG_NAME, "body").text

    def open(self, path: str) -> None:
        self.driver.get(f"http://127.0.0.1:{self.page.port}{path}")

    def wait_for(self, words: str) -> None:
        """Wait until the page shows the words; it refreshes itself."""

        def shown() -> bool:
            try:
                return words in self.text
            except (NoSuchElementException, StaleElementReferenceException):  # the next page is on its way
                return False

        try:
            wait_until(shown, description=f"the page showed {words!r}")
        except AssertionError as late:
            raise AssertionError(f"{late}; it shows:\n{self.text}") from None

    def find(self, selector: str, words: str = "") -> WebElement:
        """The one element that is shown and holds the words."""
        every = self.driver.find_elements(By.CSS_SELECTOR, selector)
        found = [each for each in every if each.is_displayed() and words in each.text]
        assert len(found) == 1, f"{len(found)} of {selector} with {words!r}; the page shows:\n{self.text}"
        return found[0]

    def click(self, selector: str, words: str = "") -> None:
        self.find(selector, words).click()

    def follow(self, words: str) -> None:
        """Click the first link in the page's middle with these words."""
        links = self.driver.find_elements(By.CSS_SELECTOR, "main a")
        found = [each for each in links if each.is_displayed() and words in each.text]
        assert found, f"no link with {words!r}; the page shows:\n{self.text}"
        found[0].click()

    def run(self, script: str) -> Any:
        """Run a script in the page, as the test's own."""
        return self.driver.execute_script(script)  # type: ignore[no-untyped-call]
