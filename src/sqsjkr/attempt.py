"""One attempt: a delivery on its way through read, gate, run, policy and settlement."""

from __future__ import annotations

from sqsjkr.job import Job
from sqsjkr.message import Message
from sqsjkr.outcome import Ending
from sqsjkr.plan import AS_ASKED


class Attempt:
    """One try to run the job of a message. Each stage notes here what the later ones need.

    ``id`` is new for every attempt: it marks the job's processes, and it is the second half of the owner of its lock
    and claim, so that two jobs of one worker exclude each other, too.
    """

    __slots__ = (
        "asked",
        "claim_key",
        "claimed",
        "deleted",
        "fencing_token",
        "id",
        "job",
        "locked",
        "message",
        "plan",
        "refusal",
    )

    def __init__(self, message: Message, attempt_id: str) -> None:
        self.id = attempt_id
        self.message = message
        self.job: Job | None = None
        """Set by the reader; None if the body is not a valid job."""
        self.plan = AS_ASKED
        """Set by the reader: what is executed for the job, and how."""
        self.refusal: Ending | None = None
        """Set by the reader if the job is not to run, whatever lock and claim say. The gate gives it, once claimed."""
        self.claim_key = message.id
        """What the throttler knows the message by: its copies have the same key."""
        self.locked = False
        """The lock was asked for, and may be held even if no answer came."""
        self.claimed = False
        """The claim was asked for, and may be held even if no answer came."""
        self.asked = False
        """A locker or throttler has answered, with yes or no."""
        self.fencing_token = 0
        self.deleted = False
        """The message has left the queue before its settlement ended (``ack = "start"``, or it was buried), so the job
        never runs again."""

    @property
    def name(self) -> str:
        """What operators know the job by: its event id, or the message id if the body could not be read."""
        return self.job.event_id if self.job else self.message.id
