"""Pauses longer than SQS can hide a message, in simulated time: hours pass in an instant."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
from test_settler import Untold

from memory_queue import SQS, MemoryQueue
from memory_table import MemoryTable
from sqsjkr import clock
from sqsjkr.attempt import Attempt
from sqsjkr.execution.registry import Registry
from sqsjkr.execution.runner import Runner
from sqsjkr.execution.trigger import Trigger
from sqsjkr.gate import Gate
from sqsjkr.intake.brake import Brake
from sqsjkr.intake.slots import Slots
from sqsjkr.intake.waiting_room import WaitingRoom
from sqsjkr.journal import Journal
from sqsjkr.kicker import Kicker
from sqsjkr.leases.budget import STANDARD
from sqsjkr.leases.proof import Proof
from sqsjkr.leases.session import Session
from sqsjkr.leases.throttler import TableThrottler
from sqsjkr.locker import NoLocker
from sqsjkr.outcome import Ending, Exit, Outcome
from sqsjkr.policy import Limits, Policy
from sqsjkr.reader import Reader
from sqsjkr.settler import Settler
from sqsjkr.telemetry.events import Event
from sqsjkr.telemetry.outage import Outage
from sqsjkr.telemetry.stats import Stats

HOUR = 3600.0


class Fails(Runner):
    """Runs nothing: every job takes a second and fails."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def run_job(self, attempt: Attempt) -> Exit:
        self._world.runs.append(self._world.now)
        self._world.now += 1.0
        return Exit(status=1, seconds=1.0)


class World:
    """A queue, a table and workers, at a time that the test sets."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0
        self.sqs = SQS(lambda: self.now)
        self.queue = MemoryQueue(self.sqs)
        self.runs: list[float] = []
        """When a job was started."""
        self.endings: list[Ending] = []
        self._table = MemoryTable()

    def worker(self) -> Kicker:
        """A worker that has just been started."""
        time = lambda: self.now  # noqa: E731
        throttler = TableThrottler(self._table, Session(self._table, now=time))
        proof = Proof(NoLocker(), throttler, self.queue.visibility)
        room = WaitingRoom(bound=10, now=time)
        lost = Outage("starting jobs", Event.HOST_EXHAUSTED, Event.HOST_RECOVERED)
        brake = Brake(lost, lost, log=None, table_is_probed=False)
        policy = Policy(Limits(retention=96 * HOUR), jitter=lambda: 0.0)
        gate = Gate(NoLocker(), throttler, room, brake, proof, policy, budget=STANDARD, now=time)
        journal = Journal()
        settler = Settler(self.queue, gate, room, proof, journal, Untold(), asyncio.Event(), budget=STANDARD)
        runner = Fails(self)
        return Kicker(
            Reader(),
            gate,
            runner,
            Trigger("", runner, budget=STANDARD),
            policy,
            settler,
            Registry(proof, budget=STANDARD, kill_after=5.0),
            journal,
            budget=STANDARD,
        )

    async def deliver(self) -> Ending:
        """Wait until the message is visible, and have a new worker take it."""
        (stored,) = self.sqs.messages.values()
        self.now = max(self.now, stored.visible)
        (message,) = await self.queue.receive(10, 0.0)
        slots = Slots(1, Stats(slots=1), asyncio.Event())
        ending = await self.worker().kick(message, slots.take())
        self.endings.append(ending)
        return ending


@pytest.fixture
async def world(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    world = World()
    monkeypatch.setattr(clock, "now", lambda: world.now)
    await world.queue.open()
    yield world
    await world.queue.close()


@pytest.mark.parametrize(("hours", "hops"), [(11, 0), (13, 1), (24, 2), (90, 7)])
async def test_a_pause_beyond_twelve_hours_is_waited_out_in_hops(world: World, hours: int, hops: int) -> None:
    """No message can be hidden for longer: it is hidden for as long as possible, comes, and is hidden for the rest."""
    world.sqs.send(json.dumps({"command": "true", "retries": 1, "retry_delay": f"{hours}h"}))

    while world.sqs.messages:
        await world.deliver()

    assert [ending.outcome for ending in world.endings] == [Outcome.RETRIED, *[Outcome.EARLY] * hops, Outcome.DEAD]
    first, second = world.runs
    assert hours * HOUR + 1 <= second - first <= hours * HOUR + 5
    assert [reason.split(";")[1] for _, reason in world.sqs.dead] == [" its 1 retries are used up"]


async def test_a_job_that_is_not_to_start_for_thirteen_hours_is_hidden_until_then(world: World) -> None:
    at = world.now + 13 * HOUR
    world.sqs.send(json.dumps({"command": "true", "not_before": at, "life_time": 60}))

    while world.sqs.messages:
        await world.deliver()

    assert [ending.outcome for ending in world.endings] == [Outcome.EARLY, Outcome.EARLY, Outcome.ERRORED]
    assert at <= world.runs[0] <= at + 5


async def test_a_duplicate_at_any_moment_of_a_pause_is_early(world: World) -> None:
    world.sqs.send(json.dumps({"command": "true", "retries": 1, "retry_delay": "13h"}))
    await world.deliver()
    (stored,) = world.sqs.messages.values()

    for after in (1.0, 10.0, HOUR, 12 * HOUR):
        world.now = world.runs[0] + after
        stored.visible = world.now
        assert (await world.deliver()).outcome is Outcome.EARLY
    assert len(world.runs) == 1


async def test_no_try_is_made_in_the_last_hour_of_a_message(world: World) -> None:
    world.sqs.send(json.dumps({"command": "true", "retries": 9, "retry_delay": "40h"}))

    while world.sqs.messages:
        await world.deliver()

    assert len(world.runs) == 3, "at once, after 40 and after 80 hours; 120 would be too late"
    ((_, reason),) = world.sqs.dead
    assert reason.endswith("; the queue would drop its message before the next try")
