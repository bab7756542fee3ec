"""Which endings are kept, and with which facts."""

from __future__ import annotations

from typing import Any

import pytest

from sqsjkr.attempt import Attempt
from sqsjkr.job import Job
from sqsjkr.message import Message
from sqsjkr.outcome import Ending, Exit, Outcome, Settlement
from sqsjkr.runs import Place, Run
from sqsjkr.telemetry.history import History, HistoryStore, Keep, Rules, last_line


class Notebook(HistoryStore):
    def __init__(self, **rules: Keep) -> None:
        super().__init__()
        self.rules = Rules(**rules)
        self.kept: list[tuple[str, Run, dict[str, bool]]] = []

    def ended(self, run: Run, *, claimed: bool = True, confirmed: bool = False) -> None:
        self.kept.append(("ended", run, {"claimed": claimed, "confirmed": confirmed}))

    def went_back(self, run: Run) -> None:
        self.kept.append(("went back", run, {}))

    def tried(self, run: Run) -> None:
        self.kept.append(("tried", run, {}))

    async def close(self) -> None:
        pass


def an_attempt() -> Attempt:
    message = Message(id="m", body="{}", sent_at=1000.0, age=0.0, received_at=0.0)
    attempt = Attempt(message, "a1", Place(host="ip-10-0-0-1", queue="jobs"))
    attempt.job = Job(id="m", command="true", event_id="nightly", env={"TOKEN": "secret"})
    attempt.begun = 1.0
    return attempt


def heard(notebook: Notebook, ending: Ending, **noted: Any) -> list[tuple[str, Run, dict[str, bool]]]:
    attempt = an_attempt()
    for name, value in noted.items():
        setattr(attempt, name, value)
    History(notebook, now=lambda: 3.0).ended(attempt, ending)
    return notebook.kept


@pytest.mark.parametrize(
    "outcome",
    [outcome for outcome in Outcome if outcome.settlement is Settlement.DELETE and outcome is not Outcome.DUPLICATE],
)
def test_every_end_of_a_job_is_kept(outcome: Outcome) -> None:
    ((what, run, _),) = heard(Notebook(), Ending(outcome))
    assert (what, run.outcome, run.host, run.event_id) == ("ended", outcome.label, "ip-10-0-0-1", "nightly")


@pytest.mark.parametrize("outcome", [Outcome.INVALID, Outcome.REFUSED, Outcome.UNSTARTABLE, Outcome.DEAD])
def test_what_is_buried_has_ended(outcome: Outcome) -> None:
    assert [what for what, _, _ in heard(Notebook(), Ending(outcome))] == ["ended"]


@pytest.mark.parametrize(
    "outcome",
    [
        Outcome.DUPLICATE,
        Outcome.LOCKED,
        Outcome.BUSY,
        Outcome.RETURNED,
        Outcome.EARLY,
        Outcome.UNANSWERED,
    ],
)
def test_what_is_no_end_of_a_job_is_not_kept(outcome: Outcome) -> None:
    assert heard(Notebook(), Ending(outcome)) == []


@pytest.mark.parametrize("outcome", [Outcome.RETRIED, Outcome.DEFERRED])
def test_a_job_that_is_tried_again_is_kept_by_its_name(outcome: Outcome) -> None:
    ((what, run, _),) = heard(Notebook(), Ending(outcome, exit=Exit(status=1, seconds=1.0)))
    assert (what, run.event_id, run.outcome) == ("tried", "nightly", outcome.label)


def test_an_attempt_that_was_cut_off_is_kept_and_one_that_never_began_is_not() -> None:
    assert heard(Notebook(), Ending(Outcome.INTERRUPTED)) == []
    ((what, run, _),) = heard(Notebook(), Ending(Outcome.INTERRUPTED, exit=Exit(status=-15, seconds=1.0)))
    assert (what, run.begun_at, run.ended_at) == ("went back", 1002.0, 1003.0)


def test_an_end_that_is_told_by_a_later_delivery_is_kept_once() -> None:
    assert heard(Notebook(), Ending(Outcome.ERRORED), owed=Run(message_id="m")) == []


def test_where_a_claim_cannot_carry_the_facts_the_history_is_told() -> None:
    ((_, _, with_claim),) = heard(Notebook(), Ending(Outcome.SUCCEEDED))
    ((_, _, started_first),) = heard(Notebook(), Ending(Outcome.ERRORED), deleted=True)
    ((_, _, unread),) = heard(Notebook(), Ending(Outcome.INVALID), begun=None)
    assert with_claim == {"claimed": True, "confirmed": False}
    assert started_first == {"claimed": True, "confirmed": True}
    assert unread == {"claimed": False, "confirmed": False}


def test_what_is_not_to_be_kept_does_not_come_that_far() -> None:
    assert heard(Notebook(runs=Keep.NONE), Ending(Outcome.ERRORED)) == []
    assert heard(Notebook(runs=Keep.FAILURES), Ending(Outcome.SUCCEEDED)) == []
    assert len(heard(Notebook(runs=Keep.FAILURES), Ending(Outcome.ERRORED))) == 1


def test_no_value_of_a_variable_and_no_body_is_a_fact() -> None:
    ((_, run, _),) = heard(Notebook(), Ending(Outcome.SUCCEEDED))
    assert "secret" not in repr(run)
    assert "{}" not in repr(run)


@pytest.mark.parametrize(
    ("output", "line"),
    [
        ("", ""),
        ("\n \n", ""),
        ("a\nb\n\n", "b"),
        ("x" * 500, "x" * 80),
        ("  padded  \r\n", "padded"),
        ("é\n" * 1000, "é"),
    ],
)
def test_a_list_shows_the_last_line_that_is_not_empty(output: str, line: str) -> None:
    assert last_line(output) == line
