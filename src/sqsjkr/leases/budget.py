"""The lease budget: every duration on which "never two at once" depends, in one checked value.

The argument that ties them together is docs/explanation/leases.md. Constructors take the budget, tests scale it. It is
a tuple, not a dataclass: the launcher keeps in memory what is imported here.
"""

from __future__ import annotations

from typing import NamedTuple, Self


class _Durations(NamedTuple):
    """Seconds, all of them."""

    lease: float = 30.0
    """How long an observer must see one heartbeat unchanged before it may take over what that worker holds."""
    trusted: float = 20.0
    """How long a worker trusts what it holds after it *sent* its last successful heartbeat."""
    heartbeat_every: float = 5.0
    """Between two heartbeats of a worker that holds something."""
    kill_patience: float = 4.0
    """Between TERM and KILL, at most, for a job whose lease cannot be proven: another worker is waiting."""
    guard_margin: float = 6.0
    """After ``trusted``, when the launcher ends the locked jobs that the worker has not ended itself."""
    guard_silence: float = 15.0
    """Without a sign of life from the worker, after which the launcher takes it for hung."""
    guard_look: float = 0.5
    """Between two looks of the launcher."""
    backstop_silence: float = 20.0
    """Without a sign of life, after which the backstop takes launcher and worker for hung."""
    backstop_look: float = 1.0
    """Between two looks of the backstop."""
    tick: float = 0.25
    """Between two looks of the worker at its leases."""

    first_hiding: float = 10.0
    """Visibility timeout of a receive: what a cut or lost connection swallowed is visible again this soon."""
    extend_after: float = 4.0
    """Age of a delivery at which its visibility timeout is extended first; a short job never costs a request."""
    extend_every: float = 10.0
    """Between two extensions of one message."""
    hiding: float = 30.0
    """Visibility timeout of each extension: after a crash the message is visible again this soon."""
    hiding_look: float = 1.0
    """Between two looks for messages that are due for an extension."""
    long_poll: float = 20.0
    """How long a receive waits for a message: the longest that SQS allows, so the fewest empty answers are paid for."""

    waiter_retry: float = 5.0
    """Between two tries of one waiter, at most (go-semantics section 6: the original waits exactly this long)."""
    longest_stay: float = 45.0
    """How long a copy of a job that another worker runs waits here: a lease and a half, enough to see that worker
    dead."""
    ready_for: float = 2.0
    """How long a received message waits for a slot before another worker may have it."""
    full_for: float = 30.0
    """How long all slots may be busy before messages that wait for locks go back: other workers may have a slot."""
    short_pause: float = 5.0
    """Delay of a message whose lock or claim could not be checked: the table may answer soon."""
    pause: float = 30.0
    """Delay of a message that can't run here now."""
    long_pause: float = 120.0
    """Delay of a copy whose job another worker runs: each delivery counts towards the dead-letter queue."""
    longest_pause: float = 900.0
    """Delay of a copy whose job a live worker has been running for hours."""

    give_back_within: float = 2.0
    """How long lock and claim may take to be given back before the message is settled without waiting for them."""
    trigger: float = 60.0
    """How long a ``life_time_trigger`` may run: one that hangs must not hold its slot forever."""
    last_words: float = 5.0
    """For settling what has ended, after the last job has."""
    stuck_after: float = 90.0
    """How long the loop that receives messages may go without coming round before a restart would help."""
    board_every: float = 20.0
    """Between two looks at the board, where operators pause the queue, drain hosts and call the roll."""
    longest_retry: float = 5.0
    """Between two tries to settle one message, at most."""
    longest_outage_pause: float = 20.0
    """Between two tries during an outage, at most."""
    answer: float = 5.0
    """How long one AWS request may take, a long poll's own waiting not counted."""
    claim_pace: float = 0.004
    """Between two requests with claims, or with unlocks, at least, unless they are full: about what DynamoDB takes to
    answer. A claim that comes alone does not wait."""
    slow: float = 1.0
    """After which an answer may belong to a second try, while the first is still on its way."""
    first_echo: float = 10.0
    """A release that was in doubt is sent again this long after the first time ..."""
    second_echo: float = 50.0
    """... this long after that ..."""
    third_echo: float = 250.0
    """... and once more: later than any request may arrive, since AWS refuses a signature older than five minutes
    (AWS: "Signature Version 4 for API requests")."""


_WHOLE = frozenset({"first_hiding", "hiding", "long_poll"})
"""SQS counts these in whole seconds."""


class LeaseBudget(_Durations):
    """Durations that fit each other. Raises ``ValueError`` if two jobs with one lock could overlap under them."""

    __slots__ = ()

    def __new__(cls, **given: float) -> Self:
        """Keep what is given, and the product's own durations for the rest."""
        made = super().__new__(cls, **given)
        made.check()
        return made

    def but(self, **changed: float) -> LeaseBudget:
        """Return this budget with some durations changed."""
        return LeaseBudget(**self._asdict() | changed)

    def scaled(self, factor: float) -> LeaseBudget:
        """Return the same budget with every duration multiplied; whole seconds stay whole, and at least 1."""
        each = {name: value * factor for name, value in self._asdict().items()}
        return LeaseBudget(**each | {name: float(max(1, round(each[name]))) for name in _WHOLE})

    @property
    def heartbeat_look(self) -> float:
        """Seconds between two looks whether a heartbeat is due, and between two tries of one that failed."""
        return self.heartbeat_every / 5

    @property
    def echoes(self) -> tuple[float, ...]:
        """Seconds between repeated releases of what was in doubt."""
        return self.first_echo, self.second_echo, self.third_echo

    def _longest_round(self) -> float:
        """Return how long one round of a healthy receive loop may take: a long poll without an answer, then a pause."""
        return self.long_poll + self.answer + self.longest_outage_pause

    def check(self) -> None:
        """Raise ``ValueError`` if a duration could outlast the one that it must stay within."""
        for what, seconds, limit in (
            ("trusted + tick + kill_patience", self.trusted + self.tick + self.kill_patience, self.lease),
            ("trusted + guard_margin + guard_look", self.trusted + self.guard_margin + self.guard_look, self.lease),
            ("guard_silence + guard_look", self.guard_silence + self.guard_look, self.lease),
            ("guard_silence + guard_look", self.guard_silence + self.guard_look, self.backstop_silence),
            ("backstop_silence + backstop_look", self.backstop_silence + self.backstop_look, self.lease),
            ("heartbeat_every", self.heartbeat_every, self.trusted),
            ("lease", self.lease, self.longest_stay),
            ("extend_after", self.extend_after, self.first_hiding),
            ("extend_every", self.extend_every, self.hiding),
            ("long_poll + answer + longest_outage_pause", self._longest_round(), self.stuck_after),
        ):
            if seconds >= limit:
                raise ValueError(f"lease budget: {what} = {seconds:g} s, expected less than {limit:g} s")


STANDARD = LeaseBudget()
"""The product's own durations."""
