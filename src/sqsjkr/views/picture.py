"""The fleet at one moment: workers, what runs, what waits, which locks are held.

Life is told from heartbeats alone. A worker that holds nothing does not beat, so a heartbeat that stands still means
death only if the jobs that it named are still claimed in its name.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from sqsjkr.leases.budget import STANDARD
from sqsjkr.leases.live import Board, Entry, LiveWait, Notice
from sqsjkr.runs import SHORT
from sqsjkr.views import model
from sqsjkr.views.model import Life, LockView, QueueView, Running, ScaleSignal, Waiting, WorkerView
from sqsjkr.views.source import ClaimRow, Depth, LockRow, QueueSource, SessionRow, Source

STILL = 3 * STANDARD.heartbeat_every
"""Seconds after which a heartbeat stands still: one may be late, and one be lost."""
ANSWERED_WITHIN = STANDARD.board_every + 2 * STANDARD.heartbeat_every
"""Seconds within which a worker that lives has answered a roll call."""


@dataclass(frozen=True, kw_only=True)
class Picture:
    """What one look has found."""

    at: float
    """By the table's clock."""
    queue: QueueView
    workers: tuple[WorkerView, ...]
    """Ordered by host."""
    running: tuple[Running, ...]
    """The oldest first."""
    unnamed: int
    """How many more run that are not in ``running``: the youngest of workers with many slots, or beyond the limit."""
    waiting: tuple[Waiting, ...]
    """The longest first."""
    locks: tuple[LockView, ...]
    """Those that a job of ``running`` holds or a job waits for; the longest waited for first."""
    scale: ScaleSignal
    drained: Mapping[str, model.Notice]
    """By host, or by worker."""


@dataclass(frozen=True, kw_only=True)
class _Rows:
    """What was read, before it is put together."""

    now: float
    entries: Sequence[Entry]
    board: Board
    sessions: Mapping[str, SessionRow]
    claims: Mapping[str, ClaimRow]
    locks: Mapping[str, LockRow]
    depth: Depth
    lives: Mapping[str, Life]


async def take(source: Source, locks: Source | None, queue: QueueSource, fleet: str, *, most: int) -> Picture:
    """Look once; name the facts of the ``most`` oldest running jobs at most.

    It costs one Query, a BatchGetItem for each hundred workers, one for each hundred jobs, one for the locks, and the
    queue's depth.
    """
    (entries, board), depth = await asyncio.gather(source.fleet(fleet), queue.depth())
    sessions = await source.sessions({entry.session for entry in entries if entry.session})
    now = source.now()
    claims = await source.claims(_wanted(sessions, now, most))
    lives = {entry.worker: _life(entry, sessions.get(entry.session), claims, board, now) for entry in entries}
    ids = {claim.run.lock_id for claim in claims.values() if claim.run.lock_id}
    ids |= {lock_id for entry in entries for wait in _waits(entry, sessions, lives) if (lock_id := _lock_id(wait))}
    rows = _Rows(
        now=now,
        entries=entries,
        board=board,
        sessions=sessions,
        claims=claims,
        locks=await locks.locks(ids) if locks else {},
        depth=depth,
        lives=lives,
    )
    return _put_together(rows, most)


def _wanted(sessions: Mapping[str, SessionRow], now: float, most: int) -> Collection[str]:
    """Return whose claims to read: of the ``most`` oldest jobs that run, of all whose worker stands still, of waiters.

    Those that wait first in line are left out where no job is to be named.
    """
    named = [
        (run.seconds + now - (session.at or now), run.claim, now - (session.at or now) > STILL)
        for session in sessions.values()
        if session.live
        for run in session.live.running
    ]
    oldest = sorted((each for each in named if not each[2]), reverse=True)[:most]
    lines = (wait for session in sessions.values() if session.live for wait in session.live.waits)
    waiters = {wait.oldest for wait in lines} if most else set()
    return {claim for _, claim, _ in oldest} | {claim for _, claim, still in named if still} | waiters


def _life(entry: Entry, session: SessionRow | None, claims: Mapping[str, ClaimRow], board: Board, now: float) -> Life:
    if board.call > entry.call and now - board.called_at > ANSWERED_WITHIN and entry.started < board.called_at:
        return Life.LOST
    if session is None or session.live is None or session.at is None:
        return Life.IDLE
    if now - session.at <= STILL:
        return Life.BUSY
    life = Life.IDLE
    for run in session.live.running:
        claim = claims.get(run.claim)
        if claim is None or claim.row.owner is None:
            continue
        if worker_of(claim.row.owner) != entry.worker:
            return Life.LOST  # another worker has taken it over
        if not claim.row.done:
            life = Life.SILENT
    return life


def worker_of(owner: str | None) -> str:
    """Return the worker of an owner, ``session/attempt``: its sessions' names begin with its id. "" for no owner."""
    return owner[:SHORT] if owner else ""


def _waits(entry: Entry, sessions: Mapping[str, SessionRow], lives: Mapping[str, Life]) -> Sequence[LiveWait]:
    session = sessions.get(entry.session)
    alive = lives[entry.worker] is Life.BUSY and session is not None and session.live is not None
    return session.live.waits if alive and session and session.live else ()


def _lock_id(wait: LiveWait) -> str:
    kind, _, lock_id = wait.key.partition(" ")
    return lock_id if kind == "lock" else ""


def _put_together(rows: _Rows, most: int) -> Picture:
    workers = tuple(sorted((_worker(rows, entry) for entry in rows.entries), key=lambda each: (each.host, each.pid)))
    there = [worker for worker in workers if worker.life in {Life.BUSY, Life.IDLE}]
    busy = sum(worker.busy for worker in there)
    running = sorted(_running(rows), key=lambda run: run.began_at)
    waiting = tuple(sorted(_waiting(rows), key=lambda wait: wait.oldest_at))
    paused = _notice(rows.board.paused) if rows.board.paused else None
    return Picture(
        at=rows.now,
        queue=QueueView(
            name=rows.depth.name,
            visible=rows.depth.visible,
            hidden=rows.depth.hidden,
            dead=rows.depth.dead,
            oldest_seconds=rows.depth.oldest_seconds,
            paused=paused,
        ),
        workers=workers,
        running=tuple(running[:most]),
        unnamed=_unnamed(rows) + max(0, len(running) - most),
        waiting=waiting,
        locks=_locks(rows, workers, running[:most], waiting),
        scale=ScaleSignal.of(
            visible=rows.depth.visible,
            busy=busy,
            waiting=sum(worker.waiting for worker in there),
            slots=sum(worker.slots for worker in there),
            workers=len(there),
        ),
        drained={target: _notice(notice) for target, notice in rows.board.drained.items()},
    )


def _worker(rows: _Rows, entry: Entry) -> WorkerView:
    session, life = rows.sessions.get(entry.session), rows.lives[entry.worker]
    live = session.live if session else None
    shown = live if life in {Life.BUSY, Life.SILENT} else None
    return WorkerView(
        worker=entry.worker,
        queue=rows.depth.name,
        host=entry.host,
        pid=entry.pid,
        version=entry.version,
        started_at=entry.started,
        life=life,
        reason=(shown.why or None) if shown else None,
        slots=entry.slots,
        busy=shown.busy if shown else 0,
        ready=shown.ready if shown else 0,
        waiting=shown.parked if shown else 0,
        last_heartbeat_at=session.at if session else None,
        session=entry.session or None,
        call=entry.call,
        endings=dict(live.endings) if live else {},
    )


def _running(rows: _Rows) -> list[Running]:
    found = []
    for entry in rows.entries:
        session = rows.sessions.get(entry.session)
        life = rows.lives[entry.worker]
        if session is None or session.live is None or session.at is None or life is Life.IDLE:
            continue
        for run in session.live.running:
            claim = rows.claims.get(run.claim)
            if claim is None and life is not Life.BUSY:
                continue
            if claim is not None and not _is_held(claim, entry.worker, life):
                continue  # it has ended since the heartbeat
            facts = claim.run if claim else None
            began = session.at - run.seconds
            found.append(
                Running(
                    message_id=run.message_id,
                    claim=run.claim,
                    event_id=(facts.event_id or None) if facts else None,
                    lock_id=(facts.lock_id or None) if facts else None,
                    command=(facts.command or None) if facts else None,
                    queue=rows.depth.name,
                    host=entry.host,
                    worker=entry.worker,
                    worker_life=life,
                    began_at=began,
                    seconds=max(0.0, rows.now - began),
                )
            )
    return found


def _is_held(claim: ClaimRow, worker: str, life: Life) -> bool:
    """Whether a claim is the worker's still. Of one that lives, a claim may have been read a moment too early."""
    holder = worker_of(claim.row.owner)
    return not claim.row.done and (holder == worker or (not holder and life is Life.BUSY))


def _unnamed(rows: _Rows) -> int:
    """Count the running jobs that their workers' heartbeats had no room to name."""
    lives = [rows.sessions[entry.session].live for entry in rows.entries if rows.lives[entry.worker] is Life.BUSY]
    return sum(max(0, live.busy - len(live.running)) for live in lives if live is not None)


def _waiting(rows: _Rows) -> list[Waiting]:
    found = []
    for entry in rows.entries:
        session = rows.sessions.get(entry.session)
        for wait in _waits(entry, rows.sessions, rows.lives):
            oldest = rows.claims.get(wait.oldest)
            if oldest is not None and oldest.row.done and wait.number == 1:
                continue  # it has had its turn since the heartbeat
            lock = rows.locks.get(_lock_id(wait))
            holder = lock.holder if lock and lock.held else None
            found.append(
                Waiting(
                    lock_id=_lock_id(wait) or None,
                    waiting=wait.number,
                    oldest_message_id=wait.oldest,
                    oldest_event_id=wait.event or None,
                    oldest_at=(session.at or rows.now if session else rows.now) - wait.seconds,
                    queue=rows.depth.name,
                    host=entry.host,
                    worker=entry.worker,
                    held_by_host=(holder.host or None) if holder else None,
                    held_by_event_id=(holder.event_id or None) if holder else None,
                    held_by_message_id=(holder.message_id or None) if holder else None,
                )
            )
    return found


def _locks(
    rows: _Rows, workers: Sequence[WorkerView], running: Sequence[Running], waiting: Sequence[Waiting]
) -> tuple[LockView, ...]:
    names = {run.lock_id for run in running if run.lock_id} | {wait.lock_id for wait in waiting if wait.lock_id}
    views = [lock_view(rows.locks[name], workers, waiting) for name in names if name in rows.locks]
    return tuple(sorted(views, key=lambda lock: (-lock.waiting, lock.since_at or 0.0, lock.lock_id)))


def lock_view(lock: LockRow, workers: Sequence[WorkerView], waiting: Sequence[Waiting]) -> LockView:
    """Put together what is known of one lock."""
    worker = next((each for each in workers if each.worker == worker_of(lock.owner)), None)
    lines = [wait for wait in waiting if wait.lock_id == lock.lock_id]
    return LockView(
        lock_id=lock.lock_id,
        held=lock.held,
        owner=lock.owner,
        event_id=lock.holder.event_id or None,
        message_id=lock.holder.message_id or None,
        host=lock.holder.host or (worker.host if worker else None),
        worker=worker.worker if worker else None,
        worker_life=worker.life if worker else None,
        since_at=lock.holder.since or None,
        fence=lock.fence or None,
        waiting=sum(wait.waiting for wait in lines),
        oldest_at=min((wait.oldest_at for wait in lines), default=None),
    )


def _notice(notice: Notice) -> model.Notice:
    return model.Notice(by=notice.by, since_at=notice.at, why=notice.why)
