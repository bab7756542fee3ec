"""What is wrong with the fleet, worst first, each with the command to run next. Pure: pictures in, verdicts out."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Sequence

from sqsjkr.leases.budget import STANDARD
from sqsjkr.views.model import Level, Life, LockView, Verdict, WorkerView, lasting
from sqsjkr.views.picture import Picture
from sqsjkr.views.recent import IN_A_ROW, Recent

LONG = 3600.0
"""Seconds that a lock may be held while jobs wait for it, where nobody knows how long is usual."""
UNUSUAL = 3.0
"""Times the usual time of a job after which its lock is held for too long."""
SHORT = 60.0
"""Seconds that a lock may be held, whatever is usual."""
OLD = 300.0
"""Seconds that a visible message may wait."""
TAKEN_OVER = 2 * STANDARD.lease
"""Seconds after which a dead worker's jobs run elsewhere: others have watched it for a lease, and had a try."""
_ORDER = (Level.FAIL, Level.WARN, Level.OK)


def judge(seen: Picture, recent: Recent = Recent(), *, stuck: bool = False) -> list[Verdict]:  # noqa: B008 - immutable
    """Return every verdict, the worst first; at least one.

    ``stuck``: messages were visible in two looks some seconds apart, and slots idle.
    """
    found = [
        *_events(seen, recent),
        *_jobs(seen, recent),
        *_locks(seen, recent),
        *_workers(seen),
        *_orders(seen),
        *_queue(seen, stuck=stuck),
        *_dead_letters(seen),
    ]
    return sorted(found, key=lambda verdict: _ORDER.index(verdict.level))


def could_run_more(seen: Picture) -> bool:
    """Whether messages are visible although slots are idle: mostly they are taken a moment later."""
    return bool(seen.queue.visible and seen.scale.slots > seen.scale.busy and seen.queue.paused is None)


def is_stuck(before: Picture, seen: Picture) -> bool:
    """Whether nobody took messages between two looks some seconds apart, although slots were idle."""
    return could_run_more(before) and could_run_more(seen) and seen.queue.visible >= before.queue.visible


def worst(verdicts: Iterable[Verdict]) -> Level:
    """Return the worst level of all."""
    return min((verdict.level for verdict in verdicts), key=_ORDER.index, default=Level.OK)


def _events(seen: Picture, recent: Recent) -> Iterator[Verdict]:
    for failing in recent.failing:
        newest = failing.newest
        number = (
            f"all of the last {failing.failed}" if failing.in_a_row else f"{failing.failed} of the last {failing.of}"
        )
        why = newest.last_line or newest.detail or newest.outcome
        text = f"{number} failed, the first of them {lasting(seen.at - failing.since_at)} ago; the newest: {why}"
        after = f"sqsjkr explain {shlex.quote(failing.event_id)}"
        yield Verdict(level=Level.FAIL, subject="event", name=failing.event_id, text=text, next=after)


def _jobs(seen: Picture, recent: Recent) -> Iterator[Verdict]:
    """Tell of failures that are of no event that fails again and again."""
    newest = recent.newest_other
    if newest is None or recent.others < IN_A_ROW:
        return
    name = newest.message_id if newest.event_id in {None, newest.message_id} else newest.event_id
    why = newest.last_line or newest.detail or newest.outcome
    ago = lasting(seen.at - newest.ended_at)
    text = f"{recent.others} have failed within an hour, the newest {ago} ago: {name}: {why}"
    yield Verdict(level=Level.WARN, subject="jobs", name="", text=text, next="sqsjkr runs --failed --since 1h")


def _locks(seen: Picture, recent: Recent) -> Iterator[Verdict]:
    for lock in seen.locks:
        if not (lock.held and lock.waiting and lock.oldest_at is not None):
            continue
        waited = seen.at - lock.oldest_at
        held = seen.at - lock.since_at if lock.since_at is not None else waited
        jobs = f"{lock.waiting} {'job waits' if lock.waiting == 1 else 'jobs wait'}, the oldest for {lasting(waited)}"
        if lock.of_go and waited > LONG:
            text = f"held by a Go daemon, which may be dead; {jobs}"
            yield Verdict(level=Level.FAIL, subject="lock", name=lock.lock_id, text=text, next=_free(lock))
        elif lock.worker_life is Life.LOST:
            text = f"held by worker {lock.worker}, which is lost; {jobs}"
            yield Verdict(level=Level.WARN, subject="lock", name=lock.lock_id, text=text, next=_free(lock))
        elif held > LONG or _is_unusual(held, recent.usual.get(lock.event_id or "")):
            usual = recent.usual.get(lock.event_id or "")
            where = f" on {lock.host}" if lock.host else ""
            mostly = f" (usually {lasting(usual)})" if usual is not None else ""
            text = f"held for {lasting(held)} by {lock.event_id or 'a job'}{where}{mostly}; {jobs}"
            after = f"sqsjkr cancel --lock {shlex.quote(lock.lock_id)}"
            level = Level.FAIL if _is_unusual(held, usual) else Level.WARN
            yield Verdict(level=level, subject="lock", name=lock.lock_id, text=text, next=after)


def _is_unusual(held: float, usual: float | None) -> bool:
    return usual is not None and held > max(SHORT, UNUSUAL * usual)


def _free(lock: LockView) -> str:
    return f"sqsjkr locks free {shlex.quote(lock.lock_id)}"


def _workers(seen: Picture) -> Iterator[Verdict]:
    for worker in seen.workers:
        beat = seen.at - (worker.last_heartbeat_at or seen.at)
        name = f"{worker.worker} on {worker.host}"
        if worker.life is Life.SILENT and beat >= STANDARD.lease:
            jobs = f"its {worker.busy} jobs run" if worker.busy != 1 else "its job runs"
            left = TAKEN_OVER - beat
            when = f"again in about {lasting(left)}" if left > 0 else "again when another worker has a free slot"
            text = f"silent for {lasting(beat)}: {jobs} {when}"
            yield Verdict(level=Level.WARN, subject="worker", name=name, text=text, next="sqsjkr fleet --call")
        elif worker.life is Life.LOST:
            restarted = _successor(worker, seen.workers)
            if restarted is None:
                text = f"lost: its last heartbeat is {lasting(beat)} old, and others have taken its jobs over"
                yield Verdict(level=Level.WARN, subject="worker", name=name, text=text, next="sqsjkr fleet")
        elif worker.reason and seen.queue.paused is None and not _is_drained(worker, seen):
            yield Verdict(
                level=Level.FAIL,
                subject="worker",
                name=name,
                text=f"takes no new jobs: {worker.reason}",
                next="sqsjkr check",
            )


def _successor(worker: WorkerView, workers: Sequence[WorkerView]) -> WorkerView | None:
    """Return a worker that was started on the same host later, and lives."""
    alive = {Life.BUSY, Life.IDLE}
    later = (each for each in workers if each.host == worker.host and each.started_at > worker.started_at)
    return next((each for each in later if each.life in alive), None)


def _is_drained(worker: WorkerView, seen: Picture) -> bool:
    return worker.host in seen.drained or worker.worker in seen.drained


def _orders(seen: Picture) -> Iterator[Verdict]:
    if (paused := seen.queue.paused) is not None:
        why = f": {paused.why}" if paused.why else ""
        text = f"paused by {paused.by} {lasting(seen.at - paused.since_at)} ago{why}"
        yield Verdict(level=Level.WARN, subject="queue", name="", text=text, next="sqsjkr fleet resume")
    for target, notice in seen.drained.items():
        why = f": {notice.why}" if notice.why else ""
        text = f"drained by {notice.by} {lasting(seen.at - notice.since_at)} ago{why}"
        after = f"sqsjkr fleet resume {shlex.quote(target)}"
        yield Verdict(level=Level.WARN, subject="host", name=target, text=text, next=after)


def _queue(seen: Picture, *, stuck: bool) -> Iterator[Verdict]:
    scale, queue = seen.scale, seen.queue
    age = queue.oldest_seconds
    idle = scale.slots - scale.busy
    waits = f", the oldest for {lasting(age)}" if age is not None else ""
    needs = f"; {_counted(scale.wanted_slots, 'slot')} wanted, {_counted(scale.wanted_workers, 'worker')} will do"
    if not scale.workers:
        level = Level.FAIL if queue.visible else Level.WARN
        text = f"no worker has entered; {queue.visible} visible{waits}"
        yield Verdict(level=level, subject="queue", name="", text=text, next="sqsjkr fleet")
        return
    if queue.paused is None and queue.visible and not idle and (age is None or age > OLD):
        text = f"{queue.visible} visible{waits}; all {scale.slots} slots busy{needs}"
        yield Verdict(level=Level.WARN, subject="queue", name="", text=text, next="start more workers")
        return
    if queue.paused is None and queue.visible and idle and (stuck or (age or 0.0) > OLD):
        text = f"{queue.visible} visible{waits}, and {idle} of {scale.slots} slots idle: nobody takes them"
        yield Verdict(level=Level.FAIL, subject="queue", name="", text=text, next="sqsjkr fleet --call")
        return
    text = f"{queue.visible} visible{waits}; {scale.busy} of {scale.slots} slots busy on "
    text += _counted(scale.workers, "worker") + (needs if scale.wanted_slots else "")
    yield Verdict(level=Level.OK, subject="queue", name="", text=text)


def _counted(number: int, what: str) -> str:
    return f"1 {what}" if number == 1 else f"{number} {what}s"


def _dead_letters(seen: Picture) -> Iterator[Verdict]:
    dead = seen.queue.dead
    if dead is None:
        text = "the queue has no dead-letter queue: messages that can never run stay on it"
        yield Verdict(level=Level.WARN, subject="dead letters", name="", text=text, next="sqsjkr setup")
    elif dead:
        text = f"{dead} on the dead-letter queue"
        yield Verdict(level=Level.WARN, subject="dead letters", name="", text=text, next="sqsjkr dead")
    else:
        yield Verdict(level=Level.OK, subject="dead letters", name="", text="none")
