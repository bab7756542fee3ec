"""The story of one job: what its claim says, what earlier attempts came to, and where it is if no worker has it."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from sqsjkr.errors import InvalidJob
from sqsjkr.job import decode
from sqsjkr.outcome import Outcome
from sqsjkr.runs import Run, shortened
from sqsjkr.views.model import JobStory, PastAttempt, QueueView, RunLine, State, Waiting, WorkerView, is_event
from sqsjkr.views.picture import Picture, worker_of
from sqsjkr.views.source import ClaimRow
from sqsjkr.views.viewer import Viewer

ENDINGS = 20
"""Endings of an event that are shown with its latest job."""
LONGEST_LINE = 80
"""Characters of an output's last line that a list shows."""
NEWEST = 200
"""Running jobs that are looked at for one of an event."""


@dataclass(frozen=True, kw_only=True)
class Told:
    """A story, and what belongs to it but not to its JSON."""

    story: JobStory
    at: float
    """When it was told, by the table's clock."""
    cancelled_by: str = ""
    stop: str = ""
    """Whose order to end it stands."""
    due_seconds: float | None = None
    """Of a job that waits for its next try: the age of its message from which it may run."""
    failures: int = 0
    crashes: int = 0
    worker: WorkerView | None = None
    """Who runs it now."""
    queue: QueueView | None = None
    """Of a job that nobody has met: the queue, as far as it was looked at."""
    waiting: Waiting | None = None
    """The line in which it stands first."""
    endings: tuple[RunLine, ...] = ()
    """Of an event that was asked for: its newest, newest first."""


class _Glance:
    """The fleet, looked at once, when it is first needed."""

    def __init__(self, viewer: Viewer) -> None:
        self.viewer = viewer
        self._seen: Picture | None = None

    async def picture(self) -> Picture:
        """Return what is so now."""
        if self._seen is None:
            self._seen = await self.viewer.picture(most=NEWEST)
        return self._seen


async def tell(viewer: Viewer, name: str, *, endings: int = ENDINGS) -> Told:
    """Tell the story of a message, or of the latest job of an event with so many of its endings."""
    glance = _Glance(viewer)
    if _is_uuid(name):
        unknown = JobStory(message_id=name, state=State.UNKNOWN)
        of_message = await _of_message(glance, name.lower())  # as queues write ids
        if of_message.story.state is not State.UNKNOWN:
            return of_message
    else:
        unknown = JobStory(message_id=None, event_id=name, state=State.UNKNOWN)
    if (of_event := await _of_event(glance, name, endings)) is not None:
        return of_event
    seen = await glance.picture()
    return Told(story=unknown, at=seen.at, queue=seen.queue)


def line_of(run: Run) -> RunLine:
    """Return one ending as a list shows it."""
    return RunLine(
        ended_at=run.ended_at or 0.0,
        message_id=run.message_id,
        event_id=run.event_id or None,
        lock_id=run.lock_id or None,
        command=run.command or None,
        queue=run.queue or None,
        host=run.host or None,
        outcome=run.outcome,
        exit_status=run.exit_status,
        signal=run.signal,
        seconds=run.seconds,
        detail=run.detail or None,
        last_line=_last_line(run.output),
    )


def _last_line(output: str) -> str | None:
    """Return the last line of an output that says something, shortened."""
    line = next((line.strip() for line in reversed(output.splitlines()) if line.strip()), "")
    return line[:LONGEST_LINE] or None


async def _of_message(glance: _Glance, message_id: str) -> Told:
    claim = await glance.viewer.source.story(message_id) or await _under_another_key(glance, message_id)
    if claim is None:
        return await _unclaimed(glance, message_id)
    runs = claim.row.owner is not None and not claim.row.done
    return _claimed(glance.viewer, message_id, claim, (await glance.picture()).workers if runs else ())


async def _under_another_key(glance: _Glance, message_id: str) -> ClaimRow | None:
    """Return the claim of a signed job that runs: it has a key of its own, and the heartbeat names both."""
    running = (run for run in (await glance.picture()).running if run.message_id == message_id)
    key = next((run.claim for run in running if run.claim != message_id), "")
    return (await glance.viewer.source.claims([key])).get(key) if key else None


async def _of_event(glance: _Glance, event_id: str, most: int) -> Told | None:
    """Tell of the job of an event that runs, else of one that waits or is tried again, else of the last that ended.

    None if nothing is known of it.
    """
    of_event = await glance.viewer.source.endings_of(event_id, most)
    endings, again = tuple(map(line_of, of_event.endings)), of_event.again
    goes_on = again is not None and (not endings or (again.ended_at or 0.0) > endings[0].ended_at)
    seen = await glance.picture()
    candidates = (
        *(run.message_id for run in reversed(seen.running) if is_event(run.event_id, event_id)),
        *(wait.oldest_message_id for wait in seen.waiting if is_event(wait.oldest_event_id, event_id)),
        *await glance.viewer.queue.of_event(event_id),
        *([again.message_id] if again and goes_on else []),
        *(line.message_id for line in endings),
    )
    if not candidates:
        return None
    latest = candidates[0]
    told = await _of_message(glance, latest)
    if told.story.state is State.UNKNOWN and endings:  # its row is gone, the event's is not
        return Told(story=_of_line(endings[0]), at=told.at, endings=endings)
    return replace(told, endings=endings)


def _claimed(viewer: Viewer, message_id: str, claim: ClaimRow, workers: Sequence[WorkerView]) -> Told:
    row, run = claim.row, claim.run
    if row.done:
        state = State.ENDED
    elif row.owner is not None:
        state = State.RUNNING
    else:
        state = State.WAITING if row.due is not None else State.QUEUED
    worker = next((each for each in workers if each.worker == worker_of(row.owner)), None)
    by = row.cancelled_by or run.cancelled_by
    story = JobStory(
        message_id=run.message_id or message_id,
        event_id=run.event_id or None,
        lock_id=run.lock_id or None,
        command=run.command or None,
        queue=run.queue or None,
        host=run.host or (worker.host if worker else None),
        state=state,
        outcome=run.outcome or (Outcome.CANCELLED.label if by else None),
        exit_status=run.exit_status,
        signal=run.signal,
        detail=run.detail or (f"by {by}, before it started" if by else None),
        sent_at=run.sent_at or None,
        began_at=run.begun_at,
        ended_at=run.ended_at,
        seconds=run.seconds,
        cpu_seconds=run.cpu_seconds,
        max_rss_bytes=run.max_rss_bytes,
        printed_bytes=run.printed_bytes,
        receive_count=run.receive_count if run.sent_at else None,
        fence=(run.fence or None) if row.done or run.receive_count <= 1 else None,  # of an earlier attempt, maybe
        output=run.output or None,
        attempts=_attempts(run),
    )
    return Told(
        story=story,
        at=viewer.source.now(),
        cancelled_by=by,
        stop=row.stop,
        due_seconds=row.due,
        failures=row.failures,
        crashes=row.crashes,
        worker=worker,
    )


async def _unclaimed(glance: _Glance, message_id: str) -> Told:
    """Tell of a message that no worker has claimed: it may wait for its lock, or lie on a queue that shows it."""
    viewer, seen = glance.viewer, await glance.picture()
    body = await viewer.queue.body(message_id)
    waiting = next((wait for wait in seen.waiting if wait.oldest_message_id == message_id), None)
    if waiting is None and body is None:
        return Told(story=JobStory(message_id=message_id, state=State.UNKNOWN), at=seen.at)
    state = State.QUEUED if waiting is None else State.WAITING
    story = JobStory(
        message_id=message_id,
        event_id=waiting.oldest_event_id if waiting else None,
        lock_id=waiting.lock_id if waiting else None,
        queue=viewer.fleet,
        host=waiting.host if waiting else None,
        state=state,
    )
    if body is not None:
        with suppress(InvalidJob):
            job = decode(body, message_id)
            event_id = None if job.event_id == message_id else job.event_id
            command, lock_id = shortened(job.command), job.lock_id or None
            story = replace(story, event_id=event_id, command=command, lock_id=lock_id)
    return Told(story=story, at=seen.at, waiting=waiting)


def _attempts(run: Run) -> tuple[PastAttempt, ...]:
    return tuple(
        PastAttempt(
            host=earlier.host or None,
            began_at=earlier.begun_at,
            ended_at=earlier.ended_at,
            outcome=earlier.outcome or None,
            detail=earlier.detail or None,
        )
        for earlier in run.earlier
    )


def _of_line(line: RunLine) -> JobStory:
    began_at = None if line.seconds is None else line.ended_at - line.seconds
    return JobStory(
        message_id=line.message_id,
        event_id=line.event_id,
        lock_id=line.lock_id,
        command=line.command,
        queue=line.queue,
        host=line.host,
        state=State.ENDED,
        outcome=line.outcome,
        exit_status=line.exit_status,
        signal=line.signal,
        detail=line.detail,
        began_at=began_at,
        ended_at=line.ended_at,
        seconds=line.seconds,
        output=line.last_line,
    )


def _is_uuid(text: str) -> bool:
    with suppress(ValueError):
        return str(uuid.UUID(text)) == text.lower()
    return False
