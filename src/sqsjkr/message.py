"""One delivery from the queue."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

SIGNATURE = "sqsjkr.signature"
"""The attribute with the signature of the body."""
LONGEST_SIGNATURE_LIFE = 3600.0
"""Seconds for which a signature may be used: claims are kept for so much longer than messages, or a signature could be
used again at the end of a retention."""
TRACE = ("traceparent", "tracestate", "baggage")
"""The producer's trace context (W3C: Trace Context, Baggage)."""
ATTRIBUTES = (SIGNATURE, *TRACE)
"""The message attributes that mean something here. Others are not asked for, and not carried to a dead letter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One delivery: what the queue handed out, once. A redelivery of the same message is another ``Message``."""

    id: str
    """The queue's message id: the same for every delivery, new after a dead-letter redrive."""
    body: str
    """The text as it was sent."""
    sent_at: float
    """When the producer's send was accepted: epoch seconds on the queue's clock (``SentTimestamp``)."""
    age: float
    """Seconds between ``sent_at`` and this delivery, both on the queue's clock; never negative."""
    received_at: float
    """When this delivery arrived here: seconds on ``clock.now``, so ages grow without a wall clock."""
    receive_count: int = 1
    """How often the message was delivered, this delivery included (``ApproximateReceiveCount``)."""
    group: str | None = None
    """The message group of a FIFO queue; None on a standard queue."""
    sender: str = ""
    """Which identity sent it, as the queue says: SQS's ``SenderId``, the user's name in the embedded store; "" if the
    queue does not say. No producer chooses it (AWS: ReceiveMessage, "SenderId")."""
    attributes: Mapping[str, str] = field(default_factory=dict, hash=False)
    """Those of ``ATTRIBUTES`` that the producer set."""

    def age_at(self, now: float) -> float:
        """Seconds since the message was sent, at ``now`` on ``clock.now``: no wall clock of this host is read."""
        return self.age + max(0.0, now - self.received_at)
