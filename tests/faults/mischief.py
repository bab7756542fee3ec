"""The faults that the chaos suite lets happen: each picks its victim, does it, and notes what it excuses."""

from __future__ import annotations

import collections
import heapq
import itertools
import os
import random
import signal
from collections.abc import Callable, Mapping
from functools import partial

import daemons
from faults.checker import Disturbance
from faults.proxy import Proxy
from faults.report import Plan
from faults.rules import Fault, Rule
from faults.workers import SILENCE, clean_disk, feed, fill_disk, now, starve, worker_of

WEATHER = (
    (Fault.ERROR, 0.04, {}),
    (Fault.THROTTLE, 0.04, {}),
    (Fault.RESET_BEFORE, 0.03, {}),
    (Fault.RESET_AFTER, 0.05, {}),
    (Fault.STRAY, 0.02, {"seconds": 2.0}),
    (Fault.DELAY, 0.02, {"seconds": 1.0}),
    (Fault.LATE, 0.02, {"seconds": 1.0}),
    (Fault.DUPLICATE, 0.05, {}),
)
"""A bit more than a fifth of all requests."""
TRUSTED = 0.35
"""A worker that is without its table for less than this part of a lease loses nothing: a third of it may have passed
already, since heartbeats are a sixth apart."""


class Agenda:
    """What is to be done when."""

    def __init__(self) -> None:
        self._entries: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()

    def at(self, when: float, what: Callable[[], None]) -> None:
        """Put it down; times as in `now()`."""
        heapq.heappush(self._entries, (when, next(self._order), what))

    def do_what_is_due(self) -> None:
        """Do all whose time has come, in order."""
        while self._entries and self._entries[0][0] <= now():
            heapq.heappop(self._entries)[2]()

    def clear(self) -> None:
        """Nothing is to be done any more."""
        self._entries.clear()


class Seat:
    """One worker's place in the fleet: the daemon that sits there now, and what is done to it."""

    def __init__(self, name: str, start: Callable[[str, int], daemons.Daemon]) -> None:
        self.name = name
        self._start = start
        self._numbers = itertools.count(1)
        self.busy_until = 0.0  # something is being done to its processes
        self.cut_until = 0.0  # it is cut off
        self.refused_until = 0.0  # a right is missing
        self._daemons: dict[str, daemons.Daemon] = {}
        self.start()

    @property
    def worker(self) -> str:
        """The name of the daemon that sits here now."""
        return f"{self.name}.{self.number}"

    @property
    def log(self) -> list[str]:
        """What all daemons said that ever sat here; a worker may go on for a while when its launcher is gone."""
        return [f"{name} {line}" for name, daemon in self._daemons.items() for line in list(daemon.lines)]

    def start(self) -> None:
        """Let the next daemon sit down."""
        self.number = next(self._numbers)
        self.daemon = self._daemons[self.worker] = self._start(self.name, self.number)
        self.restart_at: float | None = None
        self.asked_to_stop = False
        self.hurt = False  # killed or frozen: how it ends is not its own doing


class Mischief:
    """Does the faults, to daemons and their network.

    A fault is a verb with the randomness to draw from and the seat it happens to, None for any. `report.FAULTS` and
    `pairs.py` name them.
    """

    def __init__(
        self, plan: Plan, seats: list[Seat], proxy: Proxy, agenda: Agenda, *, say: Callable[[str], None]
    ) -> None:
        self.disturbances: list[Disturbance] = []
        self.count: collections.Counter[str] = collections.Counter()
        self.agenda = agenda
        self.lease = plan.lease
        self._plan = plan
        self._seats = seats
        self._proxy = proxy
        self._say = say
        self._frozen: list[daemons.Process] = []

    def heal(self) -> None:
        """End all that still goes on."""
        self._proxy.clear()
        for process in self._frozen:
            if process.lives():
                os.kill(process.pid, signal.SIGCONT)
        for seat in self._seats:
            clean_disk(seat.daemon)
            feed(seat.daemon)

    def done(self, name: str, how: str) -> None:
        """Count a fault, and say so."""
        self.count[name] += 1
        self._say(f"{now():.2f} {name}: {how}")

    def calm_seat(self, draw: random.Random) -> Seat | None:
        """A seat whose daemon has a worker, and to whose processes nothing is being done."""
        number = draw.random()
        calm = [seat for seat in self._seats if seat.busy_until < now() and worker_of(seat.daemon)]
        return calm[int(number * len(calm))] if calm else None

    def kill_worker(self, draw: random.Random, seat: Seat | None = None) -> None:
        if seat := seat or self.calm_seat(draw):
            self._disturb(seat, "worker killed", 0)
            seat.hurt = True
            if worker := worker_of(seat.daemon):
                worker.kill()
            self.done("worker killed", seat.worker)

    def kill_launcher(self, draw: random.Random, seat: Seat | None = None) -> None:
        if seat := seat or self.calm_seat(draw):
            self._disturb(seat, "launcher killed", 0)
            seat.hurt = True
            seat.daemon.signal(signal.SIGKILL)
            self.done("launcher killed", seat.worker)

    def kill_both(self, draw: random.Random, seat: Seat | None = None) -> None:
        if seat := seat or self.calm_seat(draw):
            worker = worker_of(seat.daemon)
            self._disturb(seat, "both killed", 0)
            seat.hurt = True
            seat.daemon.signal(signal.SIGKILL)
            if worker:
                worker.kill()
            self.done("both killed", seat.worker)

    def freeze_worker(self, draw: random.Random, seat: Seat | None = None) -> None:
        seconds = draw.choice([0.1, 0.3, 0.6, 1.5, 3.0]) * self.lease
        seat = seat or self.calm_seat(draw)
        worker = worker_of(seat.daemon) if seat else None
        if seat and worker:
            if seconds > 0.9 * SILENCE * self._plan.scale:
                self._disturb(seat, "worker frozen", seconds)
            self._freeze(seat, worker, seconds)
            self.done("worker frozen", f"{seat.worker} for {seconds:.1f}s")

    def freeze_launcher(self, draw: random.Random, seat: Seat | None = None) -> None:
        seconds = draw.choice([0.3, 1.5, 3.0]) * self.lease
        seat = seat or self.calm_seat(draw)
        launcher = daemons.processes().get(seat.daemon.pid) if seat else None
        if seat and launcher:
            self._disturb(seat, "launcher frozen", seconds)  # launcher.hung: its worker may kill it
            self._freeze(seat, launcher, seconds)
            self.done("launcher frozen", f"{seat.worker} for {seconds:.1f}s")

    def terminate(self, draw: random.Random, seat: Seat | None = None) -> None:
        if seat := seat or self.calm_seat(draw):
            self._stop(seat, signal.SIGTERM, "stopped")

    def terminate_twice(self, draw: random.Random, seat: Seat | None = None) -> None:
        if seat := seat or self.calm_seat(draw):
            self._stop(seat, signal.SIGTERM, "stopped in a hurry")
            self.agenda.at(now() + draw.random() * self.lease / 5, partial(self._signal_again, seat, seat.number))

    def finish(self, draw: random.Random, seat: Seat | None = None) -> None:
        """SIGUSR1, and SIGTERM a lease later, lest its jobs go on for ever."""
        if seat := seat or self.calm_seat(draw):
            self._stop(seat, signal.SIGUSR1, "drained")
            self.agenda.at(now() + self.lease, partial(self._signal_again, seat, seat.number))

    def cut(self, draw: random.Random, seat: Seat | None = None, services: tuple[str, ...] = ()) -> None:
        service = draw.choice(services or ("sqs", "dynamodb", "dynamodb", ""))
        name = f"cut off from {service or 'both'}"
        seconds = draw.choice([0.2, 0.5, 1.0, 1.5, 2.5]) * self.lease
        refuse = draw.random() < 0.3
        seat = seat or draw.choice(self._seats)
        if seat.cut_until > now():
            return
        seat.cut_until = now() + seconds + 0.1
        if service != "sqs":
            self._without_table(seat, name, seconds, unlocked=not service)
        self._proxy.cut(seat.name, service, refuse=refuse)
        self.agenda.at(now() + seconds, lambda: self._proxy.heal(seat.name, service))
        self.done(name, f"{seat.worker} for {seconds:.1f}s")

    def throttle(self, draw: random.Random, seat: Seat | None = None) -> None:
        """DynamoDB has no capacity left, for one worker or for all: one table serves them."""
        share = draw.choice([0.5, 0.8, 1.0])
        everywhere = seat is None or draw.random() < 0.5
        seats = self._seats if everywhere or seat is None else [seat]
        seconds = draw.choice([0.3, 1.0, 1.5]) * self.lease
        for each in seats:
            self._without_table(each, "throttled", seconds, unlocked=False)
        rules = [self._proxy.add(Fault.THROTTLE, service="dynamodb", worker=s.name, probability=share) for s in seats]
        self._for_a_while(rules, seconds, "throttled", ", ".join(each.worker for each in seats))

    def refuse(self, draw: random.Random, seat: Seat | None = None) -> None:
        """A right is taken away, and given back."""
        operation = draw.choice(REFUSABLE)
        seconds = draw.choice([0.3, 1.0, 1.5]) * self.lease
        if seat := seat or self.calm_seat(draw):
            if operation in {"UpdateItem", "GetItem"}:
                self._without_table(seat, f"{operation} refused", seconds, unlocked=False)
            else:
                self._disturb(seat, f"{operation} refused", seconds, again=False)
            seat.refused_until = now() + seconds + 0.1
            rule = self._proxy.add(Fault.REFUSE, worker=seat.name, operation=operation)
            self._for_a_while([rule], seconds, f"{operation} refused", seat.worker)

    def throttle_endings(self, draw: random.Random, seat: Seat | None = None) -> None:
        """DynamoDB has no capacity for what says that jobs have ended, and how: one worker's."""
        seconds = draw.choice([0.3, 1.0, 1.5]) * self.lease
        if seat := seat or self.calm_seat(draw):
            self._disturb(seat, "endings throttled", seconds, again=False)
            share = draw.choice([0.5, 0.8, 1.0])
            rule = self._proxy.add(Fault.THROTTLE, worker=seat.name, operation="BatchWriteItem", probability=share)
            self._for_a_while([rule], seconds, "endings throttled", seat.worker)

    def lose_answers(self, draw: random.Random, seat: Seat | None = None) -> None:
        """The server acts, and a few answers to one kind of request are lost."""
        operation = draw.choice((*REFUSABLE, "DeleteItem", "ReceiveMessage"))
        limit = draw.randint(1, 6)
        if seat := seat or self.calm_seat(draw):
            rule = self._proxy.add(Fault.RESET_AFTER, worker=seat.name, operation=operation, limit=limit)
            self._for_a_while([rule], self.lease, "answers lost", f"{limit} of {operation} to {seat.worker}")

    def weather(self, draw: random.Random, seat: Seat | None = None) -> None:
        everywhere = draw.random() < 0.5
        worker = "" if everywhere else (seat or draw.choice(self._seats)).name
        rules = [
            self._proxy.add(fault, worker=worker, probability=probability, **self._scaled(more))
            for fault, probability, more in WEATHER
        ]
        self._for_a_while(rules, draw.uniform(0.3, 2.0) * self.lease, "bad weather", worker or "all")

    def redeliver(self, draw: random.Random, seat: Seat | None = None) -> None:
        seconds = draw.choice([0.02, 0.2, 0.7, 1.5]) * self.lease
        rules = [self._proxy.add(Fault.REDELIVER, probability=0.5, seconds=seconds)]
        self._for_a_while(rules, draw.uniform(0.3, 2.0) * self.lease, "duplicates", f"after {seconds:.1f}s")

    def clock(self, draw: random.Random, seat: Seat | None = None) -> None:
        seconds = draw.choice([-600.0, 600.0])
        seat = seat or draw.choice(self._seats)
        rules = [self._proxy.add(Fault.CLOCK, worker=seat.name, seconds=seconds)]
        self._for_a_while(rules, draw.uniform(0.3, 2.0) * self.lease, f"clock {seconds:+g}s", seat.worker)

    def full_disk(self, draw: random.Random, seat: Seat | None = None) -> None:
        """The disk of the worker's log is full."""
        seconds = draw.choice([0.3, 1.0, 2.0]) * self.lease
        if seat := seat or self.calm_seat(draw):
            daemon = seat.daemon
            fill_disk(daemon)
            self.agenda.at(now() + seconds, lambda: clean_disk(daemon))
            self.done("log disk full", f"{seat.worker} for {seconds:.1f}s")

    def starve(self, draw: random.Random, seat: Seat | None = None) -> None:
        """The host has no descriptor left: no job can be started, and no connection made."""
        seconds = draw.choice([0.2, 0.5, 1.0]) * self.lease
        if seat := seat or self.calm_seat(draw):
            daemon = seat.daemon
            self._without_table(seat, "starved", seconds, unlocked=True)
            seat.hurt = True
            starve(daemon)
            self.agenda.at(now() + seconds, lambda: feed(daemon))
            self.done("host starved", f"{seat.worker} for {seconds:.1f}s")

    def _stop(self, seat: Seat, number: signal.Signals, name: str) -> None:
        self._disturb(seat, name, 0)
        seat.asked_to_stop = True
        seat.daemon.signal(number)
        seat.busy_until = now() + 20 * self._plan.scale
        self.done(name, seat.worker)

    def _signal_again(self, seat: Seat, number: int) -> None:
        """Signal the same daemon again, not one that has taken its seat since."""
        if seat.number == number and seat.daemon.is_running():
            seat.daemon.signal(signal.SIGTERM)

    def _freeze(self, seat: Seat, process: daemons.Process, seconds: float) -> None:
        seat.busy_until = now() + seconds + 0.5
        seat.hurt = True
        os.kill(process.pid, signal.SIGSTOP)

        def thaw() -> None:
            if process.lives():
                os.kill(process.pid, signal.SIGCONT)

        self._frozen.append(process)
        self.agenda.at(now() + seconds, thaw)

    def _without_table(self, seat: Seat, kind: str, seconds: float, *, unlocked: bool) -> None:
        """What it excuses: nothing if it is so short that no lease can lapse by it."""
        again = seconds > TRUSTED * self.lease
        self._disturb(seat, kind, seconds, unlocked=unlocked, again=again)

    def _disturb(self, seat: Seat, kind: str, seconds: float, *, unlocked: bool = True, again: bool = True) -> None:
        """It concerns jobs that begin while it lasts, or in what time the worker then needs to get over it."""
        since, until = now(), now() + seconds + self.lease / 3
        self.disturbances.append(
            Disturbance(worker=seat.worker, kind=kind, since=since, until=until, unlocked=unlocked, again=again)
        )

    def _scaled(self, more: Mapping[str, float]) -> dict[str, float]:
        return {name: value * max(self._plan.scale, 0.2) for name, value in more.items()}

    def _for_a_while(self, rules: list[Rule], seconds: float, name: str, how: str) -> None:
        def end() -> None:
            for rule in rules:
                if not rule.released:
                    self._proxy.release(rule)

        self.agenda.at(now() + seconds, end)
        self.done(name, f"{how} for {seconds:.1f}s")


REFUSABLE = (
    "UpdateItem",
    "GetItem",
    "BatchExecuteStatement",
    "BatchWriteItem",
    "DeleteMessageBatch",
    "ChangeMessageVisibilityBatch",
)
"""Operations whose refusal ends well by itself. Not SendMessage: a burial that is refused waits for an hour."""
