"""The variables of a job: the daemon's own, the job's, and sqsjkr's (docs/reference/environment.md)."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from sqsjkr.attempt import Attempt
from sqsjkr.supervision.process_tree import MARK


def for_job(attempt: Attempt, trace: Mapping[str, str] = MappingProxyType({})) -> dict[bytes, bytes]:
    """Return what a job's environment gets beside the daemon's.

    That is its trace context, its own variables, the operator's, then sqsjkr's.
    """
    env = {**trace, **(attempt.job.env if attempt.job else {}), **attempt.plan.variables}
    return {key.encode(): value.encode() for key, value in env.items() if key} | of_sqsjkr(attempt)


def of_sqsjkr(attempt: Attempt) -> dict[bytes, bytes]:
    """Return sqsjkr's variables alone."""
    job, message = attempt.job, attempt.message
    variables = {
        "SQSJKR_JOB_ID": message.id,
        "SQSJKR_EVENT_ID": attempt.name,
        "SQSJKR_RECEIVE_COUNT": str(message.receive_count),
        "SQSJKR_SENT_AT": f"{message.sent_at:.3f}",
        MARK: attempt.id,
    }
    if job and job.lock_id:
        variables["SQSJKR_LOCK_ID"] = job.lock_id
        if attempt.fencing_token:
            variables["SQSJKR_FENCE"] = str(attempt.fencing_token)
    if producer := attempt.audit.get("producer"):
        variables["SQSJKR_PRODUCER"] = producer
    if name := attempt.audit.get("job"):
        variables["SQSJKR_JOB_NAME"] = name
    if job and job.timeout:
        variables["SQSJKR_TIMEOUT"] = f"{job.timeout:.3f}".rstrip("0").rstrip(".")
    if job and (job.retries or attempt.failures):
        variables["SQSJKR_RETRY_COUNT"] = str(attempt.failures)
    return {key.encode(): value.encode() for key, value in variables.items()}
