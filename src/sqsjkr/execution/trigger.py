"""The life_time trigger: an operator's command that runs when a job was too old to start."""

from __future__ import annotations

import bisect
import json
from datetime import UTC, datetime

from sqsjkr import durations, policy
from sqsjkr.attempt import Attempt
from sqsjkr.execution import environment
from sqsjkr.execution.command import shell
from sqsjkr.execution.runner import Runner
from sqsjkr.job import Job
from sqsjkr.leases.budget import LeaseBudget
from sqsjkr.outcome import Ending, NotStarted, Outcome, Reason
from sqsjkr.telemetry.events import Event, emit

FACTS_LIMIT = 100 * 1024
"""Bytes: ``facts`` stays below, because Linux takes no environment string above 128 KiB."""
_ID_ROOM = 8 * 1024


class Trigger:
    """Runs ``command`` for expired jobs; "" runs nothing."""

    def __init__(self, command: str, runner: Runner, *, budget: LeaseBudget) -> None:
        self._command = command
        self._runner = runner
        self._budget = budget

    async def refused(self, attempt: Attempt, refusal: Ending) -> Ending:
        """Run the trigger if the job is refused for its age; return how the delivery ends.

        A trigger that is interrupted, or can't be started for now, runs again with the next delivery.
        """
        job = attempt.job
        if not self._command or refusal.outcome is not Outcome.EXPIRED or job is None or job.disable_life_time_trigger:
            return refusal
        sent_at = attempt.message.sent_at
        variables = environment.of_sqsjkr(attempt) | {b"SQSJKR_EXPIRED": facts(job, sent_at).encode()}
        emit(
            Event.JOB_TRIGGER,
            f"{attempt.label}: {refusal.detail}",
            **attempt.facts,
        )
        stdin = text(job, sent_at).encode()
        command, within = shell(self._command), self._budget.trigger
        exit = await self._runner.run(attempt, command, variables, stdin=stdin, within=within)  # noqa: A001
        ending = policy.decide(exit, deleted=attempt.deleted, pause=self._budget.pause)
        if ending.outcome in {Outcome.INTERRUPTED, Outcome.STARVED}:
            return ending
        ran = "ran" if ending.outcome is Outcome.SUCCEEDED else "failed:"
        if not isinstance(exit, NotStarted) and exit.reason is Reason.TIMEOUT:
            ran = f"was ended after {within:g}s:"
        return Ending(Outcome.EXPIRED, f"{refusal.detail}; the trigger {ran} {ending.detail}", tail=ending.tail)


def text(job: Job, sent_at: float) -> str:
    """Return what the life_time trigger reads on its stdin: the original's text to the byte (go-semantics section 6).

    ``sent_at`` is epoch seconds; the text shows it to the millisecond in this host's time zone.
    """
    local = datetime.fromtimestamp(round(sent_at, 3), UTC).astimezone()
    fraction = f".{local:%f}".rstrip("0").rstrip(".")
    sent = f"{local:%Y-%m-%d %H:%M:%S}{fraction} {local:%z %Z}"
    return (
        f"job_id:{job.id}, event_id:{job.event_id}, command:{job.command}, "
        f"life_time:{durations.format(job.life_time)}, sent_timestamp:{sent}"
    )


def facts(job: Job, sent_at: float) -> str:
    """Return the facts of ``text`` as a JSON object in ASCII, always shorter than ``FACTS_LIMIT``.

    ``life_time`` is in seconds, ``sent_timestamp`` is RFC 3339 in UTC. What is too long is cut, and
    ``command_truncated`` (or ``event_id_truncated``, ``job_id_truncated``) is true then.
    """
    given: dict[str, object] = {
        "job_id": job.id,
        "event_id": job.event_id,
        "command": job.command,
        "life_time": int(job.life_time) if job.life_time.is_integer() else job.life_time,
        "sent_timestamp": datetime.fromtimestamp(round(sent_at, 3), UTC).isoformat(timespec="milliseconds"),
    }
    whole = json.dumps(given)
    if len(whole) < FACTS_LIMIT:
        return whole
    _cut(given, "job_id", _ID_ROOM)
    _cut(given, "event_id", _ID_ROOM)
    around = len(json.dumps(given | {"command": "", "command_truncated": True}))
    _cut(given, "command", FACTS_LIMIT - 1 - around)
    return json.dumps(given)


def _cut(given: dict[str, object], name: str, room: int) -> None:
    """Keep as much of a text as fits into ``room`` bytes of JSON (quotes not counted)."""
    text = str(given[name])
    start = text[:room]
    fitting = bisect.bisect_right(range(1, len(start) + 1), room, key=lambda n: len(json.dumps(start[:n])) - 2)
    if fitting < len(text):
        given[name] = start[:fitting]
        given[f"{name}_truncated"] = True
