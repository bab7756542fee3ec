"""The history in DynamoDB: pages of endings, rows of named jobs, rows of attempts that were cut off.

A list is a page, not an index: an index costs a write for each job, and one that cannot keep up throttles the table's
own writes (docs/explanation/scale.md). A page has up to 24 endings in one write unit, and rides in a request that is
made anyway. A worker that dies loses up to half a minute of lists; the row of each claim is complete.

    runs/QUEUE/2026-11-21      MILLISECONDS/WORKER-N    the endings of half a minute or so; newest last
    bad/QUEUE/2026-11-21       MILLISECONDS/WORKER-N    the failures among them, with the last line of their output
    event/EVENT_ID             MILLISECONDS/MESSAGE     one ending of a job with a name of its own
    event/EVENT_ID             ~again                   the newest attempt of such a job whose message went back
    MESSAGE                    past/ATTEMPT             an attempt that was cut off
    MESSAGE                    claim                    where the claim stands, if not under the message's id
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import time
import zlib
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from sqsjkr import clock
from sqsjkr.backends import Connections
from sqsjkr.backends.aws.client import AWS
from sqsjkr.backends.aws.connection import connection
from sqsjkr.backends.dynamodb import facts
from sqsjkr.backends.dynamodb.outbox import Outbox
from sqsjkr.backends.dynamodb.rows import THROTTLE, Rows, binary, key_of, number, text, text_of
from sqsjkr.runs import Run
from sqsjkr.telemetry.history import LONGEST_LAST_LINE, HistoryStore, has_failed, last_line

RUNS, BAD, EVENT, PAST, CLAIM = "runs", "bad", "event", "past", "claim"
"""What the keys of the rows begin with; of the last two, the range key."""
AGAIN = "~again"
"""A range key beyond those of all endings, so that a request for the newest finds it with them."""
DAY = "%Y-%m-%d"
"""How much time the pages of one hash key cover: so a look back over weeks takes a request a day."""
MOST = 24
"""Endings on a page."""
MOST_CHARACTERS = 2_300
"""Of a page before it is compressed: it is to cost one write unit."""
RUNS_LINGER = 30.0
"""Seconds that an ending waits for others to share its page."""
BAD_LINGER = 5.0
"""The same of a failure."""
BURST, RATE = 60.0, 1.0
"""Endings of named jobs that one worker writes at once, and a second after that; of failures as many more."""
_LONGEST_NAME = 60
"""Bytes of an event id or a lock id on a page."""
_LONGEST_KEY = 2_000
_UNPACKED = 100_000


class DynamoDBHistory(HistoryStore):
    """Writes the history of one worker. ``now`` is the host's clock, for pauses; times in rows are the runs' own."""

    def __init__(
        self, aws: AWS, table: str, outbox: Outbox, *, worker: str, now: Callable[[], float] = clock.now
    ) -> None:
        super().__init__()
        self._rows = Rows(aws, table)
        self._outbox = outbox
        outbox.lost, outbox.written = self._lost, self.written
        self._runs = _Book(self._page, RUNS, linger=RUNS_LINGER, at_once_after=RUNS_LINGER, now=now)
        self._bad = _Book(self._page, BAD, linger=BAD_LINGER, at_once_after=float("inf"), now=now)
        self._successes, self._failures = _Bucket(now), _Bucket(now)
        self._worker = worker
        self._numbers = itertools.count(1)

    @classmethod
    def configured(cls, connections: Connections, _place: str) -> DynamoDBHistory:
        """The history in the table of the settings; it shares the requests of that table's claims."""
        aws, table = connection(connections), connections.settings.lock_table
        return cls(aws, table, connections.once(Outbox, aws, table), worker=format(time.time_ns() % 2**32, "08x"))

    def ended(self, run: Run, *, claimed: bool = True, confirmed: bool = False) -> None:
        """Enter the ending on its pages; write rows by which it is found by name, as far as the bucket allows."""
        bad = has_failed(run)
        if not claimed:
            self._alone(run)
        elif confirmed and bad:
            self._outbox.add(self._claim(run))
        if bad:
            self._bad.enter(run)
        self._runs.enter(run)
        if (self._failures if bad else self._successes).take():
            if _is_named(run):
                self._outbox.add(self._event(run, f"{stamp(run.ended_at)}/{run.message_id}"))
            if run.key != run.message_id:
                self._outbox.add(key_of(run.message_id, CLAIM) | self._expiring() | {"Key": text(run.key)})

    def went_back(self, run: Run) -> None:
        """Write a row for the attempt alone: the message's claim is removed."""
        self._alone(run)
        self.tried(run)

    def tried(self, run: Run) -> None:
        """Write the row that names the message beside the endings of its event, as far as the bucket allows."""
        if _is_named(run) and self._failures.take():
            self._outbox.add(self._event(run, AGAIN))

    def _alone(self, run: Run) -> None:
        row = key_of(run.key, f"{PAST}/{run.attempt}") | self._expiring() | facts.ended(run)
        self._outbox.add(row)

    async def close(self) -> None:
        """Write the pages that are begun."""
        self._runs.write()
        self._bad.write()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(2.0):
                await self._outbox.flush()

    def _lost(self, number: int, why: object) -> None:
        self._bad.linger = RUNS_LINGER  # fewer, larger writes
        self.lost(number, why)

    def _expiring(self) -> dict[str, Any]:
        return {"Expired": self._rows.expiry(self.rules.seconds)}

    def _claim(self, run: Run) -> dict[str, Any]:
        """The claim of a job whose message was deleted before its start: marked as done then, without an ending."""
        owner = {"Owner": text(f"nobody/{run.attempt}"), "Done": number(1)}
        row = key_of(run.key, THROTTLE) | self._expiring() | owner | facts.ended(run)
        return facts.with_output(row, run.output, failed=True)

    def _event(self, run: Run, kind: str) -> dict[str, Any]:
        key = key_of(event_key(run.event_id), kind)
        return key | self._expiring() | {"Message": text(run.message_id)} | facts.ended(run)

    def _page(self, kind: str, runs: list[Run]) -> None:
        """Put a page of endings, oldest first."""
        begun, ended = runs[0].ended_at or 0.0, runs[-1].ended_at or 0.0
        entries = [_entry(run, begun) for run in runs]
        hash_key = f"{kind}/{runs[-1].queue}/{datetime.fromtimestamp(ended, UTC).strftime(DAY)}"
        packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        content = packer.compress(json.dumps(entries, separators=(",", ":")).encode()) + packer.flush()
        self._outbox.add(
            key_of(hash_key, f"{stamp(ended)}/{self._worker}-{next(self._numbers)}")
            | self._expiring()
            | {
                "From": number(1000 * begun),
                "To": number(1000 * ended),
                "N": number(len(runs)),
                "Bad": number(sum(has_failed(run) for run in runs)),
                "Host": text(runs[-1].host),
                "P": binary(content),
            }
        )


class _Book:
    """Pages of one kind: the present one grows until it is full, or has waited long enough."""

    def __init__(
        self,
        put: Callable[[str, list[Run]], None],
        kind: str,
        *,
        linger: float,
        at_once_after: float,
        now: Callable[[], float],
    ) -> None:
        self._put = put
        self._kind = kind
        self._now = now
        self._at_once_after = at_once_after
        self._page: list[Run] = []
        self._characters = 0
        self._written = float("-inf")
        self._timer: asyncio.TimerHandle | None = None
        self.linger = linger
        """Seconds from the first entry of a page until it is written."""

    def enter(self, run: Run) -> None:
        """Add an ending. A lone one, after a pause, goes at once: it rides with its own claim."""
        self._page.append(run)
        self._characters += 60 + len(run.event_id) + len(run.lock_id) + len(_why(run))
        late = self._now() - self._written >= self._at_once_after
        if late or len(self._page) >= MOST or self._characters >= MOST_CHARACTERS:
            self.write()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self.linger, self.write)

    def write(self) -> None:
        """Put the present page, if there is anything on it."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._page:
            page, self._page, self._characters = self._page, [], 0
            self._written = self._now()
            self._put(self._kind, page)


class _Bucket:
    """A token bucket."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._left = BURST
        self._at = now()

    def take(self) -> bool:
        """Take a token; False if there is none."""
        now = self._now()
        self._left = min(BURST, self._left + (now - self._at) * RATE)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


def _entry(run: Run, begun: float) -> list[Any]:
    """What a page says of an ending: id, when, how, how long, what, why, its wait; trailing blanks are left out."""
    entry = [
        run.message_id,
        round(1000 * ((run.ended_at or begun) - begun)),
        run.outcome,
        None if run.seconds is None else round(1000 * run.seconds),
        facts.cut(run.event_id, _LONGEST_NAME) if run.event_id != run.message_id else "",
        facts.cut(run.lock_id, _LONGEST_NAME),
        run.exit_status if run.signal is None else -run.signal,
        _why(run),
        _waited(run),
    ]
    while entry[-1] in {"", None}:
        entry.pop()
    return entry


def _waited(run: Run) -> int | None:
    """Milliseconds from its message's sending to its command's start."""
    if not run.sent_at or run.seconds is None or run.ended_at is None:
        return None
    return max(0, round(1000 * (run.ended_at - run.seconds - run.sent_at)))


def _is_named(run: Run) -> bool:
    return run.event_id not in {"", run.message_id}


def _why(run: Run) -> str:
    """Return the last line of a failure's output; of one that was not started, why not."""
    if not has_failed(run):
        return ""
    return last_line(run.output) if run.seconds is not None else run.detail[:LONGEST_LAST_LINE]


def page_of(item: Mapping[str, Any], queue: str) -> list[Run]:
    """Read the endings of a page, newest first; none of a page that another release has written in another way."""
    try:
        unpacked = zlib.decompressobj(-zlib.MAX_WBITS).decompress(facts.bytes_of(item, "P"), _UNPACKED)
        begun, host = float(item["From"]["N"]) / 1000, text_of(item, "Host")
        runs = [_run(entry, begun, host, queue) for entry in json.loads(unpacked)]
    except (ValueError, TypeError, KeyError, AttributeError, zlib.error):
        return []
    return runs[::-1]


def _run(entry: list[Any], begun: float, host: str, queue: str) -> Run:
    message_id, later, outcome, took, event_id, lock_id, status, line, waited = (*entry, *(None,) * 9)[:9]
    ended_at = begun + later / 1000
    begun_at = None if took is None else ended_at - took / 1000
    return Run(
        message_id=str(message_id),
        event_id=event_id or "",
        lock_id=lock_id or "",
        host=host,
        queue=queue,
        sent_at=0.0 if begun_at is None or waited is None else begun_at - waited / 1000,
        begun_at=begun_at,
        ended_at=ended_at,
        seconds=None if took is None else took / 1000,
        outcome=str(outcome),
        exit_status=None if status is None or status < 0 else status,
        signal=None if status is None or status >= 0 else -status,
        detail="" if took is not None else line or "",
        output="" if took is None else line or "",
    )


def event_key(event_id: str) -> str:
    """Return the hash key of the endings of an event; a key has 2,048 bytes at most."""
    return f"{EVENT}/{facts.cut(event_id, _LONGEST_KEY)}"


def stamp(moment: float | None) -> str:
    """Return a time as a range key that sorts: milliseconds since 1970 in 13 digits, enough until 2286."""
    return f"{round(1000 * (moment or 0.0)):013d}"
