"""The lines of which CloudWatch makes metrics (AWS: "Specification: Embedded metric format")."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from sqsjkr import clock
from sqsjkr.app import build_worker
from sqsjkr.attempt import Attempt
from sqsjkr.config import Config
from sqsjkr.message import Message
from sqsjkr.metrics.board import Board
from sqsjkr.metrics.emf import Lines
from sqsjkr.outcome import Ending, Exit, Outcome
from sqsjkr.resources import Resources
from sqsjkr.supervision.shared_state import SharedState
from sqsjkr.telemetry.stats import Stats

NAME = {"type": "string", "minLength": 1, "maxLength": 1024}
FORMAT = {
    "type": "object",
    "required": ["_aws"],
    "properties": {
        "_aws": {
            "type": "object",
            "required": ["Timestamp", "CloudWatchMetrics"],
            "properties": {
                "Timestamp": {"type": "integer", "minimum": 10**12},
                "CloudWatchMetrics": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "required": ["Namespace", "Dimensions", "Metrics"],
                        "properties": {
                            "Namespace": NAME,
                            "Dimensions": {
                                "type": "array",
                                "minItems": 1,
                                "items": {"type": "array", "maxItems": 30, "items": NAME},
                            },
                            "Metrics": {
                                "type": "array",
                                "maxItems": 100,
                                "items": {
                                    "type": "object",
                                    "required": ["Name"],
                                    "properties": {"Name": NAME, "Unit": {"enum": ["Count", "Seconds"]}},
                                },
                            },
                        },
                    },
                },
            },
        }
    },
}
AT = 1_795_000_030.0


@pytest.fixture
async def board(tmp_path: Path) -> AsyncIterator[Board]:
    """The board of a worker that is built and does not run."""
    async with AsyncExitStack() as stack:
        config, board = Config(local=str(tmp_path), max_concurrent_num=3), Board()
        resources = Resources(config, stack)
        await resources.open()
        build_worker(config, resources, Stats(slots=3), SharedState(), board=board)
        yield board


def end(board: Board, outcome: Outcome, seconds: float = 1.0) -> None:
    attempt = Attempt(Message(id="m", body="", sent_at=0.0, age=2.0, received_at=clock.now()), "a")
    assert board.parts is not None
    ending = Ending(outcome, exit=Exit(status=0, seconds=seconds))
    board.measures.started(attempt, "true")
    board.measures.ended(attempt, ending)
    board.parts.stats.settled(attempt, ending)


def lines_of(board: Board) -> Lines:
    assert board.parts is not None
    return Lines(board.parts)


def checked(line: str) -> dict[str, Any]:
    """The line as CloudWatch reads it: every metric and dimension that it names is there, within the limits."""
    told: dict[str, Any] = json.loads(line)
    jsonschema.validate(told, FORMAT)
    [directive] = told["_aws"]["CloudWatchMetrics"]
    for metric in directive["Metrics"]:
        value = told[metric["Name"]]
        values = value if isinstance(value, list) else [value]
        assert 1 <= len(values) <= 100
        assert all(isinstance(each, int | float) for each in values)
    for dimensions in directive["Dimensions"]:
        assert all(isinstance(told[name], str) for name in dimensions)
    return told


async def test_a_line_tells_what_happened_since_the_last_one(board: Board) -> None:
    lines = lines_of(board)
    end(board, Outcome.SUCCEEDED, 0.5)
    end(board, Outcome.ERRORED, 7.25)
    end(board, Outcome.ERRORED, 9.0)
    first = checked(lines.next(AT))
    assert (first["Succeeded"], first["Interrupted"], first["Slots"], first["SlotsBusy"]) == (1, 0, 3, 0)
    assert first["JobDuration"] == [0.5, 7.25, 9.0], "of every outcome"
    assert first["JobWait"] == [pytest.approx(2.0, abs=0.5)] * 3
    assert first["_aws"]["Timestamp"] == int(AT * 1000)
    end(board, Outcome.INTERRUPTED)
    second = checked(lines.next(AT + 60))
    assert (second["Succeeded"], second["Errored"], second["Interrupted"]) == (0, 0, 1)


async def test_what_has_no_values_is_left_out(board: Board) -> None:
    told = checked(lines_of(board).next(AT))
    assert not {"JobDuration", "JobWait", "LockWait"} & told.keys()


async def test_a_busy_minute_stays_within_the_limits_of_the_format(board: Board) -> None:
    lines = lines_of(board)
    for number in range(1000):
        end(board, Outcome.SUCCEEDED, float(number))
    told = checked(lines.next(AT))
    assert told["Succeeded"] == 1000
    assert len(told["JobDuration"]) == 100
    assert 300 < sum(told["JobDuration"]) / 100 < 700, "a fair sample"


async def test_the_line_of_a_stop_has_counts_alone(board: Board) -> None:
    lines = lines_of(board)
    end(board, Outcome.SUCCEEDED)
    told = checked(lines.next(AT, gauges=False))
    assert told["Succeeded"] == 1
    assert not {"Slots", "SlotsBusy", "SlotsWanted", "WaitingForLock", "Unwell"} & told.keys()


async def test_every_metric_of_a_line_stands_in_the_documents_and_no_other(board: Board) -> None:
    lines = lines_of(board)
    end(board, Outcome.SUCCEEDED)
    board.measures.lock_waits.add(1.0)
    [directive] = checked(lines.next(AT))["_aws"]["CloudWatchMetrics"]
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "monitor-it.md").read_text()
    rows = re.findall(r"^\| (`.*?`) \| (Count|Seconds) \|", page, re.MULTILINE)
    told = {(name, unit) for names, unit in rows for name in re.findall(r"`(\w+)`", names)}
    assert told == {(metric["Name"], metric["Unit"]) for metric in directive["Metrics"]}
