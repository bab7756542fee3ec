"""First stage of an attempt: the body becomes a job."""

from __future__ import annotations

from sqsjkr.attempt import Attempt
from sqsjkr.errors import InvalidJob
from sqsjkr.job import decode
from sqsjkr.outcome import Ending, Outcome


def read(attempt: Attempt) -> Ending | None:
    """Note the job that the message asks for; an ending (INVALID) if the body does not describe one."""
    try:
        attempt.job = decode(attempt.message.body, attempt.message.id)
    except InvalidJob as reason:
        return Ending(Outcome.INVALID, str(reason))
    return None
