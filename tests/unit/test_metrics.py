"""What a worker measures, and the page on which Prometheus reads it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse

from sqsjkr import clock
from sqsjkr.attempt import Attempt
from sqsjkr.job import Job
from sqsjkr.message import Message
from sqsjkr.metrics.board import Board
from sqsjkr.metrics.families import FAMILIES, Kind
from sqsjkr.outcome import Ending, Exit, Outcome, Reason
from sqsjkr.telemetry.histogram import Histogram, Sample
from sqsjkr.telemetry.measures import Measures
from sqsjkr.telemetry.requests import Requests

TOP = Path(__file__).parents[2]
PROCESS = {
    "process_cpu_seconds_total",
    "process_max_fds",
    "process_open_fds",
    "process_resident_memory_bytes",
    "process_start_time_seconds",
    "process_virtual_memory_bytes",
}
"""What prometheus_client adds about the process."""


def attempt(*, lock_id: str = "", age: float = 0.0, receive_count: int = 1, message_id: str = "m") -> Attempt:
    message = Message(
        id=message_id, body="", sent_at=0.0, age=age, received_at=clock.now(), receive_count=receive_count
    )
    made = Attempt(message, "a")
    made.job = Job(id=message_id, command="true", event_id="nightly", lock_id=lock_id)
    return made


def test_a_value_on_a_bound_is_in_the_bucket_below_it() -> None:
    histogram = Histogram((1.0, 5.0))
    for value in (0.5, 1.0, 1.1, 5.0, 7.0):
        histogram.add(value)
    assert histogram.counts == [2, 2, 1]
    assert histogram.sum == pytest.approx(14.6)


def test_a_sample_is_complete_while_it_has_room_and_bounded_after_that() -> None:
    sample = Sample(3, pick=lambda seen: seen - 1 if seen % 2 else 0)
    for value in range(6):
        sample.add(float(value))
    assert sample.take() == [5.0, 1.0, 2.0]
    assert sample.take() == []


def test_a_job_that_met_no_lock_waited_since_its_message_was_sent() -> None:
    measures = Measures()
    measures.started(attempt(age=7.0), "true")
    assert measures.waits.sum == pytest.approx(7.0, abs=0.5)
    assert sum(measures.lock_waits.counts) == 0


def test_a_job_that_a_lock_kept_waiting_waited_for_it_since_the_first_refusal() -> None:
    measures, waiter = Measures(), attempt(lock_id="db", age=100.0)
    for _ in range(2):
        measures.ended(waiter, Ending(Outcome.LOCKED))
        measures.settled(waiter, Ending(Outcome.LOCKED))
    measures.started(waiter, "true")
    assert sum(measures.waits.counts) == 0
    assert measures.lock_waits.counts[0] == 1, "it began a moment ago"


@pytest.mark.parametrize("back", [Outcome.CROWDED, Outcome.RETURNED])
def test_a_waiter_that_goes_back_to_the_queue_is_forgotten(back: Outcome) -> None:
    measures, waiter = Measures(), attempt(lock_id="db")
    measures.ended(waiter, Ending(Outcome.LOCKED))
    measures.settled(waiter, Ending(back))
    measures.started(attempt(lock_id="db", receive_count=2), "true")
    assert sum(measures.waits.counts) + sum(measures.lock_waits.counts) == 0, (
        "where it waited, and for what, is unknown"
    )


def test_a_copy_that_waited_for_a_verdict_says_nothing_about_slots_or_locks() -> None:
    measures, copy = Measures(), attempt()
    measures.ended(copy, Ending(Outcome.BUSY))
    measures.settled(copy, Ending(Outcome.BUSY))
    measures.started(copy, "true")
    assert sum(measures.waits.counts) + sum(measures.lock_waits.counts) == 0


def test_what_a_command_took_is_added_up() -> None:
    measures = Measures()
    end = Exit(status=0, seconds=2.0, cpu=0.5, max_rss=20 * 1024 * 1024, printed=100)
    measures.ended(attempt(), Ending(Outcome.SUCCEEDED, exit=end))
    lost = Exit(status=-15, reason=Reason.LEASE, seconds=3.0, cpu=0.25)
    measures.ended(attempt(), Ending(Outcome.INTERRUPTED, exit=lost))
    measures.ended(attempt(), Ending(Outcome.EXPIRED))
    assert measures.durations["succeeded"].sum == 2.0
    assert measures.durations["interrupted"].sum == 3.0
    assert (measures.cpu_seconds, measures.printed_bytes, measures.leases_lost) == (0.75, 100, 1)
    assert measures.max_rss.counts[2] == 1, "more than 16 MiB, no more than 32"


def test_the_waiters_that_are_remembered_are_bounded() -> None:
    measures = Measures()
    for number in range(10_100):
        measures.ended(attempt(lock_id="db", message_id=str(number)), Ending(Outcome.LOCKED))
    assert len(measures._waiting) == 10_000


class Refusal(Exception):
    result = "refused"


def test_each_request_counts_once_by_what_became_of_it() -> None:
    requests = Requests()
    with requests.one("sqs", "ReceiveMessage", timed=False):
        pass
    for error in (Refusal, KeyError):
        with pytest.raises(error), requests.one("sqs", "DeleteMessageBatch", timed=True):
            raise error
    assert {result: n for result, n in requests.counts["sqs", "ReceiveMessage"].items() if n} == {"ok": 1}
    deletes = requests.counts["sqs", "DeleteMessageBatch"]
    assert {result: n for result, n in deletes.items() if n} == {"refused": 1, "lost": 1}
    assert sum(requests.seconds["sqs"].counts) == 2, "a long poll says nothing about the speed of an answer"


def test_a_worker_that_starts_says_so() -> None:
    body, content_type = Board().page("")
    families = {family.name: family for family in parse(body.decode())}
    assert content_type == "text/plain; version=0.0.4; charset=utf-8"
    [sample] = families["sqsjkr_unwell"].samples
    assert (sample.labels, sample.value) == ({"reason": "starting"}, 1)
    assert families["sqsjkr_build_info"].samples[0].labels.keys() == {"python", "version"}


def test_a_scraper_may_ask_for_openmetrics() -> None:
    body, content_type = Board().page("application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5")
    assert content_type.startswith("application/openmetrics-text; version=1.0.0")
    assert {"sqsjkr_build_info", "sqsjkr_unwell"} <= {family.name for family in parse_openmetrics(body.decode())}


def test_a_worker_that_nobody_scrapes_does_not_load_the_library() -> None:
    script = """if True:
        import sys
        import sqsjkr.app, sqsjkr.backends.dynamodb.table, sqsjkr.backends.sqs.queue, sqsjkr.web.server
        from sqsjkr.metrics.board import Board
        board = Board()
        assert "prometheus_client" not in sys.modules
        board.page("")
        assert "prometheus_client" in sys.modules
    """
    subprocess.run([sys.executable, "-c", script], check=True)


def test_names_follow_the_conventions() -> None:
    for family in FAMILIES:
        assert re.fullmatch(r"sqsjkr_[a-z]+(_[a-z]+)*", family.name)
        assert family.name.endswith("_total") == (family.kind is Kind.COUNTER), family.name
        assert family.meaning.endswith(".")


def test_every_metric_stands_in_the_reference_and_no_other() -> None:
    page = (TOP / "docs" / "reference" / "stats.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| (counter|gauge|histogram) \| ([^|]*) \|", page, re.MULTILINE)
    told = {(name, kind, tuple(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}
    assert told == {(family.name, family.kind.value, family.labels) for family in FAMILIES}
    assert set(re.findall(r"`(process_\w+)`", page)) == PROCESS


def used(text: str) -> set[str]:
    """The metrics that a text names, without what a histogram adds to its name."""
    names = set(re.findall(r"\b((?:sqsjkr|process)_[a-z_]+)\b", text))
    histograms = {family.name for family in FAMILIES if family.kind is Kind.HISTOGRAM}
    return {
        next((base for base in histograms if re.fullmatch(f"{base}_(bucket|sum|count)", name)), name) for name in names
    }


@pytest.mark.parametrize("example", ["alerts.yaml", "dashboard.json"])
def test_every_metric_that_an_example_uses_exists(example: str) -> None:
    names = used((TOP / "examples" / "prometheus" / example).read_text())
    assert len(names) >= 5
    assert names <= {family.name for family in FAMILIES} | PROCESS


def test_the_dashboard_is_one_that_grafana_can_import() -> None:
    dashboard = json.loads((TOP / "examples" / "prometheus" / "dashboard.json").read_text())
    panels = [panel for panel in dashboard["panels"] if panel["type"] != "row"]
    assert dashboard["uid"]
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    for panel in panels:
        assert panel["targets"], panel["title"]
        assert {target["datasource"]["uid"] for target in panel["targets"]} == {"${datasource}"}
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
