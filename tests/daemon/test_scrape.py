"""``/metrics`` of a real worker: the numbers are those of what has happened."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families as parse

from daemons import Daemon
from faults.proxy import Proxy
from fleet import Fleet
from places import SQS
from servers import wait_until
from sqsjkr.metrics.families import FAMILIES, Kind
from sqsjkr.outcome import Outcome

Numbers = dict[tuple[str, frozenset[tuple[str, str]]], float]


def scrape(worker: Daemon) -> Numbers:
    status, text = worker.get("/metrics")
    assert status == 200
    samples = [sample for family in parse(text) for sample in family.samples]
    numbers = {(sample.name, frozenset(sample.labels.items())): sample.value for sample in samples}
    assert len(numbers) == len(samples), "no series stands there twice"
    return numbers


def number(numbers: Numbers, name: str, **labels: str) -> float:
    return numbers[name, frozenset(labels.items())]


def test_the_numbers_are_those_of_what_has_happened(daemon: Callable[..., Daemon], proxy: Proxy, fleet: Fleet) -> None:
    worker = daemon(
        config=fleet.config(lock_table=fleet.table, max_concurrent_num=4), env={"AWS_ENDPOINT_URL": proxy.listen("a")}
    )
    fleet.send("no job")
    fleet.send_job(command="printf 12345; exit 3", event_id="fails")
    fleet.send_job(command="sleep 0.3", lock_id="db")
    fleet.send_job(command="sleep 0.3", lock_id="db")
    fleet.send_job(command="true", life_time="1ns")

    wait_until(lambda: fleet.depth() == (0, 0, 0), description="every message was settled")
    fleet.send_job(command="sleep 600", event_id="runs on")
    wait_until(lambda: number(scrape(worker), "sqsjkr_job_wait_seconds_count") == 3, description="the last one ran")
    numbers = scrape(worker)

    ended = {outcome.label: number(numbers, "sqsjkr_deliveries_total", outcome=outcome.label) for outcome in Outcome}
    waited = ended.pop("locked")
    assert {label: n for label, n in ended.items() if n} == {"succeeded": 2, "errored": 1, "expired": 1, "invalid": 1}
    assert waited >= 1
    assert number(numbers, "sqsjkr_messages_received_total") == 6
    assert number(numbers, "sqsjkr_receives_total", result="messages") >= 1
    assert number(numbers, "sqsjkr_slots", state="busy") == 1
    assert number(numbers, "sqsjkr_slots", state="idle") == 3
    assert number(numbers, "sqsjkr_slots_wanted") == 1
    assert number(numbers, "sqsjkr_messages_held", state="running") == 1
    assert number(numbers, "sqsjkr_output_bytes_total") == 5
    assert number(numbers, "sqsjkr_job_duration_seconds_count", outcome="succeeded") == 2
    assert number(numbers, "sqsjkr_job_duration_seconds_sum", outcome="succeeded") >= 0.6
    assert number(numbers, "sqsjkr_job_duration_seconds_bucket", outcome="errored", le="+Inf") == 1
    assert number(numbers, "sqsjkr_job_lock_wait_seconds_count") == 1
    assert number(numbers, "sqsjkr_job_wait_seconds_count") == 3
    assert number(numbers, "sqsjkr_job_max_rss_bytes_sum") > 1_000_000
    assert number(numbers, "sqsjkr_lock_attempts_total", result="taken") == 2
    assert not any(value for (name, _), value in numbers.items() if name == "sqsjkr_unwell")
    assert 0 < number(numbers, "sqsjkr_lease_left_seconds") <= 20
    assert number(numbers, "sqsjkr_last_receive_timestamp_seconds") > 1_500_000_000

    for family in FAMILIES:
        name = f"{family.name}_count" if family.kind is Kind.HISTOGRAM else family.name
        assert any(key[0] == name for key in numbers), f"{family.name} is there from the start"


def test_an_order_is_counted_and_a_paused_worker_is_healthy(
    daemon: Callable[..., Daemon], fleet: Fleet, tmp_path: Path, aws_env: Mapping[str, str]
) -> None:
    place = SQS(fleet, tmp_path, aws_env)
    worker = place.worker(daemon)
    job = place.send_job(command="sleep 1000", event_id="long")
    worker.wait_for_line(f"job.started  long[{job[:8]}]")
    assert place.say("cancel", job).code == 0
    assert place.say("fleet", "pause", "--why", "hush").code == 0
    wait_until(
        lambda: number(scrape(worker), "sqsjkr_unwell", reason="paused") == 1, description="the worker was paused"
    )
    assert worker.get("/healthz") == (200, "ok\n"), "and says no word of whoever paused it"
    assert place.say("fleet", "resume").code == 0
    wait_until(lambda: number(scrape(worker), "sqsjkr_orders_total", order="resume") == 1, description="it was resumed")

    numbers = scrape(worker)
    assert number(numbers, "sqsjkr_unwell", reason="paused") == 0
    orders = {order: number(numbers, "sqsjkr_orders_total", order=order) for order in ("cancel", "requeue", "pause")}
    assert orders == {"cancel": 1, "requeue": 0, "pause": 1}
    assert number(numbers, "sqsjkr_history_dropped_total") == 0


def test_every_request_to_aws_is_counted(daemon: Callable[..., Daemon], proxy: Proxy, fleet: Fleet) -> None:
    worker = daemon(
        config=fleet.config(lock_table=fleet.table, max_concurrent_num=1), env={"AWS_ENDPOINT_URL": proxy.listen("a")}
    )
    fleet.send_job(command="true", lock_id="db")
    wait_until(lambda: fleet.depth() == (0, 0, 0), description="the message was deleted")
    wait_until(lambda: fleet.rows("lock"), description="the lock row is there")

    def counted() -> Counter[tuple[str, str]]:
        counts: Counter[tuple[str, str]] = Counter()
        for (name, labels), value in scrape(worker).items():
            if name == "sqsjkr_aws_requests_total":
                told = dict(labels)
                counts[told["service"], told["operation"]] += int(value)
        return counts

    def seen() -> Counter[tuple[str, str]]:
        return Counter((call.service, call.operation) for call in proxy.calls)

    def agree() -> bool:
        ours, theirs = counted(), seen()
        theirs["sqs", "ReceiveMessage"] -= 1  # one long poll is under way and not counted yet
        return +ours == +theirs

    wait_until(agree, description="the worker and the server had counted the same")


def test_nothing_that_a_producer_chose_is_on_the_listener(daemon: Callable[..., Daemon], fleet: Fleet) -> None:
    worker = daemon(config=fleet.config(lock_table=fleet.table))
    fleet.send_job(command="echo hush-output; : hush-command", event_id="hush-event", lock_id="hush-lock")
    wait_until(lambda: fleet.depth() == (0, 0, 0), description="the message was deleted")
    for path in ("/metrics", "/stats/metrics", "/stats/metrics/v2", "/healthz", "/livez"):
        status, text = worker.get(path)
        assert status == 200
        assert "hush" not in text


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_a_worker_logs_its_metrics_as_cloudwatch_reads_them(
    daemon: Callable[..., Daemon], tmp_path: Path, log_format: str
) -> None:
    store, log = ("--local", str(tmp_path)), ("--log-format", log_format, "--log-level", "error")
    subprocess.run([sys.executable, "-m", "sqsjkr", "send", *store, "true"], check=True, stdout=subprocess.DEVNULL)
    worker = daemon(*store, *log, "--until-empty", config='[kicker]\nmetrics_log = "emf"\n')
    assert worker.wait() == 0
    told = [json.loads(line) for line in worker.lines if line.startswith('{"_aws":')]
    assert sum(line["Succeeded"] for line in told) == 1
    assert told[-1]["_aws"]["CloudWatchMetrics"][0]["Namespace"] == "sqsjkr"


def test_a_worker_logs_its_metrics_at_every_full_minute(daemon: Callable[..., Daemon], tmp_path: Path) -> None:
    short = """if True:
        import sys
        from sqsjkr.cli.main import main
        from sqsjkr.metrics import board, emf
        emf.logging_metrics.__wrapped__.__kwdefaults__["every"] = 0.5
        sys.exit(main(["run", *sys.argv[1:]]))
    """
    config = '[kicker]\nmetrics_log = "emf"\n'
    worker = daemon("--local", str(tmp_path), config=config, command=(sys.executable, "-c", short))
    first = worker.wait_for_line(lambda line: "SlotsBusy" in line)
    second = worker.wait_for_line(lambda line: "SlotsBusy" in line and line != first)
    times = [json.loads(line)["_aws"]["Timestamp"] for line in (first, second)]
    assert [time % 500 for time in times] == [250, 250], "in the middle of what was half a second"
    assert times[0] < times[1]
