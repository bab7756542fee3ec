"""Makes the screenshots in docs/how-to/images (scripts/screenshots): real workers, hosts and pasts that are made up."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from browsing import Chromium, chromium
from pages import Page, serving
from servers import clean_environment, wait_until
from sqsjkr.backends import Connections
from sqsjkr.backends.sqlite.history import SQLiteHistory
from sqsjkr.backends.sqlite.store import Store
from sqsjkr.config import Config
from sqsjkr.runs import Run

IMAGES = Path("docs/how-to/images").absolute()
STORE = "jobs"
HOSTS = ("ip-10-0-12-34", "ip-10-0-12-40")
WIDTH = 1180
VIEWS = {
    "now": ("/", 940),
    "failures": ("/failures?limit=12", 900),
    "run": ("", 760),
    "event": ("/event?name=nightly-report", 940),
    "locks": ("/locks", 330),
    "fleet": ("/fleet", 520),
}
"""The views by the names of their images, with the height that is shown."""
_NAMED = "import os, socket\nhost = os.environ.get('DEMO_HOST')\nif host: socket.gethostname = lambda: host\n"
_TRACE = """\
Traceback (most recent call last):
  File "/srv/reports/nightly.py", line 41, in <module>
    rows = load(day)
  File "/srv/reports/db.py", line 17, in load
    cursor.execute(QUERY, day)
psycopg.errors.UndefinedColumn: column "created_on" does not exist
"""


def main() -> None:
    missing = [tool for tool in ("chromium", "chromedriver") if shutil.which(tool) is None]
    if missing:
        sys.exit(f"scripts/screenshots: needs {' and '.join(missing)}")
    IMAGES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="jkr-") as directory, contextlib.ExitStack() as stack:
        os.chdir(directory)
        Path("sitecustomize.py").write_text(_NAMED)
        provide("nightly-report", f"cat >&2 <<'END'\n{_TRACE}END\nsleep 0.$(( $$ % 9 ))\nexit 1\n")
        for name in ("rebuild-index", "backup", "sync-partners"):
            provide(name, "exec sleep 3600\n")
        path = f"{Path('bin').absolute()}:{os.environ['PATH']}"
        env = clean_environment() | {"PYTHONPATH": directory, "TZ": "UTC", "PATH": path}
        send(env, "true")
        asyncio.run(remember())
        for host in HOSTS:
            stack.enter_context(worker(env | {"DEMO_HOST": host}))
        page = stack.enter_context(serving("--local", STORE, env=env)).enter()
        failed = happen(env, page)
        browser = stack.enter_context(chromium(str(shutil.which("chromium")), str(shutil.which("chromedriver"))))
        browser.driver.get(page.url)
        for name, (path, height) in VIEWS.items():
            shoot(browser, page, name, path or f"/run?id={failed}", height)


def provide(name: str, script: str) -> None:
    """Write a program that jobs run."""
    program = Path("bin") / name
    program.parent.mkdir(exist_ok=True)
    program.write_text(f"#!/bin/sh\n{script}")
    program.chmod(0o755)


def send(env: dict[str, str], *words: str) -> str:
    command = [sys.executable, "-m", "sqsjkr", "send", "--local", STORE, *words]
    return subprocess.run(command, env=env, check=True, capture_output=True, text=True).stdout.split()[-1]


@contextlib.contextmanager
def worker(env: dict[str, str]) -> Iterator[None]:
    config = Path(f"{env['DEMO_HOST']}.toml")
    config.write_text("[kicker]\nmax_concurrent_num = 4\nkill_after = 1\n")
    command = [sys.executable, "-m", "sqsjkr", "run", "--local", STORE, "--conf", str(config)]
    process = subprocess.Popen(command, env=env, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        process.wait(30)


async def remember() -> None:
    """Write a past of an hour, and the reports of the last nights."""
    with closing(sqlite3.connect(f"{STORE}/sqsjkr.db")) as db, db:
        db.execute("DELETE FROM message")
    connections = Connections(Config(local=STORE))
    history = SQLiteHistory.configured(connections, "")
    store = connections.once(Store, STORE)
    await store.open()
    now, dice = time.time(), random.Random(8062)
    past = [thumbnail(now - dice.uniform(20, 3600), dice) for _ in range(420)]
    past += [report(now - 86_400 * night - 5000, dice, failed=False) for night in range(1, 13)]
    for run in sorted(past, key=lambda run: run.ended_at or 0.0):
        history.ended(run)
    await history.close()
    await store.close()


def thumbnail(ended_at: float, dice: random.Random) -> Run:
    seconds = dice.lognormvariate(0.6, 0.5)
    name = dice.choice(("thumbs-eu", "thumbs-us", "mail-digest", "sync-partners"))
    bad = dice.random() < (0.3 if name == "sync-partners" else 0.01)
    return made_up(
        name,
        ended_at,
        seconds,
        waited=dice.lognormvariate(-0.5, 0.8),
        failed="curl: (28) Connection timed out after 10001 milliseconds" if bad else "",
        command=f"{name} --batch {dice.randrange(1000)}",
        host=dice.choice(HOSTS),
    )


def report(ended_at: float, dice: random.Random, *, failed: bool) -> Run:
    return made_up(
        "nightly-report",
        ended_at,
        dice.uniform(230, 340),
        waited=dice.uniform(0.5, 45),
        failed=_TRACE if failed else "",
        command="nightly-report --day yesterday --format pdf",
        host=dice.choice(HOSTS),
        lock_id="report",
    )


def made_up(
    event_id: str,
    ended_at: float,
    seconds: float,
    *,
    waited: float,
    failed: str,
    command: str,
    host: str,
    lock_id: str = "",
) -> Run:
    return Run(
        message_id=str(uuid.UUID(int=random.Random(f"{event_id}{ended_at}").getrandbits(128), version=4)),
        attempt="1",
        event_id=event_id,
        lock_id=lock_id,
        command=command,
        host=host,
        queue="jobs",
        sent_at=ended_at - seconds - waited,
        begun_at=ended_at - seconds,
        ended_at=ended_at,
        seconds=seconds,
        outcome="errored" if failed else "succeeded",
        exit_status=1 if failed else 0,
        detail=f"exit status {1 if failed else 0} in {seconds:.2f}s",
        output=failed,
    )


def happen(env: dict[str, str], page: Page) -> str:
    """Let jobs fail, run and wait. Returns the message of the last failure."""
    for _ in range(4):
        failed = send(
            env, "--event-id", "nightly-report", "--lock-id", "report", "nightly-report --day yesterday --format pdf"
        )
    wait_until(
        lambda: len(page.ask("/event.json?name=nightly-report").json["endings"]) == 16, description="the reports failed"
    )
    for name, lock in (("rebuild-index", "search"), ("backup", "db"), ("sync-partners", "partners")):
        send(env, "--event-id", name, "--lock-id", lock, f"{name} --full")
    wait_until(lambda: len(page.ask("/now.json").json["running"]) == 3, description="three jobs ran")
    for name, lock in (("search-stats", "search"), ("search-warmup", "search"), ("vacuum", "db")):
        send(env, "--event-id", name, "--lock-id", lock, name)
    bodies = ("{'command': 'echo single quotes'}", '{"comand": "thumbs-eu --batch 17"}')
    with closing(sqlite3.connect(f"{STORE}/sqsjkr.db", timeout=30)) as db, db:
        rows = [(str(uuid.uuid4()), body, time.time()) for body in bodies]
        db.executemany("INSERT INTO message (id, body, sent, visible) VALUES (?, ?, ?, 0)", rows)
    wait_until(lambda: page.ask("/now.json").json["queue"]["dead"] == 2, description="what is no job was buried")
    wait_until(
        lambda: sum(each["waiting"] for each in page.ask("/now.json").json["waiting"]) == 3, description="jobs waited"
    )
    return failed


def shoot(browser: Chromium, page: Page, name: str, path: str, height: int) -> None:
    """Write one image, as small as a palette makes it."""
    browser.command("Emulation.setDeviceMetricsOverride", width=WIDTH, height=height, deviceScaleFactor=1, mobile=False)
    browser.command("Emulation.setScrollbarsHidden", hidden=True)
    browser.driver.get(f"http://127.0.0.1:{page.port}{path}")
    image = IMAGES / f"page-{name}.png"
    browser.driver.save_screenshot(str(image))
    sys.stdout.write(f"{image}: {image.stat().st_size} bytes\n")


if __name__ == "__main__":
    main()
