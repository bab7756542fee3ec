from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sqsjkr.backends.aws.server_clock import ServerClock

offsets = st.floats(-1e9, 1e9)
trips = st.lists(st.tuples(st.floats(0, 5), st.floats(0, 0.2), st.floats(0, 0.2)), min_size=1, max_size=60)


def exchange(clock: ServerClock, offset: float, sent: float, there: float, back: float) -> float:
    """One request to a server that is ``offset`` ahead; the moment its answer arrived."""
    received = sent + there + back
    clock.observe(math.floor(sent + there + offset), sent=sent, received=received)
    return received


@given(offsets, trips)
def test_the_offset_is_never_further_off_than_half_a_second_and_a_trip(
    offset: float, trips: list[tuple[float, float, float]]
) -> None:
    clock, now = ServerClock(), 0.0
    for pause, there, back in trips:
        now = exchange(clock, offset, now + pause, there, back)
        assert clock.offset(monotonic=now, wall=now) == pytest.approx(offset, abs=0.75)


@given(offsets, st.floats(0.001, 0.02))
def test_answers_on_both_sides_of_a_tick_narrow_the_offset_to_a_trip(offset: float, trip: float) -> None:
    clock, now = ServerClock(), 0.0
    while now < 3:
        now = exchange(clock, offset, now + 0.01, trip / 2, trip / 2)
    assert clock.offset(monotonic=now, wall=now) == pytest.approx(offset, abs=0.01 + trip)


@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6))
def test_a_step_of_the_servers_clock_is_learnt_anew(before: float, after: float) -> None:
    clock, now = ServerClock(), 0.0
    for offset in (before, after):
        end = now + 5
        while now < end:
            now = exchange(clock, offset, now + 0.01, 0.005, 0.005)
        assert clock.offset(monotonic=now, wall=now) == pytest.approx(offset, abs=0.03)


@given(offsets, st.floats(-1e6, 1e6))
def test_a_step_of_the_wall_clock_counts_at_once(offset: float, step: float) -> None:
    clock = ServerClock()
    now = exchange(clock, offset, 0.0, 0.01, 0.01)
    before = clock.offset(monotonic=now, wall=now)
    assert clock.offset(monotonic=now, wall=now + step) == pytest.approx(before - step, abs=1e-5)


def test_a_long_poll_does_not_count_its_wait_as_an_offset() -> None:
    clock = ServerClock()
    exchange(clock, 0.0, 0.0, 20.0, 0.01)
    assert clock.offset(monotonic=20.0, wall=20.0) == pytest.approx(0, abs=0.51)


def test_a_clock_that_drifts_away_is_followed() -> None:
    clock, now = ServerClock(), 0.0
    while now < 3600:
        now = exchange(clock, now * 5e-5, now + 0.97, 0.005, 0.005)
    assert clock.offset(monotonic=now, wall=now) == pytest.approx(now * 5e-5, abs=0.05)


def test_an_unknown_offset_is_zero() -> None:
    assert ServerClock().offset(monotonic=1.0, wall=1000.0) == 0.0
