"""The facts of a run as attributes of a DynamoDB row."""

from __future__ import annotations

import base64
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sqsjkr.backends.dynamodb import facts
from sqsjkr.runs import Earlier, Run

KEY: dict[str, Any] = {"Id": {"S": "0" * 36}, "Type": {"S": "throttle"}}
REST: dict[str, Any] = KEY | {
    "Expired": {"N": "1764460800"},
    "Owner": {"S": f"{'0' * 32}/{'0' * 24}"},
    "Done": {"N": "1"},
}
long_texts = st.text(min_size=0, max_size=3000)


@given(
    st.builds(
        Run,
        message_id=st.just("0" * 36),
        event_id=long_texts,
        lock_id=long_texts,
        command=st.text(max_size=200),
        host=long_texts,
        queue=long_texts,
        sender=long_texts,
        job=long_texts,
        detail=long_texts,
        outcome=st.just("unstartable"),
        sent_at=st.just(1764460800.123),
        begun_at=st.just(1764460900.123),
        ended_at=st.just(1764461000.123),
        receive_count=st.integers(1, 1000),
        fence=st.integers(0, 10**9),
        exit_status=st.integers(0, 255),
        cpu_seconds=st.floats(0, 1e6),
        max_rss_bytes=st.integers(0, 10**12),
        printed_bytes=st.integers(0, 10**12),
        failures=st.integers(0, 1000),
        crashes=st.integers(0, 1000),
        earlier=st.lists(st.builds(Earlier, host=long_texts, outcome=long_texts, detail=long_texts)).map(tuple),
    )
)
def test_the_row_of_a_run_costs_one_write_unit_whatever_its_producer_sends(run: Run) -> None:
    assert facts.size_of(REST | facts.ended(run)) <= 1024


@pytest.mark.parametrize("letter", ["x", "é", "漢", "🔒"])
def test_the_longest_texts_leave_room_for_some_of_each(letter: str) -> None:
    text = letter * 3000
    run = Run(message_id="m", event_id=text, lock_id=text, command=letter * 200, host=text, queue=text, detail=text)
    row = REST | facts.ended(run) | {"Outcome": {"S": "errored"}}
    assert facts.size_of(row) <= 1024
    assert min(len(row[name]["S"]) for name in ("EventId", "LockId", "Command", "Host", "Queue")) > 0


def test_what_a_run_does_not_have_costs_nothing() -> None:
    assert facts.begun(Run(message_id="m", event_id="m")) == {}
    assert facts.ended(Run(message_id="m")) == {}


def test_the_output_of_a_failure_is_kept_to_its_end_and_that_of_a_success_as_far_as_it_is_free() -> None:
    noise = random.Random(1).randbytes(50_000).hex() + " the end"
    row = dict(REST)
    bad = facts.with_output(dict(row), noise, failed=True)
    good = facts.with_output(dict(row), noise, failed=False)
    assert facts.size_of(bad) <= 4 * 1024
    assert facts.size_of(good) <= 1024
    for kept in (bad, good):
        output = facts.unpacked(kept["Tail"]["B"])
        assert len(output) > 500
        assert noise.endswith(output)


def test_a_row_that_is_full_keeps_no_output_of_a_success() -> None:
    row = REST | {"Command": {"S": "x" * 900}}
    assert "Tail" not in facts.with_output(dict(row), "word", failed=False)
    assert "Tail" in facts.with_output(dict(row), "word", failed=True)


@pytest.mark.parametrize("tail", ["", "not base64!", base64.b64encode(b"not deflated").decode()])
def test_an_output_that_cannot_be_read_is_none(tail: str) -> None:
    assert facts.unpacked(tail) == ""


def test_a_small_tail_that_unpacks_to_much_is_cut() -> None:
    bomb = facts.packed("0" * 10_000_000, 20_000)
    assert len(facts.unpacked(base64.b64encode(bomb).decode())) <= 200_000
