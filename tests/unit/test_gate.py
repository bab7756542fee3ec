"""What the gate takes and gives back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from sqsjkr import clock
from sqsjkr.gate import Gate, Permit
from sqsjkr.intake.waiting_room import WaitingRoom
from sqsjkr.job import Job
from sqsjkr.locker import Locker, NoLocker
from sqsjkr.message import Message
from sqsjkr.outcome import Ending, Outcome
from sqsjkr.throttler import Claim, NoThrottler, Throttler


class Notebook(Throttler):
    """A throttler in memory that keeps the contract."""

    def __init__(self, **claims: str) -> None:
        self.claims: dict[str, str] = dict(claims)
        self.done: set[str] = set()

    async def claim(self, message_id: str, owner: str) -> Claim:
        if message_id in self.done:
            return Claim.DONE
        return Claim.FRESH if self.claims.setdefault(message_id, owner) == owner else Claim.BUSY

    async def confirm(self, message_id: str, owner: str) -> None:
        self.done.add(message_id)

    async def forget(self, message_id: str, owner: str) -> None:
        if self.claims.get(message_id) == owner:
            del self.claims[message_id]


class Broken(Locker):
    """A locker whose author did not read about BackendUnavailable."""

    def __init__(self) -> None:
        self.is_broken = True

    async def lock(self, lock_id: str, owner: str, event_id: str) -> int | None:
        if self.is_broken:
            raise ConnectionError("the lock server is gone")
        return 0

    async def unlock(self, lock_id: str, owner: str) -> None:
        pass


class Lapsed(NoThrottler):
    """A throttler whose lease is over."""

    def proven_until(self) -> float:
        return 0.0


@pytest.fixture
def room() -> WaitingRoom:
    return WaitingRoom(lambda message: pytest.fail(f"{message.id} was woken"), bound=10)


def a_message(*, age: float = 0.0) -> Message:
    return Message(id="m", body="{}", sent_at=0.0, age=age, received_at=clock.now())


def a_job(**fields: object) -> Job:
    return Job(**{"id": "m", "command": "true", "event_id": "m"} | fields)


async def at_once(verb: Callable[[], Awaitable[None]]) -> None:
    await verb()


async def test_a_job_that_is_buried_is_not_remembered_as_run(room: WaitingRoom) -> None:
    """Else a crash before the burial, or a queue without a dead-letter queue, would have its message deleted."""
    notebook = Notebook()
    gate = Gate(NoLocker(), notebook, room)
    permit = await gate.admit(a_job(), a_message())
    await gate.leave(permit, at_once, Ending(Outcome.UNSTARTABLE))
    assert (notebook.claims, notebook.done) == ({}, set())


async def test_a_job_that_ended_by_itself_is_remembered(room: WaitingRoom) -> None:
    notebook = Notebook()
    gate = Gate(NoLocker(), notebook, room)
    permit = await gate.admit(a_job(), a_message())
    await gate.leave(permit, at_once, Ending(Outcome.ERRORED))
    assert notebook.done == {"m"}


async def test_a_lockers_unforeseen_error_runs_nothing_and_blocks_nothing(room: WaitingRoom) -> None:
    locker = Broken()
    gate = Gate(locker, Notebook(), room)
    refused = await gate.admit(a_job(lock_id="nightly"), a_message())
    assert refused.refusal is not None
    assert refused.refusal.outcome is Outcome.UNANSWERED
    assert "the lock server is gone" in refused.refusal.detail
    await gate.leave(refused, at_once, refused.refusal)
    locker.is_broken = False
    assert (await gate.admit(a_job(lock_id="nightly"), a_message())).refusal is None


@pytest.mark.parametrize(
    "job",
    [a_job(life_time=1.0), a_job(lock_id="nightly", abort_if_locked=True)],
    ids=["too old", "to be given up if locked"],
)
async def test_a_copy_of_a_running_job_is_never_refused_for_good(room: WaitingRoom, job: Job) -> None:
    """Whoever deletes the copy loses the job if the worker that runs it dies."""

    class Taken(NoLocker):
        async def lock(self, lock_id: str, owner: str, event_id: str) -> int | None:
            return None

    permit = await Gate(Taken(), Notebook(m="another worker"), room).admit(job, a_message(age=100.0))
    assert permit.refusal is not None
    assert permit.refusal.outcome is Outcome.BUSY


async def test_a_copy_that_is_too_old_waits_for_the_one_that_runs(room: WaitingRoom) -> None:
    gate = Gate(NoLocker(), Notebook(m="another worker"), room)
    permit = await gate.admit(a_job(life_time=1.0), a_message(age=100.0))
    assert permit.refusal is not None
    assert gate.wait(permit, permit.refusal)
    room.tick()  # wakes nobody: the fixture would fail
    assert len(room) == 1


async def test_a_job_whose_message_is_deleted_needs_no_proof(room: WaitingRoom) -> None:
    """``ack = "start"``: nobody can be handed it, so an outage of the table must not end it."""
    gate = Gate(NoLocker(), Lapsed(), room)
    permit = Permit(a_job(), a_message(), "me")
    assert gate.proven_until(permit, hidden_until=0.0) == 0.0
    permit.deleted = True
    assert gate.proven_until(permit, hidden_until=0.0) == float("inf")


async def test_two_jobs_of_one_worker_exclude_each_other_before_the_locker_is_asked(room: WaitingRoom) -> None:
    gate = Gate(NoLocker(), NoThrottler(), room)
    first, second = await asyncio.gather(*(gate.admit(a_job(lock_id="nightly"), a_message()) for _ in range(2)))
    assert first.refusal is None
    assert second.refusal is not None
    assert second.refusal.outcome is Outcome.LOCKED


class Slow(Notebook):
    """A throttler that answers when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.may_answer = asyncio.Event()

    async def claim(self, message_id: str, owner: str) -> Claim:
        await self.may_answer.wait()
        return await super().claim(message_id, owner)


@pytest.mark.parametrize("runs", [True, False], ids=["a job that runs", "a copy that does not"])
async def test_a_job_gives_up_for_a_lock_that_a_job_runs_under_and_for_no_other(
    room: WaitingRoom, *, runs: bool
) -> None:
    throttler = Slow()
    if not runs:
        throttler.done.add("m")
    gate = Gate(NoLocker(), throttler, room)
    first = asyncio.create_task(gate.admit(a_job(lock_id="nightly"), a_message()))
    await asyncio.sleep(0)
    cautious = a_job(id="n", lock_id="nightly", abort_if_locked=True)
    second = asyncio.create_task(
        gate.admit(cautious, Message(id="n", body="{}", sent_at=0.0, age=0.0, received_at=clock.now()))
    )
    await asyncio.sleep(0)
    throttler.may_answer.set()
    permit = await first
    assert (permit.refusal is None) is runs
    if permit.refusal:
        await gate.leave(permit, at_once, permit.refusal)
    refusal = (await second).refusal
    assert (refusal and refusal.outcome) is (Outcome.ABORTED if runs else None)


async def test_what_may_be_a_copy_is_claimed_before_it_is_locked(room: WaitingRoom) -> None:
    """Or it would have the lock for a moment, and a job that gives up if locked would do so for nothing."""

    class Watched(NoLocker):
        async def lock(self, lock_id: str, owner: str, event_id: str) -> int | None:
            pytest.fail("the lock was asked for")

    copy = Message(id="m", body="{}", sent_at=0.0, age=0.0, received_at=clock.now(), receive_count=2)
    permit = await Gate(Watched(), Notebook(m="another worker"), room).admit(a_job(lock_id="nightly"), copy)
    assert permit.refusal is not None
    assert permit.refusal.outcome is Outcome.BUSY


async def test_a_locker_that_fails_to_unlock_leaves_nobody_waiting(room: WaitingRoom) -> None:
    class Stuck(NoLocker):
        async def unlock(self, lock_id: str, owner: str) -> None:
            raise ConnectionError("the lock server is gone")

    gate = Gate(Stuck(), Notebook(m="another worker"), room)
    permit = await gate.admit(a_job(lock_id="nightly"), a_message())
    assert permit.refusal is not None
    with pytest.raises(ConnectionError):
        await gate.leave(permit, at_once, permit.refusal)
    cautious = a_job(id="n", lock_id="nightly", abort_if_locked=True)
    other = Message(id="n", body="{}", sent_at=0.0, age=0.0, received_at=clock.now())
    assert (await asyncio.wait_for(gate.admit(cautious, other), 5)).refusal is None
