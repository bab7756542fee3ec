"""Runs the command of an attempt: registered while it runs, its output followed, its end returned as a value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqsjkr import clock
from sqsjkr.attempt import Attempt
from sqsjkr.execution import environment
from sqsjkr.execution.command import CannotStart, Command
from sqsjkr.execution.masking import Mask, Veil
from sqsjkr.execution.output import Output, OutputLimits
from sqsjkr.execution.registry import Registry
from sqsjkr.execution.spawner import Spawner
from sqsjkr.intake.brake import Brake
from sqsjkr.journal import Journal
from sqsjkr.outcome import Exit, NotStarted, Outcome
from sqsjkr.policy import news
from sqsjkr.telemetry.events import Event, emit, says
from sqsjkr.telemetry.trace import Tracer

_OF_JOBS, _OF_OPERATORS = 0, 1


class Runner:
    """Starts commands and waits for them.

    The spawner's bases are what jobs inherit, and what the operator's own commands do.
    """

    def __init__(
        self,
        registry: Registry,
        brake: Brake,
        journal: Journal,
        spawner: Spawner,
        mask: Mask,
        tracer: Tracer,
        *,
        output: OutputLimits,
    ) -> None:
        self._registry = registry
        self._brake = brake
        self._journal = journal
        self._spawner = spawner
        self._mask = mask
        self._tracer = tracer
        self._limits = output

    async def run_job(self, attempt: Attempt) -> Exit | NotStarted:
        """Run what the attempt's plan says to its end."""
        job, plan = attempt.job, attempt.plan
        command = job.command if job else ""
        self._journal.started(attempt, command)
        within = job.timeout if job and job.timeout else float("inf")
        variables = environment.for_job(attempt, self._tracer.begin(attempt))
        return await self._run(attempt, plan.command_line(command), _OF_JOBS, variables, within=within)

    async def run(
        self,
        attempt: Attempt,
        argv: Sequence[bytes],
        variables: Mapping[bytes, bytes],
        *,
        stdin: bytes | None = None,
        within: float = float("inf"),
        event: Event = Event.JOB_OUTPUT,
    ) -> Exit | NotStarted:
        """Run an operator's command on behalf of an attempt; it is ended after ``within`` seconds.

        ``event``: what its output is.
        """
        return await self._run(attempt, argv, _OF_OPERATORS, variables, stdin=stdin, within=within, event=event)

    async def _run(
        self,
        attempt: Attempt,
        argv: Sequence[bytes],
        base: int,
        variables: Mapping[bytes, bytes],
        *,
        within: float,
        stdin: bytes | None = None,
        event: Event = Event.JOB_OUTPUT,
    ) -> Exit | NotStarted:
        output, command = self._output(attempt, event), Command(attempt.id, self._spawner)
        begun = clock.now()
        self._registry.enter(attempt, command, deadline=begun + within)
        try:
            started = self._brake.host_recovered
            end = await command.run(argv, variables, output, base=base, stdin=stdin, started=started)
        except CannotStart as why:
            again = why.again and not (why.missing and attempt.plan.has_own_program)
            if again:
                self._brake.host_failed(why)
            return NotStarted(str(why), again)
        finally:
            self._registry.leave(attempt)
        if end.leftovers:
            emit(Event.PROCESS_LEFT, f"{attempt.label}: processes run on in the background", **attempt.facts)
        is_told = attempt.plan.tells(news(Outcome.SUCCEEDED, attempt.failures)) or self._limits.tail_of_success
        if end.status or end.reason or is_told:
            end.tail = self._tail(attempt, output)
        end.by, end.seconds = attempt.ordered_by, clock.now() - begun
        return end

    def _tail(self, attempt: Attempt, output: Output) -> str:
        """Return the end of the output for those outside of the worker, without the values of variables."""
        return self._mask.hide(output.tail(), attempt.job.env if attempt.job else {}, attempt.plan.variables)

    def _output(self, attempt: Attempt, event: Event) -> Output:
        def heard(line: str) -> None:
            if event is Event.JOB_OUTPUT:
                self._journal.printed(attempt, line)
            else:
                emit(event, f"{attempt.label}: {line}", **attempt.facts)

        return Output(
            on_line=heard if says("info") else None,
            on_cut=lambda size: self._journal.cut(attempt, size),
            rate=self._limits.rate,
            tail=self._limits.tail,
            now=clock.now,
            veil=Veil(attempt.secrets.values()) if attempt.secrets else None,
        )
