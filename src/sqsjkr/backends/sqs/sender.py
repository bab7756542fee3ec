"""Sends to an SQS queue, in batches in which each message is taken or rejected alone."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from sqsjkr.backends import Connections
from sqsjkr.backends.aws.codes import code_of
from sqsjkr.backends.sqs.client import QueueClient
from sqsjkr.errors import BackendRefused, ConfigError
from sqsjkr.message import SIGNATURE
from sqsjkr.sender import LONGEST, Rejected, Sender, Terms

_TRIES = 6
_FIRST_PAUSE = 0.1
"""Seconds before the first retry; doubled before each further one."""
_SPOILED = frozenset({"BatchRequestTooLong", "InvalidMessageContents", "InvalidParameterValue"})
"""Codes for a whole batch when one of its messages cannot be sent."""


class SQSSender(Sender):
    """Sends with SendMessageBatch. Raises ``ConfigError`` if the terms do not fit the queue.

    A message whose answer was lost is sent again: a standard queue may then hold it twice, a FIFO queue drops the
    second copy.
    """

    def __init__(self, queue: QueueClient, terms: Terms) -> None:
        self._queue = queue
        self._terms = terms
        self._attributes = {
            name: {"DataType": "String", "StringValue": value} for name, value in terms.attributes.items()
        }
        # They count towards the size of a message (AWS: Amazon SQS message quotas): the job is worth more.
        self._weight = sum(len(name) + len("String") + len(value.encode()) for name, value in terms.attributes.items())
        if queue.fifo and not terms.group:
            raise ConfigError(f"{queue.name} is a FIFO queue, which needs a message group: add --group ID")
        if queue.fifo and terms.delay:
            raise ConfigError(f"{queue.name} is a FIFO queue, which cannot delay single messages: leave --delay out")
        if terms.dedup_id and not queue.fifo:
            raise ConfigError(f"{queue.name} is a standard queue, which has no deduplication: leave --dedup-id out")

    @classmethod
    def configured(cls, connections: Connections, terms: Terms) -> SQSSender:
        """Send to the queue of the settings."""
        return cls(QueueClient.configured(connections), terms)

    async def send(self, bodies: Sequence[str], signatures: Sequence[str] = ()) -> list[str | Rejected]:
        """Send one batch. Retries, with pauses, what was throttled and what failed at AWS."""
        answers: dict[str, str | Rejected] = {}
        entries = [self._entry(str(n), body) for n, body in enumerate(bodies)]
        for entry, signature in zip(entries, signatures, strict=False):  # none, or one for each
            signed = {SIGNATURE: {"DataType": "String", "StringValue": signature}}
            entry["MessageAttributes"] = {**entry.get("MessageAttributes", {}), **signed}
        await self._send(entries, answers)
        return [answers[entry["Id"]] for entry in entries]

    def _entry(self, number: str, body: str) -> dict[str, Any]:
        entry: dict[str, Any] = {"Id": number, "MessageBody": body}
        if self._attributes and len(body.encode()) + self._weight <= LONGEST:
            entry["MessageAttributes"] = self._attributes
        if self._terms.delay:
            entry["DelaySeconds"] = int(self._terms.delay)
        if self._terms.group:
            entry["MessageGroupId"] = self._terms.group
        if self._queue.fifo:  # the same in each try, so that a lost answer duplicates nothing
            entry["MessageDeduplicationId"] = self._terms.dedup_id or uuid.uuid4().hex
        return entry

    async def _send(self, entries: Sequence[Mapping[str, Any]], answers: dict[str, str | Rejected]) -> None:
        pause = _FIRST_PAUSE
        for tries_left in reversed(range(_TRIES)):
            try:
                answer = await self._queue.call("SendMessageBatch", {"Entries": entries})
            except BackendRefused as refused:
                if code_of(refused) not in _SPOILED:
                    raise
                await self._send_one_by_one(entries, answers, str(refused))
                return
            answers |= {sent["Id"]: str(sent["MessageId"]) for sent in answer.get("Successful") or []}
            failures = {failed["Id"]: failed for failed in answer.get("Failed") or []}
            for entry in entries:
                failure = failures.get(entry["Id"], {})
                if entry["Id"] not in answers and not (tries_left and _may_pass(failure)):
                    answers[entry["Id"]] = Rejected(_reason(failure))
            entries = [entry for entry in entries if entry["Id"] not in answers]
            if not entries:
                return
            await asyncio.sleep(random.uniform(pause / 2, pause))  # noqa: S311 - jitter
            pause *= 2

    async def _send_one_by_one(
        self, entries: Sequence[Mapping[str, Any]], answers: dict[str, str | Rejected], reason: str
    ) -> None:
        """Find the message that spoils the batch; send the others."""
        if len(entries) == 1:
            answers[entries[0]["Id"]] = Rejected(reason)
            return
        for entry in entries:
            await self._send([entry], answers)


def _may_pass(failure: Mapping[str, Any]) -> bool:
    """Whether a retry may succeed: AWS failed, or throttled us."""
    return not failure.get("SenderFault", False) or "Throttl" in str(failure.get("Code", ""))


def _reason(failure: Mapping[str, Any]) -> str:
    return f"SQS: {failure.get('Code', 'no answer')} {failure.get('Message') or ''}".strip()
