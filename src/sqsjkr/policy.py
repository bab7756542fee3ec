"""What an end means: pure decisions from how a command ended to what becomes of its message."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

from sqsjkr import durations
from sqsjkr.attempt import Attempt
from sqsjkr.job import ANY_OTHER, CRASH, SIGNAL, TIMEOUT, Job, Verb
from sqsjkr.outcome import FAILURES, Ending, Exit, NotStarted, Outcome, Reason, Settlement
from sqsjkr.runs import Run

LONGEST_PAUSE = 3600.0
"""Seconds up to which the pause between two retries doubles."""
JITTER = 0.25
"""The part of a pause that is added to it at most: jobs that failed together do not come back together."""
REPORTED = FAILURES | {
    Outcome.SUCCEEDED,
    Outcome.ABORTED,
    Outcome.CANCELLED,
    Outcome.RETRIED,
    Outcome.DEFERRED,
    Outcome.INTERRUPTED,
}
"""The outcomes that a hook may ask for: the others are no news about a job."""
NEWS = ("failure", "recovered", "success", "all", *sorted(outcome.label for outcome in REPORTED))
"""The words of ``hook_on``."""
_ENDED_BADLY = {Outcome.ERRORED, Outcome.TIMED_OUT}
_WITHOUT_RETURN = {Outcome.INTERRUPTED: Outcome.ERRORED, Outcome.STARVED: Outcome.UNSTARTABLE}
_DEFAULTS = {"75": Verb.LATER, "65": Verb.NEVER, ANY_OTHER: Verb.RETRY}
"""For a job with retries: EX_TEMPFAIL and EX_DATAERR of sysexits(3), and every other failure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """What is known of a message at the end of an attempt to run its job."""

    failures: int = 0
    """How often the job has failed before this attempt."""
    crashes: int = 0
    """How many workers have died while they ran it."""
    sent_at: float = 0.0
    """When it was sent: epoch seconds on the queue's clock."""
    age: float = 0.0
    """Seconds since then."""
    deleted: bool = False
    """It has left the queue already (``ack = "start"``), so its job can't run again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What the queue and the operator allow."""

    retention: float = float("inf")
    """Seconds after which the queue drops a message."""
    can_bury: bool = True
    """Whether there is a dead-letter queue."""
    max_crashes: int = 5
    """How many workers may die while they run one job."""
    pause: float = 30.0
    """Seconds until a job may be delivered again that the host could not start."""


class Policy:
    """Judges attempts under the limits of this worker. ``jitter`` returns random numbers from 0 to 1."""

    def __init__(self, limits: Limits, *, jitter: Callable[[], float] = random.random) -> None:
        self._limits = limits
        self._jitter = jitter

    def judge(self, attempt: Attempt, exit: Exit | NotStarted, now: float) -> Ending:  # noqa: A002 - the field's word
        """Return what becomes of an attempt's job, whose command has ended at ``now`` (``clock.now``)."""
        message, job = attempt.message, attempt.job
        if job is None:
            return decide(exit, deleted=attempt.deleted, pause=self._limits.pause)
        past = Past(
            failures=attempt.failures,
            crashes=attempt.crashes,
            sent_at=message.sent_at,
            age=message.age_at(now),
            deleted=attempt.deleted,
        )
        return judge(job, exit, past, self._limits, jitter=self._jitter())

    def finish(self, run: Run) -> Ending:
        """Return the ending of a delivery whose job has ended before, when its worker had no time for the rest."""
        if run.outcome != Outcome.DEAD.label:
            return Ending(Outcome.DUPLICATE, "its job has run already")
        outcome = Outcome.DEAD if self._limits.can_bury else Outcome.ERRORED
        return Ending(outcome, run.detail, tail=run.output, failures=run.failures)

    def exhausted(self, attempt: Attempt) -> Ending | None:
        """Return the ending of an attempt whose job may not run any more, as its claim says; None if it may."""
        if attempt.job is None or not (attempt.failures or attempt.crashes):
            return None
        return exhausted(attempt.job, attempt.failures, attempt.crashes, self._limits)


def judge(job: Job, exit: Exit | NotStarted, past: Past, limits: Limits, *, jitter: float) -> Ending:  # noqa: A002
    """Return what becomes of a job whose command has ended. ``jitter``: a random number from 0 to 1."""
    ending = decide(exit, deleted=past.deleted, pause=limits.pause)
    verb = _verb(job, exit) if isinstance(exit, Exit) else None
    if verb is Verb.OK:
        return Ending(Outcome.SUCCEEDED, f"{ending.detail}, which counts as success", exit=ending.exit)
    if verb is None or past.deleted:
        return replace(ending, failures=past.failures + 1) if ending.outcome in _ENDED_BADLY else ending
    past = past if verb is Verb.LATER else replace(past, failures=past.failures + 1)
    if verb is Verb.NEVER:
        return _dead(ending, "not to be run again", past.failures, limits)
    if verb is Verb.RETRY and _used(job, past.failures, past.crashes) > job.retries:
        return _dead(ending, f"its {job.retries} retries are used up", past.failures, limits) if job.retries else ending
    pause = retry_pause(job, past.failures if verb is Verb.RETRY else 1, jitter)
    if why := _too_late(job, past.age + pause, past.sent_at, limits):
        return _dead(ending, why, past.failures, limits)
    return _put_off(job, ending, verb, past, pause)


def _put_off(job: Job, ending: Ending, verb: Verb, past: Past, pause: float) -> Ending:
    if verb is Verb.LATER:
        outcome, which = Outcome.DEFERRED, "not now, again"
    else:
        outcome, which = Outcome.RETRIED, f"try {_used(job, past.failures, past.crashes) + 1} of {job.retries + 1}"
    return replace(
        ending,
        outcome=outcome,
        settlement=outcome.settlement,
        detail=f"{ending.detail}; {which} in {_rounded(pause)}",
        delay=pause,
        failures=past.failures,
        due=past.age + pause,
    )


def exhausted(job: Job, failures: int, crashes: int, limits: Limits) -> Ending | None:
    """Return the ending of a job that may not run any more, because of what its earlier attempts came to."""
    used = _used(job, failures, crashes)
    if crashes and job.on_exit.get(CRASH) is Verb.NEVER:
        why = "its worker died, and it is not to be run again"
    elif crashes > limits.max_crashes:
        why = f"{crashes} workers died while they ran it"
    elif used > job.retries:
        why = f"its {job.retries} retries are used up"
    else:
        return None
    return _dead(Ending(Outcome.DEAD), why, failures, limits)


def retry_pause(job: Job, failures: int, jitter: float) -> float:
    """Return the seconds between a failure, the ``failures``-th, and the next attempt.

    Never less than ``retry_delay``. Doubles up to an hour, or stays if it is longer from the start.
    """
    doubled = job.retry_delay * 2.0 ** min(failures - 1, 40)
    return min(doubled, max(job.retry_delay, LONGEST_PAUSE)) * (1 + JITTER * jitter)


def decide(exit: Exit | NotStarted, *, deleted: bool, pause: float) -> Ending:  # noqa: A002 - the field's word
    """Return the ending of a command for which nothing else was asked.

    ``deleted``: its message has left the queue already (``ack = "start"``), so a job that did not end by itself is
    lost, and counts as such. ``pause``: seconds until a job may be delivered again that the host could not start.
    """
    ending = _not_started(exit, pause) if isinstance(exit, NotStarted) else _ended(exit)
    if deleted and ending.outcome in _WITHOUT_RETURN:
        return Ending(_WITHOUT_RETURN[ending.outcome], ending.detail, tail=ending.tail, exit=ending.exit)
    return ending


@lru_cache(256)
def news(outcome: Outcome, failures: int) -> tuple[str, ...]:
    """Return the words for an outcome in ``hook_on``, the most telling first; ``failures``: how many there were."""
    if outcome not in REPORTED:
        return ("",)
    if outcome in FAILURES:
        return "failure", outcome.label, "all"
    if outcome is Outcome.SUCCEEDED:
        return (*(("recovered",) if failures else ()), "success", outcome.label, "all")
    return outcome.label, "all"


def tell_elsewhere(ending: Ending, delay: float) -> Ending:
    """Return how a delivery ends whose hook was cut off: whoever gets the message in ``delay`` seconds tells it."""
    return replace(ending, settlement=Settlement.RETRY, delay=delay)


def settle_elsewhere(ending: Ending, *, closing: bool) -> Ending:
    """Return what a job that should wait here ends as when it can't: back to the queue, at once if the worker stops."""
    return Ending(Outcome.CROWDED, ending.detail, 0.0 if closing else ending.delay)


def _not_started(failure: NotStarted, pause: float) -> Ending:
    if failure.again:
        return Ending(Outcome.STARVED, failure.detail, pause)
    return Ending(Outcome.UNSTARTABLE, failure.detail)


def _ended(exit: Exit) -> Ending:  # noqa: A002 - as above
    took = f"in {exit.seconds:.2f}s, cpu {exit.cpu:.2f}s"
    if exit.reason is not None:
        tail = exit.tail if exit.reason is Reason.TIMEOUT else ""
        why = f"by {exit.by}" if exit.reason is Reason.CANCEL else exit.reason.text
        why += f" by {exit.by}" if exit.reason is Reason.REQUEUE else ""
        return Ending(exit.reason.outcome, f"{why}, {took}", tail=tail, exit=exit)
    if exit.status == 0:
        return Ending(Outcome.SUCCEEDED, took, exit=exit)
    how = f"exit status {exit.status}" if exit.status > 0 else f"signal {-exit.status}"
    return Ending(Outcome.ERRORED, f"{how} {took}", tail=exit.tail, exit=exit)


def _verb(job: Job, exit: Exit) -> Verb | None:  # noqa: A002 - as above
    """Return what was asked for this end of the command; None if nothing was, or it did not end by itself."""
    if exit.reason is Reason.TIMEOUT:
        keys = [TIMEOUT]
    elif exit.reason is not None or exit.status == 0:
        return None
    else:
        keys = [SIGNAL] if exit.status < 0 else [str(exit.status), *_ranges(job, exit.status)]
    for asked in (job.on_exit, _DEFAULTS if job.retries else {}):
        for key in (*keys, ANY_OTHER):
            if key in asked:
                return asked[key]
    return None


def _ranges(job: Job, code: int) -> list[str]:
    """Return the ranges of ``on_exit`` that hold an exit code, the narrowest first."""
    found = []
    for key in job.on_exit:
        first, dash, last = key.partition("-")
        if dash and int(first) <= code <= int(last):
            found.append((int(last) - int(first), key))
    return [key for _, key in sorted(found)]


def _used(job: Job, failures: int, crashes: int) -> int:
    """Return how many attempts count towards ``retries``."""
    return failures + (crashes if job.on_exit.get(CRASH) is Verb.RETRY else 0)


def _too_late(job: Job, age: float, sent_at: float, limits: Limits) -> str:
    """Return why the job could not start any more at this age of its message; "" if it could."""
    if job.expired(age, sent_at=sent_at):
        return "its life_time is over before the next try"
    if age > limits.retention - min(3600.0, limits.retention / 10):
        return "the queue would drop its message before the next try"
    return ""


def _dead(ending: Ending, why: str, failures: int, limits: Limits) -> Ending:
    """End a job for good: on the dead-letter queue, if there is one."""
    outcome = Outcome.DEAD if limits.can_bury else Outcome.ERRORED
    detail = f"{ending.detail}; {why}" if ending.detail else why
    return replace(ending, outcome=outcome, settlement=outcome.settlement, detail=detail, failures=failures)


def _rounded(seconds: float) -> str:
    return durations.format(float(round(seconds)) if seconds >= 1 else round(seconds, 3))
