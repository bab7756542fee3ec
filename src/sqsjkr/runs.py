"""The facts of one attempt, as history, hooks and reports know them. Never the environment, never the body.

The module is ``runs``, since ``sqsjkr.run`` is the public function that runs a worker.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Self

LONGEST_COMMAND = 200
"""Characters of a command that are kept."""
CUT = "…"
"""The end of a command of which only the beginning is kept."""
LONGEST_NOTED_OUTPUT = 4_000
"""Bytes of the end of a job's output that are kept in its claim's row while something is owed for it."""
HOST = socket.gethostname()
"""This host, as other workers see it in the table."""
CRASHED = "crashed"
"""The outcome of an earlier attempt whose worker died."""
MOST_EARLIER = 5
"""Earlier attempts that are remembered in a claim's row; the newest."""
THIS_WORKER = "this worker"
"""The ``note`` of what this process itself holds."""
SHORT = 8
"""Characters of a message id, or of a session's name, that tell one from another in a log line."""


def shortened(command: str) -> str:
    """Return what is kept of a command; of a long one the beginning, and a mark that it goes on."""
    return command if len(command) <= LONGEST_COMMAND else f"{command[: LONGEST_COMMAND - len(CUT)]}{CUT}"


def label(event_id: str, message_id: str) -> str:
    """Return what a log line calls a job: ``backup[a590974b]``; the message id alone if it has no name of its own."""
    if not event_id or not message_id or event_id == message_id:
        return event_id or message_id
    return f"{event_id}[{message_id[:SHORT]}]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a worker runs."""

    host: str = ""
    queue: str = ""
    """The queue's name; of the embedded store, its file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Earlier:
    """What is left of an earlier attempt at the same message: it was cut off, or failed and is tried again."""

    host: str = ""
    begun_at: float | None = None
    ended_at: float | None = None
    """None if nobody saw its end: its worker died."""
    outcome: str = ""
    detail: str = ""

    @property
    def packed(self) -> list[object]:
        """What JSON holds of it."""
        return [self.host, _milliseconds(self.begun_at), _milliseconds(self.ended_at), self.outcome, self.detail]

    @classmethod
    def unpacked(cls, packed: Any) -> Self | None:
        """Read what ``packed`` gave, in this release or another; None if there is nothing to read."""
        try:
            host, begun, ended, outcome, detail, *_ = packed
            begun_at, ended_at = _seconds(begun), _seconds(ended)
        except (TypeError, ValueError):
            return None
        return cls(host=str(host), begun_at=begun_at, ended_at=ended_at, outcome=str(outcome), detail=str(detail))


def _milliseconds(moment: float | None) -> int | None:
    return None if moment is None else round(1000 * moment)


def _seconds(milliseconds: Any) -> float | None:
    return None if milliseconds is None else float(milliseconds) / 1000


@dataclass(slots=True, kw_only=True)  # not frozen: that makes it five times as costly to make, and each job makes two
class Run:
    """One attempt: what is known when it is claimed, and what is added when it has ended. Never changed: copied.

    Times are epoch seconds on the queue's clock: the message's ``sent_at`` and how much later, so no wall clock of a
    host is read. A fact that is unknown, or does not apply, is "", 0 or None.
    """

    message_id: str
    claim_key: str = ""
    """What the throttler knows the message by, if it is not its id."""
    attempt: str = ""
    """The id of the attempt: the second half of the owner of its claim."""
    event_id: str = ""
    """The producer's name for the event; the message's id if it gave none."""
    lock_id: str = ""
    command: str = ""
    """As ``shortened`` leaves it."""
    job: str = ""
    """The name of the job in the trust file, if the message asked for one by name."""
    host: str = ""
    queue: str = ""
    sender: str = ""
    """The identity that sent the message, if the queue says it."""
    sent_at: float = 0.0
    receive_count: int = 1
    fence: int = 0
    """The fencing token of its lock."""
    begun_at: float | None = None
    """When it was claimed, and from its end on, when its command started; None if it was refused."""
    ended_at: float | None = None
    outcome: str = ""
    """The outcome's name (docs/reference/outcomes.md); "" while it runs."""
    detail: str = ""
    """A few words: "exit status 3 in 0.20s, cpu 0.01s"."""
    exit_status: int | None = None
    signal: int | None = None
    """The number of the signal that ended the command."""
    seconds: float | None = None
    cpu_seconds: float | None = None
    max_rss_bytes: int | None = None
    printed_bytes: int | None = None
    output: str = field(default="", repr=False)
    """The last of what it printed."""
    failures: int = 0
    """How often its job has failed before this attempt, and from its end on, with it."""
    crashes: int = 0
    """How many workers have died while they ran it."""
    earlier: tuple[Earlier, ...] = ()
    """Earlier attempts, oldest first: the newest five at most."""
    cancelled_by: str = ""
    """The operator by whose order it was ended."""
    owed: bool = False
    """Something is owed for this end: a hook is to be run, or the message to be moved to the dead-letter queue. If its
    worker dies first, the worker of the next delivery does it."""

    @property
    def is_cut(self) -> bool:
        """Whether only the beginning of its command is known."""
        return self.command.endswith(CUT)

    @property
    def as_earlier(self) -> Earlier:
        """What a later attempt remembers of this one. One without an outcome was seen by nobody: its worker died."""
        return Earlier(
            host=self.host,
            begun_at=self.begun_at,
            ended_at=self.ended_at,
            outcome=self.outcome or CRASHED,
            detail=self.detail or ("" if self.outcome else "its worker died"),
        )

    @property
    def as_waiting(self) -> Run:
        """What is known of a job before its next attempt, from this one that was cut off."""
        return replace(
            self,
            attempt="",
            host="",
            begun_at=None,
            ended_at=None,
            outcome="",
            detail="",
            exit_status=None,
            signal=None,
            seconds=None,
            cpu_seconds=None,
            max_rss_bytes=None,
            printed_bytes=None,
            output="",
            fence=0,
        )

    def with_past(self, past: Sequence[Run]) -> Run:
        """Return it with the attempts before it that are kept by themselves, too; the oldest first."""
        known = {(one.host, _milliseconds(one.begun_at)) for one in self.earlier}
        more = [
            one.as_earlier
            for one in past
            if one.attempt != self.attempt and (one.host, _milliseconds(one.begun_at)) not in known
        ]
        return replace(self, earlier=tuple(sorted((*self.earlier, *more), key=lambda one: one.begun_at or 0.0)))

    @property
    def key(self) -> str:
        """What the throttler knows the message by: its copies have the same key."""
        return self.claim_key or self.message_id

    @property
    def earlier_with_this(self) -> tuple[Earlier, ...]:
        """What the next attempt is to remember."""
        return (*self.earlier, self.as_earlier)[-MOST_EARLIER:]


_UNSAID = {item.name: item.default for item in fields(Run)}
_MOST_CHARACTERS = {"event_id": 1024, "detail": 1000}


def to_note(run: Run) -> str:
    """Write the facts of a run as JSON: about 8 KB at most."""
    facts = {name: value for name, unsaid in _UNSAID.items() if (value := getattr(run, name)) != unsaid}
    for name, most in _MOST_CHARACTERS.items():
        if name in facts:
            facts[name] = facts[name][:most]
    if run.output:
        facts["output"] = run.output.encode()[-LONGEST_NOTED_OUTPUT:].decode(errors="ignore")
    if run.earlier:
        facts["earlier"] = [one.packed for one in run.earlier[-MOST_EARLIER:]]
    return json.dumps(facts, ensure_ascii=False)


def from_note(note: str) -> Run | None:
    """Read what ``to_note`` wrote, in this release or another one. None if there is nothing to read."""
    try:
        facts = json.loads(note)
        known = {name: facts[name] for name in _UNSAID if name in facts}
        if "earlier" in known:
            known["earlier"] = tuple(one for each in known["earlier"] if (one := Earlier.unpacked(each)) is not None)
        return Run(**known)
    except (ValueError, TypeError, AttributeError):
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """Who holds a lock, as far as its locker knows; each field may be empty."""

    event_id: str = ""
    message_id: str = ""
    host: str = ""
    since: float = 0.0
    """When the lock was taken: epoch seconds, 0.0 if unknown."""
    session: str = ""
    """The session of its worker."""
    note: str = ""
    """What else an operator should know, in a few words."""

    @classmethod
    def here(cls, event_id: str, message_id: str) -> Holder:
        """Return the holder of a lock that this worker takes now."""
        return cls(event_id=event_id, message_id=message_id, host=HOST, since=float(int(time.time())), note=THIS_WORKER)

    def __str__(self) -> str:
        """A few words: ``backup[a590974b] on host-1 (session c2ae5f5e) since 2026-11-24T15:54:43+00:00``."""
        since = f"since {self.since_text}" if self.since else ""
        return " ".join(filter(None, (label(self.event_id, self.message_id) or "another job", self.where, since)))

    @property
    def where(self) -> str:
        """Its worker, as far as it is known: ``on host-1 (session c2ae5f5e)``."""
        who = self.note or (f"session {self.session[:SHORT]}" if self.session else "")
        return " ".join(filter(None, (self.host and f"on {self.host}", who and f"({who})")))

    @property
    def since_text(self) -> str:
        """``since`` as the log writes times, without milliseconds: local time with its offset; "" if unknown."""
        if not self.since:
            return ""
        zone = time.strftime("%z", time.localtime(self.since))
        return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.localtime(self.since))}{zone[:3]}:{zone[3:]}"
