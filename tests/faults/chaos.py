"""The chaos suite: real daemons, real servers, a seeded plan of faults, and the judgement of what they did.

One process leads it, in one thread: it starts daemons, sends jobs, does what the plan says, and in the end heals
everything, waits for the jobs, stops the daemons and lets `checker` judge. The same seed makes the same plan; what the
scheduler of the host makes of it differs a little from run to run.
"""

from __future__ import annotations

import collections
import contextlib
import itertools
import json
import random
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import daemons
from faults import checker, pairs
from faults.checker import Sent, Violation
from faults.history import KINDS, History
from faults.mischief import Agenda, Mischief, Seat
from faults.proxy import Proxy
from faults.report import Plan, Report
from faults.workers import environment, launch, now
from fleet import Fleet

POISONS = ("no json", "{}", '{"command": 7}', '{"command": "a\\u0000b"}', "[]", '{"command": "x", "env": {"A": 1}}')


class Chaos:
    """One run. `run()` once; the report has the violations."""

    def __init__(self, plan: Plan, fleet: Fleet, proxy: Proxy, directory: Path, *, say: Callable[[str], None]) -> None:
        self.plan = plan
        self.history = History(directory)
        self._fleet = fleet
        self._proxy = proxy
        self._directory = directory
        self._say = say
        self._random = random.Random(f"{plan.seed} jobs")
        self._agenda = Agenda()
        self._sent: dict[str, Sent] = {}
        self._messages: dict[str, str] = {}
        self._poisons: list[str] = []
        self._problems: list[Violation] = []
        self._lonely = 0
        self._report = Report(plan)
        self._stack = contextlib.ExitStack()
        self.seats: list[Seat] = []
        self._mischief = Mischief(plan, self.seats, proxy, self._agenda, say=say)

    def run(self) -> Report:
        """Do the whole plan and judge it."""
        begun = now()
        (self._directory / "hooks").mkdir()
        with self._stack:
            self.seats += [Seat(f"w{number}", self._start) for number in range(1, self.plan.workers + 1)]
            self._put_down_jobs(begun)
            self._put_down_faults(begun)
            self._follow(begun + self.plan.seconds)
            self._heal()
            problems = self._settle()
            problems += self._stop()
            problems += self._problems
        self._report.seconds = now() - begun
        self._judge(problems)
        return self._report

    def _put_down_jobs(self, begun: float) -> None:
        at = begun
        while at < begun + self.plan.seconds:
            at += self._random.expovariate(self.plan.jobs_a_second)
            self._agenda.at(at, self._send)

    def _put_down_faults(self, begun: float) -> None:
        """Spread single faults and pairs over the run, the same for the same seed."""
        plan, draw, at = self.plan, random.Random(f"{self.plan.seed} faults"), begun + 1.0
        faults = [name for name, weight in plan.faults.items() for _ in range(weight)]
        names = itertools.chain.from_iterable(draw.sample(plan.pairs, len(plan.pairs)) for _ in itertools.count())
        while at < begun + plan.seconds - min(plan.lease, plan.seconds) / 3:
            randomness = random.Random(draw.random())
            if plan.pairs and (not faults or draw.random() < 0.3):
                what = partial(pairs.do, next(names), self._mischief, randomness, self._burst)
            else:
                what = partial(getattr(self._mischief, draw.choice(faults)), randomness)
            self._agenda.at(at, what)
            at += draw.expovariate(1 / plan.pause) if faults else plan.pause

    def _burst(self, draw: random.Random) -> None:
        """Jobs with something to lose: see `pairs`."""
        lock = {"lock_id": f"lock-{draw.randrange(self.plan.locks)}"}
        for beats in draw.sample([0, 2, 5, 12], 3):
            self._send_job(draw.choice(KINDS), beats, dict(lock), as_it_is=True)
        self._send_job("plain", 1, lock | {"abort_if_locked": True}, as_it_is=True, must_end=False)
        for beats in (0, 4):
            self._lonely += 1
            fields = {"lock_id": f"lonely-{self._lonely}", "abort_if_locked": True}
            self._send_job(draw.choice(KINDS), beats, fields, as_it_is=True)
        for beats in (4, 15):
            self._send_job(draw.choice(KINDS), beats, {}, as_it_is=True)
        self._send_job("failing", 2, {}, as_it_is=True, retries=2)

    def _follow(self, until: float) -> None:
        while now() < until:
            self._agenda.do_what_is_due()
            self._restart()
            time.sleep(0.01)

    def _restart(self) -> None:
        for seat in self.seats:
            if seat.daemon.is_running():
                continue
            if seat.refused_until > now():  # it may not start
                seat.hurt = True
            if seat.restart_at is None:
                self._look_at_the_exit(seat)
                seat.restart_at = now() + self._random.uniform(0, self.plan.lease / 3)
            elif now() >= seat.restart_at:
                seat.start()

    def _look_at_the_exit(self, seat: Seat) -> None:
        code, last = seat.daemon.wait(), "\n    ".join(seat.daemon.lines[-10:])
        if seat.hurt or (seat.asked_to_stop and code == 0):
            return
        how = "was asked to stop and left" if seat.asked_to_stop else "left by itself"
        text = f"{seat.worker} {how} with exit code {code}; its last words:\n    {last}"
        self._problems.append(Violation(promise="a stop is orderly" if seat.asked_to_stop else "no bugs", text=text))

    def _start(self, name: str, number: int) -> daemons.Daemon:
        config = self._fleet.config(
            max_concurrent_num=self.plan.slots,
            lock_table=self._fleet.table,
            stats_socket=str(self._directory / f"{name}.{number}"),
            kill_after=max(0.5, 5 * self.plan.scale),
            grace_period=max(0.5, 10 * self.plan.scale),
            log_level="debug",
            max_crashes=1000,
            hook=f"cat > {self._directory}/hooks/$SQSJKR_ATTEMPT.$$",
        )
        begun = daemons.Daemon(
            env=environment(self._proxy.listen(name), f"{name}.{number}"),
            config=config,
            command=launch(self.plan.scale),
            own_log=True,
            own_socket=False,
        )
        return self._stack.enter_context(begun)

    def _send(self) -> None:
        chance = self._random.random()
        if chance < 0.04:
            body = self._random.choice(POISONS)
            self._poisons.append(self._fleet.send(body)[0])
            return
        beats = self._random.choice([0, 0, 1, 3, 8, int(self.plan.lease * 10) if chance > 0.9 else 5])
        fields: dict[str, object] = {}
        if chance < 0.5:
            fields["lock_id"] = f"lock-{self._random.randrange(self.plan.locks)}"
            beats = self._random.choice([0, 1, 3, 5, 8, int(self.plan.lease * 12) if chance < 0.1 else 4])
        self._send_job(self._random.choice(KINDS), beats, fields)

    def _send_job(
        self,
        kind: str,
        beats: int,
        fields: dict[str, object],
        *,
        as_it_is: bool = False,
        must_end: bool = True,
        retries: int = 0,
    ) -> None:
        job = f"{kind}-{len(self._sent)}"
        chance = 1.0 if as_it_is else self._random.random()
        if chance < 0.05:
            fields["life_time"], must_end = "1s", False
        elif chance < 0.2:
            fields["life_time"] = "540s"  # less than a clock may be off, more than any wait here
        elif chance < 0.25:
            fields["abort_if_locked"], must_end = True, "lock_id" not in fields
        elif chance < 0.35:
            fields["timeout"], beats, must_end = "0.7s", 600, False  # it is ended, and does not end by itself
        if not as_it_is and "timeout" not in fields:
            retries = self._random.randrange(3)
        if retries:
            fields["retries"], fields["retry_delay"] = retries, self._random.choice(["0s", "0.5s", "2s"])
        lock_id = str(fields.get("lock_id", ""))
        fails = kind == "failing"
        self._sent[job] = Sent(job=job, lock_id=lock_id, must_end=must_end, fails=fails, retries=retries)
        self._messages[job] = self._fleet.send_job(
            command=self.history.command(job, kind, beats), event_id=job, **fields
        )

    def _heal(self) -> None:
        self._agenda.clear()
        self._mischief.heal()
        self._say(f"{now():.2f} all is healed")

    def _settle(self) -> list[Violation]:
        """Wait until every job has ended and the queue is empty, as long as there is progress."""
        for lock in range(self.plan.locks):
            self._send_job("plain", 0, {"lock_id": f"lock-{lock}"}, as_it_is=True)
        patience, progress, changed = 4 * self.plan.lease + 20, -1, now()
        while now() - changed < patience:
            self._restart()
            ended = len(set(self.history.jobs("end")) & {job for job, sent in self._sent.items() if sent.must_end})
            done = ended == sum(sent.must_end for sent in self._sent.values())
            if done and self._fleet.depth() == (0, 0, 0) and not self._held():
                return []
            size = self.history.path.stat().st_size
            if size != progress:
                progress, changed = size, now()
            time.sleep(0.2)
        problems = []
        if (depth := self._fleet.depth()) != (0, 0, 0):
            text = f"the queue is not empty at the end: {depth} visible, in flight, delayed"
            problems.append(Violation(promise="nothing is left behind", text=text))
        problems += [Violation(promise="nothing is left behind", text=text) for text in self._held()]
        return problems

    def _held(self) -> list[str]:
        """Locks that are held, and claims of jobs that are over but not marked as such.

        Not the claims of jobs whose worker was disturbed: it may have had to leave while the table did not answer.
        """
        rows = self._fleet.rows()
        ended = {each.begin.job: each for each in checker.attempts(self.history.notes()) if each.ended}
        troubled = self._mischief.disturbances
        sure = [
            each
            for each in ended.values()
            if not any(d.worker == each.begin.worker and d.until >= each.begin.time for d in troubled)
        ]
        of_jobs = {self._messages[each.begin.job] for each in sure}
        held = [
            f"lock {row['Id']} is held by {row.get('Owner')}"
            for row in rows
            if row["Type"] == "lock" and "EventId" in row and not row["Id"].startswith("lonely-")
        ]
        return held + [
            f"claim of message {row['Id']} is open"
            for row in rows
            if row["Type"] == "throttle" and row["Id"] in of_jobs and "Done" not in row
        ]

    def _stop(self) -> list[Violation]:
        problems = []
        for seat in self.seats:
            seat.daemon.signal(signal.SIGTERM)
        for seat in self.seats:
            if (code := seat.daemon.wait()) != 0:
                problems.append(
                    Violation(promise="a stop is orderly", text=f"{seat.worker} left with exit code {code}")
                )
            bugs = [
                line for line in seat.log if any(sign in line for sign in ("Traceback", "bug in sqsjkr", "ERROR log "))
            ]
            problems += [Violation(promise="no bugs", text=line) for line in bugs]
        left = [process for process in daemons.ours() if self.history.script.name in process.command]
        problems += [
            Violation(promise="nothing is left behind", text=f"process {process.pid} is left: {process.command}")
            for process in left
        ]
        return problems + self._graves()

    def _graves(self) -> list[Violation]:
        buried = {
            letter.get("MessageAttributes", {}).get("sqsjkr.message_id", {}).get("StringValue"): letter
            for letter in self._fleet.dead_letters()
        }
        problems = [
            Violation(promise="poison is buried", text=f"message {poison} is no job, and not on the dead-letter queue")
            for poison in self._poisons
            if poison not in buried
        ]
        retried = {self._messages[job]: sent for job, sent in self._sent.items() if sent.retries}
        problems += [
            Violation(promise="retries", text=f"{sent.job} has no retries left, and is not on the dead-letter queue")
            for message_id, sent in retried.items()
            if sent.fails and sent.must_end and message_id not in buried
        ]
        return problems + [
            Violation(promise="poison is buried", text=f"{letter['Body']!r} lies on the dead-letter queue")
            for message_id, letter in buried.items()
            if message_id not in self._poisons and message_id not in retried
        ]

    def _told(self) -> set[str]:
        """The jobs of which a hook was told."""
        told = set()
        for path in (self._directory / "hooks").iterdir():
            with contextlib.suppress(ValueError):  # the hook was killed as it wrote
                told.add(json.loads(path.read_text())["event_id"])
        return told

    def _judge(self, problems: list[Violation]) -> None:
        report, notes = self._report, self.history.notes()
        ran = checker.attempts(notes)
        report.violations = checker.check(notes, self._sent.values(), self._mischief.disturbances) + problems
        report.violations += checker.untold(self._sent.values(), self._told())
        report.jobs, report.poisons = len(self._sent) + len(self._poisons), len(self._poisons)
        report.attempts = len(ran)
        for earlier, later in checker.reruns(ran):
            report.reruns[checker.excuse(earlier, later, self._mischief.disturbances) or "nothing"] += 1
        report.faults = collections.Counter(
            self._mischief.count | {f"request: {name}": count for name, count in self._proxy.faults.items()}
        )
        for violation in report.violations:
            story = [
                f"{violation.promise}: {violation.text}",
                checker.told(notes, violation, self._mischief.disturbances),
            ]
            for seat in self.seats:
                names = [*violation.jobs, *(self._messages.get(job, "-") for job in violation.jobs)]
                story += [line for line in seat.log if any(name in line for name in names)]
            report.stories.append("\n".join(story))
