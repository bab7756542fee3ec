from __future__ import annotations

import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sqsjkr import durations

# A busy machine is no failure: the first draw of a text builds a table of all characters.
calmly = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
GO_LIMIT_NS = 2**63 - 1


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("+0", 0),
        ("-0", 0),
        ("0s", 0),
        ("5s", 5),
        ("+5s", 5),
        ("-5m", -300),
        (".5s", 0.5),
        ("5.s", 5),
        ("1.5s", 1.5),
        ("1m", 60),
        ("1h30m", 5400),
        ("30m1h", 5400),
        ("1h1h", 7200),
        ("1h2m3s4ms5us6ns", 3723.004005006),
        ("500ms", 0.5),
        ("1us", 1e-6),
        ("1\u00b5s", 1e-6),
        ("1\u03bcs", 1e-6),
        ("1ns", 1e-9),
        ("0.9ns", 0),
        ("0.3333333333333333333h", 1200),
        ("0.100000000000000000000h", 360),
        ("0.830103483285477580700h", 2988.372539827),
        ("9007199254.740993s", 9007199254.740993),
        ("2562047h47m16.854775807s", GO_LIMIT_NS / 1e9),
        ("-9223372036854775808ns", -(2**63) / 1e9),
        ("0" * 5000 + "1s", 1),
        ("0." + "0" * 5000 + "1s", 0),
        ("0." + "3" * 5000 + "s", 0.333333333),
    ],
)
def test_a_duration_is_what_go_takes_it_for(text: str, seconds: float) -> None:
    assert durations.parse(text) == seconds


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no number"),
        ("-", "no number"),
        ("+", "no number"),
        (".", "no number"),
        (".s", "no number"),
        ("s", "no number"),
        ("--5s", "no number"),
        ("5s-3s", 'unknown unit "s-"'),
        (" 5s", "no number"),
        ("5s ", 'unknown unit "s "'),
        ("60", "missing unit"),
        ("00", "missing unit"),
        ("1.5", "missing unit"),
        ("1.5.5s", "missing unit"),
        ("1d", 'unknown unit "d"'),
        ("1S", 'unknown unit "S"'),
        ("1m\n", r'unknown unit "m\n"'),
        ("1h30", "missing unit"),
        ("1" + "x" * 100_000, 'unknown unit "xxxxxxxxxxxx"'),
        ("\u0661s", "no number"),
        ("9223372037s", "longer than 292 years"),
        ("9223372036854775808ns", "longer than 292 years"),
        ("-9223372036854775809ns", "longer than 292 years"),
        ("2562047h47m16.854775808s", "longer than 292 years"),
        ("9" * 10_000 + "s", "longer than 292 years"),
    ],
)
def test_what_go_refuses_is_refused_with_its_reason(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=rf"^{re.escape(reason)}$"):
        durations.parse(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (-0.0, "0s"),
        (1e-9, "1ns"),
        (1.1e-6, "1.1\u00b5s"),
        (2.2e-3, "2.2ms"),
        (0.5, "500ms"),
        (0.999999999, "999.999999ms"),
        (1, "1s"),
        (1.5, "1.5s"),
        (60, "1m0s"),
        (90, "1m30s"),
        (300.001, "5m0.001s"),
        (3600, "1h0m0s"),
        (5400, "1h30m0s"),
        (86400, "24h0m0s"),
        (-300, "-5m0s"),
        (-0.5, "-500ms"),
        (durations.LONGEST, "2562047h47m16s"),
        (float("inf"), "2562047h47m16.854775807s"),
        (float("-inf"), "-2562047h47m16.854775807s"),
    ],
)
def test_a_duration_is_printed_as_go_prints_it(seconds: float, text: str) -> None:
    assert durations.format(seconds) == text


@calmly
@given(st.integers(-GO_LIMIT_NS, GO_LIMIT_NS))
def test_what_is_printed_is_read_back_as_the_same_seconds(ns: int) -> None:
    seconds = ns / 10**9
    assert durations.parse(durations.format(seconds)) == seconds


@calmly
@given(st.text() | st.text("0123456789.-+nuµμmsh"))
def test_any_text_is_a_duration_or_a_value_error_on_one_line(text: str) -> None:
    said, seconds = "", 0.0
    try:
        seconds = durations.parse(text)
    except ValueError as error:
        said = str(error)
    assert len(said.splitlines()) <= 1
    assert abs(seconds) <= GO_LIMIT_NS / 10**9


@pytest.mark.parametrize(
    ("text", "moment"),
    [("2h", 2_800.0), ("1m30s", 9_910.0), ("0", 10_000.0), ("1970-01-01T01:00:00+00:00", 3_600.0)],
)
def test_a_moment_is_so_long_ago_or_a_date(text: str, moment: float) -> None:
    assert durations.since(text, 10_000.0) == moment
    assert durations.since("7d", 7 * 86_400.0) == 0.0


@pytest.mark.parametrize("text", ["", "d", "yesterday", "2026-13-01", "-1d", "1.5d", "\u0663d", "9" * 400 + "h"])
def test_anything_else_is_no_moment(text: str) -> None:
    with pytest.raises(ValueError, match="expected a duration such as 2h or 7d, or a time such as 2026-11-21T03:00"):
        durations.since(text, 0.0)


def test_more_days_than_there_are_dates_are_as_far_back_as_dates_go() -> None:
    assert durations.since("9" * 30 + "d", 0.0) == -86_400.0 * 100_000
