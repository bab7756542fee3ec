"""The page in a real browser: what an operator sees and clicks, and what an attacker tries."""

from __future__ import annotations

import http.server
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from selenium.common.exceptions import NoAlertPresentException
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from browsing import Browser, Chromium
from daemons import Daemon, marked
from fleet import Fleet
from pages import Page
from servers import wait_until
from town import IMAGE, SCRIPT, Town

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

StartPage = Callable[..., Page]
STUBBORN = """trap "" TERM; sh -c 'trap "" TERM; while :; do sleep 1; done' & while :; do sleep 1; done"""
"""A job that heeds no TERM, nor does its child."""
PATHS = ("/", "/failures", "/runs", "/runs?failed=yes&event=night*", "/event?name=nightly", "/locks", "/fleet", "/dead")


@pytest.fixture
def workers(conf: Path, daemon: Callable[..., Daemon]) -> list[Daemon]:
    """Two of the test's own."""
    both = [daemon(config=conf.read_text()) for _ in range(2)]
    for worker in both:
        worker.wait_for_line("worker.started")
    return both


@pytest.fixture
def shown(browser: Chromium, start_page: StartPage, conf: Path, workers: list[Daemon]) -> Browser:
    """A browser in front of two workers."""
    assert workers
    return Browser(browser, start_page("--conf", str(conf)))


# What the views show


def test_now_shows_what_is_wrong_what_runs_and_what_waits(visitor: Browser) -> None:
    visitor.wait_for("2 on the dead-letter queue")
    for heading in ("Running 2", "Waiting 2", "Endings a minute", "Slots"):
        assert heading in visitor.text
    visitor.follow("index")
    assert "index running" in visitor.find("h1").text
    visitor.follow("db")
    assert "vacuum" not in visitor.find("tbody tr").text, "who waits has no name in the lock's row"
    assert "index" in visitor.find("tbody tr").text


def test_a_failure_leads_to_its_run_that_to_its_event_and_that_to_its_lock(visitor: Browser, town: Town) -> None:
    visitor.open("/failures")
    assert "no such column: created_on" in visitor.text
    visitor.follow(town.failed[:8])
    assert "nightly errored" in visitor.find("h1").text
    assert "errored: exit status 3" in visitor.find("ol.story").text
    assert "Its message has left the queue: it is not run again." in visitor.text
    assert "no such column: created_on" in visitor.find("pre.output").text
    visitor.follow("nightly")
    assert "3 of the last 4 succeeded" in visitor.text
    for plot in ("#plot-durations-title", "#plot-waits-title"):
        columns = visitor.driver.find_elements(By.XPATH, f"//*[@id='{plot[1:]}']/..//*[name()='rect']")
        assert len(columns) == 4, "one for each run"
    visitor.follow("db")
    assert visitor.driver.current_url.endswith("/locks?lock=db")
    visitor.follow("its last runs")
    assert len(visitor.driver.find_elements(By.CSS_SELECTOR, "#live-runs tbody tr")) == 4
    assert visitor.chromium.complaints() == []


def test_runs_are_filtered_by_what_is_typed_and_the_address_keeps_it(visitor: Browser) -> None:
    visitor.open("/runs")
    assert "thumbs" in visitor.text
    visitor.find("input[name=event]").send_keys("night*")
    visitor.find("input[name=failed]").click()
    visitor.find("input[name=event]").send_keys(Keys.ENTER)
    wait_until(lambda: "failed=yes" in visitor.driver.current_url, description="the form was sent")
    rows = visitor.driver.find_elements(By.CSS_SELECTOR, "#live-runs tbody tr")
    assert len(rows) == 1
    assert "created_on" in rows[0].text
    assert "sqsjkr runs --failed '--event=night*'" in visitor.find("footer").text
    visitor.follow("all of the last day")
    assert "thumbs" in visitor.text


def test_a_message_and_an_event_are_found_by_what_is_typed(visitor: Browser, town: Town) -> None:
    visitor.driver.switch_to.active_element.send_keys("/")
    visitor.driver.switch_to.active_element.send_keys("nightly", Keys.ENTER)
    wait_until(lambda: "/event?name=nightly" in visitor.driver.current_url, description="the event was shown")
    visitor.find("#find").send_keys(town.flood, Keys.ENTER)
    wait_until(lambda: f"/run?id={town.flood}" in visitor.driver.current_url, description="the run was shown")


def test_of_ten_megabytes_the_page_shows_the_end_and_stays_small(visitor: Browser, town: Town) -> None:
    visitor.open(f"/run?id={town.flood}")
    output = visitor.find("pre.output").text
    assert output.endswith("the last words")
    assert len(output) > 1000, "as much as is kept"
    assert "9.6 MiB" in visitor.text, "how much it printed"
    sizes = {
        path: len(town.page.ask(path).text.encode())
        for path in (f"/run?id={town.flood}", f"/run.json?id={town.flood}", "/failures", "/event?name=flood")
    }
    assert max(sizes.values()) < 220_000, sizes
    assert sizes["/failures"] < 30_000, "a list shows the last line"


def test_what_a_producer_wrote_stays_text(visitor: Browser, town: Town) -> None:
    letters = [letter["id"] for letter in town.page.ask("/dead.json").json]
    addresses = [
        *PATHS,
        f"/run?id={town.attack}",
        *(f"/event?name={name}" for name in ("%22%3E%3Cimg%20src%3Dx%20onerror%3Dhacked%3D1%3E", "%3Cscript%3Eevil()")),
        "/locks?lock=%3Cscript%3Ehacked%3D1%3C/script%3E",
        "/runs?event=%22%3E%3Cscript%3Ehacked%3D1%3C/script%3E&since=2h&lock='onfocus=hacked=1",
        "/runs?since=%3Cscript%3Ehacked%3D1%3C/script%3E",
        "/%3Cscript%3Ehacked%3D1%3C/script%3E",
        *(f"/dead?id={letter}" for letter in letters),
    ]
    seen = ""
    for address in addresses:
        visitor.open(address)
        with pytest.raises(NoAlertPresentException):
            visitor.driver.switch_to.alert.accept()
        assert visitor.run("return window.hacked") is None, address
        assert not visitor.driver.find_elements(By.CSS_SELECTOR, "main img, main script, footer script"), address
        complaints = [
            each for each in visitor.chromium.complaints() if "Failed to load resource" not in each
        ]  # 400, 404
        assert complaints == [], "nothing was even tried"
        seen += visitor.text
    assert SCRIPT in seen
    assert IMAGE in seen


@pytest.mark.parametrize("path", PATHS)
def test_a_phone_shows_it_without_scrolling_sideways(visitor: Browser, path: str) -> None:
    visitor.chromium.command(
        "Emulation.setDeviceMetricsOverride", width=390, height=844, deviceScaleFactor=1, mobile=True
    )
    visitor.open(path)
    assert visitor.run("return document.documentElement.scrollWidth") <= 390


def test_it_is_dark_where_the_reader_wants_it_dark(visitor: Browser) -> None:
    def lightness() -> int:
        colour = visitor.find("body").value_of_css_property("background-color")
        return sum(int(part) for part in colour.strip("rgba()").split(",")[:3])

    assert lightness() > 600
    visitor.chromium.command("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])
    assert lightness() < 150


@pytest.mark.parametrize("path", PATHS)
def test_a_time_is_relative_and_exact_for_a_pointer_that_rests_on_it(visitor: Browser, path: str) -> None:
    visitor.open(path)
    times = visitor.driver.find_elements(By.CSS_SELECTOR, "main time")
    assert times or path == "/locks"
    for time in times:
        assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} [+-]\d{4}", time.get_attribute("title") or "")


# What can be ordered


def test_a_job_on_another_worker_that_heeds_no_term_is_cancelled_by_clicking(shown: Browser, fleet: Fleet) -> None:
    message_id = fleet.send_job(command=STUBBORN, event_id="stubborn")
    shown.open(f"/run?id={message_id}")
    shown.wait_for("It runs.")
    shown.click("summary", "Cancel")
    shown.click("button", "Cancel it for good")
    shown.wait_for("The order is given")
    shown.wait_for("cancelled by")
    wait_until(lambda: fleet.depth() == (0, 0, 0), description="its message had left the queue")
    wait_until(lambda: not stubborn(), description="all of its processes were gone")
    [row] = [row for row in fleet.rows("throttle") if row["Id"] == message_id]
    assert row["Done"]
    shown.open("/")
    shown.wait_for("No job runs")


def stubborn() -> list[str]:
    """The processes of jobs that run."""
    return [process.command for process in marked("") if "while :" in process.command and "trap" in process.command]


def test_a_job_is_sent_back_by_clicking_and_runs_again(shown: Browser, fleet: Fleet, tmp_path: Path) -> None:
    fleet.send_job(command=f"echo >>{tmp_path}/runs; exec sleep 600", event_id="again")
    shown.wait_for("again")
    shown.click("summary", "Cancel")
    shown.click("button", "run it again")
    wait_until(lambda: (tmp_path / "runs").read_text() == "\n\n", description="it ran a second time")


def test_dead_letters_are_sent_back_by_clicking(shown: Browser, fleet: Fleet) -> None:
    fleet.send('{"comand": "echo typo"}', "no job at all")
    wait_until(lambda: len(fleet.dead_letters()) == 2, description="both were buried")
    shown.open("/failures")
    shown.follow("Dead letters")
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


def test_a_host_is_drained_by_clicking(shown: Browser, workers: list[Daemon]) -> None:
    shown.open("/fleet")
    shown.wait_for("Workers 2")
    [first, *_] = shown.driver.find_elements(By.CSS_SELECTOR, "td.act summary")
    first.click()
    shown.find("details[open] input[name=why]").send_keys("new kernel")
    shown.click("details[open] button", "Drain")
    shown.wait_for("is drained by")
    assert "new kernel" in shown.text
    assert [worker.wait() for worker in workers] == [0, 0], "both are on that host, and stop as at a signal"
    shown.click("button", "Undo the drain")
    shown.wait_for("take jobs again")


def test_a_lock_is_freed_by_clicking_but_not_one_whose_worker_lives(shown: Browser, fleet: Fleet) -> None:
    fleet.send_job(command="exec sleep 600", event_id="index", lock_id="db")
    wait_until(lambda: fleet.depth()[1] == 1, description="it runs")
    fleet.put({"Id": "report", "Type": "lock", "EventId": "of-go"})
    shown.open("/locks?lock=db")
    shown.wait_for("index")
    shown.click("summary", "Free")
    shown.click("button", "Free it")
    shown.wait_for("Not freed: its worker lives")
    shown.open("/locks?lock=report")
    assert "a Go daemon" in shown.text
    shown.click("summary", "Free")
    shown.click("button", "Free it")
    shown.wait_for("report is free")
    held = {row["Id"] for row in fleet.rows("lock") if row.get("Owner") or row.get("EventId") == "of-go"}
    assert held == {"db"}


def test_everything_can_be_done_from_the_keyboard(shown: Browser, fleet: Fleet) -> None:
    fleet.send_job(command="exec sleep 600", event_id="typed")
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


def test_without_scripts_everything_is_shown_and_done_all_the_same(shown: Browser, fleet: Fleet) -> None:
    shown.chromium.command("Emulation.setScriptExecutionDisabled", value=True)
    fleet.send_job(command="exec sleep 600", event_id="plain")

    def there() -> bool:
        shown.open("/")
        return "plain" in shown.text

    wait_until(there, description="the job was shown")
    shown.find("#find").send_keys("plain", Keys.ENTER)
    shown.wait_for("plain running")
    shown.click("summary", "Cancel")
    shown.click("button", "Cancel it for good")
    shown.wait_for("The order is given")
    wait_until(lambda: fleet.depth() == (0, 0, 0), description="its message had left the queue")


def test_a_refresh_takes_nothing_out_of_the_readers_hands(shown: Browser, fleet: Fleet) -> None:
    fleet.send_job(command="exec sleep 600", event_id="first")
    shown.wait_for("first")
    shown.run("getSelection().selectAllChildren(document.querySelector('#live-running h2'))")
    selected = shown.run("return getSelection().toString()")
    fleet.send_job(command="exec sleep 600", event_id="second")
    shown.wait_for("partly held: text is selected")
    assert shown.run("return getSelection().toString()") == selected
    shown.run("getSelection().removeAllRanges()")
    shown.wait_for("second")


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
def test_another_site_cannot_order_anything_with_the_operators_browser(visitor: Browser, town: Town, name: str) -> None:
    """On 127.0.0.1 it is the same site for SameSite, which knows no ports: the browser sends the cookie along."""
    form = f"""<form method=post action="http://127.0.0.1:{visitor.page.port}/fleet/pause"><input name=why value=evil>
        <button>win</button></form>"""
    with site(form) as port:
        visitor.driver.get(f"http://{name}:{port}/")
        visitor.driver.find_element(By.TAG_NAME, "button").click()
        visitor.wait_for("Not let in")
    assert not [row for row in town.fleet.rows() if "Paused" in row]
    visitor.open("/fleet")
    assert "Workers" in visitor.text, "the operator is still in"


def test_another_site_can_neither_read_the_page_nor_embed_it(visitor: Browser) -> None:
    address = f"http://127.0.0.1:{visitor.page.port}/now.json"
    script = f"""<iframe src="{address}"></iframe><script src="{address}"></script><script>
        fetch("{address}", {{credentials: "include"}})
          .then(() => document.title = "read", () => document.title = "kept");
        </script>"""
    with site(script) as port:
        visitor.driver.get(f"http://127.0.0.1:{port}/")
        wait_until(lambda: visitor.driver.title, description="the script had ended")
        assert visitor.driver.title == "kept"
        visitor.driver.switch_to.frame(0)
        assert "verdicts" not in visitor.driver.page_source
        visitor.driver.switch_to.default_content()


def test_a_link_on_another_site_leads_to_a_door_that_opens_with_a_click(visitor: Browser) -> None:
    link = f'<a href="http://127.0.0.1:{visitor.page.port}/runs?failed=yes">look at this</a>'
    with site(link) as port:
        visitor.driver.get(f"http://localhost:{port}/")
        visitor.driver.find_element(By.TAG_NAME, "a").click()
        visitor.wait_for("Not let in")
        visitor.follow("go on")
    visitor.wait_for("created_on")
    assert visitor.driver.current_url.endswith("/runs?failed=yes")


def test_a_name_that_is_pointed_here_shows_nothing(visitor: Browser) -> None:
    visitor.driver.get(visitor.page.url.replace("127.0.0.1", "page.localhost"))  # loopback, in every browser
    assert "loopback address only" in visitor.driver.page_source
    assert visitor.driver.get_cookies() == []  # type: ignore[no-untyped-call]


def test_a_page_to_look_only_offers_no_order_in_any_view(browser: Chromium, town: Town, start_page: StartPage) -> None:
    reader = Browser(browser, start_page(*town.options, "--read-only"))
    for path in (*PATHS, f"/run?id={town.failed}", "/run?id=index"):
        reader.open(path)
        assert not reader.driver.find_elements(By.CSS_SELECTOR, "form[method=post], summary.danger"), path
        assert "Cancel" not in reader.text, path
    assert "read only" in reader.text


# The same as the verbs


def test_a_view_is_the_json_of_its_verb(visitor: Browser, town: Town) -> None:
    for path, words in (("/runs", "runs"), ("/failures", "runs --failed"), ("/runs?event=night*&limit=2", "runs")):
        visitor.open(path)
        visitor.find("footer a", "the same as JSON").click()
        shown = json.loads(visitor.driver.find_element(By.TAG_NAME, "body").text)
        assert {"message_id", "outcome", "event_id", "seconds"} <= set(shown[0]), words
    story = town.page.ask(f"/run.json?id={town.failed}").json
    assert (story["event_id"], story["exit_status"], story["state"]) == ("nightly", 3, "ended")
