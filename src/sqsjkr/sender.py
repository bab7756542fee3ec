"""Port: puts jobs on a queue."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

LONGEST = 1_048_576
"""Bytes: the most in one message, and in all messages of one request (AWS: Amazon SQS message quotas)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """How messages are put on the queue."""

    delay: float = 0.0
    """Seconds before they can be received."""
    group: str = ""
    """On a FIFO queue, which needs one, the message group: its jobs run one at a time. On a standard queue the tenant
    whose backlog must not delay that of others (AWS: Amazon SQS fair queues); it orders nothing."""
    dedup_id: str = ""
    """Deduplication id on a FIFO queue; "" for a new one for each message."""
    attributes: Mapping[str, str] = field(default_factory=dict)
    """Message attributes: what the message carries beside its body."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """A message that the queue did not accept."""

    reason: str


class Sender(ABC):
    """Puts messages on one queue."""

    size = 10
    """The most messages that one ``send`` takes."""

    async def open(self) -> None:
        """Get ready to send. Raises ``BackendRefused`` if that is impossible."""

    @abstractmethod
    async def send(self, bodies: Sequence[str], signatures: Sequence[str] = ()) -> list[str | Rejected]:
        """Put messages on the queue, each with its signature if there are any.

        Returns, for each in order, its id, or why it was rejected.

        Raises ``BackendUnavailable`` if the queue does not answer, or refuses all of them.
        """

    async def close(self) -> None:
        """Let go of what ``open`` got."""
