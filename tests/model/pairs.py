"""Pairs of faults in simulated time, the twins of those of the chaos suite (`faults/pairs.py`).

Every run is a fleet of three workers under a stream of jobs. Two faults meet one of them at a time and a distance that
the seed draws; then all is healed, and every job must come to its end.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from model.corridor import GRACE, KILL_AFTER, Daemon, Simulation, simulated
from model.network import Weather
from model.world import Breach
from sqsjkr.leases.budget import STANDARD, LeaseBudget

BAD = (
    *(Weather.LOST,) * 4,
    *(Weather.MUTE,) * 2,
    *(Weather.FLAKY,) * 3,
    Weather.TRICKLING,
    Weather.SLOW,
)
"""LOST is what an outage looks like most often."""
TRAFFIC, FAULTS = 200.0, 60.0
"""Seconds in which jobs are sent, and in which faults begin."""
PATIENCE = 1_500.0
"""Seconds after all is healed in which all must be settled: a job that waits is tried again every two minutes, and an
echo comes five minutes late."""
LONGEST_STOP = GRACE + KILL_AFTER + 4 * STANDARD.last_words

Fault = Callable[[Simulation, Daemon, random.Random], None]


def outage(*services: str, seconds: tuple[float, ...] = (4.0, 9.0, 14.0, 25.0, 45.0, 150.0, 150.0)) -> Fault:
    """The worker gets no answers, or late ones."""

    def begin(_sim: Simulation, daemon: Daemon, draw: random.Random) -> None:
        weather = draw.choice(BAD)
        for service in services:
            daemon.disturb(service, weather, draw.choice(seconds))

    return begin


def blink(*services: str) -> Fault:
    """For a moment, what the worker asks for is done and never answered."""
    return outage(*services, seconds=(0.3, 1.0, 3.0))


def stop(sim: Simulation, daemon: Daemon, _draw: random.Random) -> None:
    """SIGTERM."""
    daemon.signal("stop")


def stop_twice(sim: Simulation, daemon: Daemon, draw: random.Random) -> None:
    """SIGTERM, and once more."""
    daemon.signal("stop")
    sim.after(draw.uniform(0.0, 5.0), lambda: daemon.signal("stop"))


def finish(sim: Simulation, daemon: Daemon, draw: random.Random) -> None:
    """SIGUSR1, and SIGTERM later."""
    daemon.signal("finish")
    sim.after(draw.choice((5.0, 30.0, 90.0)), lambda: daemon.signal("stop"))


def crash(_sim: Simulation, daemon: Daemon, _draw: random.Random) -> None:
    """SIGKILL to the worker."""
    daemon.crash()


def freeze(sim: Simulation, daemon: Daemon, draw: random.Random) -> None:
    """SIGSTOP to the worker, and SIGCONT later."""
    sim.freeze(daemon)  # type: ignore[arg-type]
    sim.after(draw.choice((1.0, 6.0, 14.0, 40.0)), lambda: sim.thaw(daemon))  # type: ignore[arg-type]


def redeliver(sim: Simulation, _daemon: Daemon, draw: random.Random) -> None:
    """Some messages that are in flight are delivered again, at once and a while later."""

    def show() -> None:
        for message in sim.sqs.messages.values():
            if draw.random() < 0.5:
                message.visible = min(message.visible, sim.sqs.now())

    for seconds in (0.0, draw.uniform(0.0, 5.0), draw.uniform(5.0, 40.0)):
        sim.after(seconds, show)


def late(sim: Simulation, _daemon: Daemon, draw: random.Random) -> None:
    """Requests to the table or the queue arrive late, or a second time."""

    def arrive() -> None:
        for _ in range(3):
            if sim.late:
                sim.arrive(draw.choice(sim.late))

    for seconds in (0.0, draw.uniform(0.0, 20.0), draw.uniform(10.0, 100.0)):
        sim.after(seconds, arrive)


def full_disk(_sim: Simulation, daemon: Daemon, draw: random.Random) -> None:
    """The disk of the worker's log is full."""
    daemon.disturb("disk", Weather.LOST, draw.choice((3.0, 20.0, 150.0)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two faults, each drawn from some; which one comes first is drawn, too."""

    one: tuple[Fault, ...]
    other: tuple[Fault, ...]


_OUTAGES = (outage("table"), outage("queue"), outage("table", "queue"))
_BLINKS = (blink("table"), blink("queue"), blink("table", "queue"))
_STOPS = (stop, stop_twice, finish)
PAIRS = {
    "outage-and-stop": Pair(one=_OUTAGES, other=_STOPS),
    "outage-and-kill": Pair(one=_OUTAGES, other=(crash,)),
    "outage-and-redelivery": Pair(one=_OUTAGES, other=(redeliver,)),
    "outage-and-outage": Pair(one=_OUTAGES, other=_OUTAGES),
    "redelivery-and-lock": Pair(one=(redeliver,), other=(crash, *_STOPS)),
    "pause-and-waiters": Pair(one=(full_disk,), other=(*_STOPS, crash, *_OUTAGES)),
    "lost-answer-and-redelivery": Pair(one=_BLINKS, other=(redeliver,)),
    "lost-answer-and-stop": Pair(one=_BLINKS, other=_STOPS),
    "late-request-and-stop": Pair(one=(late,), other=(*_STOPS, crash, *_BLINKS)),
    "freeze-and-outage": Pair(one=(freeze,), other=_OUTAGES),
    "freeze-and-stop": Pair(one=(freeze,), other=_STOPS),
    "stop-and-kill": Pair(one=_STOPS, other=(crash,)),
}


def play(name: str, seed: int, *, budget: LeaseBudget = STANDARD, log: bool = False) -> Simulation:
    """Let a pair happen, twice, and see everything to its end. Raises ``Breach``."""
    draw = random.Random(f"{seed} {name}")
    with simulated(seed, budget=budget, log=log) as sim:
        seats = [sim.daemon(f"{place}1") for place in "abc"]
        _send(sim, draw)
        for _ in range(2):
            _put_down(PAIRS[name], sim, seats, draw)
        _follow(sim, seats, draw, TRAFFIC)
        for daemon in seats:
            _heal(sim, daemon)
        for lock in _LOCKS:
            sim.send_job(seconds=0.1, lock_id=lock)
        _settle(sim, seats, draw)
        for daemon in seats:
            daemon.signal("stop")
        _follow(sim, seats, draw, LONGEST_STOP, restart=False)
        if any(daemon.left is None for daemon in seats):
            raise Breach(f"{name}, seed {seed}: a stop did not end")
    return sim


_LOCKS = ("report", "backup")


def _send(sim: Simulation, draw: random.Random) -> None:
    """Send jobs at random."""
    at = 0.0
    while at < TRAFFIC:
        at += draw.expovariate(0.3)
        sim.after(at, lambda: _send_one(sim, draw, draw.random()))


def _burst(sim: Simulation, draw: random.Random) -> None:
    """Send jobs that have something to lose: with locks, and with locks of their own."""
    for chance in (0.1, 0.2, 0.35, 0.5, 0.5, 0.5, 0.9):
        _send_one(sim, draw, chance)


def _send_one(sim: Simulation, draw: random.Random, chance: float) -> None:
    """Send one job; which kind, ``chance`` decides.

    Some give up if their lock is held, which no other job ever asks for: they must run.
    """
    fields: dict[str, Any] = {"seconds": draw.choice((0.1, 1.0, 4.0, 15.0, 40.0)), "deaf": draw.random() < 0.2}
    if chance < 0.3:
        fields["lock_id"] = draw.choice(_LOCKS)
    elif chance < 0.4:
        fields |= {"lock_id": draw.choice(_LOCKS), "abort_if_locked": True, "may_give_up": True}
    elif chance < 0.6:
        fields |= {"lock_id": f"lonely{len(sim.jobs)}", "abort_if_locked": True}
    sim.send_job(**fields)


def _put_down(pair: Pair, sim: Simulation, seats: list[Daemon], draw: random.Random) -> None:
    first, second = draw.choice(pair.one), draw.choice(pair.other)
    if draw.random() < 0.5:
        first, second = second, first
    seat, when = draw.randrange(len(seats)), draw.uniform(4.0, FAULTS)
    apart = draw.choice((0.0, 0.1, 0.5, 2.0, 5.0, 10.0, 20.0, 30.0))

    def at(fault: Fault) -> None:
        if seats[seat].is_running:
            fault(sim, seats[seat], draw)

    sim.after(when - draw.choice((0.0, 0.2, 1.0, 3.0)), lambda: _burst(sim, draw))
    sim.after(when, lambda: at(first))
    sim.after(when + apart, lambda: at(second))


def _follow(sim: Simulation, seats: list[Daemon], draw: random.Random, seconds: float, *, restart: bool = True) -> None:
    """Let time pass, start anew what has ended, and see that what was asked to stop does."""
    until = sim.time + seconds
    while sim.time < until:
        sim.advance(1.0)
        sim.judge()
        for number, daemon in enumerate(seats):
            if daemon.frozen:
                daemon.asked = sim.time if daemon.asked is not None else None
            elif daemon.is_running and daemon.asked is not None and sim.time - daemon.asked > LONGEST_STOP:
                raise Breach(f"seed {sim.seed}, at {sim.time:.1f}: {daemon.name} does not stop")
            if restart and not daemon.is_running and draw.random() < 0.2:
                seats[number] = sim.daemon(f"{daemon.name[0]}{len(sim.workers)}")


def _heal(sim: Simulation, daemon: Daemon) -> None:
    for service in ("table", "queue", "disk"):
        daemon.set_weather(service, Weather.FAIR)
    if daemon.frozen:
        sim.thaw(daemon)  # type: ignore[arg-type]


def _settle(sim: Simulation, seats: list[Daemon], draw: random.Random) -> None:
    """Wait until nothing is left to be done."""
    until = sim.time + PATIENCE
    while left := sim.quiet():
        if sim.time > until:
            raise Breach(f"seed {sim.seed}, at {sim.time:.1f}: {left}")
        _follow(sim, seats, draw, 5.0)
        for daemon in seats:  # what began before it was healed may set its weather later
            _heal(sim, daemon)
