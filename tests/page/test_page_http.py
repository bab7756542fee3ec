"""The page over HTTP: who is let in, what every answer carries, and that each view is the verb's own JSON."""

from __future__ import annotations

import json
import re
import shlex
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

import servers
from daemons import Daemon
from fleet import Fleet
from pages import OWN, Page, serving
from servers import wait_until
from sqsjkr.page.contents import VIEWS
from sqsjkr.page.orders import ORDERS

StartPage = Callable[..., Page]
FOREIGN = {"Sec-Fetch-Site": "cross-site", "Origin": "http://evil.example"}
VIEW_PATHS = [path for path in VIEWS if path not in {"/run", "/event"}]


def said(*words: str, env: Mapping[str, str]) -> list[Any]:
    """What a verb prints with --json: one object a line."""
    command = [sys.executable, "-m", "sqsjkr", *words, "--json"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert not done.stderr, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """The page of an embedded store without workers, for a browser that was let in; one for all tests."""
    store, env = str(tmp_path_factory.mktemp("page") / "store"), servers.clean_environment()
    subprocess.run([sys.executable, "-m", "sqsjkr", "send", "--local", store, "true"], env=env, check=True)
    with serving("--local", store, env=env) as page:
        yield page.enter()


@pytest.fixture(autouse=True)
def nothing_left_behind() -> None:
    """The page of the module outlives its tests; the fixtures here end what they start."""


# The door


def test_the_printed_address_becomes_a_cookie_that_no_script_and_no_other_site_can_use(local: Page) -> None:
    answer = Page(local.url).ask(local.url.removeprefix(f"http://127.0.0.1:{local.port}"))
    assert (answer.status, answer.headers["Location"]) == (303, "/"), "the token leaves the address"
    cookie = answer.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert "Path=/" in cookie


@pytest.mark.parametrize("path", [*VIEW_PATHS, "/now.json", "/?token=wrong"])
def test_without_the_cookie_nothing_is_shown(local: Page, path: str) -> None:
    answer = Page(local.url).ask(path)
    assert answer.status == 403
    assert "sqsjkr web printed" in answer.text
    assert "store" not in answer.text


@pytest.mark.parametrize("path", sorted(ORDERS))
def test_without_the_cookie_nothing_is_ordered(local: Page, path: str) -> None:
    assert Page(local.url).order(path, id="x").status == 403


@pytest.mark.parametrize("path", ["/", "/now.json", "/static/page.js"])
def test_a_foreign_name_that_points_here_is_refused(local: Page, path: str) -> None:
    answer = local.ask(path, headers={"Host": f"evil.example:{local.port}"})
    assert answer.status == 421
    assert "loopback" in answer.text


def test_not_even_the_token_lets_a_foreign_name_in(local: Page) -> None:
    path = local.url.removeprefix(f"http://127.0.0.1:{local.port}")
    answer = Page(local.url).ask(path, headers={"Host": "evil.example"})
    assert (answer.status, answer.headers.get("Set-Cookie")) == (421, None)


@pytest.mark.parametrize("path", sorted(ORDERS))
@pytest.mark.parametrize(
    "headers", [FOREIGN, {"Sec-Fetch-Site": "same-site"}, {"Origin": "http://evil.example"}, {"Origin": "null"}, {}]
)
def test_an_order_from_a_foreign_page_is_refused(local: Page, path: str, headers: Mapping[str, str]) -> None:
    answer = local.ask(path, "POST", form={"id": "x", "host": "x", "lock": "x"}, headers=headers)
    assert answer.status == 403
    assert "did not come from the page itself" in answer.text


def test_an_order_is_no_get(local: Page) -> None:
    assert local.ask("/fleet/pause", headers=OWN).status == 404
    assert local.ask("/", "PUT", headers=OWN).status == 405


def test_it_listens_on_loopback_only(local: Page) -> None:
    listening = Path("/proc/net/tcp").read_text() + Path("/proc/net/tcp6").read_text()
    places = re.findall(rf": ([0-9A-F]+):{local.port:04X} [0-9A-F]+:0000 0A", listening)
    assert places == ["0100007F"]


@pytest.mark.parametrize("back", ["//evil.example", "https://evil.example/", "/\\evil.example", "/nowhere", ""])
def test_an_order_leads_back_to_the_page_and_nowhere_else(local: Page, back: str) -> None:
    answer = local.order("/fleet/resume", back=back)
    assert answer.status == 303
    assert re.fullmatch(r"/\?said=\d+", answer.headers["Location"])


# Every answer


@pytest.mark.parametrize("path", [*VIEW_PATHS, "/now.json", "/static/style.css", "/nowhere", "/dead?limit=x"])
def test_every_answer_forbids_what_could_be_smuggled_in(local: Page, path: str) -> None:
    for page in (local, Page(local.url)):
        headers = page.ask(path).headers
        policy = dict(part.split(" ", 1) for part in headers["Content-Security-Policy"].split("; "))
        assert policy["default-src"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == policy["form-action"] == "'self'"
        assert policy["frame-ancestors"] == policy["base-uri"] == "'none'"
        assert headers["Cache-Control"] == "no-store"
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "same-origin"


class Inline(HTMLParser):
    """Notes what a strict policy would not run, and whatever comes from elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "style" or (tag == "script" and not given.get("src")):
            self.found.append(tag)
        self.found += [f"{tag} {name}" for name in given if name == "style" or name.startswith("on")]
        for name in ("src", "href", "action", "formaction"):
            if not re.match(r"/(?!/)|#", given.get(name) or "/"):
                self.found.append(f"{tag} {name}={given[name]}")
        if given.get("id"):
            self.ids.append(str(given["id"]))


@pytest.mark.parametrize("path", [*VIEW_PATHS, "/nowhere"])
def test_nothing_is_inline_and_nothing_comes_from_elsewhere(local: Page, path: str) -> None:
    parser = Inline()
    parser.feed(local.ask(path).text)
    assert parser.found == []
    assert len(parser.ids) == len(set(parser.ids)), "each id stands once"


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [("/nowhere", 404, "no view /nowhere"), ("/dead?limit=0", 400, "expected a whole number from 1 to 1000")],
)
def test_a_wrong_address_is_answered_with_what_is_wrong(local: Page, path: str, status: int, words: str) -> None:
    answer = local.ask(path)
    assert answer.status == status
    assert words in answer.text
    again = local.ask(path.replace("/dead", "/dead.json").replace("/nowhere", "/nowhere.json"))
    assert (again.status, words in again.json["error"]) == (status, True)


@pytest.mark.parametrize(
    ("kind", "body", "status"),
    [
        ("multipart/form-data; boundary=x", "garbage", 400),
        ("application/x-www-form-urlencoded", f"id={'a' * 300_000}", 413),
    ],
)
def test_a_form_that_no_browser_sends_is_refused_like_everything_else(
    local: Page, kind: str, body: str, status: int
) -> None:
    answer = local.ask("/dead/drop", "POST", body=body, headers={**OWN, "Content-Type": kind})
    assert answer.status == status
    assert "Content-Security-Policy" in answer.headers
    assert "Traceback" not in answer.text


def test_a_stranger_cannot_write_on_the_operators_terminal(
    capfd: pytest.CaptureFixture[str], start_page: StartPage, tmp_path: Path
) -> None:
    store = str(tmp_path / "store")
    subprocess.run([sys.executable, "-m", "sqsjkr", "send", "--local", store, "true"], check=True)
    page = start_page("--local", store)
    for nonsense in (b"GET / HTTP/1.1\r\n\r\n", b"\x1b[2J\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", page.port)) as stranger:
            stranger.sendall(nonsense)
            assert b" 400 " in stranger.recv(1000)
    assert capfd.readouterr().err == ""


def test_a_cookie_that_is_no_text_is_not_the_right_one(local: Page) -> None:
    answer = Page(local.url).ask("/", headers={"Cookie": f"sqsjkr_{local.port}=\xff"})
    assert (answer.status, "Traceback" in answer.text) == (403, False)


# Only looking


def test_a_page_to_look_only_has_no_forms_and_takes_no_orders(start_page: StartPage, tmp_path: Path) -> None:
    store = str(tmp_path / "store")
    subprocess.run([sys.executable, "-m", "sqsjkr", "send", "--local", store, "true"], check=True)
    page = start_page("--local", store, "--read-only").enter()
    for path in VIEW_PATHS:
        assert 'method="post"' not in page.ask(path).text
    for path in ORDERS:
        answer = page.order(path, id="x", host="x", lock="x")
        assert answer.status == 403
        assert "--read-only" in answer.text


# The same as the verbs


def test_each_view_is_the_json_of_its_verb(
    daemon: Callable[..., Daemon], fleet: Fleet, conf: Path, aws_env: Mapping[str, str], start_page: StartPage
) -> None:
    workers = [daemon("--conf", str(conf)) for _ in range(2)]
    for worker in workers:
        worker.wait_for_line("worker.started")
    fleet.send_job(command="sleep 600", event_id="nightly", lock_id="db")
    wait_until(lambda: fleet.depth()[1] == 1, description="it runs")
    fleet.send_job(command="true", event_id="vacuum", lock_id="db")
    fleet.send("no job")
    page = start_page("--conf", str(conf)).enter()
    options = ("--conf", str(conf))

    def seen() -> bool:
        now = page.ask("/now.json").json
        return bool(now["running"] and now["waiting"] and now["queue"]["dead"])

    wait_until(seen, description="the next heartbeats were written")
    now = page.ask("/now.json").json
    ps = said("ps", *options, env=aws_env)

    def names(values: list[dict[str, Any]], *keys: str) -> list[tuple[Any, ...]]:
        return sorted(tuple(value[key] for key in keys) for value in values)

    running = [value for value in ps if value["kind"] == "running"]
    waiting = [value for value in ps if value["kind"] == "waiting"]
    assert names(now["running"], "message_id", "host") == names(running, "message_id", "host")
    assert names(now["waiting"], "lock_id", "waiting") == names(waiting, "lock_id", "waiting")
    assert set(now["running"][0]) | {"kind"} == set(running[0]), "the same keys"
    fleets = page.ask("/fleet.json").json
    assert names(fleets, "worker") == names(said("fleet", *options, env=aws_env), "worker")
    assert len(fleets) == 2
    locks = page.ask("/locks.json").json
    assert names(locks, "lock_id", "event_id") == [("db", "nightly")]
    assert page.ask("/locks.json?lock=none").json == []
    dead = page.ask("/dead.json").json
    assert names(dead, "id", "reason") == names(said("dead", "list", *options, env=aws_env), "id", "reason")


@pytest.mark.parametrize("path", VIEW_PATHS)
def test_the_commands_at_the_foot_of_a_view_can_be_run(local: Page, path: str) -> None:
    foot = local.ask(path).text.split('<footer class="foot">')[1]
    commands = re.findall(r"<code>(sqsjkr [^<]+)</code>", foot)
    assert commands
    for command in commands:
        done = subprocess.run([sys.executable, "-m", *shlex.split(command)], capture_output=True, check=False)
        assert done.returncode in {0, 1}, done.stderr


# When something does not answer


def test_an_outage_is_said_on_the_page_and_ends_with_it(
    start_page: StartPage, fleet: Fleet, conf: Path, proxy: Any
) -> None:
    page = start_page("--conf", str(conf), env={"AWS_ENDPOINT_URL": proxy.listen("page")}).enter()
    proxy.cut("page", refuse=True)
    answer = page.ask("/fleet")
    assert answer.status == 503
    assert "No answer" in answer.text
    assert page.ask("/fleet.json").json.keys() == {"error"}
    proxy.heal("page")
    assert page.ask("/fleet").status == 200


def test_a_port_that_is_taken_is_one_line_with_its_next_step(tmp_path: Path) -> None:
    store = str(tmp_path / "store")
    subprocess.run([sys.executable, "-m", "sqsjkr", "send", "--local", store, "true"], check=True)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        command = [sys.executable, "-m", "sqsjkr", "web", "--local", store, "--port", port]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == f"sqsjkr: cannot listen on 127.0.0.1:{port}: address already in use; next: --port N\n"
