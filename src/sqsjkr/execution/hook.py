"""The hook: an operator's command that is told how a delivery has ended."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping

from sqsjkr import clock
from sqsjkr.attempt import Attempt
from sqsjkr.execution import environment
from sqsjkr.execution.command import shell
from sqsjkr.execution.masking import Mask
from sqsjkr.execution.runner import Runner
from sqsjkr.outcome import Ending, Exit, NotStarted, Outcome, Reason
from sqsjkr.policy import news
from sqsjkr.runs import Run
from sqsjkr.supervision.process_tree import MARK
from sqsjkr.telemetry.events import Event, emit

LONGEST = 60.0
"""Seconds that a hook may run."""
AT_ONCE = 4
"""Hooks that run at the same time: they hold no slots, and must not crowd out the jobs."""
OUTPUT = 10_000
"""Bytes of the end of a job's output that a hook gets."""
_LONGEST_VARIABLE = 8_192


class Hook:
    """Runs the hook of an attempt's plan, at least once for each ending that it asks for.

    What is owed to it is noted with the claim before it starts, and the message leaves the queue after it has ended: if
    the worker dies in between, the next delivery finds the note.
    """

    def __init__(self, runner: Runner, mask: Mask) -> None:
        self._runner = runner
        self._mask = mask
        self._places = asyncio.Semaphore(AT_ONCE)

    def wants(self, attempt: Attempt, ending: Ending) -> bool:
        """Return whether a hook is to be told of this ending."""
        return attempt.plan.tells(news(ending.outcome, attempt.failures))

    async def tell(self, attempt: Attempt, ending: Ending) -> bool:
        """Run the hook if it wants to know. False if it was cut off: whoever gets the message next tells it again."""
        again = attempt.owed is not None
        if not (again or self.wants(attempt, ending)):
            return True
        run = attempt.owed or attempt.run(clock.now(), ending)
        outcome = Outcome.of(run.outcome)
        if outcome is None or not attempt.plan.tells(news(outcome, run.failures)):
            return True
        async with self._places:
            text = json.dumps(self._facts(attempt, run, outcome, again=again))
            return await self._run(attempt, run, text)

    async def _run(self, attempt: Attempt, run: Run, text: str) -> bool:
        told = _beside(attempt)
        variables = environment.of_sqsjkr(attempt) | {
            MARK.encode(): told.id.encode(),
            b"SQSJKR_OUTCOME": run.outcome.encode(),
            b"SQSJKR_DETAIL": run.detail.encode(),
        }
        exit = await self._runner.run(  # noqa: A001 - the word of the field
            told,
            shell(attempt.plan.hook),
            {name: value[:_LONGEST_VARIABLE] for name, value in variables.items()},
            stdin=text.encode(),
            within=LONGEST,
            event=Event.HOOK_OUTPUT,
        )
        if _is_cut_off(exit):
            return False
        if trouble := _trouble(exit):
            emit(
                Event.HOOK_FAILED,
                f"{attempt.label}: the hook for {run.outcome} {trouble}",
                **attempt.facts,
            )
        return True

    def _facts(self, attempt: Attempt, run: Run, outcome: Outcome, *, again: bool) -> Mapping[str, object]:
        """Return what the hook reads on its standard input."""
        job = attempt.job
        env = job.env if job else {}
        return {
            "event": news(outcome, run.failures)[0],
            "outcome": run.outcome,
            "detail": run.detail,
            "message_id": run.message_id,
            "event_id": run.event_id,
            "lock_id": run.lock_id,
            "command": self._mask.hide(run.command, env, attempt.secrets),
            "failures": run.failures,
            "retries": job.retries if job else 0,
            "exit_status": run.exit_status,
            "signal": run.signal,
            "started_at": run.begun_at,
            "ended_at": run.ended_at,
            "seconds": run.seconds,
            "cpu_seconds": run.cpu_seconds,
            "sent_at": run.sent_at,
            "receive_count": run.receive_count,
            "attempt": run.attempt,
            "sender": run.sender,
            "host": run.host,
            "queue": run.queue,
            "again": again,
            "output": run.output.encode()[-OUTPUT:].decode(errors="ignore"),
        }


def _beside(attempt: Attempt) -> Attempt:
    """Return an attempt whose processes are told from the job's: what that left in the background is left alone."""
    told = Attempt(attempt.message, f"h{attempt.id[1:]}", attempt.place)
    told.job, told.plan, told.deleted = attempt.job, attempt.plan, attempt.deleted
    return told


def _is_cut_off(exit: Exit | NotStarted) -> bool:  # noqa: A002 - the word of the field
    """Return whether it is no fault of the hook's: the worker stops, say, or the host is short of processes."""
    return exit.again if isinstance(exit, NotStarted) else exit.reason not in {None, Reason.TIMEOUT}


def _trouble(exit: Exit | NotStarted) -> str:  # noqa: A002 - the word of the field
    if isinstance(exit, NotStarted):
        return f"did not start: {exit.detail}"
    if exit.reason is Reason.TIMEOUT:
        return f"was ended after {LONGEST:g}s"
    if exit.status:
        return f"failed with exit status {exit.status}" if exit.status > 0 else f"was ended by signal {-exit.status}"
    return ""
