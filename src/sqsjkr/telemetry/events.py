"""Every event that sqsjkr logs, and the one function that logs it.

The list is closed, so that a line can be searched for by its event's name in any version. The reference page
``docs/reference/log-events.md`` holds the same list; a test compares the two.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from typing import Literal, Self

LOGGER = logging.getLogger("sqsjkr")
"""The logger of all that ``emit`` writes. A program that embeds sqsjkr may put its own handlers on it."""

LEVELS: Mapping[str, int] = {
    "error": logging.ERROR,
    "warn": logging.WARNING,
    "info": logging.INFO,
    "debug": logging.DEBUG,
}
"""The words of ``--log-level``, as in the original (go-semantics section 1)."""

Level = Literal["error", "warn", "info", "debug"]
Fact = str | int | float | bool | None
"""What may stand beside a line in the JSON form."""


class Event(Enum):
    """What a log line is about. The value is the name in the log; ``meaning`` is its sentence in the reference."""

    WORKER_STARTED = ("worker.started", "info", "The worker is ready and begins to receive jobs.")
    WORKER_STOPPING = (
        "worker.stopping",
        "info",
        "The worker is stopping: it takes no new jobs and ends the running ones.",
    )
    WORKER_STOPPED = ("worker.stopped", "info", "The worker has stopped; nothing of it runs any more.")
    WORKER_FAILED = ("worker.failed", "error", "The worker cannot start or go on; the message says why, and it exits.")
    WORKER_PAUSED = ("worker.paused", "error", "The worker takes no new jobs until the reason it names is gone.")
    ORDER_OBEYED = (
        "order.obeyed",
        "warn",
        "An operator's order was carried out: a job cancelled or sent back, the worker paused, resumed or drained.",
    )
    ROSTER_FAILED = (
        "roster.failed",
        "warn",
        "The worker cannot enter itself in the table, or read orders there; jobs go on. Logged once per outage.",
    )
    ROSTER_RECOVERED = ("roster.recovered", "info", "The worker enters itself in the table and reads orders again.")
    WORKER_RESUMED = ("worker.resumed", "info", "The worker takes new jobs again.")
    HOST_EXHAUSTED = ("host.exhausted", "error", "The host can't start processes; jobs wait until it can.")
    HOST_RECOVERED = ("host.recovered", "info", "The host starts processes again.")

    CONFIG_LOADED = ("config.loaded", "info", "The configuration was read from the file it names.")
    QUEUE_OPENED = ("queue.opened", "info", "The queue was found and can be received from.")
    QUEUE_UNREACHABLE = (
        "queue.unreachable",
        "error",
        "The queue fails; retrying. Logged once per outage.",
    )
    QUEUE_RECOVERED = ("queue.recovered", "info", "The queue answers again.")
    TABLE_UNREACHABLE = (
        "table.unreachable",
        "error",
        "The table fails; retrying. Logged once per outage.",
    )
    TABLE_RECOVERED = ("table.recovered", "info", "The table answers again.")
    TABLE_UNBATCHED = (
        "table.unbatched",
        "warn",
        "The table does not take several claims or unlocks in one request: each is sent by itself.",
    )
    HISTORY_DROPPED = (
        "history.dropped",
        "warn",
        "Endings of jobs could not be written for viewers; jobs are not affected. Logged once until it works again.",
    )
    HISTORY_RECOVERED = ("history.recovered", "info", "Endings of jobs are written for viewers again.")
    NO_DEAD_LETTER_QUEUE = (
        "no_dead_letter_queue",
        "warn",
        "The queue has no dead-letter queue, so bad messages stay on it.",
    )
    JOB_STARTED = ("job.started", "info", "A job's command was started.")
    JOB_ENDED = ("job.ended", "info", "A delivery has ended, in one of the outcomes that the reference lists.")
    JOB_OUTPUT = ("job.output", "info", "One line of what a job printed.")
    JOB_OUTPUT_CUT = ("job.output_cut", "warn", "A job printed more than is logged; the rest was read and thrown away.")
    JOB_WAITING = ("job.waiting", "info", "A job waits for its lock, without occupying a slot.")
    JOB_BURIED = (
        "job.buried",
        "error",
        "A message whose job is not run any more was moved to the dead-letter queue, or hidden without one.",
    )
    JOB_TRIGGER = ("job.trigger", "info", "The life_time_trigger was run for a job that came too late.")
    JOB_REFUSED = ("job.refused", "error", "The trust file does not allow a job; its message is a dead letter.")
    JOB_UNTRUSTED = (
        "job.untrusted",
        "warn",
        "The trust file does not allow a job, which runs all the same, since its mode is warn.",
    )
    TRUST_LOADED = ("trust.loaded", "info", "The trust file was read, at the start or because it has changed.")
    TRUST_INVALID = (
        "trust.invalid",
        "error",
        "The trust file has changed and is wrong; the one before stays in force.",
    )
    JOB_RETRIES_IGNORED = (
        "job.retries_ignored",
        "warn",
        "A job asks for retries, and its message is deleted before it starts; it is run once.",
    )
    HOOK_OUTPUT = ("hook.output", "info", "One line of what a hook printed.")
    HOOK_FAILED = ("hook.failed", "error", "A hook failed, did not start or ran for too long; it is not run again.")
    SECRET_UNAVAILABLE = (
        "secret.unavailable",
        "error",
        "A secret cannot be looked up; jobs that need it go back. Logged once per outage.",
    )
    SECRET_AVAILABLE = ("secret.available", "info", "The secret can be looked up again.")
    PROCESS_LEFT = (
        "process.left",
        "info",
        "A job ended by itself and left processes in the background; they are left alone.",
    )
    MESSAGE_RECEIVED = ("message.received", "debug", "A message was received.")
    MESSAGE_EXTENDED = ("message.extended", "debug", "A message that is held here was hidden for longer.")
    MESSAGE_RELEASED = ("message.released", "debug", "A message was given back to the queue.")
    MESSAGE_DELETED = ("message.deleted", "debug", "A message was deleted: its job is settled.")
    MESSAGE_DUPLICATE = ("message.duplicate", "debug", "A message was delivered again and is not run again.")
    MESSAGE_LAST_DELIVERY = (
        "message.last_delivery",
        "warn",
        "A message was delivered for the last time: unless its job ends here, SQS moves it to the dead-letter queue.",
    )
    MESSAGE_LAPSED = (
        "message.lapsed",
        "warn",
        "A message cannot be kept hidden any longer (SQS allows 12 hours); its job goes on.",
    )
    MESSAGE_RETURNED = ("message.returned", "info", "A message went back to the queue and will be delivered again.")
    VISIBILITY_FAILED = (
        "visibility.failed",
        "error",
        "Visibility timeouts can't be extended: messages of long jobs are delivered again. Logged once per outage.",
    )
    VISIBILITY_RECOVERED = ("visibility.recovered", "info", "Visibility timeouts can be extended again.")
    SETTLE_RETRIED = (
        "settle.retried",
        "error",
        "A result could not be recorded in queue or table; retrying. Logged once per outage.",
    )
    SETTLE_RESUMED = ("settle.resumed", "info", "Results can be recorded in queue or table again.")
    SETTLE_GIVEN_UP = (
        "settle.given_up",
        "error",
        "The worker stops before a result is recorded in queue or table; the message comes back.",
    )
    LOCK_TAKEN = ("lock.taken", "debug", "A job has its lock.")
    LOCK_RELEASED = ("lock.released", "debug", "The lock of a job that has ended was given back.")
    CLAIM_TAKEN = ("claim.taken", "debug", "A message was claimed: no other delivery of it runs.")
    CLAIM_CLOSED = (
        "claim.closed",
        "debug",
        "A claim was marked as done, or dropped so that the next delivery may run.",
    )
    SESSION_NAMED = ("session.named", "debug", "The worker's session took a new name, since it held nothing.")
    LEASE_LOST = ("lease.lost", "error", "The worker cannot prove its lease any more and ends its locked jobs.")
    LEASE_RESUMED = ("lease.resumed", "info", "The worker has a new lease and takes locks again.")
    LEASE_TAKEOVER = ("lease.takeover", "warn", "A lock or claim of a worker that is dead was taken over.")
    GUARD_KILLED = (
        "guard.killed",
        "error",
        "The worker died or hung, and the launcher killed what its jobs left running.",
    )
    LAUNCHER_HUNG = (
        "launcher.hung",
        "error",
        "The launcher did not say in time whether it had started a job that must end; the worker killed it.",
    )
    STATS_LISTENING = ("stats.listening", "info", "The HTTP server for stats and health accepts connections.")
    STATS_FAILED = (
        "stats.failed",
        "error",
        "The HTTP server for stats and health could not answer a request; jobs go on.",
    )
    TRACES_FAILED = (
        "traces.failed",
        "warn",
        "Spans can't be exported and are lost; jobs go on. Logged once per outage.",
    )
    TRACES_RECOVERED = ("traces.recovered", "info", "Spans can be exported again.")
    METRICS = ("metrics", "info", "The metrics of a minute, as JSON, in a program that has a log of its own.")
    LOG_DROPPED = ("log.dropped", "warn", "Lines are missing here: the log could not be written as fast as they came.")
    LOG = ("log", "error", "A line of a library, or an unforeseen error.")
    level: int
    meaning: str

    def __new__(cls, name: str, level: Level, meaning: str) -> Self:
        """Make the name the value, and keep level and sentence beside it."""
        event = object.__new__(cls)
        event._value_ = name
        event.level = LEVELS[level]
        event.meaning = meaning
        return event


class _Later(Mapping[str, Fact]):
    """Facts that are gathered when somebody reads them: a text log never does."""

    __slots__ = ("_facts", "_gather")

    def __init__(self, gather: Callable[[], Mapping[str, Fact]], facts: dict[str, Fact]) -> None:
        self._gather: Callable[[], Mapping[str, Fact]] | None = gather
        self._facts = facts

    def __getitem__(self, name: str) -> Fact:
        return self._all()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())

    def _all(self) -> Mapping[str, Fact]:
        if self._gather is not None:
            self._facts, self._gather = {**self._gather(), **self._facts}, None
        return self._facts


def emit(
    event: Event,
    text: str | Callable[[], str],
    /,
    *,
    level: Level | int | None = None,
    about: Callable[[], Mapping[str, Fact]] | None = None,
    **facts: Fact,
) -> None:
    """Log one line; do nothing if its level is off. Costs microseconds and never waits.

    ``level`` (a word, or a number of ``logging``) takes the place of the event's own, for the few events whose weight
    depends on what happened. ``text`` is for eyes and may hold anything: what could forge a line is escaped when it is
    written. ``facts`` are for machines and appear in the JSON form only. Callers keep one rule: no line holds the value
    of an environment variable, and none above debug holds a message body.

    What is logged for every job is given as functions: ``text`` is called only if the level is on, ``about``, which
    returns more facts, only if the line is written as JSON.
    """
    number = event.level if level is None else level if isinstance(level, int) else LEVELS[level]
    if LOGGER.isEnabledFor(number):
        words = text if isinstance(text, str) else text()
        LOGGER.handle(record(event, number, words, facts if about is None else _Later(about, facts)))


def says(level: Level) -> bool:
    """Is this level logged?"""
    return LOGGER.isEnabledFor(LEVELS[level])


def record(event: Event, level: int, text: str, facts: Mapping[str, Fact]) -> logging.LogRecord:
    """Make the record of one line, without looking at the stack for its caller: the event says where it comes from."""
    made = logging.LogRecord(LOGGER.name, level, "", 0, text, None, None)
    made.__dict__["event"] = event.value
    made.__dict__["facts"] = facts
    return made
