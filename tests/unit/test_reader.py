"""What counts for a job: the message over the operator's sections over what is built in."""

from __future__ import annotations

import json
from fnmatch import fnmatchcase
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from sqsjkr.attempt import Attempt
from sqsjkr.config import Config
from sqsjkr.message import Message
from sqsjkr.outcome import Outcome
from sqsjkr.plan import Plan, Section
from sqsjkr.reader import Reader


class Everything:
    """An authority that allows everything."""

    def judge(self, attempt: Attempt) -> None:
        pass


REQUIRED: dict[str, Any] = {"account_id": "1", "region": "eu-west-1", "queue_name": "q"}


def sections(**jobs: Any) -> tuple[Section, ...]:
    return Config(**REQUIRED, **jobs).jobs


def read(reader: Reader, **fields: Any) -> Attempt:
    body = json.dumps({"command": "make report", **fields})
    attempt = Attempt(Message(id="m-1", body=body, sent_at=0.0, age=0.0, received_at=0.0), "mark")
    assert reader.read(attempt) is None
    return attempt


def job(reader: Reader, **fields: Any) -> Any:
    return read(reader, **fields).job


NIGHTLY = sections(jobs={"nightly-*": {"life_time": "6h"}, "*": {"life_time": "1h", "lock_id": "all"}})


def test_a_field_that_the_message_leaves_out_is_the_first_matching_sections() -> None:
    reader = Reader(NIGHTLY)
    assert job(reader, event_id="nightly-report").life_time == 21_600
    assert job(reader, event_id="nightly-report").lock_id == "all", (
        "a key that the first section lacks is the next one's"
    )
    assert job(reader, event_id="hourly").life_time == 3600
    assert job(Reader(), event_id="nightly-report").life_time == 0


def test_what_the_message_says_comes_first() -> None:
    reader = Reader(NIGHTLY)
    assert job(reader, event_id="nightly-report", life_time=5).life_time == 5
    assert job(reader, event_id="nightly-report", life_time=0).life_time == 0, "for ever, and it says so"
    assert job(reader, event_id="nightly-report", lock_id="mine").lock_id == "mine"


def test_null_and_an_empty_text_say_nothing() -> None:
    found = job(Reader(NIGHTLY), event_id="nightly-report", life_time=None, lock_id="")
    assert (found.life_time, found.lock_id) == (21_600, "all")


def test_a_job_without_an_event_id_goes_by_its_command() -> None:
    reader = Reader(sections(jobs={"make *": {"lock_id": "make"}, "m-*": {"lock_id": "by the message's id"}}))
    assert job(reader).lock_id == "make"
    assert job(reader, event_id="").lock_id == "make"
    assert job(reader, event_id="nightly").lock_id == ""


def test_a_job_with_a_name_goes_by_it_whatever_its_event_id_is() -> None:
    reader = Reader(sections(jobs={"reindex": {"lock_id": "index"}}), authority=Everything())
    attempt = Attempt(
        Message(id="m", body='{"job": "reindex", "event_id": "x"}', sent_at=0.0, age=0.0, received_at=0.0), "mark"
    )
    assert reader.read(attempt) is None
    assert attempt.job is not None
    assert attempt.job.lock_id == "index"


def test_upper_and_lower_case_differ_and_a_newline_is_a_character() -> None:
    reader = Reader(sections(jobs={"Nightly*": {"lock_id": "yes"}}))
    assert job(reader, event_id="nightly").lock_id == ""
    assert job(reader, event_id="Nightly\nreport").lock_id == "yes"


@given(pattern=st.text("ab*?[]!-", max_size=6), name=st.text("ab-", max_size=6))
def test_a_pattern_means_what_fnmatch_says(pattern: str, name: str) -> None:
    assert Section(pattern=pattern).matches(name) == fnmatchcase(name, pattern)


def test_the_wrapper_is_the_first_matching_sections_or_else_the_one_for_all() -> None:
    every = sections(
        jobs={"heavy-*": {"wrapper": ["nice", "-n", "19"]}, "bare": {"wrapper": []}, "h*": {"lock_id": "h"}}
    )
    reader = Reader(every, plan=Plan(wrapper=("nice",)))
    assert read(reader, event_id="heavy-1").plan.wrapper == ("nice", "-n", "19")
    assert read(reader, event_id="bare").plan.wrapper == ()
    assert read(reader, event_id="hourly").plan.wrapper == ("nice",)


def test_a_plan_is_an_argv_behind_its_wrapper() -> None:
    assert Plan().command_line("echo é") == (b"sh", b"-c", "echo é".encode())
    assert Plan(wrapper=("nice", "-n", "1")).command_line("true") == (b"nice", b"-n", b"1", b"sh", b"-c", b"true")
    assert Plan(argv=("/bin/true", "x")).command_line("ignored") == (b"/bin/true", b"x")


def test_a_body_that_is_no_job_is_invalid_whatever_the_sections_say() -> None:
    attempt = Attempt(Message(id="m", body="{}", sent_at=0.0, age=0.0, received_at=0.0), "mark")
    ending = Reader(NIGHTLY).read(attempt)
    assert ending is not None
    assert ending.outcome is Outcome.INVALID
    assert attempt.job is None
