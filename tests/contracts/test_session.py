"""A session: when its lease lapses, what that means for what it holds, and when others may take it for dead."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Collection

import pytest

from servers import until
from sqsjkr.errors import BackendUnavailable
from sqsjkr.leases.budget import STANDARD, LeaseBudget
from sqsjkr.leases.live import Absent
from sqsjkr.leases.session import Session
from sqsjkr.leases.table import Heartbeat

LEASE, TRUSTED, BEAT_EVERY = STANDARD.lease, STANDARD.trusted, STANDARD.heartbeat_every
OFTEN = STANDARD.but(heartbeat_every=0.01)


class Host:
    """A host's clock, and the beats it can reach; both in the hands of the test."""

    def __init__(self, beats: dict[str, int] | None = None, budget: LeaseBudget = STANDARD) -> None:
        self.time = 1000.0
        self.beats = {} if beats is None else beats
        self.live: dict[str, bytes] = {}
        self.orders: set[str] = set()
        self.cut_off = False
        self.answers_are_lost = False
        self.on_its_way = 0.0
        """Seconds that pass on this host while a beat is answered."""
        self.session = Session(self, now=lambda: self.time, budget=budget)

    async def beat(self, session_id: str, live: bytes = b"", seen: Collection[str] = ()) -> Collection[str]:
        self.time += self.on_its_way
        if self.cut_off:
            raise BackendUnavailable("cut off")
        self.beats[session_id] = self.beats.get(session_id, 0) + 1
        self.live[session_id] = live
        self.orders -= set(seen)
        if self.answers_are_lost:
            raise BackendUnavailable("the answer was lost")
        return set(self.orders)

    async def read_beat(self, session_id: str) -> Heartbeat | None:
        if self.cut_off:
            raise BackendUnavailable("cut off")
        count = self.beats.get(session_id)
        return None if count is None else Heartbeat(count)


@pytest.fixture
def host() -> Host:
    return Host()


@pytest.fixture
def observer(host: Host) -> Host:
    return Host(host.beats)


async def test_the_first_thing_held_costs_no_write(host: Host) -> None:
    await host.session.hold("lock:1")
    assert host.beats == {}
    assert host.session.proven_until() == host.time + TRUSTED


async def test_nothing_held_needs_no_proof(host: Host) -> None:
    assert host.session.proven_until() == float("inf")
    await host.session.hold("lock:1")
    host.session.drop("lock:1")
    assert host.session.proven_until() == float("inf")


async def test_a_beat_proves_from_the_moment_it_was_sent(host: Host) -> None:
    await host.session.hold("lock:1")
    host.time += 25.0
    host.on_its_way = 3.0
    sent = host.time
    await host.session.hold("lock:2")
    host.session.drop("lock:1")
    assert host.session.proven_until() == sent + TRUSTED


async def test_a_lapsed_session_beats_before_it_takes_anything(host: Host) -> None:
    name = await host.session.hold("lock:1")
    host.time += TRUSTED
    assert await host.session.hold("lock:2") == name
    assert host.beats == {name: 1}


async def test_a_lapsed_session_that_cannot_beat_takes_nothing(host: Host) -> None:
    await host.session.hold("lock:1")
    host.time += TRUSTED
    host.cut_off = True
    with pytest.raises(BackendUnavailable, match="cut off"):
        await host.session.hold("lock:2")
    assert host.session.holder("lock:2") is None
    assert host.session.holder("lock:1") is not None


async def test_a_session_that_holds_nothing_takes_a_new_name(host: Host) -> None:
    first = await host.session.hold("lock:1")
    host.session.drop("lock:1")
    assert await host.session.hold("lock:2") == first
    host.session.drop("lock:2")
    host.time += BEAT_EVERY
    second = await host.session.hold("lock:3")
    assert second != first
    assert host.session.proven_until() == host.time + TRUSTED


async def test_a_session_that_holds_something_keeps_its_name(host: Host) -> None:
    first = await host.session.hold("lock:1")
    host.time += 3 * LEASE
    assert await host.session.hold("claim:2") == first


async def test_what_was_held_through_a_lapse_is_lost_whatever_is_beaten_later(host: Host) -> None:
    """Another worker may have taken the lock and given it back while this host was suspended."""
    await host.session.hold("lock:1")
    host.time += TRUSTED - 0.1
    assert not host.session.lost("lock")
    host.time += 0.1
    await host.session.hold("lock:2")
    assert host.session.lost("lock")
    assert not host.session.lost("claim")
    host.session.drop("lock:1")
    assert not host.session.lost("lock")


async def test_an_answer_that_comes_when_the_lease_is_over_is_worth_nothing(host: Host) -> None:
    await host.session.hold("lock:1")
    host.session.check("lock:1")
    host.time += TRUSTED
    with pytest.raises(BackendUnavailable, match="after the lease was over"):
        host.session.check("lock:1")
    await host.session.hold("lock:2")
    with pytest.raises(BackendUnavailable, match="after the lease was over"):
        host.session.check("lock:1")
    host.session.check("lock:2")


async def test_a_session_beats_while_it_holds_something_and_only_then() -> None:
    host = Host(budget=OFTEN)
    await host.session.open()
    name = await host.session.hold("lock:1")
    host.time += 1.0
    await until(lambda: host.beats.get(name) == 1, description="the session beat")
    host.time += 1.0
    await until(lambda: host.beats.get(name) == 2, description="the session beat again")
    host.session.drop("lock:1")
    host.time += 1.0
    await asyncio.sleep(0.05)  # five times the longest pause between two beats
    assert host.beats == {name: 2}
    await host.session.close()


async def test_nothing_stops_the_beating_but_close(monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host(budget=OFTEN)
    failures: list[Exception] = [BackendUnavailable("away"), KeyError("a bug"), OSError("another")]
    beat = host.beat

    async def fails_at_first(session_id: str, live: bytes = b"", seen: Collection[str] = ()) -> Collection[str]:
        if failures:
            raise failures.pop()
        return await beat(session_id, live, seen)

    monkeypatch.setattr(host, "beat", fails_at_first)
    await host.session.open()
    name = await host.session.hold("lock:1")
    host.time += 1.0
    await until(lambda: host.beats.get(name) == 1, description="the session beat after three failures")
    await host.session.close()


async def test_a_session_that_stands_still_for_a_lease_is_dead(host: Host, observer: Host) -> None:
    name = await host.session.hold("lock:1")
    await host.beat(name)
    assert not await observer.session.sightings.is_dead(name)
    observer.time += LEASE - 0.1
    assert not await observer.session.sightings.is_dead(name)
    observer.time += 0.1
    assert await observer.session.sightings.is_dead(name)


async def test_a_session_whose_beat_moves_was_alive_after_the_look_before(host: Host, observer: Host) -> None:
    name, sightings = await host.session.hold("lock:1"), observer.session.sightings
    await host.beat(name)
    first = observer.time
    assert not await sightings.is_dead(name)
    assert sightings.alive_at(name) < first, "one look shows nothing"
    observer.time += 5.0
    second = observer.time
    assert not await sightings.is_dead(name)
    assert sightings.alive_at(name) < first, "two looks at the same heartbeat show nothing either"
    await host.beat(name)
    observer.time += 5.0
    assert not await sightings.is_dead(name)
    assert sightings.alive_at(name) == second
    observer.time += 100.0
    assert sightings.alive_at(name) == second, "and nothing is known of what came later"


async def test_a_session_that_never_beat_is_dead_after_a_lease_too(host: Host, observer: Host) -> None:
    name = await host.session.hold("lock:1")
    assert not await observer.session.sightings.is_dead(name)
    observer.time += LEASE
    assert await observer.session.sightings.is_dead(name)


async def test_a_beat_begins_a_new_lease_for_its_observers(host: Host, observer: Host) -> None:
    name = await host.session.hold("lock:1")
    assert not await observer.session.sightings.is_dead(name)
    observer.time += LEASE - 1.0
    await host.beat(name)
    observer.time += 1.0
    assert not await observer.session.sightings.is_dead(name)
    observer.time += LEASE - 0.1
    assert not await observer.session.sightings.is_dead(name)


async def test_an_observers_own_slowness_counts_for_the_observed(
    host: Host, observer: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first sighting counts from its answer, the last one from its question: never longer than it was."""
    name = await host.session.hold("lock:1")

    async def takes_ten_seconds(session_id: str) -> int | None:
        observer.time += 10.0
        return observer.beats.get(session_id)

    monkeypatch.setattr(observer, "read_beat", takes_ten_seconds)
    assert not await observer.session.sightings.is_dead(name)
    observer.time += LEASE - 5.0
    assert not await observer.session.sightings.is_dead(name)


async def test_a_session_is_never_dead_to_itself(host: Host) -> None:
    name = await host.session.hold("lock:1")
    for _ in range(3):
        assert host.session.is_mine(name)
        host.time += 2 * LEASE


async def test_an_observer_that_is_cut_off_says_nothing(host: Host, observer: Host) -> None:
    name = await host.session.hold("lock:1")
    assert not await observer.session.sightings.is_dead(name)
    observer.time += 2 * LEASE
    observer.cut_off = True
    with pytest.raises(BackendUnavailable, match="cut off"):
        await observer.session.sightings.is_dead(name)


async def test_a_thousand_sessions_are_remembered_and_the_oldest_is_forgotten(observer: Host) -> None:
    """A forgotten sighting costs one more lease; it never makes anyone dead too early."""
    for number in range(1001):
        assert not await observer.session.sightings.is_dead(f"session {number}")
        observer.time += 0.001
    observer.time += LEASE
    assert not await observer.session.sightings.is_dead("session 0")
    assert await observer.session.sightings.is_dead("session 1000")


@pytest.mark.parametrize("offset", [-600.0, 600.0])
async def test_clocks_that_differ_by_minutes_change_nothing(offset: float, host: Host, observer: Host) -> None:
    observer.time += offset
    name = await host.session.hold("lock:1")
    assert not await observer.session.sightings.is_dead(name)
    observer.time += LEASE - 0.1
    assert not await observer.session.sightings.is_dead(name)


class Shown(Absent):
    """A worker that a test moves."""

    def __init__(self) -> None:
        self.wanted = False
        self.obeyed: list[str] = []

    def is_wanted(self) -> bool:
        return self.wanted

    def report(self, session: str) -> bytes:
        return f"live of {session}".encode()

    def obey(self, orders: Collection[str]) -> None:
        self.obeyed += sorted(orders)


async def test_a_heartbeat_carries_what_the_worker_shows_and_brings_each_order_once() -> None:
    host, shown = Host(budget=OFTEN), Shown()
    host.session.presence = shown
    await host.session.open()
    name = await host.session.hold("lock:1")
    host.time += 1.0
    await until(lambda: host.live.get(name) == f"live of {name}".encode(), description="it was shown")

    host.orders |= {"cancel 1 ann", "cancel 2 ann"}
    host.time += 1.0
    await until(lambda: shown.obeyed, description="the orders came")
    while host.orders:  # each heartbeat comes when the clock has moved
        host.time += 1.0
        await asyncio.sleep(0)
    await host.session.close()
    assert shown.obeyed == ["cancel 1 ann", "cancel 2 ann"]


async def test_an_order_is_not_removed_before_it_was_seen() -> None:
    """The answer of the heartbeat that brought it may be lost."""
    host, shown = Host(), Shown()
    host.session.presence = shown
    await host.session.hold("lock:1")
    host.orders.add("cancel 1 ann")
    for lost in (True, True, False):
        host.answers_are_lost = lost
        with contextlib.suppress(BackendUnavailable):
            await host.session._beat()
    assert shown.obeyed == ["cancel 1 ann"]
    await host.session._beat()
    assert host.orders == set()
    assert shown.obeyed == ["cancel 1 ann"]


async def test_a_session_that_holds_nothing_beats_while_the_worker_is_to_be_seen_and_keeps_its_name() -> None:
    host, shown = Host(), Shown()
    host.session.presence = shown
    shown.wanted = True
    await host.session.open()
    host.time += BEAT_EVERY + 1
    await until(lambda: host.beats, description="it beat with nothing held")
    [name] = host.beats
    host.time += BEAT_EVERY + 2
    assert await host.session.hold("lock:1") == name
    host.session.drop("lock:1")
    shown.wanted = False
    host.time += BEAT_EVERY + 2
    assert await host.session.hold("lock:1") != name, "a new name costs no heartbeat"
    await host.session.close()
