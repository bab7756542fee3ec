"""How the verbs show values: as text that no terminal obeys, as JSON, as times for eyes."""

from __future__ import annotations

import argparse
import json
import time
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sqsjkr.cli import explain
from sqsjkr.cli.options import add_since, add_watch
from sqsjkr.cli.showing import json_line, safe
from sqsjkr.views.model import JobStory, Life, State, WorkerView, lasting
from sqsjkr.views.story import Told


@given(st.text())
def test_nothing_that_a_terminal_could_obey_is_left(text: str) -> None:
    assert safe(text).isprintable()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain \u2713 \u65e5\u672c", "plain \u2713 \u65e5\u672c"),
        ("\x1b[2J", r"\x1b[2J"),
        ("a\nb\tc", r"a\nb\tc"),
        ("\u202egnp", r"\u202egnp"),
        ("\ud800", r"\ud800"),
        ("\x9b31m", r"\x9b31m"),
    ],
)
def test_what_is_escaped_stays_readable(text: str, shown: str) -> None:
    assert safe(text) == shown


@given(st.dictionaries(st.text(), st.text() | st.integers() | st.floats(allow_nan=False) | st.none()))
def test_json_is_ascii_on_one_line(value: dict[str, object]) -> None:
    line = json_line(value)
    assert line.isascii()
    assert line.isprintable()
    assert set(json.loads(line)) == set(value)


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (-1, "0s"),
        (0.4, "0s"),
        (42, "42s"),
        (60, "1m"),
        (192, "3m12s"),
        (11_520, "3h12m"),
        (3600, "1h"),
        (352_800, "4d2h"),
    ],
)
def test_a_duration_has_two_units_at_most(seconds: float, shown: str) -> None:
    assert lasting(seconds) == shown


def since(text: str, now: float) -> float:
    parser = argparse.ArgumentParser(exit_on_error=False)
    add_since(parser, "24h")
    at: float = parser.parse_args(["--since", text]).since(now)
    return at


@pytest.mark.parametrize(("text", "ago"), [("2h", 7200), ("7d", 604_800), ("1h30m", 5400), ("90s", 90), ("0", 0)])
def test_since_takes_a_duration(text: str, ago: float) -> None:
    assert since(text, 1e9) == 1e9 - ago


def test_since_takes_a_time_in_any_zone() -> None:
    at = datetime(2026, 11, 21, 3, 0, tzinfo=UTC).timestamp()
    assert since("2026-11-21T03:00:00Z", 0.0) == at
    assert since("2026-11-21T12:00+09:00", 0.0) == at
    assert since("2026-11-21T03:00", 0.0) == time.mktime((2026, 11, 21, 3, 0, 0, 0, 0, -1))


@pytest.mark.parametrize("text", ["yesterday", "2h ago", "-", "d", "2026-13-01"])
def test_since_refuses_anything_else(text: str) -> None:
    with pytest.raises(argparse.ArgumentError, match="expected a duration such as 2h or 7d, or a time"):
        since(text, 0.0)


@pytest.mark.parametrize(("text", "seconds"), [("5", 5.0), ("1m", 60.0), ("1.5", 1.5)])
def test_watch_takes_seconds_or_a_duration(text: str, seconds: float) -> None:
    parser = argparse.ArgumentParser()
    add_watch(parser)
    assert parser.parse_args(["--watch", text]).watch == seconds
    assert parser.parse_args(["--watch"]).watch == 5.0


def shown(output: str, printed: int) -> list[str]:
    """What explain shows of an output."""
    story = JobStory(
        message_id="m", state=State.ENDED, outcome="errored", host="host-1", output=output, printed_bytes=printed
    )
    lines = explain._lines(Told(story=story, at=0.0))
    start = next(n for n, line in enumerate(lines) if line.startswith("output"))
    return [line[11:] for line in lines[start:]]


def test_an_output_that_was_kept_whole_is_shown_whole() -> None:
    assert shown("a\tb\n\x1b[2Jc\n", 9) == ["a       b", r"\x1b[2Jc"]


def test_the_end_of_a_long_output_is_shown_and_where_the_rest_is() -> None:
    lines = shown("".join(f"line {n}\n" for n in range(3000)), 10_000_000)
    assert lines[:-1] == [f"line {n}" for n in range(2960, 3000)]
    rest = "all of it in the log of its worker: grep m, on host-1"
    assert lines[-1] == f"(the end of 10000000 bytes; more with --json, {rest})"
    assert shown("the end\n", 5000)[1:] == [f"(the end of 5000 bytes; {rest})"]
    line, _ = shown("x" * 60_000, 60_000)
    assert len(line) < 1100


@pytest.mark.parametrize(
    ("life", "head"),
    [
        (Life.BUSY, "message m: it runs"),
        (Life.IDLE, "message m: it runs"),  # it has taken the job since its last heartbeat
        (Life.SILENT, "message m: its worker is silent"),
        (Life.LOST, "message m: its worker is lost"),
    ],
)
def test_a_job_runs_unless_its_worker_may_be_dead(life: Life, head: str) -> None:
    worker = WorkerView(
        worker="aaaaaaaa",
        queue="jobs",
        host="host-1",
        pid=1,
        version="1",
        started_at=0.0,
        life=life,
        slots=1,
        busy=1,
        ready=0,
        waiting=0,
        last_heartbeat_at=10.0,
    )
    lines = explain._lines(Told(story=JobStory(message_id="m", state=State.RUNNING), at=60.0, worker=worker))
    assert lines[0] == head
    assert any("for 50s: if it is dead" in line for line in lines) is ("runs" not in head)
