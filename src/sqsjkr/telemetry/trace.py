"""The trace context of a job: from its producer's environment to its message, and from there to its command.

The formats are W3C's (https://www.w3.org/TR/trace-context/, https://www.w3.org/TR/baggage/), the variables those of
OpenTelemetry ("Environment Variables as Context Propagation Carriers"). It is passed on whether anything is traced here
or not.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from sqsjkr.attempt import Attempt
from sqsjkr.errors import ConfigError
from sqsjkr.message import TRACE
from sqsjkr.telemetry.events import Event, emit
from sqsjkr.telemetry.observer import Observer

_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-.*)?")
_PRINTABLE = re.compile(r"[\t\x20-\x7e]+")
_LONGEST = {"traceparent": 200, "tracestate": 512, "baggage": 8192}
"""Characters. W3C asks for at least so much of the last two; a longer value is not passed on."""


class Tracer(Observer):
    """Gives each job the context of its message."""

    queue = ""
    """The name of the queue that the messages come from, once it is known."""

    async def open(self) -> None:
        """Nothing to do."""

    async def close(self) -> None:
        """Nothing to do."""

    def begin(self, attempt: Attempt) -> Mapping[str, str]:
        """Return the variables with which the job's command is about to start."""
        return as_variables(attempt.message.attributes)


def tracer(endpoint: str, *, as_parent: bool, system: str) -> Tracer:
    """Return what makes spans if ``endpoint`` or the environment names a collector, else what only passes contexts on.

    Raises ``ConfigError`` if ``endpoint`` is given and OpenTelemetry is not installed. A variable may have been set for
    the jobs, so that it is a warning there.
    """
    if not endpoint and not _collector_is_named(os.environ):
        return Tracer()
    try:
        from sqsjkr.telemetry.spans import SpanTracer  # noqa: PLC0415 - an extra, and megabytes of memory
    except ImportError as missing:
        advice = f"OpenTelemetry is not installed ({missing}); next: pip install 'sqsjkr[otel]'"
        if endpoint:
            raise ConfigError(f"[kicker] otlp_endpoint = {endpoint}: {advice}") from None
        emit(Event.TRACES_FAILED, f"OTEL_EXPORTER_OTLP_ENDPOINT is set, but no spans are sent: {advice}")
        return Tracer()
    return SpanTracer(endpoint, as_parent=as_parent, system=system)


def _collector_is_named(environment: Mapping[str, str]) -> bool:
    """Whether OpenTelemetry's variables name a collector and do not switch it off."""
    if environment.get("OTEL_SDK_DISABLED", "").lower() == "true" or environment.get("OTEL_TRACES_EXPORTER") == "none":
        return False
    return any(environment.get(name) for name in ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"))


def as_variables(context: Mapping[str, str]) -> dict[str, str]:
    """Return a context as environment variables; what is no valid part of one is left out."""
    return {name.upper(): value for name, value in _valid(context).items()}


def from_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the context in which this process runs, as message attributes."""
    return _valid({name: environment.get(name.upper(), "") for name in TRACE})


def _valid(context: Mapping[str, str]) -> dict[str, str]:
    valid = {
        name: value
        for name in TRACE
        if (value := context.get(name, "")) and len(value) <= _LONGEST[name] and _PRINTABLE.fullmatch(value)
    }
    if not _TRACEPARENT.fullmatch(valid.get("traceparent", "")):
        valid.pop("traceparent", None)
        valid.pop("tracestate", None)  # means nothing without the other
    return valid
