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
from sqsjkr.runs import Holder
from sqsjkr.telemetry.events import LOGGER
from sqsjkr.telemetry.job_log import JobLog


class Lines(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.facts: list[dict[str, Any]] = []
        self.levels: list[int] = []
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())
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


BACKUP = Holder(event_id="backup", message_id="0123456789", host="host-1", since=1e9, session="s")


def an_attempt() -> Attempt:
    message = Message(
        id="c0ffee00-77", body="", sent_at=0.0, age=5.0, received_at=clock.now(), receive_count=2, sender="AROA:me"
    )
    attempt = Attempt(message, "mark")
    attempt.job = decode('{"command": "true", "event_id": "nightly", "lock_id": "db"}', "c0ffee00-77")
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
        log.ended(attempt, Ending(Outcome.LOCKED, f"lock_id=db is held by {BACKUP}", holder=BACKUP))
    assert lines.levels == [logging.INFO, logging.DEBUG, logging.DEBUG]


def test_a_new_holder_of_the_lock_is_logged_at_info_but_not_more_than_once_a_minute(
    lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, attempt, now = JobLog(), an_attempt(), clock.now()
    for seconds, event_id in ((0.0, "a"), (59.0, "b"), (61.0, "b"), (122.0, "b"), (183.0, "c")):
        monkeypatch.setattr(clock, "now", lambda seconds=seconds: now + seconds)
        log.ended(attempt, Ending(Outcome.LOCKED, "it is held", holder=Holder(event_id=event_id)))
    assert lines.levels == [logging.INFO, logging.DEBUG, logging.INFO, logging.DEBUG, logging.INFO]


def test_a_job_that_waits_names_the_holder_of_its_lock(lines: Lines) -> None:
    JobLog().ended(an_attempt(), Ending(Outcome.LOCKED, f"lock_id=db is held by {BACKUP}", holder=BACKUP))
    [text], [facts] = lines.texts, lines.facts
    assert text.startswith(
        "nightly[c0ffee00]: lock_id=db is held by backup[01234567] on host-1 (session s) since 2001-09-09T"
    )
    assert (facts["lock_id"], facts["delivery"]) == ("db", 2)
    assert (facts["holder_event_id"], facts["holder_message_id"]) == ("backup", "0123456789")
    assert (facts["holder_host"], facts["holder_session"]) == ("host-1", "s")
    assert facts["holder_since"] in text


def test_an_end_without_a_start_names_the_whole_message(lines: Lines) -> None:
    JobLog().ended(an_attempt(), Ending(Outcome.EXPIRED, "too old"))
    assert lines.texts == ["nightly[c0ffee00]: expired too old (message c0ffee00-77)"]
