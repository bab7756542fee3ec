"""How the page words values, and what becomes of numbers in a plot."""

from __future__ import annotations

import re

import pytest

from sqsjkr.outcome import Outcome
from sqsjkr.page import render
from sqsjkr.page.door import Door
from sqsjkr.page.figures import slots
from sqsjkr.page.plots import HEIGHT, WIDTH, ceiling, columns, line
from sqsjkr.page.recorder import KEPT, Point, Recorder
from sqsjkr.page.words import DASH, age, exactly, lasting, size, tone, visible
from sqsjkr.views.model import ScaleSignal


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (None, DASH),
        (0, "0s"),
        (0.004, "0s"),
        (0.25, "0.25s"),
        (9.5, "9.5s"),
        (61, "1m1s"),
        (3600, "1h"),
        (90_000, "1d1h"),
    ],
)
def test_a_duration_is_told_in_two_units_at_most(seconds: float | None, words: str) -> None:
    assert lasting(seconds) == words


def test_an_age_has_no_parts_of_a_second() -> None:
    assert [age(seconds) for seconds in (-1.0, 0.9, 4.98, 75.5)] == ["0s", "0s", "4s", "1m15s"]


def test_a_time_is_exact_and_names_its_zone() -> None:
    assert re.fullmatch(
        r"2026-11-1[78] \d\d:\d\d:\d\d\.250 [+-]\d{4}( = \d\d:\d\d:\d\d UTC)?", exactly(1_795_000_030.25)
    )


@pytest.mark.parametrize(
    ("number", "words"),
    [(None, DASH), (0, "0 bytes"), (1023, "1023 bytes"), (1536, "1.5 KiB"), (157_286_400, "150 MiB")],
)
def test_a_size_is_told_in_the_unit_in_which_it_is_short(number: int | None, words: str) -> None:
    assert size(number) == words


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("two\nlines\tand a tab", "two\nlines\tand a tab"),
        ("\x1b[31mred", r"\x1b[31mred"),
        ("txt\u202egpj.exe", r"txt\u202egpj.exe"),
        ("zero\u200bwidth\0", r"zero\u200bwidth\x00"),
        ("日本語 é", "日本語 é"),
        ("\ud800", r"\ud800"),
    ],
)
def test_what_an_eye_would_miss_or_misread_is_made_visible(text: str, shown: str) -> None:
    assert visible(text) == shown


def test_every_outcome_has_a_tone_and_a_later_releases_is_mute() -> None:
    assert {tone(outcome.label) for outcome in Outcome} == {"good", "bad", "warn", "mute"}
    assert (tone("succeeded"), tone("errored"), tone("interrupted"), tone("locked")) == ("good", "bad", "warn", "mute")
    assert tone("of-a-later-release") == "mute"


def test_what_is_put_into_a_template_is_escaped() -> None:
    assert "<script>" not in render.html("closed.html", reason="<script>alert(1)</script>")


@pytest.mark.parametrize(("value", "top"), [(0, 1), (0.3, 0.5), (1, 1), (7, 10), (20, 20), (21, 50), (1001, 2000)])
def test_an_axis_ends_at_a_round_number_above_all_values(value: float, top: float) -> None:
    assert ceiling(value) == pytest.approx(top)


def test_columns_stand_on_the_axis_on_top_of_each_other_and_within_the_plot() -> None:
    bars = columns(
        [[("good", 5.0, "five"), ("bad", 5.0, "five more")], [("good", 0.0, "none"), ("bad", 0.01, "a bit")]], top=10
    )
    assert [bar.series for bar in bars] == ["good", "bad", "bad"]
    lower, upper, small = bars
    assert lower.y + lower.height == HEIGHT
    assert upper.y + upper.height == lower.y
    assert upper.y == 0
    assert small.height >= 1, "what is there is seen"
    assert all(bar.x >= 0 and bar.x + bar.width <= WIDTH for bar in bars)
    assert lower.x == upper.x < small.x


def test_a_line_leads_from_the_left_to_the_right_edge() -> None:
    drawn = line("busy", [(0.0, 0.0), (5.0, 5.0), (10.0, 20.0), (11.0, 1.0)], left=0.0, right=10.0, top=10.0)
    assert drawn.points == "0,120 320,60 640,0", "what is above the top is drawn there, what is outside is left out"


def signal(busy: int) -> ScaleSignal:
    return ScaleSignal.of(visible=0, busy=busy, waiting=0, slots=20, workers=1)


def test_the_recorder_keeps_a_point_for_each_look_and_an_hour_of_them() -> None:
    recorder = Recorder()
    for second in range(0, 2 * int(KEPT), 2):
        recorder.note(float(second), signal(1))
    points = recorder.points
    assert len(points) <= KEPT / 4 + 1
    assert points[0].at >= points[-1].at - KEPT


def test_the_slots_are_plotted_with_the_same_numbers_as_a_table() -> None:
    plot = slots([Point(0.0, 3, 20, 5), Point(60.0, 9, 20, 30)], 60.0)
    assert (plot.top, len(plot.lines)) == ("50", 3)
    assert [row[1:] for row in plot.rows] == [("9", "30", "20"), ("3", "5", "20")], "the newest first"
    assert slots([], 60.0).is_empty


def test_the_token_is_long_enough_to_be_guessed_by_nobody() -> None:
    assert len(Door(1).token) >= 40
