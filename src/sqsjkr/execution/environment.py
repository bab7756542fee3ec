"""The variables of a job: the daemon's own, the job's, and sqsjkr's (docs/reference/environment.md)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from types import MappingProxyType

from sqsjkr.attempt import Attempt
from sqsjkr.supervision.process_tree import MARK

EVERYTHING = ("*",)
_OF_SYSTEMD = (b"NOTIFY_SOCKET", b"WATCHDOG_", b"LISTEN_PID", b"LISTEN_FD")
"""Beginnings of the names by which systemd talks to the daemon: a job that had them could speak for it."""
_OF_AWS = (
    *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN"),
    *("AWS_CREDENTIAL_EXPIRATION", "AWS_CONTAINER_*", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_ROLE_*"),
    *("AWS_PROFILE", "AWS_DEFAULT_PROFILE"),
)
"""The variables from which AWS's tools take credentials (AWS SDKs and Tools Reference Guide: "Settings reference")."""


def of_daemon(environ: Mapping[bytes, bytes]) -> dict[bytes, bytes]:
    """Return what the operator's own commands inherit: all but what systemd meant for the daemon alone."""
    return {name: value for name, value in environ.items() if not name.startswith(_OF_SYSTEMD)}


def inherited(
    environ: Mapping[bytes, bytes], names: Sequence[str] = EVERYTHING, *, aws: bool = True
) -> dict[bytes, bytes]:
    """Return what jobs inherit of the daemon's environment: the variables of these names, or ``PREFIX_*``.

    Without ``aws`` they get none of its credentials, and AWS's tools do not ask the instance for any.
    """
    kept = {
        name: value
        for name, value in of_daemon(environ).items()
        if _is_one_of(name, names) and (aws or not _is_one_of(name, _OF_AWS))
    }
    return kept if aws else kept | {b"AWS_EC2_METADATA_DISABLED": b"true"}


def _is_one_of(name: bytes, patterns: Sequence[str]) -> bool:
    text = name.decode(errors="surrogateescape")
    return any(fnmatchcase(text, pattern) for pattern in patterns)


def for_job(attempt: Attempt, trace: Mapping[str, str] = MappingProxyType({})) -> dict[bytes, bytes]:
    """Return what a job's environment gets beside the daemon's.

    That is its trace context, its own variables, its arguments, the operator's variables, secrets, then sqsjkr's.
    """
    plan, own = attempt.plan, attempt.job.env if attempt.job else {}
    env = {**trace, **own, **plan.arguments, **plan.variables, **attempt.secrets}
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
