"""The trace context on its way from a producer's environment to a job's."""

from __future__ import annotations

import pytest

from sqsjkr.backends.sqs.queue import _traceparent
from sqsjkr.telemetry.trace import as_variables, from_variables

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def test_a_context_is_the_same_on_both_ends() -> None:
    environment = {"TRACEPARENT": PARENT, "TRACESTATE": "vendor=1", "BAGGAGE": "tenant=7", "HOME": "/"}
    context = from_variables(environment)
    assert context == {"traceparent": PARENT, "tracestate": "vendor=1", "baggage": "tenant=7"}
    assert as_variables(context) == {name: environment[name] for name in ("TRACEPARENT", "TRACESTATE", "BAGGAGE")}


@pytest.mark.parametrize(
    "traceparent",
    [
        "",
        "nonsense",
        PARENT.upper(),
        f"{PARENT}\n",
        "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
    ],
)
def test_what_is_no_context_is_not_passed_on(traceparent: str) -> None:
    assert as_variables({"traceparent": traceparent, "tracestate": "vendor=1"}) == {}


def test_a_context_of_a_later_version_is_passed_on() -> None:
    later = f"cc-{PARENT[3:]}-what-will-be"
    assert as_variables({"traceparent": later}) == {"TRACEPARENT": later}


@pytest.mark.parametrize("baggage", ["a=\0b", "a=\x1b[31m", "a=" + "x" * 8192, "a=\N{SNOWMAN}"])
def test_baggage_that_could_do_harm_is_not_passed_on(baggage: str) -> None:
    assert as_variables({"traceparent": PARENT, "baggage": baggage}) == {"TRACEPARENT": PARENT}


@pytest.mark.parametrize(
    ("xray", "traceparent"),
    [
        (
            "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1",
            "00-5759e988bd862e3fe1be46a994272793-53995c3f42cd8ad8-01",
        ),
        (
            "Sampled=0;Parent=53995c3f42cd8ad8;Root=1-5759e988-bd862e3fe1be46a994272793;Lineage=a:0",
            "00-5759e988bd862e3fe1be46a994272793-53995c3f42cd8ad8-00",
        ),
        ("Root=1-5759e988-bd862e3fe1be46a994272793", ""),
        ("nonsense", ""),
    ],
)
def test_the_header_of_x_ray_is_read_as_a_context(xray: str, traceparent: str) -> None:
    assert _traceparent(xray) == traceparent
