"""Where the verbs that look, and the page, find everything."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from sqsjkr import clock
from sqsjkr.errors import BackendRefused
from sqsjkr.leases.budget import STANDARD
from sqsjkr.runs import Holder
from sqsjkr.views import picture
from sqsjkr.views.cancelling import Target
from sqsjkr.views.model import LastHold, LockView, Running
from sqsjkr.views.picture import Picture
from sqsjkr.views.source import ClaimRow, LockRow, QueueSource, Source

EVERYTHING = 10_000
"""Running jobs that a search by event looks at."""


@dataclass(frozen=True, kw_only=True)
class Viewer:
    """A queue and its table, open for looking. ``fleet``: the queue's name in the table."""

    source: Source
    """Claims, workers, history."""
    lock_source: Source | None
    """Locks: mostly the same. None if the locker keeps them in no table of ours."""
    queue: QueueSource
    fleet: str

    async def picture(self, *, most: int = 50) -> Picture:
        """Look at the fleet; name the facts of the ``most`` oldest running jobs at most."""
        return await picture.take(self.source, self.lock_source, self.queue, self.fleet, most=most)

    async def lock_rows(self, lock_ids: Collection[str]) -> dict[str, LockRow]:
        """Return locks by their ids. Raises ``BackendRefused`` if the locker keeps them in no table of ours."""
        if self.lock_source is None:
            raise BackendRefused("the configured locker keeps no locks in a table that can be looked at")
        return dict(await self.lock_source.locks(lock_ids))

    async def locks(self, lock_ids: Collection[str], *, most: int = 50) -> tuple[Picture, Sequence[LockView]]:
        """Look at locks by their ids; at those that are held for long or waited for if none is named."""
        seen = await self.picture(most=most)
        if not lock_ids:
            return seen, seen.locks[:most]
        known = {lock.lock_id: lock for lock in seen.locks}
        rows = await self.lock_rows(lock_ids)
        views = {name: picture.lock_view(row, seen.workers, seen.waiting) for name, row in rows.items()}
        last = {name: row.last for name, row in rows.items() if row.last is not None}
        claims = await self.source.claims({holder.message_id for holder in last.values()}) if last else {}
        holds = {name: _hold(holder, claims.get(holder.message_id)) for name, holder in last.items()}
        return seen, [replace(known.get(name, view), last=holds.get(name)) for name, view in views.items()]

    async def targets(self, *, message_id: str = "", event_id: str = "", lock_id: str = "") -> Sequence[Target]:
        """Find the jobs that are meant: by message, those of an event that run, or the one that holds a lock."""
        if lock_id:
            lock = (await self.lock_rows([lock_id])).get(lock_id)
            if lock is None or not lock.held or not lock.holder.message_id:
                return []
            target = await self._target(lock.holder.message_id)
            return [replace(target, event_id=lock.holder.event_id, host=lock.holder.host)]
        if message_id:
            return [await self._target(message_id)]
        seen = await self.picture(most=EVERYTHING)
        return [_running(run) for run in seen.running if run.event_id == event_id]

    async def _target(self, message_id: str) -> Target:
        """Find the claim of a message: mostly it has its id; that of a signed job has a key of its own.

        Of one that runs, a heartbeat tells the key, and of one that has ended, the history does. One that has not
        started is cancelled under the message's id, where its worker looks before it starts it.
        """
        story = await self.source.story(message_id)
        if story is not None:
            run = story.run
            claim = message_id if story.row.owner is None and not story.row.done else run.key
            return Target(message_id=message_id, claim=claim, event_id=run.event_id, host=run.host)
        seen = await self.picture(most=EVERYTHING)
        running = next((run for run in seen.running if run.message_id == message_id), None)
        return Target(message_id=message_id, claim=message_id) if running is None else _running(running)

    async def is_dead(self, lock: LockRow) -> bool:
        """Watch the heartbeat of a lock's worker for a whole lease, as another worker would. False once it moves."""
        session, source = (lock.owner or "").partition("/")[0], self.lock_source or self.source
        first = (await source.sessions([session])).get(session)
        until = clock.now() + STANDARD.lease
        while clock.now() < until:
            await asyncio.sleep(1.0)
            now = (await source.sessions([session])).get(session)
            if (now and now.beat) != (first and first.beat):
                return False
        return True


def _running(run: Running) -> Target:
    return Target(
        message_id=run.message_id,
        claim=run.claim,
        event_id=run.event_id or "",
        host=run.host,
        since=run.began_at,
        command=run.command or "",
    )


def _hold(holder: Holder, claim: ClaimRow | None) -> LastHold:
    run = claim.run if claim else None
    ended_at = run.ended_at if run else None
    return LastHold(
        message_id=holder.message_id,
        event_id=(run.event_id or None) if run else None,
        host=holder.host or None,
        since_at=holder.since or None,
        ended_at=ended_at,
        seconds=None if ended_at is None or not holder.since else max(0.0, ended_at - holder.since),
        outcome=(run.outcome or None) if run else None,
    )
