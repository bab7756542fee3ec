"""Trace contexts through real queues, and spans at a real receiver."""

from __future__ import annotations

import asyncio
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from daemons import Daemon
from fleet import Fleet
from servers import clean_environment, wait_until

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
CONTEXT = {"TRACEPARENT": PARENT, "TRACESTATE": "vendor=1", "BAGGAGE": "tenant=7"}
SHOW = 'echo "[$TRACEPARENT|$TRACESTATE|$BAGGAGE]"'


def send(env: Mapping[str, str], *words: str) -> None:
    subprocess.run([sys.executable, "-m", "sqsjkr", "send", *words], env=env, check=True, stdout=subprocess.DEVNULL)


def printed(worker: Daemon) -> str:
    """What the first job printed."""
    return worker.wait_for_line("job.output").partition(": ")[2]


def test_a_job_gets_the_context_of_its_producer_from_the_embedded_store(
    daemon: Callable[..., Daemon], tmp_path: Path
) -> None:
    store = ("--local", str(tmp_path))
    send(clean_environment() | CONTEXT, *store, SHOW)
    assert printed(daemon(*store, "--until-empty")) == f"[{PARENT}|vendor=1|tenant=7]"


def test_a_job_gets_the_context_of_its_producer_from_sqs(
    daemon: Callable[..., Daemon], fleet: Fleet, aws_env: Mapping[str, str], tmp_path: Path
) -> None:
    config = tmp_path / "config.toml"
    config.write_text(fleet.config(lock_table=fleet.table))
    send(aws_env | CONTEXT, "--conf", str(config), SHOW)
    assert printed(daemon("--until-empty", config=config.read_text())) == f"[{PARENT}|vendor=1|tenant=7]"


def test_a_job_gets_the_context_that_x_ray_gave_its_message(daemon: Callable[..., Daemon], fleet: Fleet) -> None:
    header = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1"
    system = {"AWSTraceHeader": {"DataType": "String", "StringValue": header}}
    fleet.send('{"command": "echo [$TRACEPARENT]"}', MessageSystemAttributes=system)
    worker = daemon("--until-empty", config=fleet.config(lock_table=fleet.table))
    assert printed(worker) == "[00-5759e988bd862e3fe1be46a994272793-53995c3f42cd8ad8-01]"


def test_a_jobs_own_variables_win(daemon: Callable[..., Daemon], tmp_path: Path) -> None:
    store = ("--local", str(tmp_path))
    send(clean_environment() | CONTEXT, *store, "--env", "BAGGAGE=mine", SHOW)
    assert printed(daemon(*store, "--until-empty")) == f"[{PARENT}|vendor=1|mine]"


def test_a_job_of_the_largest_size_is_sent_without_its_context(
    daemon: Callable[..., Daemon], fleet: Fleet, aws_env: Mapping[str, str], tmp_path: Path
) -> None:
    config = tmp_path / "config.toml"
    config.write_text(fleet.config(lock_table=fleet.table))
    jobs = tmp_path / "jobs.jsonl"
    jobs.write_text('{"command":"' + f"{SHOW}; : ".replace('"', '\\"').ljust(1_048_576 - 14, "x") + '"}\n')
    send(aws_env | CONTEXT, "--conf", str(config), "--json", str(jobs))
    assert fleet.depth()[0] == 1


class Receiver:
    """An OTLP collector on loopback: what it was sent, decoded. ``status`` is how it answers."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.resources: list[dict[str, Any]] = []
        self.status = 200
        self.requests = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._runner = asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(10)
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _start(self) -> web.AppRunner:
        app = web.Application()
        app.router.add_post("/v1/traces", self._take)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return runner

    async def _take(self, request: web.Request) -> web.Response:
        self.requests += 1
        if self.status == 200:
            batch = ExportTraceServiceRequest.FromString(await request.read())
            for resource in batch.resource_spans:
                self.resources.append(plain(resource.resource.attributes))
                self.spans += [span for scope in resource.scope_spans for span in scope.spans]
        return web.Response(status=self.status, content_type="application/x-protobuf")


def plain(attributes: Iterable[KeyValue]) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, str(pair.value.WhichOneof("value"))) for pair in attributes}


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.close()


def test_each_run_is_a_span_that_is_linked_to_its_producers(
    daemon: Callable[..., Daemon], fleet: Fleet, aws_env: Mapping[str, str], tmp_path: Path, receiver: Receiver
) -> None:
    config = tmp_path / "config.toml"
    config.write_text(fleet.config(lock_table=fleet.table, otlp_endpoint=receiver.url))
    send(aws_env | CONTEXT, "--conf", str(config), "--event-id", "nightly", "--lock-id", "db", f"{SHOW}; sleep 0.2")
    fleet.send_job(command="exit 3", event_id="fails")
    worker = daemon("--until-empty", config=config.read_text(), env={"OTEL_RESOURCE_ATTRIBUTES": "deployment=test"})
    assert worker.wait() == 0
    by_name = {plain(span.attributes)["sqsjkr.event_id"]: span for span in receiver.spans}
    assert by_name.keys() == {"nightly", "fails"}

    good = by_name["nightly"]
    assert (good.name, good.kind) == (f"process {fleet.name}", Span.SPAN_KIND_CONSUMER)
    [link] = good.links
    assert (link.trace_id.hex(), link.span_id.hex()) == tuple(PARENT.split("-")[1:3])
    assert good.parent_span_id == b"", "the producer's span is linked, not the parent"
    assert good.end_time_unix_nano - good.start_time_unix_nano >= 200_000_000
    told = plain(good.attributes)
    assert told["messaging.system"] == "aws_sqs"
    assert told["messaging.destination.name"] == fleet.name
    assert (told["sqsjkr.outcome"], told["sqsjkr.lock_id"], told["process.exit.code"]) == ("succeeded", "db", 0)
    assert good.status.code == 0

    own = rf"\[00-{good.trace_id.hex()}-{good.span_id.hex()}-0[13]\|\|tenant=7\]"
    assert re.search(own, worker.stderr), "the job's spans are children of its run's"

    bad = by_name["fails"]
    assert (bad.status.code, plain(bad.attributes)["error.type"]) == (2, "exit 3")
    assert not bad.links
    [resource, *_] = receiver.resources
    assert (resource["service.name"], resource["deployment"]) == ("sqsjkr", "test")
    text = str(receiver.spans)
    assert "sleep 0.2" not in text, "no command leaves the worker"


def test_the_producers_span_can_be_the_parent(
    daemon: Callable[..., Daemon], tmp_path: Path, receiver: Receiver
) -> None:
    store = ("--local", str(tmp_path))
    send(clean_environment() | CONTEXT, *store, SHOW)
    config = f'[kicker]\ntrace_parent = true\notlp_endpoint = "{receiver.url}"\n'
    worker = daemon(*store, "--until-empty", config=config)
    assert worker.wait() == 0
    [span] = receiver.spans
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == tuple(PARENT.split("-")[1:3])
    assert not span.links
    assert re.search(rf"\[00-{span.trace_id.hex()}-{span.span_id.hex()}-01\|vendor=1\|tenant=7\]", worker.stderr)


def test_a_collector_may_be_named_by_opentelemetrys_own_variables(
    daemon: Callable[..., Daemon], tmp_path: Path, receiver: Receiver
) -> None:
    store = ("--local", str(tmp_path))
    send(clean_environment(), *store, "true")
    worker = daemon(
        *store,
        "--until-empty",
        env={"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url, "OTEL_SERVICE_NAME": "night-shift"},
    )
    assert worker.wait() == 0
    assert len(receiver.spans) == 1
    assert receiver.resources[0]["service.name"] == "night-shift"


def test_a_collector_that_fails_is_said_once_and_delays_no_stop(
    daemon: Callable[..., Daemon], tmp_path: Path, receiver: Receiver
) -> None:
    store = ("--local", str(tmp_path))
    receiver.status = 503
    config = f'[kicker]\notlp_endpoint = "{receiver.url}"\n'
    quick = {"OTEL_BSP_SCHEDULE_DELAY": "100", "OTEL_EXPORTER_OTLP_TIMEOUT": "1"}
    worker = daemon(*store, config=config, env=quick)
    for _ in range(2):
        before = receiver.requests
        send(clean_environment(), *store, "true")
        wait_until(lambda: receiver.requests > before, description="a batch was sent")  # noqa: B023
    worker.wait_for_line("traces.failed")
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0
    failures = [line for line in worker.lines if "spans" in line.lower() or "opentelemetry" in line.lower()]
    assert len(failures) == 1, failures


def test_a_collector_that_answers_again_is_said_too(
    daemon: Callable[..., Daemon], tmp_path: Path, receiver: Receiver
) -> None:
    store = ("--local", str(tmp_path))
    receiver.status = 400
    config = f'[kicker]\notlp_endpoint = "{receiver.url}"\n'
    worker = daemon(*store, config=config, env={"OTEL_BSP_SCHEDULE_DELAY": "100"})
    send(clean_environment(), *store, "true")
    worker.wait_for_line("traces.failed")
    receiver.status = 200
    send(clean_environment(), *store, "true")
    worker.wait_for_line("traces.recovered")


WITHOUT = """if True:
    import sys
    sys.modules["opentelemetry"] = None
    from sqsjkr.cli.main import main
    sys.exit(main(["run", *sys.argv[1:]]))
"""
"""The command, where the extra is not installed."""


def test_a_configured_collector_without_the_extra_is_a_mistake_with_its_next_step(
    daemon: Callable[..., Daemon], tmp_path: Path
) -> None:
    config = '[kicker]\notlp_endpoint = "http://127.0.0.1:4318"\n'
    worker = daemon("--local", str(tmp_path), config=config, command=(sys.executable, "-c", WITHOUT))
    assert worker.wait() == 2
    assert "pip install 'sqsjkr[otel]'" in worker.stderr


def test_a_variable_that_may_be_meant_for_the_jobs_stops_no_worker(
    daemon: Callable[..., Daemon], tmp_path: Path
) -> None:
    env = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}
    command = (sys.executable, "-c", WITHOUT)
    worker = daemon("--local", str(tmp_path), "--until-empty", env=env, command=command)
    assert worker.wait() == 0
    assert "pip install 'sqsjkr[otel]'" in worker.wait_for_line("traces.failed")
