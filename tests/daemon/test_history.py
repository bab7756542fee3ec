"""What real workers leave in the table of real jobs, on SQS with DynamoDB and in the embedded store."""

from __future__ import annotations

import asyncio
import json
import signal
import sqlite3
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest

from daemons import Daemon
from fleet import Fleet
from servers import wait_until
from sqsjkr.backends import Connections, source_class
from sqsjkr.backends.sqlite.queue import SQLiteQueue
from sqsjkr.backends.sqlite.store import FILE, Store
from sqsjkr.config import Config
from sqsjkr.runs import HOST, Run
from sqsjkr.views.source import ClaimRow, Source

StartDaemon = Callable[..., Daemon]
T = TypeVar("T")
SECRET = "hunter2-of-this-test"


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where jobs are sent and run, and what a viewer asks."""

    settings: Config
    send: Callable[..., str]
    start: Callable[..., Daemon]
    is_empty: Callable[[], bool]
    dump: Callable[[], str]
    """Everything that is kept beside the queue, as text."""

    def story(self, message_id: str) -> ClaimRow | None:
        return self._ask(lambda source: source.story(message_id))

    def run(self, message_id: str) -> Run:
        story = self.story(message_id)
        assert story is not None
        return story.run

    def endings(self, *, failed: bool = False) -> list[Run]:
        async def look(source: Source) -> list[Run]:
            now, queue = time.time(), self.settings.queue_name
            return [run async for run in source.endings(queue, since=now - 3600, until=now + 60, failed=failed)]

        return self._ask(look)

    def event(self, event_id: str) -> list[Run]:
        async def look(source: Source) -> list[Run]:
            return list((await source.endings_of(event_id, 20)).endings)

        return self._ask(look)

    def _ask(self, look: Callable[[Source], Coroutine[Any, Any, T]]) -> T:
        async def asking() -> T:
            connections = Connections(self.settings)
            name = "sqlite" if self.settings.local else "dynamodb"
            source = source_class(name).configured(connections, "")
            await connections.open()
            await source.open()
            try:
                return await look(source)
            finally:
                await source.close()
                await connections.close()

        return asyncio.run(asking())


def on_aws(fleet: Fleet, daemon: StartDaemon) -> Place:
    return Place(
        settings=Config(queue_name=fleet.name, account_id=fleet.queue_url.rsplit("/", 2)[1], lock_table=fleet.table),
        send=fleet.send_job,
        start=lambda **kicker: daemon(config=fleet.config(lock_table=fleet.table, **kicker)),
        is_empty=lambda: fleet.depth() == (0, 0, 0),
        dump=lambda: json.dumps(fleet.rows(), default=str),
    )


def in_a_store(directory: Path, daemon: StartDaemon) -> Place:
    async def put(body: str) -> str:
        queue = SQLiteQueue(Store(directory))
        await queue.open()
        (message_id,) = await queue.send([body])
        await queue.close()
        return message_id

    def look(query: str) -> list[tuple[Any, ...]]:
        with sqlite3.connect(directory / FILE) as db:
            return db.execute(query).fetchall()

    def config(**kicker: Any) -> str:
        return "[kicker]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in kicker.items())

    return Place(
        settings=Config(local=str(directory)),
        send=lambda **fields: asyncio.run(put(json.dumps(fields))),
        start=lambda **kicker: daemon("--local", str(directory), config=config(**kicker)),
        is_empty=lambda: look("SELECT 1 FROM message") == [],
        dump=lambda: repr(look("SELECT * FROM row") + look("SELECT * FROM run")),
    )


@pytest.fixture(params=["dynamodb", "sqlite"])
def place(
    request: pytest.FixtureRequest,
    daemon: StartDaemon,
    aws_env: Mapping[str, str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> Place:
    if request.param == "sqlite":
        return in_a_store(tmp_path, daemon)
    for name, value in aws_env.items():
        if name.startswith("AWS_"):
            monkeypatch.setenv(name, value)
    return on_aws(request.getfixturevalue("fleet"), daemon)


def done(place: Place, *message_ids: str) -> None:
    """Wait until the jobs have left the queue and the table knows it."""
    wait_until(place.is_empty, description="the queue was empty")
    wait_until(
        lambda: all((story := place.story(name)) and story.row.done for name in message_ids),
        description="all claims were done",
    )


def test_the_table_knows_what_became_of_each_job(place: Place) -> None:
    good = place.send(command="echo fine; exit 0", event_id="nightly", lock_id="report", envs={"TOKEN": SECRET})
    bad = place.send(command=f'echo begun; echo "key $TOKEN" >&2; exit 3 # {"x" * 300}', envs={"TOKEN": SECRET})
    broken = place.send(event_id="no command")
    worker = place.start()
    done(place, good, bad)
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0

    run = place.run(good)
    assert (run.event_id, run.lock_id, run.command, run.host) == ("nightly", "report", "echo fine; exit 0", HOST)
    assert (run.outcome, run.exit_status, run.fence, run.receive_count, run.output) == ("succeeded", 0, 1, 1, "")
    assert run.begun_at is not None
    assert run.ended_at is not None
    assert run.sent_at - 5 < run.begun_at < run.ended_at < time.time() + 5
    assert (run.printed_bytes, (run.max_rss_bytes or 0) > 100_000, run.cpu_seconds is not None) == (5, True, True)

    run = place.run(bad)
    assert (run.outcome, run.exit_status, len(run.command)) == ("errored", 3, 200)
    assert run.output == "begun\nkey ***\n"
    assert place.run(broken).outcome == "invalid"

    assert [run.message_id for run in place.event("nightly")] == [good]
    assert {run.message_id for run in place.endings()} == {good, bad, broken}
    failures = {run.message_id: run for run in place.endings(failed=True)}
    assert set(failures) == {bad, broken}
    assert failures[bad].output == "key ***"
    assert SECRET not in place.dump()


def test_of_a_long_output_no_part_of_a_secret_is_kept(place: Place) -> None:
    """Repeated lines compress well: all of the tail is kept, from its first byte on."""
    job = place.send(
        command='n=0; while [ $n -lt 3000 ]; do echo "$TOKEN"; n=$((n+1)); done; exit 1', envs={"TOKEN": SECRET}
    )
    place.start(output_tail=1000)
    done(place, job)
    assert set(place.run(job).output.splitlines()) == {"***"}
    assert SECRET[4:] not in place.dump()


def test_the_value_of_a_secret_reaches_neither_log_nor_history(place: Place, tmp_path: Path) -> None:
    secret, trust = tmp_path / "password", tmp_path / "trust.toml"
    secret.write_text(f"{SECRET}\n")
    trust.write_text(
        '[producer.all]\nsender = "*"\nmay = "reindex"\n'
        '[job.reindex]\nrun = ["sh", "-c", "echo with $PASSWORD; exit 3"]\n'
        f'secrets = {{ PASSWORD = "file:{secret}" }}\n'
    )
    for path, mode in ((secret, 0o600), (trust, 0o644)):
        path.chmod(mode)
    job = place.send(job="reindex", event_id="nightly")
    worker = place.start(trust=str(trust))
    done(place, job)
    run = place.run(job)
    assert (run.outcome, run.output, run.job) == ("errored", "with ***\n", "reindex")
    assert SECRET not in place.dump()
    assert SECRET not in worker.stderr


def test_an_attempt_that_a_stop_cut_off_is_remembered(place: Place, tmp_path: Path) -> None:
    job = place.send(command=f"echo >>{tmp_path}/began; [ $(wc -l <{tmp_path}/began) -gt 1 ] || sleep 300")
    first = place.start(grace_period="0s", kill_after="1s")
    wait_until((tmp_path / "began").exists, description="the job ran")
    first.signal(signal.SIGTERM)
    assert first.wait() == 0
    story = place.story(job)
    assert story is not None
    assert (story.row.owner, story.row.done) == (None, False)

    place.start()
    done(place, job)
    run = place.run(job)
    assert run.outcome == "succeeded"
    ((earlier),) = run.earlier
    assert (earlier.outcome, earlier.host) == ("interrupted", HOST)
    assert earlier.detail.startswith("the worker is stopping")
    assert [run.message_id for run in place.endings()] == [job], "it has ended once"


def test_a_failure_that_is_retried_is_remembered(place: Place, tmp_path: Path) -> None:
    command = f"echo >>{tmp_path}/began; [ $(wc -l <{tmp_path}/began) -gt 1 ]"
    job = place.send(command=command, retries=3, retry_delay="1s")
    place.start()
    done(place, job)
    run = place.run(job)
    assert (run.outcome, run.failures) == ("succeeded", 1)
    ((earlier),) = run.earlier
    assert earlier.outcome == "retried"
    assert earlier.detail.startswith("exit status 1")


def test_what_is_not_to_be_kept_is_not_there(place: Place) -> None:
    good, bad = place.send(command="echo a-good-command"), place.send(command="echo a-bad-command; exit 1")
    worker = place.start(history="none")
    done(place, good, bad)
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0
    assert place.endings() == []
    assert "command" not in place.dump()


def test_with_ack_start_a_failure_stands_with_its_claim_and_a_success_in_the_lists(place: Place) -> None:
    good, bad = place.send(command="true"), place.send(command="echo why; exit 1")
    worker = place.start(ack="start")
    worker.wait_for_line("worker.started")
    wait_until(lambda: worker.stats()["invocations"]["errored"] == 1, description="the job had failed")
    wait_until(lambda: worker.stats()["invocations"]["succeeded"] == 1, description="the other had succeeded")
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0
    assert {run.message_id: run.outcome for run in place.endings()} == {good: "succeeded", bad: "errored"}
    assert (place.run(bad).outcome, place.run(bad).output) == ("errored", "why\n")
