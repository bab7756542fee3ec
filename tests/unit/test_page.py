"""How the page words values, and what becomes of numbers in a plot."""

from __future__ import annotations

import re

import pytest

from sqsjkr.outcome import Outcome
from sqsjkr.page import render, telling
from sqsjkr.page.contents import found
from sqsjkr.page.door import Door
from sqsjkr.page.figures import durations, endings, slots, summary, times, waits
from sqsjkr.page.plots import HEIGHT, WIDTH, ceiling, ceiling_of_time, columns, line
from sqsjkr.page.recorder import KEPT, Point, Recorder
from sqsjkr.page.view import command
from sqsjkr.page.words import DASH, age, exactly, lasting, size, tone, visible
from sqsjkr.runs import Run
from sqsjkr.views.model import JobStory, Life, PastAttempt, ScaleSignal, State, Waiting, WorkerView
from sqsjkr.views.story import Told


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


@pytest.mark.parametrize(
    ("seconds", "top"),
    [(0, "0.01s"), (0.3, "0.5s"), (8, "10s"), (45, "1m"), (340, "10m"), (3000, "1h"), (9000, "4h"), (200_000, "5d")],
)
def test_an_axis_of_time_ends_at_a_duration_that_reads_well(seconds: float, top: str) -> None:
    assert lasting(ceiling_of_time(seconds)) == top


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


def ended(number: int, outcome: str = "succeeded", *, at: float, seconds: float = 2.0, waited: float = 1.0) -> Run:
    begun_at = at - seconds
    return Run(
        message_id=str(number),
        outcome=outcome,
        ended_at=at,
        begun_at=begun_at,
        sent_at=begun_at - waited,
        seconds=seconds,
    )


NOW = 1e9
RUNS = [
    ended(4, "errored", at=NOW - 1, seconds=8.0),
    ended(3, at=NOW - 61),
    ended(2, at=NOW - 62, waited=3.0),
    ended(1, at=NOW - 7200),
]
"""The newest first."""


def test_endings_are_counted_by_minute_and_outcome_over_the_last_hour() -> None:
    plot = endings(RUNS, NOW)
    assert plot.headings == ("minute", "succeeded", "errored")
    assert [row[1:] for row in plot.rows] == [("0", "1"), ("2", "0")], "what is older than an hour is left out"
    assert {bar.series for bar in plot.bars} == {"good", "bad"}
    assert endings([], NOW).is_empty


def test_waits_and_durations_are_medians_of_a_minute_and_a_single_minute_is_seen() -> None:
    plot = times(RUNS, NOW)
    assert [row[1:] for row in plot.rows] == [("1s", "8s"), ("2s", "2s")]
    [waited, _] = times(RUNS[:1], NOW).lines
    assert len(waited.points.split()) == 2, "a line of its own, not a point that nobody sees"


def test_the_runs_of_an_event_are_plotted_from_the_oldest_to_the_newest() -> None:
    took, waited = durations(RUNS), waits(RUNS)
    assert [bar.series for bar in took.bars] == ["good", "good", "good", "bad"]
    assert (took.top, waited.top) == ("10s", "5s")
    assert [row[1] for row in took.rows] == ["8s", "2s", "2s", "2s"], "the newest first"
    unknown = [Run(message_id="1", outcome="expired", ended_at=NOW)]
    assert durations(unknown).is_empty
    assert waits(unknown).is_empty


@pytest.mark.parametrize(
    ("runs", "text"),
    [
        ([], "No run of it is known."),
        (RUNS, "3 of the last 4 succeeded; usually it takes 2s."),
        (RUNS[1:], "3 of the last 3 succeeded; usually it takes 2s."),
        ([RUNS[0]] * 3, "0 of the last 3 succeeded, the newest 3 in a row: errored."),
    ],
)
def test_an_event_is_summed_up_in_a_sentence(runs: list[Run], text: str) -> None:
    assert summary(runs) == text


def test_a_name_that_looks_like_an_option_stays_a_name_in_the_command_to_copy() -> None:
    assert command("explain", name="--conf=/tmp/evil").line(["--local", "s"]) == (
        "sqsjkr explain --local s -- --conf=/tmp/evil"
    )
    assert command("runs", event="-x; rm -rf /", host="").line([]) == "sqsjkr runs '--event=-x; rm -rf /'"


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("", "/"),
        (" 5FEA7756-0ea4-451a-a703-a558b933e274 ", "/run?id=5fea7756-0ea4-451a-a703-a558b933e274"),
        ("//evil.example/?a=b&c", "/event?name=%2F%2Fevil.example%2F%3Fa%3Db%26c"),
    ],
)
def test_what_is_looked_for_is_a_message_or_else_an_event(text: str, address: str) -> None:
    assert found(text) == address


WAITING = Waiting(
    lock_id="db",
    waiting=1,
    oldest_message_id="m",
    oldest_at=NOW - 5,
    queue="q",
    host="b",
    worker="w",
    held_by_host="a",
    held_by_event_id="index",
)


@pytest.mark.parametrize(
    ("told", "last", "label", "dead"),
    [
        (
            Told(story=JobStory(message_id="m", state=State.ENDED, outcome="invalid", ended_at=NOW), at=NOW),
            "Its message is on the dead-letter queue.",
            "invalid",
            True,
        ),
        (
            Told(story=JobStory(message_id="m", state=State.RUNNING, began_at=NOW, host="a"), at=NOW, stop="alice"),
            "Its end is ordered by alice.",
            "running",
            False,
        ),
        (
            Told(story=JobStory(message_id="m", state=State.WAITING), at=NOW, waiting=WAITING),
            "since then it waits for lock db, held by index on a; worker w on b has it",
            "waiting",
            False,
        ),
        (
            Told(story=JobStory(message_id="m", state=State.WAITING, sent_at=NOW - 10), at=NOW, due_seconds=30.0),
            "It runs again in 20s.",
            "waiting",
            False,
        ),
        (Told(story=JobStory(message_id="m", state=State.UNKNOWN), at=NOW), telling.UNKNOWN[-1], "unknown", True),
    ],
)
def test_a_story_ends_with_what_follows(told: Told, last: str, label: str, dead: bool) -> None:
    assert telling.lines(told)[-1].text == last
    assert telling.state(told)[0] == label
    assert telling.may_be_dead(told) is dead


def test_the_job_of_a_silent_worker_is_said_to_run_again_if_that_one_is_dead() -> None:
    worker = WorkerView(
        worker="w",
        queue="q",
        host="a",
        pid=1,
        version="2",
        started_at=NOW - 99,
        life=Life.SILENT,
        slots=1,
        busy=1,
        ready=0,
        waiting=0,
        last_heartbeat_at=NOW - 20,
    )
    told = Told(story=JobStory(message_id="m", state=State.RUNNING, began_at=NOW - 30), at=NOW, worker=worker)
    assert telling.state(told) == ("its worker is silent", "bad")
    assert "another one runs the job from its beginning" in telling.lines(told)[-2].text


def test_an_attempt_that_was_cut_off_stands_before_the_newest_one() -> None:
    earlier = PastAttempt(host="a", began_at=NOW - 9, ended_at=NOW - 6, outcome="interrupted", detail="stop")
    story = JobStory(message_id="m", state=State.RUNNING, began_at=NOW, host="b", attempts=(earlier,))
    texts = [each.text for each in telling.lines(Told(story=story, at=NOW))]
    assert texts == ["attempt 1 on a: interrupted after 3s: stop", "attempt 2 began on b", "It runs."]


def test_the_token_is_long_enough_to_be_guessed_by_nobody() -> None:
    assert len(Door(1).token) >= 40
