"""What the corridor does when sqsjkr itself is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from sqsjkr import clock
from sqsjkr.backends.sqlite.queue import SQLiteQueue
from sqsjkr.backends.sqlite.store import Store
from sqsjkr.backends.sqlite.table import SQLiteTable
from sqsjkr.execution.command import Command
from sqsjkr.gate import Gate
from sqsjkr.intake.waiting_room import WaitingRoom
from sqsjkr.job import decode
from sqsjkr.kicker import Kicker, Rules, _Running
from sqsjkr.leases.locker import TableLocker
from sqsjkr.leases.session import Session
from sqsjkr.leases.throttler import TableThrottler
from sqsjkr.locker import NoLocker
from sqsjkr.message import Message
from sqsjkr.outcome import Outcome
from sqsjkr.supervision.shared_state import SharedState
from sqsjkr.telemetry.stats import Stats
from sqsjkr.throttler import Claim, NoThrottler


async def test_a_bug_in_sqsjkr_costs_its_job_a_delay_and_nobody_a_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run(*_: object, **__: object) -> None:
        raise RuntimeError("nobody foresaw this")

    monkeypatch.setattr(Command, "run", run)
    store = Store(tmp_path)
    queue, table = SQLiteQueue(store), SQLiteTable(store)
    await queue.open()
    session = Session(table)
    locker = TableLocker(table, session)
    room = WaitingRoom(lambda _: None, bound=10)
    gate = Gate(locker, TableThrottler(table, session), room)
    kicker = Kicker(queue, gate, Stats(slots=1), SharedState(), Rules())

    await queue.send(['{"command": "true", "lock_id": "nightly"}'])
    (message,) = await queue.receive(1, 0.0)
    ending = await kicker.kick(message, lambda: None, lambda: None)

    assert ending.outcome is Outcome.BROKEN
    assert "nobody foresaw this" in ending.detail
    assert await queue.depth() == (0, 1, 0), "it comes back"
    assert await locker.lock("nightly", "another", "") == 2, "its lock is free"
    assert await TableThrottler(table, session).claim(message.id, "another") is Claim.FRESH, "and so is its message"
    await queue.close()


async def test_a_lease_that_lapsed_and_was_healed_is_still_due_for_the_guard(tmp_path: Path) -> None:
    """Else a worker that cannot end its fenced jobs would never be ended itself."""

    class Lapsed(NoLocker):
        def proven_until(self) -> float:
            return float("-inf")

    store = Store(tmp_path)
    queue = SQLiteQueue(store)
    await queue.open()
    gate = Gate(Lapsed(), NoThrottler(), WaitingRoom(lambda _: None, bound=10))
    kicker = Kicker(queue, gate, Stats(slots=1), SharedState(), Rules())
    now = clock.now()
    assert kicker.fence(now) == float("inf"), "nothing runs"
    job = decode('{"command": "sleep 60", "lock_id": "nightly"}', "m")
    permit = await gate.admit(job, Message(id="m", body="", sent_at=0.0, age=0.0, received_at=now))
    kicker._running["m"] = _Running(permit, Command(permit.owner, SharedState()))
    assert kicker.fence(now) == now
    assert kicker.fence(now + 5.0) == now, "it counts from when it was noticed"
    await queue.close()
