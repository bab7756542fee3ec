"""FIFO groups: one message of a group at a time, in order; groups and ungrouped messages side by side."""

from __future__ import annotations

import pytest

from sqsjkr.message import Message
from sqsjkr.queue import GroupOrder


def message(name: str, group: str | None = "g") -> Message:
    return Message(id=name, body="", sent_at=0.0, age=0.0, received_at=0.0, group=group)


@pytest.fixture
def order() -> GroupOrder:
    return GroupOrder()


def test_messages_without_a_group_never_wait(order: GroupOrder) -> None:
    assert order.may_go(message("1", None))
    assert order.may_go(message("2", None))
    assert order.settled(message("1", None)) is None
    assert order.returned(message("2", None)) == []
    assert order.clear() == []


def test_a_groups_messages_go_one_after_another_in_their_order(order: GroupOrder) -> None:
    first, second, third = message("1"), message("2"), message("3")
    assert [order.may_go(one) for one in (first, second, third)] == [True, False, False]
    assert order.settled(first) is second
    assert order.settled(second) is third
    assert order.settled(third) is None


def test_a_group_is_free_again_when_its_last_message_is_settled(order: GroupOrder) -> None:
    first = message("1")
    assert order.may_go(first)
    order.settled(first)
    assert order.may_go(message("2"))


def test_while_the_next_is_under_way_others_still_wait(order: GroupOrder) -> None:
    first, second, third = message("1"), message("2"), message("3")
    order.may_go(first)
    order.may_go(second)
    assert order.settled(first) is second
    assert not order.may_go(third)
    assert order.settled(second) is third


def test_groups_do_not_wait_for_each_other(order: GroupOrder) -> None:
    one, other = message("1", "a"), message("2", "b")
    assert order.may_go(one)
    assert order.may_go(other)
    assert not order.may_go(message("3", "a"))
    assert order.settled(other) is None
    assert order.may_go(message("4", "b"))


def test_who_follows_a_message_that_goes_back_goes_back_too(order: GroupOrder) -> None:
    """Or a later message would overtake it."""
    first, second, third = message("1"), message("2"), message("3")
    for one in (first, second, third):
        order.may_go(one)
    assert order.returned(first) == [second, third]
    assert order.may_go(message("1"))


def test_a_message_is_settled_only_once(order: GroupOrder) -> None:
    """It may be told before its job ends (ack = "start") and again after: that must not let two of its group go."""
    first, second, third = message("1"), message("2"), message("3")
    for one in (first, second, third):
        order.may_go(one)
    assert order.settled(first) is second
    assert order.settled(first) is None
    assert order.returned(first) == []
    assert order.settled(second) is third


def test_all_that_waits_comes_out_at_a_stop(order: GroupOrder) -> None:
    for name, group in (("1", "a"), ("2", "a"), ("3", "b"), ("4", "b")):
        order.may_go(message(name, group))
    assert sorted(one.id for one in order.clear()) == ["2", "4"]
    assert order.clear() == []
