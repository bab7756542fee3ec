"""The values of the read model, as JSON shows them."""

from __future__ import annotations

import json

import pytest

from sqsjkr.views.model import JobStory, PastAttempt, ScaleSignal, State, as_json, is_event, timestamp

EXPLAIN = (
    "message_id, event_id, lock_id, command, queue, host, state, outcome, exit_status, signal, detail, sent_at, "
    "began_at, ended_at, seconds, cpu_seconds, max_rss_bytes, printed_bytes, receive_count, fence, output, attempts"
)


def test_a_story_has_the_keys_that_scripts_rely_on_in_this_order() -> None:
    attempt = PastAttempt(host="a", began_at=0.0, ended_at=None, outcome="interrupted", detail="stop")
    told = as_json(JobStory(message_id="m", state=State.RUNNING, began_at=1.5, attempts=(attempt,)))
    assert ", ".join(told) == EXPLAIN
    assert told["state"] == "running"
    assert told["began_at"] == "1970-01-01T00:00:01.500Z"
    assert told["attempts"] == [
        {
            "host": "a",
            "began_at": "1970-01-01T00:00:00.000Z",
            "ended_at": None,
            "outcome": "interrupted",
            "detail": "stop",
        }
    ]
    json.dumps(told)


def test_a_time_is_utc_with_milliseconds() -> None:
    assert timestamp(1_795_230_000.0004) == "2026-11-21T03:00:00.000Z"
    assert timestamp(None) is None


@pytest.mark.parametrize(
    ("visible", "busy", "slots", "workers", "wanted_slots", "wanted_workers"),
    [
        (0, 0, 0, 0, 0, 0),
        (7, 0, 0, 0, 7, 1),  # from zero: the first worker says how big one is
        (12, 38, 60, 3, 50, 3),
        (100, 60, 60, 3, 160, 8),
        (0, 1, 20, 1, 1, 1),
    ],
)
def test_the_scaling_signal_counts_what_is_visible_and_what_runs(
    visible: int, busy: int, slots: int, workers: int, wanted_slots: int, wanted_workers: int
) -> None:
    signal = ScaleSignal.of(visible=visible, busy=busy, waiting=99, slots=slots, workers=workers)
    assert (signal.wanted_slots, signal.wanted_workers) == (wanted_slots, wanted_workers)


@pytest.mark.parametrize(
    ("known", "wanted", "same"),
    [
        ("nightly", "nightly", True),
        ("nightly", "nightly-report", False),
        ("x" * 60, "x" * 200, True),
        ("x" * 200, "x" * 60, False),
        ("\u6f22" * 20, "\u6f22" * 100, True),
        (None, "nightly", False),
        ("", "nightly", False),
    ],
)
def test_an_event_with_a_long_name_is_found_by_its_beginning(known: str | None, wanted: str, same: bool) -> None:
    assert is_event(known, wanted) is same
