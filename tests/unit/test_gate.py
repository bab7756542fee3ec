"""What the gate takes and gives back."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from sqsjkr import clock
from sqsjkr.attempt import Attempt
from sqsjkr.errors import BackendUnavailable
from sqsjkr.gate import Gate
from sqsjkr.intake.brake import Brake
from sqsjkr.intake.waiting_room import WaitingRoom
from sqsjkr.job import Job
from sqsjkr.leases.budget import STANDARD
from sqsjkr.leases.proof import Proof
from sqsjkr.locker import Locker, NoLocker
from sqsjkr.message import Message
from sqsjkr.outcome import Ending, Outcome, Reason, Settlement
from sqsjkr.policy import Limits, Policy
from sqsjkr.runs import Holder, Run
from sqsjkr.telemetry.events import Event
from sqsjkr.telemetry.outage import Outage
from sqsjkr.throttler import Answer, Claim, NoThrottler, Throttler

NUMBERS = itertools.count()


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


class Taken(NoLocker):
    """A locker whose every lock another host holds."""

    async def lock(self, lock_id: str, owner: str, event_id: str) -> int | None:
        return None


class Lapsed(NoThrottler):
    """A throttler whose lease is over."""

    def proven_until(self) -> float:
        return 0.0


@pytest.fixture
def room() -> WaitingRoom:
    return WaitingRoom(bound=10)


def a_gate(
    locker: Locker,
    throttler: Throttler,
    room: WaitingRoom,
    *,
    hidden_until: float = float("inf"),
    holds: bool = True,
) -> Gate:
    """A gate with nothing around it but a queue that hides its messages, and ``holds`` them or not."""

    class Hiding:
        def hidden_until(self, message: Message) -> float:
            return hidden_until

        async def still_holds(self, message: Message) -> bool:
            return holds

    table = Outage("the lock table", Event.TABLE_UNREACHABLE, Event.TABLE_RECOVERED)
    host = Outage("starting jobs", Event.HOST_EXHAUSTED, Event.HOST_RECOVERED)
    brake = Brake(table, host, log=None, table_is_probed=False)
    return Gate(locker, throttler, room, brake, Proof(locker, throttler, Hiding()), Policy(Limits()), budget=STANDARD)


def an_attempt(
    message_id: str = "m", *, age: float = 0.0, receive_count: int = 1, held: float = 0.0, **fields: object
) -> Attempt:
    """An attempt at a job with these fields, whose message arrived ``held`` seconds ago."""
    message = Message(
        id=message_id,
        body="{}",
        sent_at=0.0,
        age=age,
        received_at=clock.now() - held,
        receive_count=receive_count,
    )
    attempt = Attempt(message, f"attempt {next(NUMBERS)}")
    attempt.job = Job(**{"id": message_id, "command": "true", "event_id": message_id} | fields)
    return attempt


async def give_back(gate: Gate, attempt: Attempt, *, done: bool = False) -> None:
    if attempt.locked:
        await gate.give_back_lock(attempt)
    if attempt.claimed:
        await gate.give_back_claim(attempt, done=done)


def outcome_of(refusal: Ending | None) -> Outcome | None:
    return refusal.outcome if refusal else None


async def test_a_claim_that_is_given_back_is_fresh_for_the_next_delivery(room: WaitingRoom) -> None:
    notebook, attempt = Notebook(), an_attempt()
    gate = a_gate(NoLocker(), notebook, room)
    assert await gate.admit(attempt) is None
    await give_back(gate, attempt)
    assert (notebook.claims, notebook.done) == ({}, set())


async def test_a_job_that_ended_by_itself_is_remembered(room: WaitingRoom) -> None:
    notebook, attempt = Notebook(), an_attempt()
    gate = a_gate(NoLocker(), notebook, room)
    assert await gate.admit(attempt) is None
    await give_back(gate, attempt, done=True)
    assert notebook.done == {"m"}


class Remembers(NoThrottler):
    """A throttler that gives one answer, and keeps the facts that come with the question."""

    remembers = True

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.runs: list[Run] = []

    async def begin(self, run: Run, owner: str, *, age: float) -> Answer:
        self.runs.append(run)
        return self.answer


async def test_a_job_whose_time_has_not_come_goes_back_until_then(room: WaitingRoom) -> None:
    gate = a_gate(NoLocker(), Remembers(Answer(claim=Claim.EARLY, due=100.0)), room)
    refusal = await gate.admit(an_attempt(age=40.0))
    assert refusal is not None
    assert refusal.outcome is Outcome.EARLY
    assert refusal.delay == pytest.approx(60.0, abs=5.0)


async def test_a_cancelled_job_does_not_start_and_says_by_whom(room: WaitingRoom) -> None:
    gate = a_gate(NoLocker(), Remembers(Answer(claim=Claim.DONE, cancelled_by="alice")), room)
    refusal = await gate.admit(an_attempt())
    assert refusal == Ending(Outcome.CANCELLED, "by alice, before it started")


async def test_an_attempt_learns_what_went_before_it(room: WaitingRoom) -> None:
    throttler = Remembers(Answer(claim=Claim.FRESH, failures=2, crashes=1))
    attempt = an_attempt(age=40.0, retries=2)
    assert await a_gate(NoLocker(), throttler, room).admit(attempt) is None
    assert (attempt.failures, attempt.crashes) == (2, 1)
    (run,) = throttler.runs
    assert (run.message_id, run.attempt, run.command, run.event_id) == ("m", attempt.id, "true", "m")
    assert run.begun_at == pytest.approx(40.0, abs=5.0)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (Answer(claim=Claim.FRESH, failures=3), "its 2 retries are used up"),
        (Answer(claim=Claim.FRESH, crashes=6), "6 workers died while they ran it"),
    ],
)
async def test_a_job_that_has_had_its_tries_is_not_started(room: WaitingRoom, answer: Answer, why: str) -> None:
    refusal = await a_gate(NoLocker(), Remembers(answer), room).admit(an_attempt(retries=2))
    assert refusal is not None
    assert (refusal.outcome, refusal.detail) == (Outcome.DEAD, why)


@pytest.mark.parametrize(("age", "pause"), [(1000.0, 125.0), (2 * 3600.0, 900.0), (13 * 3600.0, 900.0)])
async def test_a_copy_of_a_job_that_a_live_worker_runs_goes_back_for_up_to_a_quarter_of_an_hour(
    room: WaitingRoom, age: float, pause: float
) -> None:
    """Four deliveries an hour, however long the job takes."""
    alive = Remembers(Answer(claim=Claim.BUSY, alive_at=clock.now()))
    refusal = await a_gate(NoLocker(), alive, room).admit(an_attempt(age=age, receive_count=2, held=1.0))
    assert refusal is not None
    assert (refusal.outcome, refusal.settlement) == (Outcome.BUSY, Settlement.RETRY)
    assert refusal.delay == pytest.approx(pause, abs=1.0)


async def test_a_copy_of_a_job_whose_worker_may_be_dead_waits_here(room: WaitingRoom) -> None:
    """That it was alive before the copy arrived is no news: it may have died since, and the copy is the job."""
    may_be_dead = Remembers(Answer(claim=Claim.BUSY, alive_at=clock.now() - 2.0))
    refusal = await a_gate(NoLocker(), may_be_dead, room).admit(an_attempt(age=7200.0, receive_count=2, held=1.0))
    assert refusal is not None
    assert (refusal.outcome, refusal.settlement) == (Outcome.BUSY, Settlement.KEEP)


async def test_a_copy_of_a_job_that_has_just_begun_waits_here_for_its_end(room: WaitingRoom) -> None:
    alive = Remembers(Answer(claim=Claim.BUSY, alive_at=clock.now()))
    refusal = await a_gate(NoLocker(), alive, room).admit(an_attempt(age=900.0, receive_count=2, held=1.0))
    assert refusal is not None
    assert (refusal.outcome, refusal.settlement) == (Outcome.BUSY, Settlement.KEEP)


async def test_where_nobody_counts_failures_deliveries_bound_them_and_one_try_is_left(room: WaitingRoom) -> None:
    gate = a_gate(NoLocker(), NoThrottler(), room)
    for delivery, failures in ((1, 0), (2, 1), (3, 2), (9, 2)):
        attempt = an_attempt(retries=2, receive_count=delivery)
        assert await gate.admit(attempt) is None
        assert attempt.failures == failures


async def test_a_job_is_not_admitted_before_its_time_and_nothing_is_taken_for_it(room: WaitingRoom) -> None:
    attempt = an_attempt(age=40.0, lock_id="nightly", not_before=100.0)
    refusal = await a_gate(NoLocker(), Notebook(), room).admit(attempt)
    assert refusal is not None
    assert refusal.outcome is Outcome.EARLY
    assert refusal.delay == pytest.approx(60.0, abs=5.0)
    assert not attempt.asked


async def test_a_lockers_unforeseen_error_runs_nothing_and_blocks_nothing(room: WaitingRoom) -> None:
    locker, attempt = Broken(), an_attempt(lock_id="nightly")
    gate = a_gate(locker, Notebook(), room)
    refusal = await gate.admit(attempt)
    assert refusal is not None
    assert refusal.outcome is Outcome.UNANSWERED
    assert "the lock server is gone" in refusal.detail
    await give_back(gate, attempt)
    locker.is_broken = False
    assert await gate.admit(an_attempt(lock_id="nightly")) is None


@pytest.mark.parametrize(
    "fields",
    [{"life_time": 1.0}, {"lock_id": "nightly", "abort_if_locked": True}],
    ids=["too old", "to be given up if locked"],
)
async def test_a_copy_of_a_running_job_is_never_refused_for_good(room: WaitingRoom, fields: dict[str, object]) -> None:
    """Deleting the copy would lose the job if the worker that runs it dies."""
    gate = a_gate(Taken(), Notebook(m="another worker"), room)
    assert outcome_of(await gate.admit(an_attempt(age=100.0, **fields))) is Outcome.BUSY


REFUSED = Ending(Outcome.REFUSED, "nobody may ask for this")


async def test_a_refusal_of_the_reader_is_claimed_before_it_is_given_and_asks_for_no_lock(room: WaitingRoom) -> None:
    notebook, attempt = Notebook(), an_attempt(lock_id="nightly")
    attempt.refusal = REFUSED
    assert await a_gate(Broken(), notebook, room).admit(attempt) == REFUSED
    assert notebook.claims == {"m": attempt.id}
    assert attempt.claimed


async def test_a_copy_of_a_running_job_is_not_refused_whatever_the_policy_here_says(room: WaitingRoom) -> None:
    attempt = an_attempt()
    attempt.refusal = REFUSED
    assert outcome_of(await a_gate(NoLocker(), Notebook(m="another worker"), room).admit(attempt)) is Outcome.BUSY


async def test_a_copy_of_a_job_that_runs_under_another_key_is_not_refused(room: WaitingRoom) -> None:
    """It is signed, and a worker with another policy runs it under the signature's id."""
    attempt = an_attempt()
    attempt.refusal, attempt.rival_key = REFUSED, "jti:key/one"
    notebook = Notebook(**{"jti:key/one": "another worker"})
    assert outcome_of(await a_gate(NoLocker(), notebook, room).admit(attempt)) is Outcome.BUSY
    assert notebook.claims == {"jti:key/one": "another worker"}
    assert not attempt.claimed


async def test_a_forged_copy_uses_up_no_key_but_its_own(room: WaitingRoom) -> None:
    attempt = an_attempt()
    attempt.refusal, attempt.rival_key = REFUSED, "jti:key/one"
    notebook = Notebook()
    assert await a_gate(NoLocker(), notebook, room).admit(attempt) == REFUSED
    assert notebook.claims == {"m": attempt.id}
    assert attempt.claim_key == "m"


async def test_a_question_about_another_key_that_is_not_answered_is_given_back(room: WaitingRoom) -> None:
    class Silent(Notebook):
        async def forget(self, message_id: str, owner: str) -> None:
            raise BackendUnavailable("no answer")

    attempt, notebook = an_attempt(), Silent()
    attempt.refusal, attempt.rival_key = REFUSED, "jti:key/one"
    assert outcome_of(await a_gate(NoLocker(), notebook, room).admit(attempt)) is Outcome.UNANSWERED
    assert (attempt.claimed, attempt.claim_key) == (True, "jti:key/one"), "the settler gives it back"


async def test_a_claim_is_taken_and_given_back_under_the_attempts_own_key(room: WaitingRoom) -> None:
    notebook, attempt = Notebook(), an_attempt()
    attempt.claim_key = "another key"
    gate = a_gate(NoLocker(), notebook, room)
    assert await gate.admit(attempt) is None
    assert notebook.claims == {"another key": attempt.id}
    await give_back(gate, attempt)
    assert notebook.claims == {}


async def test_a_job_whose_message_is_deleted_needs_no_proof() -> None:
    """``ack = "start"``: no worker can receive it, so an outage of the table must not end it."""

    class Visible:
        def hidden_until(self, message: Message) -> float:
            return 0.0

        async def still_holds(self, message: Message) -> bool:
            return True

    attempt, proof = an_attempt(), Proof(NoLocker(), Lapsed(), Visible())
    assert proof.until(attempt) == 0.0
    attempt.deleted = True
    assert proof.until(attempt) == float("inf")


async def test_a_job_whose_lease_lapsed_while_the_gate_was_asking_does_not_start(room: WaitingRoom) -> None:
    gate = a_gate(NoLocker(), Lapsed(), room, hidden_until=0.0)
    assert outcome_of(await gate.admit(an_attempt())) is Outcome.UNANSWERED


async def test_two_jobs_of_one_worker_exclude_each_other_before_the_locker_is_asked(room: WaitingRoom) -> None:
    gate = a_gate(NoLocker(), NoThrottler(), room)
    first, second = await asyncio.gather(*(gate.admit(an_attempt(lock_id="nightly")) for _ in range(2)))
    assert first is None
    assert outcome_of(second) is Outcome.LOCKED


async def test_a_stopping_worker_admits_no_job_and_says_why(room: WaitingRoom) -> None:
    gate = a_gate(NoLocker(), NoThrottler(), room)
    gate.close(Reason.STOP)
    refusal = await gate.admit(an_attempt())
    assert refusal == Ending(Outcome.INTERRUPTED, "the worker is stopping")


async def test_a_redelivered_job_does_not_give_up_for_the_lock_of_its_own_dead_delivery() -> None:
    """It waits until a dead worker's lease is over for sure; only another job's lock is still held then."""
    time = [0.0]
    room = WaitingRoom(bound=10, now=lambda: time[0])
    gate = a_gate(Taken(), Notebook(), room)
    cautious = {"lock_id": "nightly", "abort_if_locked": True, "receive_count": 2}
    attempt = an_attempt(**cautious)
    assert outcome_of(await gate.admit(attempt)) is Outcome.LOCKED
    await give_back(gate, attempt)
    assert room.park(attempt.message, "lock nightly", expires=float("inf"))
    time[0] = STANDARD.longest_stay - 0.1
    again = an_attempt(**cautious)
    assert outcome_of(await gate.admit(again)) is Outcome.LOCKED
    await give_back(gate, again)
    time[0] = STANDARD.longest_stay
    assert outcome_of(await gate.admit(an_attempt(**cautious))) is Outcome.ABORTED
    assert outcome_of(await gate.admit(an_attempt("n", **cautious | {"receive_count": 1}))) is Outcome.ABORTED


async def test_a_job_that_met_its_copy_does_not_give_up_for_the_lock_of_that_one(room: WaitingRoom) -> None:
    """The copy ran elsewhere and was stopped: it gave back its claim, and its lock is free a lease later."""
    notebook, cautious = Notebook(m="another worker"), {"lock_id": "nightly", "abort_if_locked": True}
    gate = a_gate(Taken(), notebook, room)
    attempt = an_attempt(**cautious)
    assert outcome_of(await gate.admit(attempt)) is Outcome.BUSY
    assert room.park(attempt.message, "message m", expires=float("inf"), stay=STANDARD.longest_stay)
    notebook.claims.clear()
    for _ in range(2):
        again = an_attempt(**cautious)
        assert outcome_of(await gate.admit(again)) is Outcome.LOCKED
        await give_back(gate, again)
        assert room.park(again.message, "lock nightly", expires=float("inf"))


@pytest.mark.parametrize(("holder", "outcome"), [("m", Outcome.LOCKED), ("another", Outcome.ABORTED)])
async def test_a_job_gives_up_if_another_message_holds_its_lock_and_never_for_its_own(
    holder: str, outcome: Outcome
) -> None:
    class Held(NoLocker):
        async def acquire(self, lock_id: str, owner: str, event_id: str, message_id: str) -> int | Holder:
            return Holder(message_id=holder)

    time = [0.0]
    room = WaitingRoom(bound=10, now=lambda: time[0])
    gate = a_gate(Held(), Notebook(), room)
    for receive_count in (1, 2):
        attempt = an_attempt(lock_id="nightly", abort_if_locked=True, receive_count=receive_count)
        assert outcome_of(await gate.admit(attempt)) is outcome
        await give_back(gate, attempt)
    assert room.park(attempt.message, "lock nightly", expires=float("inf"))
    time[0] = 2 * STANDARD.longest_stay
    assert outcome_of(await gate.admit(attempt)) is outcome


@pytest.mark.parametrize(("holds", "outcome"), [(True, None), (False, Outcome.RETURNED)])
async def test_a_copy_asks_the_queue_before_it_takes_over_a_claim(
    room: WaitingRoom, *, holds: bool, outcome: Outcome | None
) -> None:
    """A worker that can't reach the table looks dead, and has deleted the message if its job has ended."""
    notebook = Notebook(m="another worker")
    gate, attempt = a_gate(NoLocker(), notebook, room, holds=holds), an_attempt(receive_count=2)
    assert outcome_of(await gate.admit(attempt)) is Outcome.BUSY
    assert room.park(attempt.message, "message m", expires=float("inf"), stay=STANDARD.longest_stay)
    notebook.claims.clear()
    assert outcome_of(await gate.admit(attempt)) is outcome


async def test_a_message_that_is_not_hidden_any_more_may_have_a_copy(room: WaitingRoom) -> None:
    """Its worker was cut off from the queue for a while: it is claimed first, and does not give up for its copy."""
    cautious = {"lock_id": "nightly", "abort_if_locked": True}
    gate = a_gate(Taken(), Notebook(), room, hidden_until=0.0)
    assert outcome_of(await gate.admit(an_attempt(**cautious))) is Outcome.LOCKED


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
    gate = a_gate(NoLocker(), throttler, room)
    attempt = an_attempt(lock_id="nightly")
    first = asyncio.create_task(gate.admit(attempt))
    await asyncio.sleep(0)
    second = asyncio.create_task(gate.admit(an_attempt("n", lock_id="nightly", abort_if_locked=True)))
    await asyncio.sleep(0)
    throttler.may_answer.set()
    assert (await first is None) is runs
    if not runs:
        await give_back(gate, attempt)
    assert outcome_of(await second) is (Outcome.ABORTED if runs else None)


async def test_what_may_be_a_copy_is_claimed_before_it_is_locked(room: WaitingRoom) -> None:
    """Or it would have the lock for a moment, and a job that gives up if locked would do so for nothing."""

    class Watched(NoLocker):
        async def lock(self, lock_id: str, owner: str, event_id: str) -> int | None:
            pytest.fail("the lock was asked for")

    gate = a_gate(Watched(), Notebook(m="another worker"), room)
    assert outcome_of(await gate.admit(an_attempt(lock_id="nightly", receive_count=2))) is Outcome.BUSY


async def test_a_locker_that_fails_to_unlock_leaves_nobody_waiting(room: WaitingRoom) -> None:
    class Stuck(NoLocker):
        async def unlock(self, lock_id: str, owner: str) -> None:
            raise ConnectionError("the lock server is gone")

    gate = a_gate(Stuck(), Notebook(m="another worker"), room)
    attempt = an_attempt(lock_id="nightly")
    assert outcome_of(await gate.admit(attempt)) is Outcome.BUSY
    with pytest.raises(ConnectionError):
        await gate.give_back_lock(attempt)
    cautious = an_attempt("n", lock_id="nightly", abort_if_locked=True)
    assert await asyncio.wait_for(gate.admit(cautious), 60) is None
