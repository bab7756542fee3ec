"""The waiting room: who waits, who asks, and who is sent away."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sqsjkr.intake.waiting_room import WaitingRoom
from sqsjkr.leases.budget import STANDARD
from sqsjkr.message import Message

RETRY = STANDARD.waiter_retry


class Room:
    """A waiting room with a clock in the hands of the test; ``pass_time`` returns the ids let out, in order."""

    def __init__(self, *, jitter: Callable[[float, float], float] = max, **bounds: int) -> None:
        self.time = 0.0
        self.room = WaitingRoom(**{"bound": 100} | bounds, now=lambda: self.time, jitter=jitter)

    def pass_time(self, seconds: float) -> list[str]:
        self.time += seconds
        return [message.id for message in self.room.due()]

    def park(self, name: str, key: str = "lock report", *, expires: float = float("inf"), **more: float) -> bool:
        return self.room.park(message(name), key, expires=expires, **more)


def message(name: str, body: str = "{}") -> Message:
    """One that was sent at the time its name ends with: "a3" was sent before "b7"."""
    return Message(id=name, body=body, sent_at=float(name[1:]), age=0.0, received_at=0.0)


@pytest.fixture
def room() -> Room:
    return Room()


def test_the_oldest_asks_first_whoever_came_first(room: Room) -> None:
    for name in ("m2", "m1", "m3"):
        room.park(name)
    assert room.pass_time(RETRY) == ["m1"]


def test_of_each_lock_only_one_asks_at_a_time(room: Room) -> None:
    room.park("m1", "lock report")
    room.park("m2", "lock report")
    room.park("m3", "lock backup")
    assert sorted(room.pass_time(RETRY)) == ["m1", "m3"]
    assert room.pass_time(RETRY) == ["m2"]


def test_nobody_asks_before_the_pause_is_over(room: Room) -> None:
    room.park("m1")
    assert room.pass_time(RETRY - 0.1) == []
    assert room.pass_time(0.1) == ["m1"]


def test_a_waiter_asks_at_least_every_five_seconds_and_not_in_step_with_others() -> None:
    asked: list[tuple[float, float]] = []

    def jitter(low: float, high: float) -> float:
        asked.append((low, high))
        return low

    room = Room(jitter=jitter)
    room.park("m1")
    assert asked == [(2.5, 5.0)]
    assert room.pass_time(2.5) == ["m1"]


def test_a_release_wakes_the_oldest_at_once(room: Room) -> None:
    room.park("m2")
    room.park("m1")
    room.room.released("lock report")
    assert room.pass_time(0.0) == ["m1"]


def test_a_release_of_something_else_wakes_nobody(room: Room) -> None:
    room.park("m1")
    room.room.released("lock backup")
    assert room.pass_time(0.0) == []


def test_the_next_waits_its_full_pause_after_a_release(room: Room) -> None:
    room.park("m1")
    room.park("m2")
    assert room.pass_time(RETRY - 0.1) == []
    room.room.released("lock report")
    assert room.pass_time(0.0) == ["m1"]
    assert room.pass_time(RETRY - 0.1) == []
    assert room.pass_time(0.1) == ["m2"]


def test_whose_life_time_is_over_is_woken_to_be_told_so(room: Room) -> None:
    room.park("m1")
    room.park("m2", expires=1.0)
    room.park("m3", expires=9.0)
    assert room.pass_time(1.1) == ["m2"]
    assert len(room.room) == 2


def test_the_last_waiter_for_a_lock_can_expire_too(room: Room) -> None:
    room.park("m1", expires=1.0)
    assert room.pass_time(1.1) == ["m1"]
    assert room.pass_time(RETRY) == []
    assert len(room.room) == 0


def test_there_is_no_room_beyond_the_bound() -> None:
    room = Room(bound=2)
    assert room.park("m1")
    assert room.park("m2", "lock backup")
    assert not room.park("m3")
    assert room.pass_time(RETRY) == ["m1", "m2"]
    assert room.park("m3")


def test_there_is_no_room_beyond_the_bytes() -> None:
    room = Room(bodies=10)
    assert room.room.park(message("m1", "x" * 6), "lock a", expires=float("inf"))
    assert not room.room.park(message("m2", "x" * 5), "lock b", expires=float("inf"))
    assert room.room.park(message("m3", "x" * 4), "lock b", expires=float("inf"))
    assert room.pass_time(RETRY) == ["m1", "m3"]
    assert room.room.park(message("m2", "x" * 10), "lock b", expires=float("inf"))


def test_who_has_stayed_too_long_is_sent_away_although_it_came_and_went(room: Room) -> None:
    assert room.park("m1", "message m1", stay=45.0)
    for _ in range(9):
        assert room.pass_time(RETRY) == ["m1"]
        assert room.park("m1", "message m1", stay=45.0)
    assert room.pass_time(RETRY) == ["m1"]
    assert not room.park("m1", "message m1", stay=45.0)
    assert room.park("m1", "message m1", stay=45.0), "its next delivery begins anew"


def test_how_long_a_settled_message_waited_is_forgotten(room: Room) -> None:
    room.park("m1", "message m1", stay=45.0)
    assert room.pass_time(50.0) == ["m1"]
    room.room.forget(message("m1"))
    assert room.park("m1", "message m1", stay=45.0)


def test_someone_older_is_seen_and_someone_of_the_same_moment_is_not(room: Room) -> None:
    room.park("m5")
    assert room.room.has_older("lock report", message("n6"))
    assert not room.room.has_older("lock report", message("n5"))
    assert not room.room.has_older("lock report", message("n4"))
    assert not room.room.has_older("lock backup", message("n6"))


def test_all_leave_in_order_of_age_when_the_room_is_cleared(room: Room) -> None:
    room.park("m3", "lock a")
    room.park("m1", "lock b")
    room.park("m2", "lock a")
    assert [one.id for one in room.room.clear()] == ["m1", "m2", "m3"]
    assert len(room.room) == 0
    assert room.pass_time(RETRY) == []


def test_messages_of_the_same_moment_ask_in_the_order_they_came(room: Room) -> None:
    room.park("b1")
    room.park("a1")
    assert room.pass_time(RETRY) == ["b1"]
    assert room.pass_time(RETRY) == ["a1"]
