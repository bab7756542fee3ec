"""The page in a real browser: what an operator sees and clicks, and what an attacker tries."""

from __future__ import annotations

import http.server
import json
import shlex
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.common.exceptions import (
    NoAlertPresentException,
    NoSuchElementException,
    StaleElementReferenceException,
)
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement

from daemons import Daemon, marked
from fleet import Fleet
from pages import Page
from servers import wait_until

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

StartPage = Callable[..., Page]
HOSTILE = """<script>alert('script')</script>"><img src=x onerror=alert('image')>"""
STUBBORN = """trap "" TERM; sh -c 'trap "" TERM; while :; do sleep 1; done' & while :; do sleep 1; done"""
"""A job that heeds no TERM, nor does its child."""


class Browser:
    """The browser, and the page that it has open."""

    def __init__(self, driver: webdriver.Chrome, page: Page) -> None:
        self.driver = driver
        self.page = page
        driver.get(page.url)

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

    def complaints(self) -> list[str]:
        """What the browser refused or could not do."""
        return [str(entry["message"]) for entry in self.driver.get_log("browser")]  # type: ignore[no-untyped-call]


@pytest.fixture
def shown(browser: webdriver.Chrome, start_page: StartPage, conf: Path, daemon: Callable[..., Daemon]) -> Browser:
    """A browser in front of two workers."""
    for _ in range(2):
        daemon(config=conf.read_text()).wait_for_line("worker.started")
    return Browser(browser, start_page("--conf", str(conf)))


def test_a_job_on_another_worker_that_heeds_no_term_is_cancelled_by_clicking(shown: Browser, fleet: Fleet) -> None:
    message_id = fleet.send_job(command=STUBBORN, event_id="stubborn")
    shown.open("/")
    shown.wait_for("stubborn")
    shown.click("summary", "Cancel")
    shown.click("button", "Cancel it for good")
    shown.wait_for("The order is given")
    wait_until(lambda: fleet.depth() == (0, 0, 0), description="its message had left the queue")
    wait_until(lambda: not marked_jobs(), description="all of its processes were gone")
    [row] = [row for row in fleet.rows("throttle") if row["Id"] == message_id]
    assert row["Done"]
    shown.open("/")
    shown.wait_for("No job runs")


def marked_jobs() -> list[str]:
    """The processes of jobs that run."""
    return [process.command for process in marked("") if "while :" in process.command]


def test_a_job_is_sent_back_by_clicking_and_runs_again(shown: Browser, fleet: Fleet, tmp_path: Path) -> None:
    fleet.send_job(command=f"echo >>{tmp_path}/runs; exec sleep 600", event_id="again")
    shown.open("/")
    shown.wait_for("again")
    shown.click("summary", "Cancel")
    shown.click("button", "run it again")
    wait_until(lambda: (tmp_path / "runs").read_text() == "\n\n", description="it ran a second time")


def test_dead_letters_are_sent_back_by_clicking(shown: Browser, fleet: Fleet) -> None:
    fleet.send('{"comand": "echo typo"}', "no job at all")
    wait_until(lambda: len(fleet.dead_letters()) == 2, description="both were buried")
    shown.open("/dead")
    shown.wait_for("missing or empty")
    row = shown.find("tbody tr", "missing or empty")
    row.find_element(By.CSS_SELECTOR, "input[type=checkbox]").click()
    shown.click("button", "Send the marked ones back")
    shown.wait_for("1 sent back")
    wait_until(lambda: len(fleet.dead_letters()) == 2, description="it was buried again: it is still no job")
    shown.open("/dead")
    shown.click("thead input")
    shown.click("button", "Drop the marked ones")
    shown.wait_for("2 dropped")
    assert fleet.dead_letters() == []


def test_the_fleet_is_paused_and_resumed_by_clicking(shown: Browser, fleet: Fleet, tmp_path: Path) -> None:
    shown.open("/fleet")
    shown.click("summary", "Pause")
    shown.find("input[name=why]").send_keys("database migration")
    shown.click("details[open] button", "Pause")
    shown.wait_for("Paused: no worker takes new jobs")
    shown.wait_for("database migration")
    shown.open("/")
    shown.wait_for("paused by")
    shown.open("/fleet")
    shown.click("button", "Resume")
    shown.wait_for("Resumed")
    fleet.send_job(command=f"touch {tmp_path}/ran")
    wait_until((tmp_path / "ran").exists, description="jobs run again")


def test_everything_can_be_done_from_the_keyboard(shown: Browser, fleet: Fleet) -> None:
    fleet.send_job(command="exec sleep 600", event_id="typed")
    shown.open("/")
    shown.wait_for("typed")
    shown.find("summary", "Cancel").send_keys(Keys.ENTER)
    form = shown.find("details.order[open] form")
    shown.driver.switch_to.active_element.send_keys(Keys.ESCAPE)
    assert not form.is_displayed(), "Escape closes it"
    shown.find("summary", "Cancel").send_keys(Keys.ENTER)
    shown.driver.switch_to.active_element.send_keys(Keys.TAB)
    shown.driver.switch_to.active_element.send_keys(Keys.ENTER)
    shown.wait_for("The order is given")
    wait_until(lambda: fleet.depth() == (0, 0, 0), description="its message had left the queue")


def test_what_a_producer_wrote_stays_text(shown: Browser, fleet: Fleet) -> None:
    fleet.send_job(command=f": {shlex.quote(HOSTILE)}; sleep 600", event_id=HOSTILE, lock_id=HOSTILE)
    wait_until(lambda: fleet.depth()[1] == 1, description="it runs")
    fleet.send_job(command="true", event_id=HOSTILE, lock_id=HOSTILE)
    fleet.send(HOSTILE, json.dumps({"command": "", "event_id": HOSTILE}))
    wait_until(lambda: len(fleet.dead_letters()) == 2, description="both were buried")
    shown.open("/")
    shown.wait_for("<script>")
    for path in ("/", "/locks", "/fleet", "/dead"):
        shown.open(path)
        with pytest.raises(NoAlertPresentException):
            shown.driver.switch_to.alert.accept()
        assert not shown.driver.find_elements(By.CSS_SELECTOR, "main img, main script"), path
        assert shown.complaints() == [], "nothing was even tried"


def test_without_scripts_everything_is_shown_and_done_all_the_same(shown: Browser, fleet: Fleet) -> None:
    shown.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    fleet.send_job(command="exec sleep 600", event_id="plain")

    def there() -> bool:
        shown.open("/")
        return "plain" in shown.text

    wait_until(there, description="the job was shown")
    shown.click("summary", "Cancel")
    shown.click("button", "Cancel it for good")
    shown.wait_for("The order is given")
    wait_until(lambda: fleet.depth() == (0, 0, 0), description="its message had left the queue")


def test_a_refresh_takes_nothing_out_of_the_readers_hands(shown: Browser, fleet: Fleet) -> None:
    fleet.send_job(command="exec sleep 600", event_id="first")
    shown.open("/")
    shown.wait_for("first")
    shown.driver.execute_script(
        "const heading = document.querySelector('#live-running h2'); getSelection().selectAllChildren(heading)"
    )
    selected = shown.driver.execute_script("return getSelection().toString()")
    fleet.send_job(command="exec sleep 600", event_id="second")
    shown.wait_for("partly held: text is selected")
    assert shown.driver.execute_script("return getSelection().toString()") == selected
    shown.driver.execute_script("getSelection().removeAllRanges()")
    shown.wait_for("second")


@pytest.mark.parametrize("path", ["/", "/locks", "/fleet", "/dead"])
def test_a_phone_shows_it_without_scrolling_sideways(shown: Browser, path: str) -> None:
    phone = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    shown.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
    shown.open(path)
    assert shown.driver.execute_script("return document.documentElement.scrollWidth") <= 390


def test_it_is_dark_where_the_reader_wants_it_dark(shown: Browser) -> None:
    def lightness() -> int:
        colour = shown.find("body").value_of_css_property("background-color")
        return sum(int(part) for part in colour.strip("rgba()").split(",")[:3])

    assert lightness() > 600
    dark = [{"name": "prefers-color-scheme", "value": "dark"}]
    shown.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": dark})
    assert lightness() < 150


# Attackers


@contextmanager
def site(html: str) -> Iterator[int]:
    """A site of somebody else's on this host; its port."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(html.encode())

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield int(server.server_address[1])
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
def test_another_site_cannot_order_anything_with_the_operators_browser(
    browser: webdriver.Chrome, start_page: StartPage, conf: Path, fleet: Fleet, name: str
) -> None:
    """On 127.0.0.1 it is the same site for SameSite, which knows no ports: the browser sends the cookie along."""
    shown = Browser(browser, start_page("--conf", str(conf)))
    form = f"""<form method=post action="http://127.0.0.1:{shown.page.port}/fleet/pause"><input name=why value=evil>
        <button>win</button></form>"""
    with site(form) as port:
        browser.get(f"http://{name}:{port}/")
        browser.find_element(By.TAG_NAME, "button").click()
    shown.wait_for("Not let in")
    assert not [row for row in fleet.rows() if "Paused" in row]
    shown.open("/fleet")
    assert "Workers" in shown.text, "the operator is still in"


def test_another_site_can_neither_read_the_page_nor_frame_it(
    browser: webdriver.Chrome, start_page: StartPage, conf: Path
) -> None:
    shown = Browser(browser, start_page("--conf", str(conf)))
    address = f"http://127.0.0.1:{shown.page.port}/now.json"
    script = f"""<iframe src="{address}"></iframe><script>
        fetch("{address}", {{credentials: "include"}})
          .then(() => document.title = "read", () => document.title = "kept");
        </script>"""
    with site(script) as port:
        browser.get(f"http://127.0.0.1:{port}/")
        wait_until(lambda: browser.title, description="the script had ended")
        assert browser.title == "kept"
        browser.switch_to.frame(0)
        assert "verdicts" not in browser.page_source


def test_a_name_that_is_pointed_here_shows_nothing(
    start_page: StartPage, conf: Path, browser: webdriver.Chrome
) -> None:
    page = start_page("--conf", str(conf))
    Browser(browser, page)
    browser.get(page.url.replace("127.0.0.1", "page.localhost"))  # resolves to loopback in every browser
    assert "loopback address only" in browser.page_source
    assert browser.get_cookies() == []  # type: ignore[no-untyped-call]
