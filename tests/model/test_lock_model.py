"""Model check of locks and claims: three workers, one table, bad weather, and every order of events Hypothesis finds.

A job that begins while another of its lock_id, or of its message, may still be alive is a breach (``World.begin``).
So is a fencing token that did not grow, and a job that runs again after it was confirmed.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from memory_table import MemoryTable
from model.network import PLANS, Weather
from model.world import Breach, Job, Worker, World
from sqsjkr.leases.budget import STANDARD, LeaseBudget
from sqsjkr.leases.session import Beats, Session, Sightings

BEAT_EVERY, LEASE, POLL = STANDARD.heartbeat_every, STANDARD.lease, STANDARD.waiter_retry

MODEL = settings(
    max_examples=200,
    stateful_step_count=30,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
WEATHERS = [Weather.FAIR, *PLANS]
which = st.integers(0, 2)
"""One of the three workers."""


class Locks(RuleBasedStateMachine):
    """Three hosts with clocks ten minutes apart, one 5 % slow and one 5 % fast."""

    make_world: Callable[[], World] = World

    def __init__(self) -> None:
        super().__init__()
        self.world = type(self).make_world()
        self.workers = [
            self.world.add("a", rate=0.95, offset=-600.0),
            self.world.add("b", rate=1.05, offset=600.0),
            self.world.add("c"),
        ]
        self.restarts = self.messages = 0

    @rule(worker=which, lock_id=st.sampled_from(["report", "report", None]), old=st.booleans())
    def a_message_is_delivered(self, worker: int, lock_id: str | None, old: bool) -> None:
        """A new one, or the last one again."""
        self.messages += not old
        if self.workers[worker].waiting < 3:
            self.workers[worker].wait(lock_id, f"{lock_id} {self.messages}")
        self.world.settle()

    @rule(worker=which, count=st.integers(2, 4), old=st.booleans())
    def messages_are_delivered_together(self, worker: int, count: int, old: bool) -> None:
        """Their claims travel in one request. Some may be copies of the last ones."""
        first = self.messages + (0 if old else 1)
        self.messages = first + count - 1
        for number in range(first, first + count):
            self.workers[worker].run(None, f"None {number}")
        self.world.settle()

    @rule(worker=which)
    def a_job_ends(self, worker: int) -> None:
        self.end_jobs(self.workers[worker])
        self.world.settle()

    @rule(worker=which, weather=st.sampled_from(WEATHERS))
    def the_weather_changes(self, worker: int, weather: Weather) -> None:
        self.workers[worker].weather = weather

    @rule(worker=which)
    def a_worker_freezes_or_thaws(self, worker: int) -> None:
        if self.workers[worker].frozen:
            self.world.thaw(self.workers[worker])
        else:
            self.world.freeze(self.workers[worker])

    @rule(worker=which)
    def a_worker_crashes_and_another_starts(self, worker: int) -> None:
        self.workers[worker].crash()
        self.restarts += 1
        self.workers[worker] = self.world.add(f"{self.workers[worker].name}{self.restarts}-")

    @rule(index=st.integers(0, 9))
    def a_request_arrives_late_or_again(self, index: int) -> None:
        if self.world.late:
            self.world.arrive(self.world.late[-1 - index % len(self.world.late)])
            self.world.settle()

    @rule(seconds=st.sampled_from([0.5, 4.0, 11.0, 21.0]))
    def time_passes(self, seconds: float) -> None:
        self.world.advance(seconds)

    @rule(seconds=st.sampled_from([8.0, 16.0, 40.0]))
    def much_time_passes(self, seconds: float) -> None:
        self.world.advance(seconds)

    def teardown(self) -> None:
        try:
            self.every_lock_is_free_soon()
        finally:
            self.world.close()

    def every_lock_is_free_soon(self) -> None:
        """When the weather is fair again and nobody wants anything any more, whatever happened before."""
        self.world.is_ending = True
        for worker in self.workers:
            worker.weather = Weather.FAIR
            if worker.frozen:
                self.world.thaw(worker)
        for _ in range(10):  # what is under way gives up and is tried once more; what begins ends
            self.world.advance(POLL)
            self.end_jobs(*self.workers)
        self.world.advance(1.0)
        assert not any(worker.waiting for worker in self.workers if not worker.dead)
        until_locked(self.world.add("last"), within=LEASE / 0.95 + BEAT_EVERY + 2 * POLL)

    def end_jobs(self, *workers: Worker) -> None:
        for worker in workers:
            if not worker.frozen:
                for job in list(worker.jobs):
                    worker.end(job)


def until_locked(worker: Worker, *, within: float, lock_id: str = "report") -> Job:
    """Ask for the lock as a waiter does; the job that got it."""
    world = worker.world
    for attempt in range(int(within / POLL) + 1):
        job = worker.run(lock_id, f"{worker.name} waits {attempt}")
        world.advance(0.1)
        if job.alive:
            return job
        world.advance(POLL - 0.1)
    raise Breach(f"left behind: {lock_id} is not free after {within:g} s")


def until_claimed(worker: Worker, message_id: str, *, within: float) -> Job:
    """Ask for the message as the queue delivers it; the job that ran."""
    world = worker.world
    for _ in range(int(within / POLL) + 1):
        job = worker.run(None, message_id)
        world.advance(0.1)
        if job.alive:
            return job
        world.advance(POLL - 0.1)
    raise Breach(f"left behind: {message_id} has not run after {within:g} s")


def check_model(make_world: Callable[[], World]) -> None:
    """Run the model in such worlds. Raises ``Breach`` with the steps that lead to it."""

    class Model(Locks):
        pass

    Model.make_world = staticmethod(make_world)
    run_state_machine_as_test(Model, settings=MODEL)


def test_two_never_run_at_once_and_no_lock_is_left_behind() -> None:
    check_model(World)


# A model that cannot fail proves nothing. Each class below breaks one rule of the product, and the model must see it.


class DeletesTheRow(MemoryTable):
    async def release_lock(self, lock_id: str, owner: str) -> None:
        if (lock := self.rows.locks.get(lock_id)) and lock.owner == owner:
            del self.rows.locks[lock_id]


class FirstSightings(Sightings):
    def __init__(self, beats: Beats, lease: float, now: Callable[[], float]) -> None:
        super().__init__(beats, lease, now)
        self._first: dict[str, float] = {}

    async def is_dead(self, session_id: str) -> bool:
        return self._now() - self._first.setdefault(session_id, self._now()) >= LEASE


class TrustsItsFirstSighting(Session):
    def __init__(self, beats: Beats, *, budget: LeaseBudget, now: Callable[[], float]) -> None:
        super().__init__(beats, budget=budget, now=now)
        self.sightings = FirstSightings(beats, budget.lease, now)


@pytest.mark.parametrize(
    ("make_world", "breach"),
    [
        (lambda: World(table=DeletesTheRow()), "fencing token"),
        (lambda: World(make_session=TrustsItsFirstSighting), "two at once"),
        (lambda: World(make_owner=lambda worker, _: worker.name), "two at once"),
    ],
    ids=["delete the row", "trust a sighting", "own as a worker"],
)
def test_the_model_sees_a_broken_rule(make_world: Callable[[], World], breach: str) -> None:
    with pytest.raises(Breach, match=breach):
        check_model(make_world)
