"""The queue on Amazon SQS."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any

from sqsjkr import clock
from sqsjkr.backends import Connections
from sqsjkr.backends.aws.codes import code_of
from sqsjkr.backends.aws.errors import AWSRefused
from sqsjkr.backends.sqs.client import QueueClient, redrive
from sqsjkr.errors import BackendRefused
from sqsjkr.leases.budget import STANDARD, LeaseBudget
from sqsjkr.message import ATTRIBUTES, Message
from sqsjkr.queue import Burial, Delivery, Hiding, Lapsed, Queue, QueueFacts

_GONE = frozenset({"ReceiptHandleIsInvalid", "InvalidParameterValue", "MessageNotInflight"})
"""Codes for a delivery that was deleted, was delivered again, or has reached the 12-hour cap."""
_TOO_LONG = frozenset({"InvalidParameterValue", "InvalidMessageContents", "BatchRequestTooLong"})
"""Codes for a message that is longer than the queue allows."""
_UNSENDABLE = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that SQS does not take (API reference, SendMessage)."""
LONGEST_OUTPUT = 2_000
"""Characters of the end of a job's output that go to the dead-letter queue with its message."""
_SYSTEM_ATTRIBUTES = ["SentTimestamp", "ApproximateReceiveCount", "MessageGroupId", "SenderId", "AWSTraceHeader"]
_XRAY = re.compile(r"Root=1-([0-9a-f]{8})-([0-9a-f]{24})")
_XRAY_PARENT = re.compile(r"Parent=([0-9a-f]{16})")


class SQSQueue(Queue):
    """One SQS queue, standard or FIFO."""

    def __init__(self, queue: QueueClient, *, budget: LeaseBudget = STANDARD) -> None:
        super().__init__(budget=budget)
        self._queue = queue
        self._dead_letters: QueueClient | None = None

    @classmethod
    def configured(cls, connections: Connections, budget: LeaseBudget) -> SQSQueue:
        """Return the queue of the settings."""
        return cls(QueueClient.configured(connections), budget=budget)

    async def _open(self) -> QueueFacts:
        queue = self._queue
        attributes = await queue.attributes("MessageRetentionPeriod", "RedrivePolicy")
        if attributes is None:
            advice = "are [account] id, region and [sqs] queue_name right? next: sqsjkr setup"
            raise AWSRefused(f"queue {queue.url} does not exist: {advice}", code="QueueDoesNotExist")
        arn, most = redrive(attributes)
        if arn:
            self._dead_letters = queue.beside(arn)
        return QueueFacts(
            name=queue.name,
            retention=float(attributes.get("MessageRetentionPeriod", 345_600)),
            dead_letters=self._dead_letters.name if self._dead_letters else None,
            fifo=queue.fifo,
            most_deliveries=most,
        )

    async def _close(self) -> None:
        """Leave the connection open: others share it."""

    async def _receive(self, limit: int, wait: float, hiding: float) -> list[Delivery]:
        request = {
            "MaxNumberOfMessages": limit,
            "WaitTimeSeconds": int(wait),
            "VisibilityTimeout": int(hiding),
            "MessageSystemAttributeNames": _SYSTEM_ATTRIBUTES,
            "AttributeNames": _SYSTEM_ATTRIBUTES,  # the older spelling, for servers that know only that
            "MessageAttributeNames": ATTRIBUTES,
        }
        answer = await self._queue.call("ReceiveMessage", request, waiting=wait, attempts=1)
        arrived, server_now = clock.now(), time.time() + self._queue.aws.server_offset()
        return [_delivery(raw, arrived, server_now, fifo=self.facts.fifo) for raw in answer.get("Messages") or []]

    async def _delete(self, entries: Sequence[tuple[str, str]]) -> Sequence[Exception | None]:
        batch = [{"Id": str(n), "ReceiptHandle": receipt} for n, (_, receipt) in enumerate(entries)]
        failures = await self._batch("DeleteMessageBatch", batch)
        # A void handle: an earlier try has deleted the message, or it was delivered again, where its claim stops it.
        return [None if isinstance(failure, Lapsed) else failure for failure in failures]

    async def _hide(self, entries: Sequence[Hiding]) -> Sequence[Exception | None]:
        return await self._batch(
            "ChangeMessageVisibilityBatch",
            [
                {"Id": str(n), "ReceiptHandle": entry.receipt, "VisibilityTimeout": math.ceil(entry.seconds)}
                for n, entry in enumerate(entries)
            ],
        )

    async def _bury(self, message: Message, burial: Burial) -> None:
        if self._dead_letters is None:
            raise BackendRefused(f"{self._queue.name} has no dead-letter queue")
        attributes = {
            **message.attributes,
            "sqsjkr.reason": burial.reason[:1000],
            "sqsjkr.message_id": message.id,
            "sqsjkr.sent_at": f"{message.sent_at:.3f}",
            "sqsjkr.sender": message.sender,
            "sqsjkr.failures": "" if burial.failures is None else str(burial.failures),
            "sqsjkr.output": _UNSENDABLE.sub("\ufffd", burial.output[-LONGEST_OUTPUT:]),
        }
        request: dict[str, Any] = {
            "MessageBody": message.body,
            "MessageAttributes": {name: _text(value) for name, value in attributes.items() if value},
        }
        if self.facts.fifo:
            request |= {"MessageGroupId": message.group or "sqsjkr", "MessageDeduplicationId": message.id}
        try:
            await self._dead_letters.call("SendMessage", request)
        except BackendRefused as refused:
            if code_of(refused) not in _TOO_LONG:
                raise
            del request["MessageAttributes"]  # a body of the maximum size leaves no room for attributes
            await self._dead_letters.call("SendMessage", request)

    async def _batch(self, operation: str, batch: Sequence[Mapping[str, Any]]) -> Sequence[Exception | None]:
        answer = await self._queue.call(operation, {"Entries": batch})
        failures: list[Exception | None] = [None] * len(batch)
        for number, failure in self._queue.failures(operation, answer).items():
            failures[number] = Lapsed(str(failure)) if code_of(failure) in _GONE else failure
        return failures


def _delivery(raw: Mapping[str, Any], arrived: float, server_now: float, *, fifo: bool) -> Delivery:
    attributes = raw.get("Attributes") or {}
    sent_at = float(attributes.get("SentTimestamp", server_now * 1000)) / 1000
    message = Message(
        id=raw["MessageId"],
        body=raw.get("Body") or "",
        sent_at=sent_at,
        age=max(0.0, server_now - sent_at),
        received_at=arrived,
        receive_count=int(attributes.get("ApproximateReceiveCount", 1)),
        # On a standard queue it names a tenant and orders nothing (AWS: Amazon SQS fair queues).
        group=attributes.get("MessageGroupId") if fifo else None,
        sender=attributes.get("SenderId", ""),
        attributes=_attributes(raw.get("MessageAttributes"), attributes.get("AWSTraceHeader", "")),
    )
    return Delivery(message, raw["ReceiptHandle"])


def _attributes(given: Mapping[str, Mapping[str, Any]] | None, xray: str) -> Mapping[str, str]:
    """Return the attributes that are text: SQS returns those that were asked for. X-Ray's context is another form."""
    attributes = (
        {name: value["StringValue"] for name, value in given.items() if "StringValue" in value} if given else {}
    )
    if xray and "traceparent" not in attributes and (context := _traceparent(xray)):
        attributes["traceparent"] = context
    return attributes


def _traceparent(xray: str) -> str:
    """Return X-Ray's trace context in the form of W3C, "" if it is none.

    ``Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1`` (AWS: "AWS X-Ray concepts", tracing
    header). The trace id is the same number in both.
    """
    root, parent = _XRAY.search(xray), _XRAY_PARENT.search(xray)
    if root is None or parent is None:
        return ""
    return f"00-{root[1]}{root[2]}-{parent[1]}-{'01' if 'Sampled=1' in xray else '00'}"


def _text(value: str) -> dict[str, str]:
    return {"DataType": "String", "StringValue": value}
