"""Pairs of faults in simulated time: no promise breaks, and a model of a worker with a broken rule shows it.

The long form: ``python -m tests.model.run --seeds 1000``.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable

import pytest

from model.pairs import PAIRS, play
from model.world import Breach
from sqsjkr.gate import _Copies
from sqsjkr.intake.brake import Brake
from sqsjkr.leases.session import Sightings
from sqsjkr.leases.throttler import TableThrottler
from sqsjkr.queue import Visibility

SEEDS = range(int(os.environ.get("SQSJKR_MODEL_SEEDS", "2")))


@pytest.mark.parametrize("name", PAIRS)
def test_two_faults_that_meet_break_no_promise(name: str) -> None:
    ran = sum(len(play(name, seed).ran) for seed in SEEDS)
    assert ran > 20 * len(SEEDS), "the runs were no idle ones"


def test_a_seed_is_a_story() -> None:
    """The same seed, the same events at the same times."""
    first, second = (
        [(run.message_id, run.worker.name, run.begun, run.over) for run in play("outage-and-kill", 3).ran]
        for _ in range(2)
    )
    assert first == second


def play_until_it_breaks(name: str, first: int) -> None:
    for seed in range(first, first + 200):
        play(name, seed)


async def _yes(*_: object) -> bool:
    return True


async def _nothing(*_: object) -> None:
    """Do nothing."""


@pytest.mark.parametrize(
    ("name", "first", "place", "verb", "broken", "breach"),
    [
        ("outage-and-redelivery", 3, Visibility, "still_holds", _yes, "run again although it had ended"),
        ("outage-and-kill", 35, _Copies, "surely_not_hold", lambda *_: True, "has not ended"),
        ("pause-and-waiters", 2, Brake, "held_since", property(lambda _: math.inf), "hostage"),
        ("outage-and-redelivery", 0, Sightings, "is_dead", _yes, "two at once|twice at once|run again"),
        ("redelivery-and-lock", 0, TableThrottler, "end", _nothing, "run again|are left|are on the queue"),
    ],
    ids=["believe a copy", "give up for oneself", "keep who waits", "take all for dead", "note no end"],
)
def test_the_model_sees_a_broken_rule(
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    first: int,
    place: type,
    verb: str,
    broken: Callable[..., object],
    breach: str,
) -> None:
    """``first`` is a seed that is known to show it; another version of Python may draw another story."""
    monkeypatch.setattr(place, verb, broken)
    with pytest.raises(Breach, match=breach):
        play_until_it_breaks(name, first)
