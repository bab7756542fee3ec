"""The trace context of a job: from its producer's environment to its message, and from there to its command.

The formats are W3C's (https://www.w3.org/TR/trace-context/, https://www.w3.org/TR/baggage/), the variables those of
OpenTelemetry ("Environment Variables as Context Propagation Carriers"). It is passed on whether anything is traced here
or not.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from sqsjkr.attempt import Attempt
from sqsjkr.message import TRACE
from sqsjkr.telemetry.observer import Observer

_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-.*)?")
_PRINTABLE = re.compile(r"[\t\x20-\x7e]+")
_LONGEST = {"traceparent": 200, "tracestate": 512, "baggage": 8192}
"""Characters. W3C asks for at least so much of the last two; a longer value is not passed on."""


class Tracer(Observer):
    """Gives each job the context of its message."""

    def begin(self, attempt: Attempt) -> Mapping[str, str]:
        """Return the variables with which the job's command is about to start."""
        return as_variables(attempt.message.attributes)


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
