from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from sqsjkr.outcome import Counter, Outcome
from sqsjkr.telemetry.stats import Stats

REFERENCE = Path(__file__).parents[2] / "docs" / "reference" / "stats.md"


def counted(*outcomes: Outcome) -> Stats:
    stats = Stats(slots=4)
    for outcome in outcomes:
        stats.count(outcome)
    return stats


def paths(value: Any, before: str = "") -> list[str]:
    if not isinstance(value, dict):
        return [before]
    return [path for key, inner in value.items() for path in paths(inner, f"{before}.{key}".lstrip("."))]


def test_the_first_metrics_are_the_originals_bytes() -> None:
    stats = Stats(slots=3)
    assert stats.metrics() == b'{"idle_worker":3,"busy_worker":0}\n'


def test_the_second_metrics_are_the_originals_bytes() -> None:
    stats = Stats(slots=3)
    for outcome in (Outcome.SUCCEEDED, Outcome.EXPIRED, Outcome.INVALID, Outcome.ERRORED):
        stats.count(outcome)
    expected = b'{"workers":{"busy":0,"idle":3},"invocations":{"succeeded":1,"failed":2,"errored":1}}\n'
    assert stats.metrics_v2() == expected


def test_busy_slots_are_not_idle() -> None:
    stats = Stats(slots=3)
    stats.busy = 2
    assert stats.metrics() == b'{"idle_worker":1,"busy_worker":2}\n'
    assert json.loads(stats.metrics_v2())["workers"] == {"busy": 2, "idle": 1}


def test_idle_never_goes_below_zero_because_readers_take_it_for_unsigned() -> None:
    stats = Stats(slots=1)
    stats.busy = 2
    assert stats.idle == 0


@pytest.mark.parametrize("outcome", list(Outcome), ids=lambda outcome: outcome.label)
def test_every_outcome_counts_in_its_own_counter_only(outcome: Outcome) -> None:
    invocations = json.loads(counted(outcome).metrics_v2())["invocations"]
    assert invocations == {counter.value: int(counter is outcome.counter) for counter in Counter}


def test_every_ending_is_known_by_its_label_even_where_the_metrics_are_silent() -> None:
    ended = counted(Outcome.DUPLICATE, Outcome.DUPLICATE, Outcome.SUCCEEDED).outcomes
    assert set(ended) == {outcome.label for outcome in Outcome}
    assert {label: count for label, count in ended.items() if count} == {"duplicate": 2, "succeeded": 1}


def test_the_reference_describes_every_field() -> None:
    stats = Stats(slots=1)
    page = REFERENCE.read_text(encoding="utf-8").split("\n## `/metrics`\n")[0]
    described = set(re.findall(r"^\| `([a-z_.]+)` \|", page, flags=re.MULTILINE))
    answered = {path for body in (stats.metrics(), stats.metrics_v2()) for path in paths(json.loads(body))}
    assert described == answered
