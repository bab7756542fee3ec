"""The facts of one attempt, as history, hooks and reports know them. Never the environment, never the body.

The module is ``runs``, since ``sqsjkr.run`` is the public function that runs a worker.
"""

from __future__ import annotations

from dataclasses import dataclass, field

LONGEST_COMMAND = 200
"""Characters of a command that are kept."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One attempt: what is known when it is claimed, and what is added when it has ended.

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
    """Its first ``LONGEST_COMMAND`` characters."""
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
    """How often its job has failed before this attempt."""
    crashes: int = 0
    """How many workers have died while they ran it."""
    earlier: tuple[Earlier, ...] = ()
    """Earlier attempts, oldest first: the newest five at most."""

    @property
    def key(self) -> str:
        """What the throttler knows the message by: its copies have the same key."""
        return self.claim_key or self.message_id
