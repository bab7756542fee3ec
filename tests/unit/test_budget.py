"""The lease budget: which durations fit each other."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sqsjkr.leases.budget import STANDARD, LeaseBudget


@pytest.mark.parametrize(
    ("durations", "what"),
    [
        ({"kill_patience": 9.8}, "trusted + tick + kill_patience"),
        ({"trusted": 26.0}, "trusted + tick + kill_patience"),
        ({"guard_margin": 9.5}, "trusted + guard_margin + guard_look"),
        ({"guard_silence": 20.0}, "guard_silence + guard_look"),
        ({"backstop_silence": 29.0}, "backstop_silence + backstop_look"),
        ({"heartbeat_every": 20.0}, "heartbeat_every"),
        ({"longest_stay": 30.0}, "lease"),
        ({"extend_after": 10.0}, "extend_after"),
        ({"extend_every": 30.0}, "extend_every"),
    ],
)
def test_durations_under_which_two_jobs_could_overlap_are_refused(durations: dict[str, float], what: str) -> None:
    with pytest.raises(ValueError, match=rf"lease budget: {what.replace('+', '.')} = .* s, expected less than"):
        LeaseBudget(**durations)
    with pytest.raises(ValueError, match="lease budget"):
        STANDARD.but(**durations)


@given(st.floats(0.1, 3.0))
def test_a_scaled_budget_fits_as_the_standard_one_does(factor: float) -> None:
    scaled = STANDARD.scaled(factor)
    assert scaled.lease == STANDARD.lease * factor
    assert scaled.hiding.is_integer()


@given(st.floats(0.1, 3.0))
def test_a_heartbeat_that_fails_is_tried_as_often_on_a_scaled_budget(factor: float) -> None:
    scaled = STANDARD.scaled(factor)
    assert (scaled.trusted - scaled.heartbeat_every) / scaled.heartbeat_look == pytest.approx(15)


def test_a_release_in_doubt_is_sent_again_until_no_request_can_arrive_any_more() -> None:
    assert sum(STANDARD.echoes) > 300.0, "AWS refuses a signature that is older than five minutes"
