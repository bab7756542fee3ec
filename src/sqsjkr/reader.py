"""First stage of an attempt: the body becomes a job, and the operator's word on it a plan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol

from sqsjkr.attempt import Attempt
from sqsjkr.errors import InvalidJob
from sqsjkr.job import Job, decode, event_id_in
from sqsjkr.outcome import Ending, Outcome
from sqsjkr.plan import AS_ASKED, Plan, Section
from sqsjkr.telemetry.events import Event, emit

UNKNOWN_FOR = 600.0
"""Seconds after it was sent that a job of an unknown name comes back: the workers of a fleet learn of it one by one."""
UNKNOWN_PAUSE = 30.0
"""Seconds until it comes back."""


class Authority(Protocol):
    """Knows who may make this worker do what."""

    def judge(self, attempt: Attempt) -> Ending | None:
        """Note what counts for the attempt, and its refusal if it is refused; an ending if it goes back at once."""

    async def look_up(self, attempt: Attempt) -> Ending | None:
        """Note the values of the secrets that the plan names; an ending if one cannot be looked up now."""


class Reader:
    """Turns messages into jobs and plans.

    A field of a job is the message's, else that of the first of ``sections`` that matches and has it, else the built-in
    one. What is no field of a job is the first such section's, else ``plan``'s. ``max_timeout`` is the longest
    ``timeout`` in seconds that counts, 0 for any; a section may exceed it. Without an ``authority`` everybody may ask
    for any shell command, and no job is known by name. Without ``retries`` no job is run again, whatever it asks for.
    """

    def __init__(
        self,
        sections: Sequence[Section] = (),
        *,
        plan: Plan = AS_ASKED,
        max_timeout: float = 0.0,
        authority: Authority | None = None,
        retries: bool = True,
    ) -> None:
        self._authority = authority
        self._sections = tuple(sections)
        self._plan = plan
        self._max_timeout = max_timeout
        self._retries = retries

    def read(self, attempt: Attempt) -> Ending | None:
        """Note the attempt's job and plan; an ending (INVALID, UNKNOWN) if there is no job to decide on."""
        try:
            asked = decode(attempt.message.body, attempt.message.id)
        except InvalidJob as reason:
            attempt.plan = self._plan
            attempt.named = event_id_in(attempt.message.body)
            return Ending(Outcome.INVALID, str(reason))
        job, attempt.plan = self._decide(asked)
        if job.retries and not self._retries:
            text = f'{job.event_id} asks for {job.retries} retries; with ack = "start" no job is run again'
            emit(Event.JOB_RETRIES_IGNORED, text, message_id=job.id, event_id=job.event_id)
            job = replace(job, retries=0)
        attempt.job = job
        if self._authority is not None:
            return self._authority.judge(attempt)
        return None if asked.command else unknown(attempt, "this worker has no trust file, which gives jobs names")

    async def complete(self, attempt: Attempt) -> Ending | None:
        """Look up what the plan needs beside the message; an ending (UNANSWERED) if that is impossible now."""
        if self._authority is None or not attempt.plan.secrets:
            return None
        return await self._authority.look_up(attempt)

    def _decide(self, asked: Job) -> tuple[Job, Plan]:
        """Return the job as it counts here, and the plan for it."""
        if self._max_timeout and not 0 < asked.timeout < self._max_timeout:
            asked = replace(asked, timeout=self._max_timeout)
        # A producer chooses its event ids: by one it must not get out of what its operator says of a job by name.
        name = asked.name or (asked.event_id if "event_id" in asked.given else asked.command)
        job: dict[str, Any] = {}
        plan: dict[str, Any] = {}
        for section in self._sections:
            if section.matches(name):
                job = {**section.job, **job}
                plan = {**section.plan, **plan}
        job = {field: value for field, value in job.items() if field not in asked.given}
        return replace(asked, **job) if job else asked, replace(self._plan, **plan) if plan else self._plan


def unknown(attempt: Attempt, detail: str) -> Ending | None:
    """Return the ending of a job whose name is not known yet; once its time is over, note that it is refused."""
    if attempt.message.age < UNKNOWN_FOR:
        return Ending(Outcome.UNKNOWN, detail, UNKNOWN_PAUSE)
    attempt.refusal = Ending(Outcome.REFUSED, f"{detail}, {UNKNOWN_FOR / 60:g} minutes after it was sent")
    return None
