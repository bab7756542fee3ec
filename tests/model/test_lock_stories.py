"""The rules of leases one by one: what happens in the worst case, and what would happen without the rule.

Each story is told twice: with the product's rules it ends well, and with its one rule broken it is a breach.
docs/explanation/leases.md points here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from memory_table import MemoryTable
from model.network import PATIENCE, Weather
from model.test_lock_model import POLL, until_claimed, until_locked
from model.world import TICK, Breach, Job, World
from sqsjkr.leases.budget import STANDARD, LeaseBudget
from sqsjkr.leases.session import Session
from sqsjkr.leases.table import Row

BEAT_EVERY = STANDARD.heartbeat_every


class Unchecked(LeaseBudget):
    """A budget under which two jobs can overlap."""

    def check(self) -> None:
        """Accept it all the same."""


class UnlocksForAnyone(MemoryTable):
    async def release_lock(self, lock_id: str, owner: str) -> None:
        lock = self.rows.locks.get(lock_id)
        if lock is not None:
            lock.owner, lock.released = None, owner


class TakesOverFromAnyone(MemoryTable):
    async def take_lock(
        self, lock_id: str, owner: str, event_id: str, *, over: str | None, message_id: str = ""
    ) -> int | Row:
        there = self.rows.locks.get(lock_id)
        seen = there.owner if over and there else over
        return await super().take_lock(lock_id, owner, event_id, over=seen, message_id=message_id)


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    yield world
    world.close()


def running(world: World) -> list[Job]:
    return [job for job in world.running if job.alive]


def cut_off(world: World) -> None:
    """A worker loses the table while its job runs, and two others wait for the lock. Later it comes back."""
    a, b = world.add("a", rate=0.95, offset=600.0), world.add("b", rate=1.05, offset=-600.0)
    c = world.add("c", rate=1.05, offset=-600.0)
    job = a.run("report", "m1")
    b.wait("report", "m2")
    c.wait("report", "m3")
    world.advance(60.0)
    assert job.alive, "a lease that is renewed must last"
    a.weather = Weather.LOST
    world.advance(16.0)
    assert job.alive, "a job is not ended before it must be"
    world.advance(44.0)
    assert [one.message_id for one in running(world)] == ["m2"]
    a.weather = Weather.FAIR
    world.advance(30.0)
    assert [one.message_id for one in running(world)] == ["m2"], "its late unlock is not its own any more"


def answered_late(world: World) -> None:
    """The table is so slow that the lease is over when the lock is answered, and the lock taken over already."""
    a, b = world.add("a"), world.add("b")
    a.run("other", "m1")
    b.wait("other", "m2")
    world.advance(BEAT_EVERY + 2 * TICK)
    a.weather = Weather.LOST
    world.advance(17.9)  # the lease has two seconds to go
    a.weather = Weather.TRICKLING
    a.run("report", "m3")
    world.settle()
    a.weather = Weather.LOST
    world.advance(0.2)
    b.wait("report", "m4")
    world.advance(18.7)
    a.weather = Weather.FAIR  # just before the answer
    world.advance(10.0)
    assert sorted(one.message_id for one in running(world)) == ["m2", "m4"]


def back_again(world: World) -> None:
    """A worker that was cut off comes back, still under its name, and takes a lock at once."""
    a, b = world.add("a"), world.add("b")
    a.hides = True
    a.run(None, "m1")
    a.run("other", "m2")
    b.wait("other", "m3")
    world.advance(20.0)
    a.weather = Weather.LOST
    world.advance(60.0)
    a.weather = Weather.FAIR
    a.run("report", "m4")
    world.settle()
    b.run("report", "m5")
    world.advance(1.0)
    assert sorted(one.lock_id or "" for one in running(world)) == ["", "other", "report"]


def suspended(world: World) -> None:
    """A whole host sleeps, its launcher too; when it wakes, its lock has been taken over and given back."""
    a, b = world.add("a"), world.add("b")
    job = a.run("report", "m1")
    b.wait("report", "m2")
    a.is_unguarded = True
    a.hangs_until = a.host.clock + 66.0  # a beat renews the lease before anybody looks at it again
    world.advance(2.0)
    world.freeze(a, suspend=True)
    world.advance(60.0)
    b.end(running(world)[-1])
    world.advance(1.0)
    world.thaw(a)
    world.advance(3.0 + TICK + STANDARD.kill_patience)
    assert job.outcome == "interrupted", "what was lost stays lost"


def arrived_late(world: World) -> None:
    """A lock request without an answer arrives long after its release; its worker lives and holds other things."""
    a, b = world.add("a"), world.add("b")
    a.run("other", "m1")
    world.settle()
    a.weather = Weather.LOST
    job = a.run("report", "m2")
    world.settle()
    request = world.late[-1]
    world.advance(10.0)
    a.weather = Weather.FAIR
    world.advance(15.0)
    assert job.outcome == "unanswered"
    world.advance(200.0)
    world.arrive(request)
    assert b.run("report", "m3").outcome != "ran"
    until_locked(b, within=120.0)


def tried_twice(world: World) -> None:
    """A slow answer was a second try's; the first arrives when another worker has had the lock in between."""
    a, b = world.add("a"), world.add("b")
    a.run("other", "m1")
    world.settle()
    a.weather = Weather.TRICKLING
    job = a.run("report", "m2")
    world.settle()
    request = world.late[-1]
    a.weather = Weather.FAIR
    world.advance(20.0)
    assert job.alive
    a.end(job)
    world.advance(1.0)
    b.end(until_locked(b, within=0.0))
    world.advance(1.0)
    world.arrive(request)
    until_locked(b, within=400.0)


def batch_arrived_late(world: World) -> None:
    """The claims of three messages travel in one request; it arrives when each was given back, unanswered."""
    a, b = world.add("a"), world.add("b")
    a.run("other", "m1")
    world.settle()
    a.weather = Weather.LOST
    jobs = [a.run(None, message) for message in ("m2", "m3", "m4")]
    world.settle()
    request = world.late[-1]
    world.advance(10.0)
    a.weather = Weather.FAIR
    world.advance(15.0)
    assert [job.outcome for job in jobs] == ["unanswered"] * 3
    world.advance(200.0)
    world.arrive(request)
    assert [b.run(None, job.message_id).outcome for job in jobs] != ["ran"] * 3
    for job in jobs:
        until_claimed(b, job.message_id, within=400.0)


def batch_answered_never(world: World) -> None:
    """The table has taken a batch of claims, and its worker never learns it: others run the jobs, once each."""
    a, b = world.add("a"), world.add("b")
    a.weather = Weather.MUTE
    jobs = [a.run(None, message) for message in ("m1", "m2", "m3")]
    world.advance(1.0)
    for job in jobs:
        b.wait(None, job.message_id)
    world.advance(PATIENCE - 2.0)
    assert not running(world), "they may be a's"
    a.weather = Weather.FAIR
    world.advance(2 * POLL)
    assert sorted(one.message_id for one in running(world)) == ["m1", "m2", "m3"]


Story = Callable[[World], None]
STORIES = [
    cut_off,
    answered_late,
    back_again,
    suspended,
    arrived_late,
    tried_twice,
    batch_arrived_late,
    batch_answered_never,
]


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
def test_the_story_ends_well(world: World, story: Story) -> None:
    story(world)


@pytest.mark.parametrize("table", [UnlocksForAnyone(), TakesOverFromAnyone()], ids=["unlock", "takeover"])
def test_writes_without_a_condition_overlap(world: World, table: MemoryTable) -> None:
    world.table = table
    with pytest.raises(Breach, match="two at once"):
        cut_off(world)


@pytest.mark.parametrize(
    "broken", [{"trusted": 30.0}, {"trusted": 45.0}, {"kill_patience": 12.0, "guard_margin": 12.0}]
)
def test_a_job_that_is_ended_only_when_the_lease_is_over_overlaps(world: World, broken: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="lease budget: trusted"):
        STANDARD.but(**broken)
    world.budget = Unchecked(**broken)
    with pytest.raises(Breach, match="two at once"):
        cut_off(world)


def test_a_late_answer_that_is_believed_overlaps(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Session, "check", lambda _self, _token: None)
    world.gates_check = False
    with pytest.raises(Breach, match="two at once"):
        answered_late(world)


def test_a_lapsed_session_that_does_not_beat_first_is_taken_for_dead(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hold(self: Session, token: str) -> str:
        if not self.name:
            self.name = "a name for life"
        self._proof = max(self._proof, self.now() - BEAT_EVERY)
        return self._held.setdefault(token, self.name)

    monkeypatch.setattr(Session, "hold", hold)
    with pytest.raises(Breach, match="two at once"):
        back_again(world)


def test_a_lapse_that_a_later_beat_heals_overlaps(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Session, "lost", lambda _self, _kind: False)
    with pytest.raises(AssertionError, match="what was lost stays lost"):
        suspended(world)


def test_a_request_that_arrives_late_blocks_its_lock_without_echoes(world: World) -> None:
    world.budget = STANDARD.but(first_echo=1e6, claim_pace=0.0)
    with pytest.raises(Breach, match="left behind"):
        arrived_late(world)


def test_a_batch_that_arrives_late_blocks_its_messages_without_echoes(world: World) -> None:
    world.budget = STANDARD.but(first_echo=1e6, claim_pace=0.0)
    with pytest.raises(Breach, match="left behind"):
        batch_arrived_late(world)


def test_a_first_try_that_arrives_late_blocks_its_lock_without_echoes(world: World) -> None:
    world.budget = STANDARD.but(slow=float("inf"), claim_pace=0.0)
    with pytest.raises(Breach, match="left behind"):
        tried_twice(world)
