"""Two faults on purpose: both meet one worker within a lease, in an order and at a distance that the seed draws.

A promise that survives each fault alone may break where two meet, and chance alone brings two together too seldom. With
each pair comes a burst of jobs that have something to lose: one lock for several of them, jobs that give up if their
lock is held although no other job ever asks for it, and one that fails and asks for retries.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from faults.mischief import Mischief
from faults.workers import now, worker_of

Fault = Callable[..., None]
"""A verb of Mischief: the randomness, and the seat."""
APART = (0.0, 0.02, 0.1, 0.3, 0.6, 1.0)
"""Leases between the two, if the first one leaves the worker alive; after a stop it lives for a few moments only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two faults, each drawn from some."""

    text: str
    one: tuple[Fault, ...]
    other: tuple[Fault, ...]
    ends: bool = False
    """The other one ends the worker for good: it comes second. Else the order is drawn, too."""


_STOPS = (Mischief.terminate, Mischief.terminate_twice, Mischief.finish)
_KILLS = (Mischief.kill_worker, Mischief.kill_launcher, Mischief.kill_both)
_CUTS = tuple(partial(Mischief.cut, services=(service,)) for service in ("dynamodb", "sqs", ""))
PAIRS = {
    "outage-and-stop": Pair(text="cut off from table, queue or both, and stopped", one=_CUTS, other=_STOPS),
    "outage-and-kill": Pair(text="cut off from table, queue or both, and killed", one=_CUTS, other=_KILLS, ends=True),
    "redelivery-and-lock": Pair(
        text="messages come again, and the holder of their lock dies or is cut off from the table",
        one=(Mischief.redeliver,),
        other=(*_KILLS, _CUTS[0], Mischief.terminate),
        ends=True,
    ),
    "refusal-and-drain": Pair(
        text="a right is taken away, and the worker stopped", one=(Mischief.refuse,), other=_STOPS
    ),
    "throttling-and-takeover": Pair(
        text="DynamoDB throttles, and the holder of a lock dies", one=(Mischief.throttle,), other=_KILLS, ends=True
    ),
    "throttling-and-stop": Pair(
        text="DynamoDB throttles, and the worker is stopped", one=(Mischief.throttle,), other=_STOPS
    ),
    "pause-and-waiters": Pair(
        text="log disk full or no descriptor left where jobs wait for a lock, whose holder dies or stops",
        one=(Mischief.full_disk, Mischief.starve),
        other=(*_KILLS, *_STOPS),
        ends=True,
    ),
    "throttled-endings-and-stop": Pair(
        text="the marks of jobs that have ended are throttled, and the worker stopped or killed",
        one=(Mischief.throttle_endings,),
        other=(*_STOPS, *_KILLS),
        ends=True,
    ),
    "pause-and-lost-answer": Pair(
        text="log disk full or no descriptor left, and answers of one operation are lost",
        one=(Mischief.full_disk, Mischief.starve),
        other=(Mischief.lose_answers,),
    ),
    "pause-and-outage": Pair(
        text="log disk full or no descriptor left, and cut off",
        one=(Mischief.full_disk, Mischief.starve),
        other=_CUTS,
    ),
    "lost-answer-and-redelivery": Pair(
        text="answers of one operation are lost, and messages come again",
        one=(Mischief.lose_answers,),
        other=(Mischief.redeliver,),
    ),
    "lost-answer-and-stop": Pair(
        text="answers of one operation are lost, and the worker is stopped", one=(Mischief.lose_answers,), other=_STOPS
    ),
    "freeze-and-outage": Pair(
        text="worker or launcher frozen, and cut off",
        one=(Mischief.freeze_worker, Mischief.freeze_launcher),
        other=_CUTS,
    ),
    "freeze-and-stop": Pair(
        text="worker or launcher frozen, and stopped",
        one=(Mischief.freeze_worker, Mischief.freeze_launcher),
        other=_STOPS,
    ),
    "stop-and-kill": Pair(text="killed while it drains", one=_STOPS, other=_KILLS, ends=True),
    "clock-and-redelivery": Pair(
        text="a host ten minutes off, and messages come again", one=(Mischief.clock,), other=(Mischief.redeliver,)
    ),
}
"""All that are drawn, by name."""


def do(name: str, mischief: Mischief, draw: random.Random, burst: Callable[[random.Random], None]) -> None:
    """Let a pair happen to a calm worker: the first fault now, the second one soon, amid a burst of jobs."""
    pair = PAIRS[name]
    first, second = draw.choice(pair.one), draw.choice(pair.other)
    if not pair.ends and draw.random() < 0.5:
        first, second = second, first
    apart = draw.choice(APART[:3] if first in _STOPS else APART) * mischief.lease
    drawn = [random.Random(draw.random()) for _ in range(3)]
    seat = mischief.calm_seat(draw)
    if seat is None or seat.cut_until > now():
        return
    burst(drawn[2])
    number = seat.number

    def at(fault: Fault, randomness: random.Random, *, last: bool = False) -> None:
        if seat.number == number and worker_of(seat.daemon):  # else it has left already
            fault(mischief, randomness, seat)
            if last:
                mischief.done(f"pair: {name}", f"{seat.worker}, {apart:.1f}s apart")

    begin = now() + 0.1 * mischief.lease  # the burst has arrived
    seat.busy_until = begin + apart
    mischief.agenda.at(begin, lambda: at(first, drawn[0]))
    mischief.agenda.at(begin + apart, lambda: at(second, drawn[1], last=True))
