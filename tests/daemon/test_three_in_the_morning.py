"""Five questions that an operator has at three in the morning, answered from the log alone, in text and in JSON.

Which run failed, and why? Where is the job that did not run? Who holds the lock? Why is nothing taken? What lies in
the dead-letter queue?
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from daemons import Daemon
from faults.proxy import Proxy
from faults.rules import Fault
from fleet import Fleet
from servers import wait_until
from sqsjkr.telemetry.events import Event

REFERENCE = Path(__file__).parents[2] / "docs" / "reference" / "log-events.md"
LINE = re.compile(r"(?P<time>\S+) (?P<level>\S+) +(?P<event>\S+)  (?P<text>.*)")
RUN = re.compile(r"(?P<name>[^\s\[]+)\[(?P<run>\w{8})\]: (?P<rest>.*)")


@dataclass(frozen=True)
class Line:
    worker: str
    level: str
    event: str
    text: str
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def run(self) -> str:
        """What tells this run from others of the same name, as far as the line says it."""
        if self.facts:
            return str(self.facts["message_id"])
        found = RUN.match(self.text)
        return found["run"] if found else ""


@dataclass(frozen=True)
class Night:
    """The logs of two workers, and what really happened."""

    workers: Mapping[str, Daemon]
    truth: Mapping[str, str]
    """Message ids by the name of the job."""
    fleet: Fleet

    def lines(self, *events: str) -> list[Line]:
        return [line for line in self._all() if line.event in events]

    def _all(self) -> list[Line]:
        return [_read(name, text) for name, worker in self.workers.items() for text in worker.lines]


def _read(worker: str, text: str) -> Line:
    if text.startswith("{"):
        facts = json.loads(text)
        return Line(worker, facts["level"], facts["event"], facts["message"], facts)
    found = LINE.match(text)
    assert found, text
    return Line(worker, found["level"], found["event"], found["text"])


@pytest.fixture(params=["text", "json"])
def night(
    request: pytest.FixtureRequest, daemon: Callable[..., Daemon], fleet: Fleet, proxy: Proxy, tmp_path: Path
) -> Night:
    """The backup on one worker keeps the vacuum on the other one waiting; more goes wrong around them."""

    def worker(name: str) -> Daemon:
        options = ("--lock-table", fleet.table, "--log-format", request.param)
        return daemon(*options, config=fleet.config(max_concurrent_num=2), env={"AWS_ENDPOINT_URL": proxy.listen(name)})

    def send(name: str, command: str, **more: Any) -> None:
        truth[name] = fleet.send_job(command=command, event_id=name.partition(" ")[0], **more)

    truth: dict[str, str] = {}
    a = worker("a")
    together = "cd %s; echo start %s; touch %s; until [ -e %s ]; do sleep 0.05; done; echo %s"  # two runs at once
    send("sync 1", together % (tmp_path, 1, 1, 2, "fine"))
    send("sync 2", together % (tmp_path, 2, 2, 1, "refused; exit 7"))
    wait_until(lambda: a.stderr.count("job.ended") == 2, description="both syncs had ended")
    send("backup", "sleep 600", lock_id="db")
    send("import", "sleep 600")
    wait_until(lambda: a.stderr.count("job.started") == 4, description="the slots of the first worker were full")
    b = worker("b")
    send("vacuum", "true", lock_id="db")
    b.wait_for_line("job.waiting")
    (truth["typo"],) = fleet.send('{"command": ["rm"], "event_id": "typo"}')
    b.wait_for_line("job.buried")
    fleet.send_job(command="true", event_id="late", life_time=-1)
    b.wait_for_line("expired")
    proxy.add(Fault.REFUSE, operation="UpdateItem", worker="b")
    b.wait_for_line("table.unreachable")
    return Night({"a": a, "b": b}, truth, fleet)


def test_which_run_failed_and_why(night: Night) -> None:
    [failed] = [line for line in night.lines("job.ended") if line.level == "ERROR" and "errored" in line.text]
    printed = [line.text.rpartition(": ")[2] for line in night.lines("job.output") if line.run == failed.run]
    [started] = [line for line in night.lines("job.started") if line.run == failed.run]

    assert failed.worker == "a"
    assert night.truth["sync 2"].startswith(failed.run)
    assert printed == ["start 2", "refused"], "and nothing of the other sync"
    assert "exit status 7" in failed.text
    assert "exit 7" in started.text
    assert f"message {night.truth['sync 2']}" in started.text
    if failed.facts:
        assert (failed.facts["exit_status"], failed.facts["signal"]) == (7, None)
        assert failed.facts["message_id"] == night.truth["sync 2"]
        assert failed.facts.keys() >= {"seconds", "cpu_seconds", "waited", "delivery", "lock_id"}


def test_where_the_job_is_that_did_not_run(night: Night) -> None:
    def last(name: str) -> Line:
        return [line for line in night.lines("job.waiting", "job.ended", "job.buried") if f"{name}[" in line.text][-1]

    vacuum, late, typo = last("vacuum"), last("late"), last("typo")
    assert (vacuum.worker, vacuum.event) == ("b", "job.waiting")
    assert "lock_id=db is held by" in vacuum.text
    assert (late.event, "expired" in late.text) == ("job.ended", True)
    assert re.search(r"\(message [\w-]{36}\)", late.text)
    assert (typo.event, f"message {night.truth['typo']}" in typo.text) == ("job.buried", True)
    if vacuum.facts:
        assert (vacuum.facts["message_id"], vacuum.facts["lock_id"]) == (night.truth["vacuum"], "db")
        assert late.facts["outcome"] == "expired"


def test_who_holds_the_lock(night: Night) -> None:
    [waiting] = night.lines("job.waiting")
    [holder] = [line for line in night.lines("job.started") if "lock_id=db" in line.text or line.facts.get("lock_id")]
    workers = {line.worker: line.text for line in night.lines("worker.started")}
    host = re.search(r"pid \d+ on (\S+), session (\w{8})", workers["a"])
    assert host

    assert holder.worker == "a"
    assert night.truth["backup"].startswith(holder.run)
    run = f"backup[{night.truth['backup'][:8]}]"
    assert f"lock_id=db is held by {run} on {host[1]} (session {host[2]}) since 20" in waiting.text
    assert "this worker" not in waiting.text
    if waiting.facts:
        assert waiting.facts["holder_event_id"] == "backup"
        assert waiting.facts["holder_message_id"] == night.truth["backup"]
        assert waiting.facts["holder_host"] == host[1]
        [started] = [line for line in night.lines("worker.started") if line.worker == "a"]
        assert waiting.facts["holder_session"][:24] == started.facts["session"][:24]
        assert waiting.facts["holder_since"] in waiting.text


def test_why_nothing_is_taken(night: Night) -> None:
    [why] = night.lines("table.unreachable", "queue.unreachable", "worker.paused", "host.exhausted")

    assert (why.worker, why.level) == ("b", "ERROR")
    assert f"dynamodb:UpdateItem on {night.fleet.table}: access denied" in why.text
    assert f"dynamodb:UpdateItem on {night.fleet.table}: access denied" in night.workers["b"].get("/healthz")[1]


def test_what_lies_in_the_dead_letter_queue(night: Night) -> None:
    [buried] = night.lines("job.buried")
    [letter] = night.fleet.dead_letters()

    assert letter["MessageAttributes"]["sqsjkr.message_id"]["StringValue"] == night.truth["typo"]
    assert f"typo[{night.truth['typo'][:8]}]: moved to the dead-letter queue {night.fleet.name}-dead" in buried.text
    assert "invalid: command" in buried.text
    assert f"message {night.truth['typo']}" in buried.text
    if buried.facts:
        assert (buried.facts["message_id"], buried.facts["event_id"]) == (night.truth["typo"], "typo")
        assert buried.facts["dead_letter_queue"] == f"{night.fleet.name}-dead"
        assert buried.facts["reason"].startswith("invalid: command")


def test_every_fact_of_the_night_is_in_the_reference(night: Night) -> None:
    table = REFERENCE.read_text().partition("| key | on | meaning |")[2].partition("\n\n")[0]
    documented = {
        name for row in table.splitlines() for name in re.findall(r"`(\w+)`", row.split("|")[1] if row else "")
    }
    used = {name for line in night.lines(*(event.value for event in Event)) for name in line.facts}

    assert used <= documented | {"time", "level", "event", "message"}


def test_what_sqs_may_move_to_the_dead_letter_queue_is_named_before(
    daemon: Callable[..., Daemon], fleet: Fleet
) -> None:
    policy = fleet.sqs("GetQueueAttributes", QueueUrl=fleet.queue_url, AttributeNames=["RedrivePolicy"])
    few = json.loads(policy["Attributes"]["RedrivePolicy"]) | {"maxReceiveCount": 2}
    fleet.sqs("SetQueueAttributes", QueueUrl=fleet.queue_url, Attributes={"RedrivePolicy": json.dumps(few)})
    message_id = fleet.send_job(command="sleep 600")
    fleet.sqs("ReceiveMessage", QueueUrl=fleet.queue_url, VisibilityTimeout=0)  # by a worker that died with it
    a = daemon("--lock-table", fleet.table, config=fleet.config())

    line = a.wait_for_line("message.last_delivery")
    assert f" WARN  message.last_delivery  {message_id}: delivery 2 of 2: " in line
    assert line.endswith(f"SQS moves it to the dead-letter queue {fleet.name}-dead")


def test_at_debug_each_step_of_a_message_is_a_line_without_bodies_and_variables(
    daemon: Callable[..., Daemon], fleet: Fleet
) -> None:
    options = ("--lock-table", fleet.table, "--log-level", "debug", "--log-format", "json")
    a = daemon(*options, config=fleet.config())
    message_id = fleet.send_job(command="sleep 5", event_id="job", lock_id="L", envs={"TOKEN": "s3cret"})
    a.wait_for_line("message.deleted")

    lines = [json.loads(line) for line in a.lines]
    mine = [line["event"] for line in lines if line.get("message_id") == message_id]
    steps = ["message.received", "lock.taken", "claim.taken", "job.started", "message.extended", "job.ended"]
    assert mine[:6] == steps
    assert sorted(mine[6:]) == ["claim.closed", "lock.released", "message.deleted"]
    assert "s3cret" not in a.stderr
    assert '"envs"' not in a.stderr
