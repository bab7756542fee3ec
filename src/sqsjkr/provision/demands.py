"""What ``sqsjkr check`` finds of time limits, retries and wrappers: do they fit the queue and the host?"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence

from sqsjkr import durations
from sqsjkr.job import Job
from sqsjkr.plan import Section
from sqsjkr.policy import retry_pause
from sqsjkr.provision.finding import Finding, Level

_DAY = 86_400


def against_queue(
    sections: Sequence[Section], *, max_timeout: float, retention: float, deliveries: int
) -> Iterator[Finding]:
    """Yield what the queue does not allow.

    ``retention``: seconds that it keeps a message, in flight or not. ``deliveries``: its ``maxReceiveCount``, or 0.
    """
    longer = "raise MessageRetentionPeriod of the queue, or lower it"
    if max_timeout >= retention:
        found = f"[kicker] max_timeout is {_span(max_timeout)}, and the queue drops a message after {_span(retention)}"
        yield Finding(Level.WARN, "time limits", f"{found}: a job that takes longer is lost with its worker", longer)
    for section in sections:
        place = f'[jobs."{section.pattern}"]'
        job = Job(id="", command="", event_id="", **section.job)
        if job.timeout >= retention:
            found = f"{place} timeout is {_span(job.timeout)}, and the queue drops a message after {_span(retention)}"
            yield Finding(
                Level.WARN, "time limits", f"{found}: a job that takes longer is lost with its worker", longer
            )
        if (whole := _with_all_retries(job)) >= retention:
            found = f"{place} needs up to {_span(whole)} for {job.retries} retries, and the queue drops a message after"
            yield Finding(Level.WARN, "retries", f"{found} {_span(retention)}: the last ones do not happen", longer)
        if 0 < deliveries < 2 * job.retries:
            found = (
                f"{place} has {job.retries} retries, and maxReceiveCount is {deliveries}: SQS buries a job before them"
            )
            yield Finding(Level.WARN, "retries", found, "fewer retries, or maxReceiveCount 1000")


def against_host(sections: Sequence[Section], *, wrapper: Sequence[str]) -> Iterator[Finding]:
    """Yield the wrappers whose programs are not on this host."""
    asked = [("[kicker]", wrapper), *((f'[jobs."{one.pattern}"]', one.plan.get("wrapper", ())) for one in sections)]
    for place, argv in asked:
        if argv and shutil.which(argv[0]) is None:
            found = f"{place} wrapper: no program {argv[0]} on the PATH of this host"
            yield Finding(Level.FAIL, "wrapper", found, "install it, or correct its name: no job starts without it")


def _with_all_retries(job: Job) -> float:
    """Return the seconds from the first start to the end of the last retry, at most."""
    if not job.retries:
        return 0.0
    pauses = sum(retry_pause(job, failures, 1.0) for failures in range(1, job.retries + 1))
    return pauses + job.timeout * (job.retries + 1)


def _span(seconds: float) -> str:
    """Days where they are many, else as Go writes durations."""
    return f"{seconds / _DAY:.3g} days" if seconds >= 2 * _DAY else durations.format(float(round(seconds)))
