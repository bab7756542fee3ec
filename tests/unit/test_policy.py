"""What becomes of a job whose command has ended."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from sqsjkr.job import Job, Verb
from sqsjkr.outcome import Ending, Exit, NotStarted, Outcome, Reason, Settlement
from sqsjkr.policy import Limits, Past, exhausted, judge, retry_pause

DAY = 86_400.0
AGAIN = {Outcome.RETRIED, Outcome.DEFERRED}
FAILED = Exit(status=1, seconds=0.2, cpu=0.01, tail="no such file")


def a_job(**fields: Any) -> Job:
    on_exit = {end: Verb(word) for end, word in fields.pop("on_exit", {}).items()}
    return Job(id="m", command="true", event_id="e", on_exit=on_exit, **fields)


def judged(job: Job, exit: Exit | NotStarted = FAILED, *, jitter: float = 0.0, **facts: Any) -> Ending:  # noqa: A002
    limits = Limits(retention=facts.pop("retention", 4 * DAY), can_bury=facts.pop("can_bury", True))
    return judge(job, exit, Past(**facts), limits, jitter=jitter)


# --- nothing asked -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("exit", "outcome", "detail"),
    [
        (Exit(status=0, seconds=1.5, cpu=0.25), Outcome.SUCCEEDED, "in 1.50s, cpu 0.25s"),
        (FAILED, Outcome.ERRORED, "exit status 1 in 0.20s, cpu 0.01s"),
        (Exit(status=75), Outcome.ERRORED, "exit status 75 in 0.00s, cpu 0.00s"),
        (Exit(status=-9), Outcome.ERRORED, "signal 9 in 0.00s, cpu 0.00s"),
        (Exit(status=0, reason=Reason.TIMEOUT), Outcome.TIMED_OUT, "its time limit is over, in 0.00s, cpu 0.00s"),
        (Exit(status=-15, reason=Reason.STOP), Outcome.INTERRUPTED, "the worker is stopping, in 0.00s, cpu 0.00s"),
        (NotStarted("no memory", again=True), Outcome.STARVED, "no memory"),
        (NotStarted("too long", again=False), Outcome.UNSTARTABLE, "too long"),
    ],
)
def test_a_job_that_asks_for_nothing_ends_as_its_command_does(
    exit: Exit | NotStarted,  # noqa: A002
    outcome: Outcome,
    detail: str,
) -> None:
    ending = judged(a_job(), exit, failures=7)
    assert (ending.outcome, ending.detail) == (outcome, detail)
    assert ending.settlement is outcome.settlement


# --- retries -------------------------------------------------------------------------------------------------------


def test_a_job_with_retries_is_run_again_after_a_pause_that_doubles() -> None:
    job = a_job(retries=3)
    details = [judged(job, failures=n).detail.partition("; ")[2] for n in range(4)]
    assert details == ["try 2 of 4 in 30s", "try 3 of 4 in 1m0s", "try 4 of 4 in 2m0s", "its 3 retries are used up"]
    assert [judged(job, failures=n).outcome for n in range(4)] == [Outcome.RETRIED] * 3 + [Outcome.DEAD]
    assert judged(job).tail == "no such file"
    assert judged(job).failures == 1


def test_a_time_limit_is_a_failure_if_retries_are_asked_for_and_nothing_else_was_said() -> None:
    over = Exit(status=0, reason=Reason.TIMEOUT)
    assert judged(a_job(retries=1), over).outcome is Outcome.RETRIED
    assert judged(a_job(retries=1, on_exit={"timeout": "never"}), over).outcome is Outcome.DEAD
    assert judged(a_job(on_exit={"timeout": "ok"}), over).outcome is Outcome.SUCCEEDED
    assert judged(a_job(on_exit={"*": "ok"}), over).outcome is Outcome.SUCCEEDED


@pytest.mark.parametrize("reason", [Reason.STOP, Reason.LEASE, Reason.LAUNCHER])
def test_what_sqsjkr_cut_off_for_its_own_reasons_is_no_failure(reason: Reason) -> None:
    ending = judged(a_job(retries=1, on_exit={"*": "never", "signal": "never"}), Exit(status=-15, reason=reason))
    assert ending.outcome is Outcome.INTERRUPTED
    assert ending.failures is None


def test_75_means_later_and_65_never_where_retries_are_asked_for() -> None:
    job = a_job(retries=2)
    later = judged(job, Exit(status=75), failures=2)
    assert (later.outcome, later.failures, later.delay) == (Outcome.DEFERRED, 2, 30.0)
    assert later.detail.endswith("; not now, again in 30s")
    assert judged(job, Exit(status=65)).outcome is Outcome.DEAD
    assert judged(a_job(retries=2, on_exit={"75": "retry"}), Exit(status=75)).outcome is Outcome.RETRIED
    assert judged(a_job(retries=2, on_exit={"*": "never"}), Exit(status=75)).outcome is Outcome.DEAD, "* names it, too"


def test_the_most_exact_key_counts() -> None:
    job = a_job(on_exit={"*": "never", "1-255": "later", "60-70": "ok", "65": "later", "signal": "ok"})
    assert judged(job, Exit(status=65)).outcome is Outcome.DEFERRED
    assert judged(job, Exit(status=66)).outcome is Outcome.SUCCEEDED
    assert judged(job, Exit(status=3)).outcome is Outcome.DEFERRED
    assert judged(job, Exit(status=-9)).outcome is Outcome.SUCCEEDED
    assert judged(job, Exit(status=0, reason=Reason.TIMEOUT)).outcome is Outcome.DEAD


def test_ok_is_a_success_in_every_respect() -> None:
    ending = judged(a_job(on_exit={"1": "ok"}))
    assert (ending.outcome, ending.settlement, ending.tail) == (Outcome.SUCCEEDED, Settlement.DELETE, "")
    assert ending.detail == "exit status 1 in 0.20s, cpu 0.01s, which counts as success"


def test_retry_without_retries_is_what_happens_without_it() -> None:
    assert judged(a_job(on_exit={"1": "retry"})).outcome is Outcome.ERRORED


def test_no_try_is_made_that_life_time_or_the_queue_would_not_allow() -> None:
    assert judged(a_job(retries=5, life_time=100), age=60).outcome is Outcome.RETRIED
    late = judged(a_job(retries=5, life_time=100), age=71)
    assert (late.outcome, late.detail.partition("; ")[2]) == (Outcome.DEAD, "its life_time is over before the next try")
    assert judged(a_job(retries=5, life_time=100, not_before=1000), age=171, sent_at=900).outcome is Outcome.DEAD
    assert judged(a_job(retries=5, life_time=100, not_before=1000), age=160, sent_at=900).outcome is Outcome.RETRIED
    dropped = judged(a_job(retries=5, retry_delay=1800), age=4 * DAY - 3600 - 1799)
    assert dropped.detail.partition("; ")[2] == "the queue would drop its message before the next try"
    assert judged(a_job(retries=5, retry_delay=1), age=30, retention=60).outcome is Outcome.RETRIED


def test_without_a_dead_letter_queue_a_dead_job_ends_as_errored() -> None:
    ending = judged(a_job(on_exit={"1": "never"}), can_bury=False)
    assert (ending.outcome, ending.settlement) == (Outcome.ERRORED, Settlement.DELETE)
    assert ending.detail.endswith("; not to be run again")


def test_a_job_whose_message_is_deleted_ends_as_if_no_retries_were_asked_for() -> None:
    asking = a_job(retries=3, on_exit={"3": "later", "4": "never", "5": "ok"})
    found = [judged(asking, Exit(status=code), deleted=True).outcome for code in (1, 3, 4, 5, 65)]
    assert found == [Outcome.ERRORED] * 3 + [Outcome.SUCCEEDED, Outcome.ERRORED]
    assert judged(asking, Exit(status=0, reason=Reason.TIMEOUT), deleted=True).outcome is Outcome.TIMED_OUT
    assert judged(asking, Exit(status=-15, reason=Reason.STOP), deleted=True).outcome is Outcome.ERRORED


# --- what earlier attempts came to -----------------------------------------------------------------------------------


def test_a_job_that_kills_its_workers_is_run_no_more() -> None:
    limits = Limits(max_crashes=5)
    assert exhausted(a_job(), 0, 5, limits) is None
    ending = exhausted(a_job(), 0, 6, limits)
    assert ending is not None
    assert (ending.outcome, ending.detail) == (Outcome.DEAD, "6 workers died while they ran it")
    assert exhausted(a_job(on_exit={"crash": "never"}), 0, 1, limits) is not None
    assert exhausted(a_job(retries=2, on_exit={"crash": "retry"}), 1, 1, limits) is None
    assert exhausted(a_job(retries=2, on_exit={"crash": "retry"}), 1, 2, limits) is not None


def test_a_job_whose_retries_are_used_up_is_run_no_more() -> None:
    assert exhausted(a_job(retries=2), 2, 0, Limits()) is None
    assert exhausted(a_job(retries=2), 3, 0, Limits()) is not None
    assert exhausted(a_job(), 0, 3, Limits()) is None


# --- for every job ---------------------------------------------------------------------------------------------------

ends = st.sampled_from(["1", "3", "75", "65", "2-9", "1-255", "signal", "timeout", "*"])
jobs = st.builds(
    a_job,
    retries=st.integers(0, 5),
    retry_delay=st.floats(0, 2 * DAY),
    life_time=st.just(0.0) | st.floats(1, DAY),
    on_exit=st.dictionaries(ends, st.sampled_from(["ok", "retry", "later", "never"]), max_size=4),
)
exits = st.builds(
    Exit,
    status=st.sampled_from([-9, 0, 1, 3, 65, 75, 255]),
    reason=st.none() | st.sampled_from(Reason),
)
pasts = st.builds(
    Past, failures=st.integers(0, 9), crashes=st.integers(0, 9), age=st.floats(0, 5 * DAY), deleted=st.booleans()
)
chances = st.floats(0, 1)


@given(job=jobs, exit_=exits, past=pasts, jitter=chances)
def test_no_job_is_run_again_when_its_retries_are_used_up(job: Job, exit_: Exit, past: Past, jitter: float) -> None:
    ending = judge(job, exit_, past, Limits(retention=4 * DAY), jitter=jitter)
    if ending.outcome is Outcome.RETRIED:
        assert ending.failures == past.failures + 1 <= job.retries
        assert exhausted(job, ending.failures, 0, Limits()) is None, "what is put off is not refused when it comes back"
    elif ending.outcome is Outcome.DEFERRED:
        assert ending.failures == past.failures


@given(job=jobs, exit_=exits, past=pasts, jitter=chances)
def test_never_is_final(job: Job, exit_: Exit, past: Past, jitter: float) -> None:
    assume(exit_.status != 0 and exit_.reason in {None, Reason.TIMEOUT})
    never = a_job(retries=job.retries, life_time=job.life_time, on_exit={"*": "never"})
    assert judge(never, exit_, past, Limits(), jitter=jitter).is_final


@given(job=jobs, exit_=exits, past=pasts, jitter=chances)
def test_what_goes_back_comes_in_time_and_not_before_its_pause(
    job: Job, exit_: Exit, past: Past, jitter: float
) -> None:
    ending = judge(job, exit_, past, Limits(retention=4 * DAY), jitter=jitter)
    if ending.outcome in AGAIN:
        assert ending.settlement is Settlement.RETRY
        assert job.retry_delay <= ending.delay <= max(job.retry_delay, 3600) * 1.25
        assert past.age + ending.delay < 4 * DAY
        assert not job.expired(past.age + ending.delay)
        assert not past.deleted


@given(job=jobs, jitter=chances, failures=st.integers(1, 1000))
def test_pauses_grow_up_to_an_hour(job: Job, jitter: float, failures: int) -> None:
    pauses = [retry_pause(job, n, 0.0) for n in range(1, 60)]
    assert pauses == sorted(pauses)
    assert pauses[-1] == (max(job.retry_delay, 3600.0) if job.retry_delay > 1e-6 else pauses[-1])
    assert retry_pause(job, failures, jitter) >= retry_pause(job, failures, 0.0) >= job.retry_delay


@given(exit_=exits, past=pasts, jitter=chances)
def test_every_ending_of_a_job_that_asks_for_nothing_is_as_if_there_were_no_retries(
    exit_: Exit, past: Past, jitter: float
) -> None:
    ending = judge(a_job(), exit_, past, Limits(), jitter=jitter)
    assert ending.outcome not in AGAIN | {Outcome.DEAD}
    assert ending.delay == 0.0
