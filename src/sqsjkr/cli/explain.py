"""``sqsjkr explain``: the story of one job, in sentences with times."""

from __future__ import annotations

import argparse

from sqsjkr.cli.exit_codes import FAILED, OK
from sqsjkr.cli.options import add_json, add_limit, add_watch, add_where
from sqsjkr.cli.runs import rows_of
from sqsjkr.cli.showing import moment, safe, table
from sqsjkr.cli.viewing import Shown, show
from sqsjkr.outcome import Outcome, Settlement
from sqsjkr.views.model import JobStory, State, lasting
from sqsjkr.views.story import ENDINGS, Told, tell
from sqsjkr.views.viewer import Viewer

EPILOG = """\
examples:
  sqsjkr explain 5fea7756-0ea4-451a-a703-a558b933e274
  sqsjkr explain nightly-report
  sqsjkr explain nightly-report --json

For an event: its latest job, and its last 20 endings.

exit codes: 0; 1 if nothing is known of the job, or queue or table refused or did not answer; 2 if the command line or
the configuration is wrong
"""

MOST_LINES = 40
"""Lines of an output that are shown."""
LONGEST_LINE = 1_000
"""Characters of one of them."""
UNSHOWN = 100
"""Bytes that may be missing without a word: what is masked is shorter than what was printed."""
_FATES = {
    Settlement.DELETE: "its message has left the queue: it is not run again",
    Settlement.BURY: "its message is on the dead-letter queue; next: sqsjkr dead show {message_id}",
    Settlement.RETRY: "its message is back on the queue: it runs again",
    Settlement.KEEP: "its message waits with a worker",
}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the job that is asked for."""
    add_where(parser)
    parser.add_argument("name", metavar="ID", help="the id of a message, or an event id")
    add_json(parser)
    add_limit(parser, ENDINGS)
    add_watch(parser)


def execute(arguments: argparse.Namespace) -> int:
    """Tell the story."""
    return show(arguments, _look)


async def _look(viewer: Viewer, arguments: argparse.Namespace) -> Shown:
    told = await tell(viewer, arguments.name, endings=arguments.limit)
    code = FAILED if told.story.state is State.UNKNOWN else OK
    return Shown(lines=_lines(told), values=[told.story], code=code)


def _lines(told: Told) -> list[str]:
    story = told.story
    if story.state is State.UNKNOWN:
        return [
            safe(f"{story.message_id or story.event_id}: unknown. It may be that"),
            safe(f"- no worker has met it yet: it is on the queue{_depth(told)}, or delayed;"),
            "- it waits for a lock, behind the job that sqsjkr ps names;",
            "- its facts are no longer kept: [kicker] history_days, history;",
            "- a worker of release 1.0 or a Go daemon ran it, which keep none;",
            "- it is on the dead-letter queue (sqsjkr dead), or was sent to another queue.",
        ]
    name = story.event_id if story.event_id and story.event_id != story.message_id else None
    head = f"{name}, message {story.message_id}" if name else f"message {story.message_id}"
    facts = [
        ("command", story.command),
        ("lock", story.lock_id),
        ("sent", _sent(told)),
        *((f"attempt {n}", text) for n, text in enumerate(_earlier(told), start=1)),
        *_now(told),
        ("used", _used(story)),
    ]
    lines = [safe(f"{head}: {_state(told)}")]
    lines += [f"{label:<11}{safe(text)}" for label, text in facts if text]
    lines += [f"{'output' if n == 0 else '':<11}{safe(line)}" for n, line in enumerate(_output(story))]
    if told.endings:
        lines += ["", *table(["ENDED", "OUTCOME", "TOOK", "HOST", "MESSAGE", "DETAIL"], rows_of(told.endings))]
    return lines


def _state(told: Told) -> str:
    story = told.story
    if story.state is State.ENDED:
        return story.outcome or "it has ended; its worker kept no facts"
    if story.state is State.RUNNING:
        return f"its worker is {told.worker.life}" if told.worker and told.worker.life.may_be_dead else "it runs"
    return "it waits" if story.state is State.WAITING else "it is on the queue"


def _depth(told: Told) -> str:
    """Say what is known of the queue on which a job may be."""
    if (queue := told.queue) is None:
        return ""
    paused = f", which {queue.paused.by} has paused: sqsjkr fleet resume" if queue.paused else ": sqsjkr status"
    return f" ({queue.visible} visible, {queue.hidden} with workers or delayed){paused}"


def _sent(told: Told) -> str | None:
    story = told.story
    if story.sent_at is None:
        return None
    to = f", to {story.queue}" if story.queue else ""
    times = f"; delivered {story.receive_count} times" if (story.receive_count or 0) > 1 else ""
    return f"{moment(story.sent_at, told.at)}{to}{times}"


def _earlier(told: Told) -> list[str]:
    texts = []
    for attempt in told.story.attempts:
        where = f"on {attempt.host}" if attempt.host else "on an unknown host"
        began = f", began {moment(attempt.began_at, told.at)}" if attempt.began_at is not None else ""
        after = ""
        if attempt.began_at is not None and attempt.ended_at is not None:
            after = f" after {lasting(attempt.ended_at - attempt.began_at)}"
        what = f"{attempt.outcome or 'cut off'}{after}"
        texts.append(f"{where}{began}: {what}{f': {attempt.detail}' if attempt.detail else ''}")
    return texts


def _now(told: Told) -> list[tuple[str, str | None]]:
    """Say what became of the newest attempt, or what the job waits for, and what follows."""
    story, last = told.story, f"attempt {len(told.story.attempts) + 1}"
    where = f"on {story.host}" if story.host else "on an unknown host"
    began = f", began {moment(story.began_at, told.at)}" if story.began_at is not None else ""
    if story.state is State.ENDED and story.began_at is None and told.cancelled_by:
        return [("so", f"cancelled by {told.cancelled_by} before it started; its message goes at its next delivery")]
    if story.state is State.ENDED:
        ended = f", ended {moment(story.ended_at, told.at)}" if story.ended_at is not None else ""
        how = f": {story.outcome}{f', {story.detail}' if story.detail else ''}" if story.outcome else ""
        return [(last, f"{where}{began}{ended}{how}"), ("so", _fate(story))]
    if story.state is State.RUNNING:
        who = f" (worker {told.worker.worker})" if told.worker else ""
        order = f"its end is ordered by {told.stop}" if told.stop else f"to end it: sqsjkr cancel {story.message_id}"
        return [(last, f"{where}{who}{began}"), ("but", _silence(told)), ("so", order)]
    if told.waiting is not None:
        wait = told.waiting
        holder = f", held by {wait.held_by_event_id or 'a job'} on {wait.held_by_host}" if wait.held_by_host else ""
        what = f"lock {wait.lock_id}" if wait.lock_id else "its first delivery, which another worker runs"
        since = lasting(told.at - wait.oldest_at)
        return [("waits", f"for {what}{holder}, for {since}, with worker {wait.worker} on {wait.host}")]
    tried = " and ".join(
        f"{what} {'once' if number == 1 else f'{number} times'}"
        for what, number in (("it has failed", told.failures), ("its worker has died", told.crashes))
        if number
    )
    due = None
    if told.due_seconds is not None and story.sent_at is not None:
        left = story.sent_at + told.due_seconds - told.at
        due = f"it runs again in {lasting(left)}" if left > 0 else "it may run again now"
    return [("tried", tried or None), ("so", due or "it runs when a worker takes it")]


def _silence(told: Told) -> str | None:
    """Say what becomes of the job of a worker that may be dead."""
    worker = told.worker
    if worker is None or not worker.life.may_be_dead or worker.last_heartbeat_at is None:
        return None
    since = lasting(told.at - worker.last_heartbeat_at)
    return f"its worker is {worker.life}, for {since}: if it is dead, another one runs the job from its beginning"


def _output(story: JobStory) -> list[str]:
    """Return the last lines of what it printed, as many as a screen has, and where the rest is."""
    output = story.output or ""
    kept = [line.expandtabs() for line in output.splitlines()]
    lines = [line if len(line) <= LONGEST_LINE else f"... {line[-LONGEST_LINE:]}" for line in kept[-MOST_LINES:]]
    shown, printed = sum(len(line.encode(errors="replace")) + 1 for line in lines), story.printed_bytes or 0
    if lines and (printed > shown + UNSHOWN or lines != kept):
        more = "more with --json, " if lines != kept else ""
        log = f"in the log of its worker: grep {story.message_id}, on {story.host or 'its host'}"
        lines.append(f"(the end of {printed} bytes; {more}all of it {log})")
    return lines


def _fate(story: JobStory) -> str | None:
    outcome = Outcome.of(story.outcome) if story.outcome else None
    return _FATES[outcome.settlement].format(message_id=story.message_id) if outcome else None


def _used(story: JobStory) -> str | None:
    facts = [
        f"{story.cpu_seconds:.2f}s of cpu" if story.cpu_seconds is not None else "",
        f"{story.max_rss_bytes / 2**20:.1f} MiB of memory" if story.max_rss_bytes is not None else "",
        f"{story.printed_bytes} bytes printed" if story.printed_bytes is not None else "",
        f"fencing token {story.fence}" if story.fence is not None else "",
    ]
    return ", ".join(filter(None, facts)) or None
