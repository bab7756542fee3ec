"""What jobs took: time, processor, memory, output, and how long they waited. Plain numbers, for whoever reads them."""

from __future__ import annotations

from sqsjkr import clock
from sqsjkr.attempt import Attempt
from sqsjkr.outcome import Ending, Outcome, Reason, Settlement
from sqsjkr.telemetry.histogram import Histogram
from sqsjkr.telemetry.observer import Observer

DURATIONS = (0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 900, 1800, 3600, 7200, 21_600, 43_200)
WAITS = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600, 14_400)
LOCK_WAITS = (0.1, 0.5, 1, 5, 10, 30, 60, 300, 900, 3600, 14_400)
MEMORY = tuple(2**n * 1024 * 1024 for n in range(3, 14))
"""8 MiB to 8 GiB."""
_WAITERS_REMEMBERED = 10_000


class Measures(Observer):
    """Adds up what the journal reports. Reads no clock but ``clock.now``."""

    def __init__(self) -> None:
        self.durations = {
            outcome.label: Histogram(DURATIONS) for outcome in (Outcome.SUCCEEDED, Outcome.ERRORED, Outcome.INTERRUPTED)
        }
        """How long commands ran, by outcome; other outcomes are added when they occur."""
        self.waits = Histogram(WAITS)
        """From the send of a message to the start of its job, for jobs that no lock kept waiting."""
        self.lock_waits = Histogram(LOCK_WAITS)
        """From the first refusal by a lock to the start, for jobs that waited here."""
        self.max_rss = Histogram(MEMORY)
        self.cpu_seconds = 0.0
        self.printed_bytes = 0
        self.cut_bytes = 0
        """What came too fast to be logged."""
        self.leases_lost = 0
        """Jobs that were ended since their lease could not be proven."""
        self.ended_at: float | None = None
        """When the last delivery ended, on ``clock.now``."""
        self.orders = dict.fromkeys(("cancel", "requeue", "pause", "resume", "drain"), 0)
        """Orders of operators that were carried out here."""
        self._waiting: dict[str, float | None] = {}

    def started(self, attempt: Attempt, command: str) -> None:  # noqa: ARG002 - an observer's arguments
        """Measure how long the job waited, if that is known and says something about locks or slots."""
        message, now = attempt.message, clock.now()
        if message.id in self._waiting:
            since = self._waiting.pop(message.id)
            if since is not None:
                self.lock_waits.add(now - since)
        elif message.receive_count == 1 or not (attempt.job and attempt.job.lock_id):
            self.waits.add(message.age_at(now))  # else it may have waited for its lock on another host

    def cut(self, attempt: Attempt, size: int) -> None:  # noqa: ARG002 - an observer's arguments
        """Count bytes that were not logged."""
        self.cut_bytes += size

    def ended(self, attempt: Attempt, ending: Ending) -> None:
        """Measure a command that has run; remember since when a refused job waits for its lock."""
        self.ended_at = clock.now()
        if ending.settlement is Settlement.KEEP:
            self._remember(attempt.message.id, self.ended_at if ending.outcome is Outcome.LOCKED else None)
        if (exit := ending.exit) is None:  # noqa: A001 - the word of the field
            return
        label = ending.outcome.label
        if label not in self.durations:
            self.durations[label] = Histogram(DURATIONS)
            self.durations[label].sample = self.durations[Outcome.SUCCEEDED.label].sample
        self.durations[label].add(exit.seconds)
        self.max_rss.add(exit.max_rss)
        self.cpu_seconds += exit.cpu
        self.printed_bytes += exit.printed
        self.leases_lost += exit.reason is Reason.LEASE

    def settled(self, attempt: Attempt, ending: Ending) -> None:
        """Forget a waiter that goes back to the queue: it goes on waiting somewhere else."""
        if ending.settlement is not Settlement.KEEP:
            self._waiting.pop(attempt.message.id, None)

    def _remember(self, message_id: str, since: float | None) -> None:
        if len(self._waiting) >= _WAITERS_REMEMBERED and message_id not in self._waiting:
            del self._waiting[next(iter(self._waiting))]
        self._waiting.setdefault(message_id, since)
