"""The faults that the chaos suite lets happen: each picks its victim, does it, and notes what it excuses."""

from __future__ import annotations

import collections
import heapq
import itertools
import os
import random
import signal
from collections.abc import Callable, Mapping

import daemons
from faults.checker import Disturbance
from faults.proxy import Proxy
from faults.report import Plan
from faults.rules import Fault, Rule
from faults.workers import SILENCE, now, worker_of

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
        self._daemons: dict[str, daemons.Daemon] = {}
        self.start()

    @property
    def worker(self) -> str:
        """The name of the daemon that sits here now."""
        return f"{self.name}.{self.number}"

    @property
    def log(self) -> list[str]:
        """What all daemons said that ever sat here; a worker may go on for a while when its guard is gone."""
        return [f"{name} {line}" for name, daemon in self._daemons.items() for line in list(daemon.lines)]

    def start(self) -> None:
        """Let the next daemon sit down."""
        self.number = next(self._numbers)
        self.daemon = self._daemons[self.worker] = self._start(self.name, self.number)
        self.restart_at: float | None = None


class Mischief:
    """Does the faults, to daemons and their network. Each public verb is one fault, named as in `report.FAULTS`."""

    def __init__(
        self, plan: Plan, seats: list[Seat], proxy: Proxy, agenda: Agenda, *, say: Callable[[str], None]
    ) -> None:
        self.disturbances: list[Disturbance] = []
        self.count: collections.Counter[str] = collections.Counter()
        self._plan = plan
        self._seats = seats
        self._proxy = proxy
        self._agenda = agenda
        self._say = say
        self._random = random.Random(plan.seed)
        self._frozen: list[daemons.Process] = []

    def put_down(self, begun: float) -> None:
        """Spread faults over the run, the same for the same seed."""
        faults = [getattr(self, name) for name, weight in self._plan.faults.items() for _ in range(weight)]
        at = begun + 1.0
        while at < begun + self._plan.seconds - min(self._plan.lease, self._plan.seconds) / 3:
            at += self._random.expovariate(1 / self._plan.pause)
            self._agenda.at(at, self._random.choice(faults))

    def heal(self) -> None:
        """End all that still goes on."""
        self._proxy.clear()
        for process in self._frozen:
            if process.lives():
                os.kill(process.pid, signal.SIGCONT)

    def _done(self, name: str, how: str) -> None:
        self.count[name] += 1
        self._say(f"{now():.2f} {name}: {how}")

    def _calm_seat(self) -> Seat | None:
        """A seat whose daemon has a worker, and to whose processes nothing is being done."""
        calm = [seat for seat in self._seats if seat.busy_until < now() and seat.daemon.is_running()]
        seat = self._random.choice(calm) if calm else None
        return seat if seat and worker_of(seat.daemon) else None

    def _disturb(self, seat: Seat, kind: str, seconds: float, *, unlocked: bool = True) -> None:
        """It concerns jobs that begin while it lasts, or in what time the worker then needs to get over it."""
        since, until = now(), now() + seconds + self._plan.lease / 3
        self.disturbances.append(
            Disturbance(worker=seat.worker, kind=kind, since=since, until=until, unlocked=unlocked)
        )

    def kill_worker(self) -> None:
        if seat := self._calm_seat():
            self._disturb(seat, "worker killed", 0)
            if worker := worker_of(seat.daemon):
                worker.kill()
            self._done("worker killed", seat.worker)

    def kill_guard(self) -> None:
        if seat := self._calm_seat():
            self._disturb(seat, "guard killed", 0)
            seat.daemon.signal(signal.SIGKILL)
            self._done("guard killed", seat.worker)

    def kill_both(self) -> None:
        if seat := self._calm_seat():
            worker = worker_of(seat.daemon)
            self._disturb(seat, "both killed", 0)
            seat.daemon.signal(signal.SIGKILL)
            if worker:
                worker.kill()
            self._done("both killed", seat.worker)

    def freeze_worker(self) -> None:
        seat = self._calm_seat()
        worker = worker_of(seat.daemon) if seat else None
        if seat and worker:
            seconds = self._random.choice([0.1, 0.3, 0.6, 1.5, 3.0]) * self._plan.lease
            if seconds > 0.9 * SILENCE * self._plan.scale:
                self._disturb(seat, "worker frozen", seconds)
            self._freeze(seat, worker, seconds)
            self._done("worker frozen", f"{seat.worker} for {seconds:.1f}s")

    def freeze_guard(self) -> None:
        seat = self._calm_seat()
        guard = daemons.processes().get(seat.daemon.pid) if seat else None
        if seat and guard:
            seconds = self._random.choice([0.3, 1.5, 3.0]) * self._plan.lease
            self._freeze(seat, guard, seconds)
            self._done("guard frozen", f"{seat.worker} for {seconds:.1f}s")

    def _freeze(self, seat: Seat, process: daemons.Process, seconds: float) -> None:
        seat.busy_until = now() + seconds + 0.5
        os.kill(process.pid, signal.SIGSTOP)

        def thaw() -> None:
            if process.lives():
                os.kill(process.pid, signal.SIGCONT)

        self._frozen.append(process)
        self._agenda.at(now() + seconds, thaw)

    def terminate(self) -> None:
        if seat := self._calm_seat():
            self._disturb(seat, "stopped", 0)
            seat.daemon.signal(signal.SIGTERM)
            seat.busy_until = now() + 20 * self._plan.scale
            self._done("stopped", seat.worker)

    def cut(self) -> None:
        seat = self._random.choice(self._seats)
        service = self._random.choice(["sqs", "dynamodb", "dynamodb", ""])
        name = f"cut off from {service or 'both'}"
        seconds = self._random.choice([0.2, 0.5, 1.0, 1.5, 2.5]) * self._plan.lease
        refuse = self._random.random() < 0.3
        if seat.cut_until > now():
            return
        seat.cut_until = now() + seconds + 0.1
        if service != "sqs" and seconds > 0.35 * self._plan.lease:  # else no lease may lapse by it
            self._disturb(seat, name, seconds, unlocked=not service)
        self._proxy.cut(seat.name, service, refuse=refuse)
        self._agenda.at(now() + seconds, lambda: self._proxy.heal(seat.name, service))
        self._done(name, f"{seat.worker} for {seconds:.1f}s")

    def weather(self) -> None:
        everywhere = self._random.random() < 0.5
        worker = "" if everywhere else self._random.choice(self._seats).name
        rules = [
            self._proxy.add(fault, worker=worker, probability=probability, **self._scaled(more))
            for fault, probability, more in WEATHER
        ]
        self._for_a_while(rules, "bad weather", worker or "all")

    def redeliver(self) -> None:
        seconds = self._random.choice([0.02, 0.2, 0.7, 1.5]) * self._plan.lease
        rules = [self._proxy.add(Fault.REDELIVER, probability=0.5, seconds=seconds)]
        self._for_a_while(rules, "duplicates", f"after {seconds:.1f}s")

    def clock(self) -> None:
        seat, seconds = self._random.choice(self._seats), self._random.choice([-600.0, 600.0])
        self._for_a_while(
            [self._proxy.add(Fault.CLOCK, worker=seat.name, seconds=seconds)], f"clock {seconds:+g}s", seat.worker
        )

    def _scaled(self, more: Mapping[str, float]) -> dict[str, float]:
        return {name: value * max(self._plan.scale, 0.2) for name, value in more.items()}

    def _for_a_while(self, rules: list[Rule], name: str, how: str) -> None:
        def end() -> None:
            for rule in rules:
                if not rule.released:
                    self._proxy.release(rule)

        self._agenda.at(now() + self._random.uniform(0.3, 2.0) * self._plan.lease, end)
        self._done(name, how)
