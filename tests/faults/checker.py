"""Judges a recorded history: pure functions from what was sent, what ran and what was done to it, to violations.

Nothing here knows how the product works. An attempt lasts from its `begin` to its last line, whoever of its processes
wrote it and whatever was killed before.
"""

from __future__ import annotations

import collections
import itertools
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from faults.history import Note

FOREVER = float("inf")
NONE: Mapping[str, int] = MappingProxyType({})
CLOCK_TICK = 0.01
"""Seconds: a line's time is cut to hundredths."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """A job as it was sent."""

    job: str
    lock_id: str = ""
    must_end: bool = True
    """False for a job that may be refused for good: its life_time may be over, its lock taken."""
    fails: bool = False
    """Whether every run of it fails that comes to its end."""
    retries: int = 0
    """How often it is run again after that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Disturbance:
    """Why a worker's jobs may run again: what was done to it, and the time in which it concerns jobs that begin there.

    Seconds since boot. What it excuses it excuses for good: a job that it ended may begin again much later.
    """

    worker: str
    kind: str
    since: float
    until: float = FOREVER
    unlocked: bool = True
    """Does it excuse jobs without a lock_id, too?"""
    again: bool = True
    """Does it excuse a second run at all? Else only what could not be tidied up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """One broken promise, and the jobs whose histories show it."""

    promise: str
    text: str
    jobs: tuple[str, ...] = ()


@dataclass(slots=True)
class Attempt:
    """One run of a job's command."""

    name: str
    notes: list[Note] = field(default_factory=list)

    @property
    def begin(self) -> Note:
        """Its first line."""
        return self.notes[0]

    @property
    def last(self) -> Note:
        """The last sign of life of any of its processes."""
        return self.notes[-1]

    @property
    def ended(self) -> bool:
        """Did the command end by itself?"""
        return any(note.event == "end" for note in self.notes)


def attempts(notes: Iterable[Note]) -> list[Attempt]:
    """Every attempt, in the order of their begins."""
    found: dict[str, Attempt] = {}
    for note in notes:
        found.setdefault(note.attempt, Attempt(note.attempt)).notes.append(note)
    return list(found.values())


def check(notes: Sequence[Note], sent: Iterable[Sent], disturbances: Sequence[Disturbance]) -> list[Violation]:
    """Every violation that the history itself shows."""
    ran = attempts(notes)
    jobs = list(sent)
    return [
        *unknown(ran, {job.job for job in jobs}),
        *lost(ran, jobs),
        *overlapping(ran, {job.job: job.lock_id for job in jobs}),
        *run_again(ran, disturbances, {job.job: job.retries for job in jobs if job.fails}),
        *given_up(ran, jobs),
        *fences(ran),
    ]


def unknown(ran: Iterable[Attempt], jobs: Collection[str]) -> list[Violation]:
    """Nothing runs that was not sent."""
    return [
        Violation(promise="sent", text=f"{attempt.begin.job} ran, but was never sent", jobs=(attempt.begin.job,))
        for attempt in ran
        if attempt.begin.job not in jobs
    ]


def lost(ran: Iterable[Attempt], sent: Iterable[Sent]) -> list[Violation]:
    """Every job that must end has ended by itself."""
    ended = {attempt.begin.job for attempt in ran if attempt.ended}
    return [
        Violation(promise="never lost", text=f"{job.job} never ended", jobs=(job.job,))
        for job in sent
        if job.must_end and job.job not in ended
    ]


def overlapping(ran: Sequence[Attempt], locks: dict[str, str]) -> list[Violation]:
    """Two attempts never run at once if they have one lock_id, or are of one job."""
    found = []
    for what, key in (
        ("lock_id", lambda attempt: locks.get(attempt.begin.job) or None),
        ("job", lambda attempt: attempt.begin.job),
    ):
        groups: dict[str, list[Attempt]] = defaultdict(list)
        for attempt in ran:
            if (name := key(attempt)) is not None:
                groups[name].append(attempt)
        for name, group in groups.items():
            found += _overlaps(what, name, group)
    return found


def _overlaps(what: str, name: str, group: Sequence[Attempt]) -> list[Violation]:
    found = []
    latest = group[0]
    for attempt in group[1:]:
        if attempt.begin.number < latest.last.number:
            text = (
                f"{what} {name}: {attempt.name} ({attempt.begin.job}) began at {attempt.begin.time:.2f}, while "
                f"{latest.name} ({latest.begin.job}) ran until {latest.last.time:.2f}"
            )
            found.append(Violation(promise="never two at once", text=text, jobs=(latest.begin.job, attempt.begin.job)))
        if attempt.last.number > latest.last.number:
            latest = attempt
    return found


def run_again(
    ran: Iterable[Attempt], disturbances: Sequence[Disturbance], retries: Mapping[str, int] = NONE
) -> list[Violation]:
    """A job runs again only if something happened to its last worker after it began there, or it failed and may."""
    found, left = [], dict(retries)
    for earlier, later in reruns(ran):
        if excuse(earlier, later, disturbances) is not None:
            continue
        if earlier.ended and left.get(later.begin.job, 0) > 0:
            left[later.begin.job] -= 1
            continue
        text = (
            f"{later.begin.job} began again at {later.begin.time:.2f} as {later.name}; nothing had happened to "
            f"{earlier.begin.worker} since it began there at {earlier.begin.time:.2f}"
        )
        if retries.get(later.begin.job):
            text += f", and its {retries[later.begin.job]} retries were used up, or it had not failed"
        found.append(Violation(promise="never twice", text=text, jobs=(later.begin.job,)))
    return found


def given_up(ran: Iterable[Attempt], sent: Iterable[Sent]) -> list[Violation]:
    """A job that fails is run as often as it asked for."""
    ended = collections.Counter(attempt.begin.job for attempt in ran if attempt.ended)
    return [
        Violation(
            promise="retries",
            text=f"{job.job} failed {ended[job.job]} times and was not run again; it asked for {job.retries} retries",
            jobs=(job.job,),
        )
        for job in sent
        if job.must_end and job.fails and ended[job.job] <= job.retries
    ]


def untold(sent: Iterable[Sent], told: Collection[str]) -> list[Violation]:
    """A hook is told of every job that failed for good."""
    return [
        Violation(promise="failures are told", text=f"no hook was told of {job.job}", jobs=(job.job,))
        for job in sent
        if job.must_end and job.fails and job.job not in told
    ]


def reruns(ran: Iterable[Attempt]) -> list[tuple[Attempt, Attempt]]:
    """Each attempt that was not its job's first, after the one before it."""
    by_job: dict[str, list[Attempt]] = defaultdict(list)
    for attempt in ran:
        by_job[attempt.begin.job].append(attempt)
    return [pair for group in by_job.values() for pair in itertools.pairwise(group)]


def excuse(earlier: Attempt, later: Attempt, disturbances: Sequence[Disturbance]) -> str | None:
    """What happened to the earlier attempt's worker between the two begins, None if nothing did."""
    locked = bool(earlier.begin.lock_id)
    for each in disturbances:
        concerned = each.again and each.worker == earlier.begin.worker and (locked or each.unlocked)
        if concerned and each.since <= later.begin.time + CLOCK_TICK and each.until >= earlier.begin.time - CLOCK_TICK:
            return each.kind
    return None


def fences(ran: Iterable[Attempt]) -> list[Violation]:
    """The fencing tokens of one lock_id grow with every begin."""
    found = []
    newest: dict[str, Attempt] = {}
    for attempt in ran:
        lock_id = attempt.begin.lock_id
        if not lock_id:
            continue
        before = newest.get(lock_id)
        if attempt.begin.fence <= (before.begin.fence if before else 0):
            text = f"lock_id {lock_id}: {attempt.name} ({attempt.begin.job}) has fence {attempt.begin.fence} after "
            text += f"{before.name}'s {before.begin.fence}" if before else "nothing"
            jobs = (before.begin.job, attempt.begin.job) if before else (attempt.begin.job,)
            found.append(Violation(promise="fencing", text=text, jobs=jobs))
        newest[lock_id] = attempt
    return found


def told(notes: Iterable[Note], violation: Violation, disturbances: Iterable[Disturbance]) -> str:
    """The history of the jobs concerned, with what was done to their workers in between; beats are only counted."""
    mine = [note for note in notes if note.job in violation.jobs]
    workers = {note.worker for note in mine}
    lines = [
        (each.since, f"{each.since:10.2f}  {each.worker}: {each.kind} begins")
        for each in disturbances
        if each.worker in workers
    ]
    lines += [
        (each.until, f"{each.until:10.2f}  {each.worker}: {each.kind} is over")
        for each in disturbances
        if each.worker in workers and each.until != FOREVER
    ]
    beats: dict[str, int] = defaultdict(int)
    last = {note.attempt: note.number for note in mine}
    for note in mine:
        beats[note.attempt] += note.event == "beat"
        if note.event != "beat" or last[note.attempt] == note.number:
            facts = (
                f"attempt {note.attempt}, fence {note.fence}, delivery {note.receive_count}, beat {beats[note.attempt]}"
            )
            lines.append((note.time, f"{note.time:10.2f}  {note.worker}: {note.event} {note.job} ({facts})"))
    return "\n".join(text for _, text in sorted(lines, key=lambda line: line[0]))
