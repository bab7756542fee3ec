"""What the corridor does when sqsjkr itself is wrong."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from servers import until
from sqsjkr import clock
from sqsjkr.app import build_worker
from sqsjkr.attempt import Attempt
from sqsjkr.backends.sqlite.queue import SQLiteQueue
from sqsjkr.config import Config
from sqsjkr.execution.command import Command
from sqsjkr.execution.registry import Registry
from sqsjkr.leases.budget import STANDARD
from sqsjkr.leases.proof import Proof
from sqsjkr.locker import NoLocker
from sqsjkr.message import Message
from sqsjkr.outcome import Reason
from sqsjkr.queue import Burial
from sqsjkr.resources import Resources
from sqsjkr.supervision.shared_state import SharedState
from sqsjkr.telemetry.stats import Stats
from sqsjkr.throttler import Claim, NoThrottler


async def test_a_bug_in_sqsjkr_costs_its_job_a_delay_and_nobody_a_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run(*_: object, **__: object) -> None:
        raise RuntimeError("nobody foresaw this")

    monkeypatch.setattr(Command, "run", run)
    async with AsyncExitStack() as stack:
        config, stats = Config(local=str(tmp_path)), Stats(slots=1)
        resources = Resources(config, stack)
        await resources.open()
        queue = resources.queue
        assert isinstance(queue, SQLiteQueue)
        [message_id] = await queue.send(['{"command": "true", "lock_id": "nightly"}'])
        worker = build_worker(config, resources, stats, SharedState())
        running = asyncio.create_task(worker.run("a worker of a test"))
        await until(lambda: stats.outcomes["broken"] == 1, description="the job met the bug")

        assert await queue.depth() == (0, 1, 0), "it comes back"
        assert await resources.locker.lock("nightly", "another", "") == 2, "its lock is free"
        assert await resources.throttler.claim(message_id, "another") is Claim.FRESH, "and so is its message"
        worker.stop("the test is over")
        await running


async def test_a_buried_message_keeps_its_claim_so_that_no_copy_of_it_runs_elsewhere(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        config, stats = Config(local=str(tmp_path)), Stats(slots=1)
        resources = Resources(config, stack)
        await resources.open()
        queue, claims = resources.queue, []
        assert isinstance(queue, SQLiteQueue)
        bury = queue.bury

        async def watched(message: Message, burial: Burial) -> bool:
            claims.append(await resources.throttler.claim(message.id, "another"))
            return await bury(message, burial)

        queue.bury = watched  # type: ignore[method-assign]
        too_long = "x" * 200_000
        [message_id] = await queue.send([f'{{"command": "{too_long}"}}'])
        worker = build_worker(config, resources, stats, SharedState())
        running = asyncio.create_task(worker.run("a worker of a test"))
        await until(lambda: stats.outcomes["unstartable"] == 1, description="the job could not be started")
        assert claims == [Claim.BUSY]
        assert await queue.depth() == (0, 0, 1)
        assert await resources.throttler.claim(message_id, "another") is Claim.DONE
        worker.stop("the test is over")
        await running


class Interrupted:
    """A command that never ends, and remembers why it should have."""

    def __init__(self) -> None:
        self.interrupted: Reason | None = None
        self.kill_after = 0.0

    def interrupt(self, reason: Reason, *, kill_after: float) -> None:
        self.interrupted = self.interrupted or reason
        self.kill_after = kill_after


class Queue:
    """A queue that hides what it hands out."""

    def hidden_until(self, message: Message) -> float:
        return float("inf")

    async def still_holds(self, message: Message) -> bool:
        return True


def an_attempt(*, locked: bool) -> Attempt:
    attempt = Attempt(Message(id="m", body="", sent_at=0.0, age=0.0, received_at=clock.now()), "mark")
    attempt.locked = locked
    return attempt


def test_a_lease_that_lapsed_and_was_healed_is_still_due_for_the_guard() -> None:
    """Else a worker that cannot end its unproven jobs would never be ended itself."""

    class Lapsed(NoLocker):
        def proven_until(self) -> float:
            return float("-inf")

    registry = Registry(Proof(Lapsed(), NoThrottler(), Queue()), budget=STANDARD, kill_after=8.0)
    command = Interrupted()
    assert registry.end_overdue(100.0) == float("inf"), "nothing runs"
    registry.enter(an_attempt(locked=True), command)
    assert registry.end_overdue(100.0) == 100.0
    assert registry.end_overdue(105.0) == 100.0, "it counts from when it was noticed"
    assert (command.interrupted, command.kill_after) == (Reason.LEASE, STANDARD.kill_patience)


def test_a_command_is_ended_at_its_deadline_and_not_before() -> None:
    registry = Registry(Proof(NoLocker(), NoThrottler(), Queue()), budget=STANDARD, kill_after=8.0)
    command = Interrupted()
    registry.enter(an_attempt(locked=False), command, deadline=60.0)
    registry.end_overdue(59.9)
    assert command.interrupted is None
    registry.end_overdue(60.0)
    assert (command.interrupted, command.kill_after) == (Reason.TIMEOUT, 8.0)


def test_a_command_that_starts_while_all_are_ended_is_ended_too() -> None:
    registry = Registry(Proof(NoLocker(), NoThrottler(), Queue()), budget=STANDARD, kill_after=8.0)
    registry.end_all(Reason.LAUNCHER, at_once=True)
    command = Interrupted()
    registry.enter(an_attempt(locked=False), command)
    assert (command.interrupted, command.kill_after) == (Reason.LAUNCHER, 0.0)
