"""A span for each run of a command, exported with OTLP over HTTP. Needs the extra ``otel``, and is imported only then.

Names of attributes are those of OpenTelemetry's semantic conventions 1.4x ("Messaging", still in development, and
"Process"); what they have no name for begins with ``sqsjkr.``. The SDK reads its own variables: OTEL_SERVICE_NAME,
OTEL_RESOURCE_ATTRIBUTES, OTEL_TRACES_SAMPLER, OTEL_EXPORTER_OTLP_HEADERS, OTEL_BSP_MAX_QUEUE_SIZE and so on.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode, get_current_span, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from sqsjkr import clock
from sqsjkr.attempt import Attempt
from sqsjkr.outcome import Ending, Outcome
from sqsjkr.telemetry.events import Event, emit
from sqsjkr.telemetry.outage import Outage
from sqsjkr.telemetry.trace import Tracer

LAST_EXPORT = 5.0
"""Seconds that the last spans may take at a stop."""
_TIMEOUT = "OTEL_EXPORTER_OTLP_TIMEOUT"
_PROPAGATOR = TraceContextTextMapPropagator()


class SpanTracer(Tracer):
    """Begins a span with each command and ends it with the command's end.

    ``endpoint`` is a collector's address without a path, such as ``http://localhost:4318``; "" leaves it to the SDK's
    variables. The producer's span is linked, as the conventions advise; with ``as_parent`` it is the parent. ``system``
    and ``queue`` name where the messages come from.
    """

    def __init__(self, endpoint: str, *, as_parent: bool, system: str) -> None:
        exporter = OTLPSpanExporter(
            endpoint=f"{endpoint.rstrip('/')}/v1/traces" if endpoint else None,
            timeout=None if _TIMEOUT in os.environ else LAST_EXPORT,
        )
        self._provider = TracerProvider(resource=_identity(), shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(_Reporting(exporter)))
        self._tracer = self._provider.get_tracer("sqsjkr", version("sqsjkr"))
        self._as_parent = as_parent
        self._system = system
        self.queue = ""
        self._spans: dict[Attempt, Span] = {}

    async def close(self) -> None:
        """Export what is left, for a few seconds at most: a collector that is out must not keep a worker from its end.

        The thread that exports ends with the process if it does not answer.
        """
        loop, done = asyncio.get_running_loop(), asyncio.Event()

        def shut_down() -> None:
            self._provider.shutdown()
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(done.set)

        threading.Thread(target=shut_down, name="last spans", daemon=True).start()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(done.wait(), LAST_EXPORT)

    def begin(self, attempt: Attempt) -> Mapping[str, str]:
        """Begin a span; return the variables that make the job's own spans its children."""
        passed_on = super().begin(attempt)
        try:
            span = self._begin(attempt)
            carrier: dict[str, str] = {}
            _PROPAGATOR.inject(carrier, set_span_in_context(span))
        except Exception as bug:  # noqa: BLE001 - an observer fails open
            emit(Event.LOG, f"no span for {attempt.name}, please report this bug: {bug!r}")
            return passed_on
        self._spans[attempt] = span
        own = {name.upper(): value for name, value in carrier.items()}
        return own | {name: value for name, value in passed_on.items() if name == "BAGGAGE"}

    def ended(self, attempt: Attempt, ending: Ending) -> None:
        """End the span with what became of the command."""
        span = self._spans.pop(attempt, None)
        if span is None:
            return
        outcome, exit = ending.outcome, ending.exit  # noqa: A001 - the word of the field
        span.set_attribute("sqsjkr.outcome", outcome.label)
        if exit is not None:
            span.set_attribute("sqsjkr.cpu_seconds", exit.cpu)
            span.set_attribute("sqsjkr.max_rss_bytes", exit.max_rss)
            if exit.status >= 0:
                span.set_attribute("process.exit.code", exit.status)
        if outcome is not Outcome.SUCCEEDED:
            span.set_attribute("error.type", _error(ending))
            span.set_status(Status(StatusCode.ERROR, f"{outcome.label} {ending.detail}".strip()))
        span.end()

    def _begin(self, attempt: Attempt) -> Span:
        job, message = attempt.job, attempt.message
        producer = get_current_span(_PROPAGATOR.extract(message.attributes)).get_span_context()
        links = [Link(producer)] if producer.is_valid and not self._as_parent else []
        attributes: dict[str, str | int | float] = {
            "messaging.system": self._system,
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "messaging.destination.name": self.queue,
            "messaging.message.id": message.id,
            "messaging.message.body.size": len(message.body.encode()),
            "sqsjkr.event_id": attempt.name,
            "sqsjkr.receive_count": message.receive_count,
            "sqsjkr.waited_seconds": round(message.age_at(clock.now()), 3),
        }
        if job is not None and job.lock_id:
            attributes["sqsjkr.lock_id"] = job.lock_id
        return self._tracer.start_span(
            f"process {self.queue}",
            context=_PROPAGATOR.extract(message.attributes) if self._as_parent else None,
            kind=SpanKind.CONSUMER,
            attributes=attributes,
            links=links,
        )


def _error(ending: Ending) -> str:
    """The class of a failure, with few values: the exit code, the signal, or the outcome."""
    if ending.exit is None or ending.outcome is not Outcome.ERRORED:
        return ending.outcome.label
    status = ending.exit.status
    return f"exit {status}" if status > 0 else f"signal {-status}"


def _identity() -> Resource:
    """Who sends the spans. What OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES say wins."""
    host, given = socket.gethostname(), Resource.create()
    name = str(given.attributes["service.name"])
    return (
        Resource({"service.version": version("sqsjkr"), "host.name": host, "process.pid": os.getpid()})
        .merge(given)
        .merge(Resource({"service.name": "sqsjkr" if name.startswith("unknown_service") else name}))
    )


class _Reporting(SpanExporter):
    """Exports with another exporter, and says once that this fails, and once that it works again."""

    def __init__(self, exporter: OTLPSpanExporter) -> None:
        self._exporter = exporter
        self._outage = Outage("the export of spans", Event.TRACES_FAILED, Event.TRACES_RECOVERED, over="works again")
        self._complaints = _Complaints()
        logging.getLogger(OTLPSpanExporter.__module__).addFilter(self._complaints)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Export a batch; it is lost if that fails. Called in the processor's thread."""
        with self._complaints.heard():
            result = self._exporter.export(spans)
        if result is SpanExportResult.SUCCESS:
            self._outage.ended()
        else:
            self._outage.failed(self._complaints.last or "no reason given")
        return result

    def shutdown(self) -> None:
        """Let a retry that waits give up."""
        self._exporter.shutdown()  # type: ignore[no-untyped-call]


class _Complaints(logging.Filter):
    """Keeps the exporter's lines about its failures, of which it writes several for each, instead of logging them."""

    def __init__(self) -> None:
        super().__init__()
        self.last = ""
        self._here = threading.local()

    @contextlib.contextmanager
    def heard(self) -> Iterator[None]:
        """Keep what is logged by this thread in the block."""
        self._here.listening = True
        try:
            yield
        finally:
            self._here.listening = False

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the line is to be logged: another exporter's in the same program is."""
        if not getattr(self._here, "listening", False):
            return True
        self.last = record.getMessage()
        return False
