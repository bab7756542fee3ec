"""THE MAIN PATH: one message, from its delivery to its settlement. ``kick`` and ``_attempt`` are the product."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence

from sqsjkr import clock
from sqsjkr.attempt import Attempt
from sqsjkr.execution.registry import Registry
from sqsjkr.execution.runner import Runner
from sqsjkr.execution.trigger import Trigger
from sqsjkr.gate import Gate
from sqsjkr.intake.slots import Slot
from sqsjkr.journal import Journal
from sqsjkr.leases.budget import LeaseBudget
from sqsjkr.message import Message
from sqsjkr.outcome import Ending, Outcome, Reason
from sqsjkr.policy import Policy
from sqsjkr.reader import Reader
from sqsjkr.runs import Place
from sqsjkr.settler import Settler


class Kicker:
    """Carries messages through gate and shell, and has each settled exactly once.

    ``place`` is where this worker runs, for the facts of its attempts. ``delete_first`` is ``ack = "start"``: the
    message is deleted before the command starts, as in the original: at most once.
    """

    def __init__(
        self,
        reader: Reader,
        gate: Gate,
        runner: Runner,
        trigger: Trigger,
        policy: Policy,
        settler: Settler,
        registry: Registry,
        journal: Journal,
        *,
        budget: LeaseBudget,
        place: Place = Place(),  # noqa: B008 - immutable
        delete_first: bool = False,
    ) -> None:
        self._reader = reader
        self._gate = gate
        self._runner = runner
        self._trigger = trigger
        self._policy = policy
        self._settler = settler
        self._registry = registry
        self._journal = journal
        self._budget = budget
        self._place = place
        self._delete_first = delete_first
        self._prefix = os.urandom(8).hex()
        self._numbers = itertools.count(1)

    async def kick(self, message: Message, slot: Slot) -> Ending:
        """Carry one message to its settlement; return how it ended. Whatever stops this, it is delivered again."""
        attempt = Attempt(message, f"{self._prefix}{next(self._numbers):08x}", self._place)
        async with slot:  # occupied while a process of the job may run, no longer
            try:
                ending = await self._attempt(attempt)
            except Exception as bug:  # noqa: BLE001 - what was taken must be given back, whatever went wrong
                ending = Ending(Outcome.BROKEN, f"a bug in sqsjkr, please report it: {bug!r}", self._budget.pause)
        self._journal.ended(attempt, ending)
        return await self._settler.settle(attempt, ending)

    async def _attempt(self, attempt: Attempt) -> Ending:
        """Read, ask the gate, run, decide."""
        if refusal := self._reader.read(attempt) or await self._reader.complete(attempt):
            return refusal
        if refusal := await self._gate.admit(attempt):
            return await self._trigger.refused(attempt, refusal)
        if self._delete_first and (refusal := await self._settler.delete_first(attempt)):
            return refusal
        exit = await self._runner.run_job(attempt)  # noqa: A001 - the word of the field
        return self._policy.judge(attempt, exit, clock.now())

    async def hand_back(self, messages: Sequence[Message], why: str, delay: float = 0.0) -> None:
        """Settle messages that were not kicked: they are visible again in ``delay`` seconds."""
        await self._settler.hand_back(messages, why, delay)

    @property
    def reason(self) -> str:
        """Why messages can't be settled just now, on one line; "" while they can."""
        return self._settler.reason

    @property
    def unsettled(self) -> int:
        """How many messages have ended here and are not settled yet."""
        return self._settler.unsettled

    def close(self, reason: Reason) -> None:
        """Start no command any more, and let no message wait here; what runs goes on."""
        self._gate.close(reason)
        self._settler.close()

    def end_all(self, reason: Reason, *, at_once: bool = False) -> None:
        """End every running command: TERM, then KILL; or KILL at once."""
        self._registry.end_all(reason, at_once=at_once)

    def end_overdue(self, now: float) -> float:
        """End what lost its lease or ran out of time; return when the launcher must see the next locked job ended."""
        return self._registry.end_overdue(now)

    def give_up(self) -> None:
        """Retry no settlement any more, and end the hooks that still run: what is not settled comes back."""
        self._settler.give_up()
        self._registry.end_all(Reason.STOP, at_once=True)
