"""The story of one job, as the lines of a page: each with its time, oldest first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sqsjkr.outcome import Outcome, Settlement
from sqsjkr.page.words import lasting, tone
from sqsjkr.views.model import JobStory, State
from sqsjkr.views.story import Told

_FATES = {
    Settlement.DELETE: "Its message has left the queue: it is not run again.",
    Settlement.BURY: "Its message is on the dead-letter queue.",
    Settlement.RETRY: "Its message is back on the queue: it runs again.",
    Settlement.KEEP: "Its message waits with a worker.",
}
UNKNOWN = (
    "Or it waits for a lock, behind the job that “Now” names.",
    "Or its facts are no longer kept.",
    "Or a worker of release 1.0 or a Go daemon ran it, which keep none.",
    "Or it is on the dead-letter queue, or was sent to another queue.",
)


@dataclass(frozen=True, slots=True)
class Line:
    """What happened, or is so."""

    text: str
    at: float | None = None
    tone: str = ""


def lines(told: Told) -> list[Line]:
    """Tell a story from its beginning to what follows."""
    story = told.story
    if story.state is State.UNKNOWN:
        return [Line(f"No worker has met it yet: it is on the queue{_depth(told)}, or delayed."), *map(Line, UNKNOWN)]
    return [*_sent(story), *_earlier(story), *_newest(told), *_waits(told), *_follows(told)]


def state(told: Told) -> tuple[str, str]:
    """Return what the job is in a word or two, and its tone."""
    story = told.story
    if story.state is State.ENDED:
        return (story.outcome or "ended", tone(story.outcome or ""))
    if story.state is State.RUNNING and told.worker is not None and told.worker.life.may_be_dead:
        return (f"its worker is {told.worker.life.value}", "bad")
    return (story.state.value, {State.RUNNING: "good", State.WAITING: "warn"}.get(story.state, "mute"))


def may_be_dead(told: Told) -> bool:
    """Whether the job's message lies, or may lie, on the dead-letter queue."""
    outcome = Outcome.of(told.story.outcome) if told.story.outcome else None
    return told.story.state is State.UNKNOWN or (outcome is not None and outcome.settlement is Settlement.BURY)


def _sent(story: JobStory) -> Iterator[Line]:
    if story.sent_at is not None:
        times = f"; delivered {story.receive_count} times since" if (story.receive_count or 0) > 1 else ""
        yield Line(f"sent{f' to {story.queue}' if story.queue else ''}{times}", story.sent_at)


def _earlier(story: JobStory) -> Iterator[Line]:
    for number, attempt in enumerate(story.attempts, start=1):
        after = ""
        if attempt.began_at is not None and attempt.ended_at is not None:
            after = f" after {lasting(attempt.ended_at - attempt.began_at)}"
        detail = f": {attempt.detail}" if attempt.detail else ""
        text = f"attempt {number} {_on(attempt.host)}: {attempt.outcome or 'cut off'}{after}{detail}"
        yield Line(text, attempt.began_at, "warn")


def _depth(told: Told) -> str:
    """Say what is known of the queue on which a job may be."""
    if (queue := told.queue) is None:
        return ""
    paused = f", which {queue.paused.by} has paused" if queue.paused else ""
    return f" ({queue.visible} visible, {queue.hidden} with workers or delayed){paused}"


def _newest(told: Told) -> Iterator[Line]:
    story = told.story
    number = len(story.attempts) + 1
    if story.began_at is not None or story.state is State.RUNNING:
        worker = f", worker {told.worker.worker}" if told.worker else ""
        yield Line(f"attempt {number} began {_on(story.host)}{worker}", story.began_at)
    if story.state is State.ENDED:
        label = story.outcome or "ended; its worker kept no facts"
        detail = f": {story.detail}" if story.detail else ""
        yield Line(f"{label}{detail}", story.ended_at, tone(story.outcome or ""))


def _waits(told: Told) -> Iterator[Line]:
    wait = told.waiting
    if wait is None:
        return
    holder = f", held by {wait.held_by_event_id or 'a job'} on {wait.held_by_host}" if wait.held_by_host else ""
    what = f"lock {wait.lock_id}" if wait.lock_id else "its first delivery, which another worker runs"
    yield Line(f"since then it waits for {what}{holder}; worker {wait.worker} on {wait.host} has it", wait.oldest_at)


def _follows(told: Told) -> Iterator[Line]:
    """Say what comes next."""
    story = told.story
    if story.state is State.ENDED and story.began_at is None and told.cancelled_by:
        yield Line("It never started. Its message goes at its next delivery.")
        return
    if story.state is State.ENDED:
        if outcome := Outcome.of(story.outcome) if story.outcome else None:
            yield Line(_FATES[outcome.settlement])
        return
    if story.state is State.RUNNING:
        yield from _silence(told)
        yield Line(f"Its end is ordered by {told.stop}.", tone="warn") if told.stop else Line("It runs.")
        return
    for what, number in (("It has failed", told.failures), ("Its worker has died", told.crashes)):
        if number:
            yield Line(f"{what} {'once' if number == 1 else f'{number} times'}.", tone="warn")
    if told.waiting is None:
        yield Line(_due(told))


def _silence(told: Told) -> Iterator[Line]:
    """Say what becomes of the job of a worker that may be dead."""
    worker = told.worker
    if worker is not None and worker.life.may_be_dead and worker.last_heartbeat_at is not None:
        text = f"Its worker is {worker.life.value}: if it is dead, another one runs the job from its beginning."
        yield Line(text, worker.last_heartbeat_at, "bad")


def _due(told: Told) -> str:
    if told.due_seconds is None or told.story.sent_at is None:
        return "It runs when a worker takes it."
    left = told.story.sent_at + told.due_seconds - told.at
    return f"It runs again in {lasting(left)}." if left > 0 else "It may run again now."


def _on(host: str | None) -> str:
    return f"on {host}" if host else "on an unknown host"
