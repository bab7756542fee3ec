"""What the log tells machines about the end of a job."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest

from sqsjkr import clock
from sqsjkr.attempt import Attempt
from sqsjkr.job import decode
from sqsjkr.message import Message
from sqsjkr.outcome import Ending, Exit, Outcome
from sqsjkr.telemetry.events import LOGGER
from sqsjkr.telemetry.job_log import JobLog


class Lines(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.facts: list[dict[str, Any]] = []
        self.levels: list[int] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.facts.append(record.__dict__["facts"])
        self.levels.append(record.levelno)


@pytest.fixture
def lines() -> Iterator[Lines]:
    handler = Lines()
    LOGGER.addHandler(handler)
    LOGGER.setLevel(logging.DEBUG)
    yield handler
    LOGGER.removeHandler(handler)
    LOGGER.setLevel(logging.NOTSET)


def an_attempt() -> Attempt:
    message = Message(id="m", body="", sent_at=0.0, age=5.0, received_at=clock.now(), receive_count=2, sender="AROA:me")
    attempt = Attempt(message, "mark")
    attempt.job = decode('{"command": "true", "event_id": "nightly", "lock_id": "db"}', "m")
    return attempt


@pytest.mark.parametrize(("status", "expected"), [(3, (3, None)), (-9, (None, 9)), (0, (0, None))])
def test_the_end_of_a_job_has_its_numbers_beside_the_text(
    lines: Lines, status: int, expected: tuple[int | None, int | None]
) -> None:
    end = Exit(status=status, seconds=1.25, cpu=0.5)
    JobLog().ended(an_attempt(), Ending(Outcome.ERRORED, "it ended", exit=end))
    [facts] = lines.facts
    assert (facts["exit_status"], facts["signal"]) == expected
    assert (facts["seconds"], facts["cpu_seconds"]) == (1.25, 0.5)
    assert (facts["event_id"], facts["lock_id"], facts["delivery"]) == ("nightly", "db", 2)
    assert facts["waited"] >= 3.75


def test_the_lines_of_a_job_say_who_sent_it(lines: Lines) -> None:
    log = JobLog()
    log.started(an_attempt(), "true")
    log.ended(an_attempt(), Ending(Outcome.SUCCEEDED))
    assert [facts["sender"] for facts in lines.facts] == ["AROA:me", "AROA:me"]


def test_a_job_that_waits_is_logged_at_info_once_and_at_debug_from_then_on(lines: Lines) -> None:
    log, attempt = JobLog(), an_attempt()
    for _ in range(3):
        log.ended(attempt, Ending(Outcome.LOCKED, "lock_id=db is held elsewhere"))
    assert lines.levels == [logging.INFO, logging.DEBUG, logging.DEBUG]
