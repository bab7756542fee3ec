"""One attempt: a delivery on its way through read, gate, run, policy and settlement."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqsjkr.job import Job
from sqsjkr.message import Message
from sqsjkr.outcome import Ending, Outcome
from sqsjkr.plan import AS_ASKED
from sqsjkr.runs import Earlier, Place, Run, label, shortened


class Attempt:
    """One try to run the job of a message. Each stage notes here what the later ones need.

    ``id`` is new for every attempt: it marks the job's processes, and it is the second half of the owner of its lock
    and claim, so that two jobs of one worker exclude each other, too.
    """

    __slots__ = (
        "_end",
        "asked",
        "audit",
        "begun",
        "claim_key",
        "claimed",
        "crashes",
        "deleted",
        "earlier",
        "failures",
        "fencing_token",
        "id",
        "job",
        "locked",
        "message",
        "named",
        "ordered_by",
        "owed",
        "place",
        "plan",
        "refusal",
        "rival_key",
        "secrets",
    )

    def __init__(self, message: Message, attempt_id: str, place: Place = Place()) -> None:  # noqa: B008 - immutable
        self.id = attempt_id
        self.message = message
        self.place = place
        self.job: Job | None = None
        """Set by the reader; None if the body is not a valid job."""
        self.named = ""
        """Set by the reader: the event id in a body that is not a valid job."""
        self.plan = AS_ASKED
        """Set by the reader: what is executed for the job, and how."""
        self.audit: Mapping[str, Any] = {}
        """Set by the reader of a worker with a trust file, for log and history: whose job it is, signed with which key,
        under which name, and the SHA-256 of its body."""
        self.secrets: Mapping[str, str] = {}
        """The values of the secrets that the plan names, by their variables. They appear nowhere else."""
        self.refusal: Ending | None = None
        """Set by the reader if the job is not to run, whatever lock and claim say. The gate gives it, once claimed."""
        self.claim_key = message.id
        """What the throttler knows the message by: its copies have the same key."""
        self.rival_key = ""
        """For a refused message: the key under which a copy of it may run on a worker with another policy."""
        self.locked = False
        """The lock was asked for, and may be held even if no answer came."""
        self.claimed = False
        """The claim was asked for, and may be held even if no answer came."""
        self.asked = False
        """A locker or throttler has answered, with yes or no."""
        self.fencing_token = 0
        self.begun: float | None = None
        """When it was claimed, on ``clock.now``; None if it was not."""
        self.failures = self.crashes = 0
        """How often the job has failed before, and how many workers have died while they ran it: as its claim's row
        says."""
        self.owed: Run | None = None
        """Its job has ended in an earlier delivery, and this one has to do what was left to do."""
        self.ordered_by = ""
        """The operator by whose order its command is ended."""
        self.earlier: tuple[Earlier, ...] = ()
        """What its claim's row says of earlier attempts."""
        self.deleted = False
        """The message has left the queue before its settlement ended (``ack = "start"``, or it was buried), so the job
        never runs again."""
        self._end: tuple[Ending, Run] | None = None

    @property
    def facts(self) -> dict[str, Any]:
        """What every log line about this run carries for machines."""
        lock_id = self.job.lock_id if self.job else ""
        return {"message_id": self.message.id, "event_id": self.name, "lock_id": lock_id or None}

    @property
    def label(self) -> str:
        """What the log calls this run: its name and the short message id, which tells two runs of one name apart."""
        return label(self.name, self.message.id)

    @property
    def name(self) -> str:
        """What operators know the job by: its event id, or the message id if the body names none."""
        return self.job.event_id if self.job else self.named or self.message.id

    def run(self, now: float, ending: Ending | None = None) -> Run:
        """Return the facts of this attempt at ``now`` (``clock.now``): what is known so far, or how it has ended.

        History, claim and hook say the same of an ``ending``: what the first of them was given.
        """
        if ending is None:
            return self._run(self._begun())
        if self._end is None or self._end[0] is not ending:
            self._end = ending, self._run(self._ended(ending, now))
        return self._end[1]

    def _run(self, facts: Mapping[str, Any]) -> Run:
        message, job = self.message, self.job
        return Run(
            message_id=message.id,
            claim_key=self.claim_key,
            attempt=self.id,
            event_id=self.name,
            lock_id=job.lock_id if job else "",
            command=shortened(job.command) if job else "",
            job=self.audit.get("job") or "",
            host=self.place.host,
            queue=self.place.queue,
            sender=message.sender,
            sent_at=message.sent_at,
            receive_count=message.receive_count,
            fence=self.fencing_token,
            crashes=self.crashes,
            earlier=self.earlier,
            **facts,
        )

    def _begun(self) -> dict[str, Any]:
        return {"begun_at": None if self.begun is None else self._time_of(self.begun), "failures": self.failures}

    def _ended(self, ending: Ending, now: float) -> dict[str, Any]:
        end, at = ending.exit, self._time_of(now)
        facts = {"ended_at": at, "outcome": ending.outcome.label, "detail": ending.detail, "failures": self.failures}
        if end is None:  # refused, or not started
            return facts
        return facts | {
            "begun_at": at - end.seconds,
            "failures": self.failures if ending.failures is None else ending.failures,
            "exit_status": end.status if end.status >= 0 else None,
            "signal": -end.status if end.status < 0 else None,
            "seconds": end.seconds,
            "cpu_seconds": end.cpu,
            "max_rss_bytes": end.max_rss,
            "printed_bytes": end.printed,
            "output": end.tail,
            "cancelled_by": end.by if ending.outcome is Outcome.CANCELLED else "",
        }

    def _time_of(self, moment: float) -> float:
        """Return a moment of ``clock.now`` in epoch seconds on the queue's clock."""
        return self.message.sent_at + self.message.age_at(moment)
