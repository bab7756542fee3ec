"""The facts of one attempt."""

from __future__ import annotations

import pytest

from sqsjkr.attempt import Attempt
from sqsjkr.job import Job
from sqsjkr.message import Message
from sqsjkr.outcome import Ending, Exit, Outcome
from sqsjkr.runs import LONGEST_NOTED_OUTPUT, Place, Run, from_note, to_note


def an_attempt(**fields: str) -> Attempt:
    message = Message(id="m", body="{}", sent_at=1000.0, age=5.0, received_at=50.0, receive_count=2)
    attempt = Attempt(message, "a1", Place(host="ip-10-0-0-1", queue="jobs"))
    attempt.job = Job(**{"id": "m", "command": "true", "event_id": "nightly"} | fields)
    return attempt


def test_times_are_the_queues_own_however_this_hosts_clock_is_set() -> None:
    attempt = an_attempt()
    attempt.begun = 51.0
    run = attempt.run(53.0, Ending(Outcome.SUCCEEDED, exit=Exit(status=0, seconds=1.5)))
    assert (run.sent_at, run.begun_at, run.ended_at) == (1000.0, 1006.5, 1008.0)
    assert attempt.run(53.0).begun_at == 1006.0, "while it runs: since it was claimed"


def test_a_signal_is_not_an_exit_status() -> None:
    run = an_attempt().run(53.0, Ending(Outcome.ERRORED, exit=Exit(status=-9)))
    assert (run.exit_status, run.signal) == (None, 9)
    run = an_attempt().run(53.0, Ending(Outcome.ERRORED, exit=Exit(status=3)))
    assert (run.exit_status, run.signal) == (3, None)


def test_a_job_that_was_refused_has_ended_and_never_begun() -> None:
    attempt = an_attempt()
    attempt.begun = 51.0
    run = attempt.run(53.0, Ending(Outcome.EXPIRED, "an hour old"))
    assert (run.begun_at, run.ended_at, run.outcome, run.detail) == (None, 1008.0, "expired", "an hour old")


@pytest.mark.parametrize("length", [200, 201])
def test_a_command_is_kept_up_to_200_characters(length: int) -> None:
    assert len(an_attempt(command="x" * length).run(53.0).command) == 200


def test_a_note_holds_the_facts_of_a_run_and_is_bounded() -> None:
    run = Run(
        message_id="m",
        event_id="e" * 100_000,
        command="true",
        outcome="errored",
        detail="d" * 100_000,
        output="あ" * 100_000,
        failures=3,
        exit_status=1,
        owed=True,
    )
    note = to_note(run)
    assert len(note.encode()) < 8_000
    found = from_note(note)
    assert found is not None
    assert (found.message_id, found.failures, found.exit_status, found.owed) == ("m", 3, 1, True)
    assert found.output == "あ" * (LONGEST_NOTED_OUTPUT // 3)


def test_a_note_of_another_release_is_read_as_far_as_it_is_known() -> None:
    assert from_note('{"message_id": "m", "colour": "red"}') == Run(message_id="m")
    for nothing in ("", "null", "[]", "{", '{"colour": "red"}'):
        assert from_note(nothing) is None
