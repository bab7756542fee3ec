"""The queue on Amazon SQS."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from sqsjkr import clock
from sqsjkr.backends.aws.client import AWS
from sqsjkr.backends.aws.errors import AWSRefused
from sqsjkr.errors import BackendRefused, BackendUnavailable
from sqsjkr.leases.budget import STANDARD, LeaseBudget
from sqsjkr.message import Message
from sqsjkr.queue import Delivery, Hiding, Lapsed, Queue, QueueFacts

NO_QUEUE = {"QueueDoesNotExist", "AWS.SimpleQueueService.NonExistentQueue"}
GONE = {
    "ReceiptHandleIsInvalid",
    "InvalidParameterValue",
    "MessageNotInflight",
    "AWS.SimpleQueueService.MessageNotInflight",
}
"""What servers answer for a delivery that is deleted, delivered anew, or at the 12-hour cap (prefixes differ)."""
_SYSTEM_ATTRIBUTES = ["SentTimestamp", "ApproximateReceiveCount", "MessageGroupId"]


class SQSQueue(Queue):
    """One SQS queue, standard or FIFO, named as in the original (account id and queue name) or by its URL."""

    def __init__(
        self,
        aws: AWS,
        *,
        url: str = "",
        account_id: str = "",
        name: str = "",
        budget: LeaseBudget = STANDARD,
    ) -> None:
        super().__init__(budget=budget)
        self._aws = aws
        self._url = url
        self._account_id = account_id
        self._name = name
        self._endpoint: str | None = None
        self._dead_letters_url = ""

    async def _open(self) -> QueueFacts:
        if self._url and not self._aws.has_custom_endpoint("sqs"):
            parts = urlsplit(self._url)
            self._endpoint = f"{parts.scheme}://{parts.netloc}"  # a queue of another region, or behind a VPC endpoint
        self._url = self._url or f"{self._aws.endpoint('sqs').rstrip('/')}/{self._account_id}/{self._name}"
        try:
            attributes = await self._attributes()
        except AWSRefused as refused:
            if refused.code not in NO_QUEUE:
                raise
            advice = "are [account] id, region and [sqs] queue_name right? next: sqsjkr setup"
            text = f"queue {self._url} does not exist: {advice}"
            raise AWSRefused(text, code=refused.code, status=refused.status) from refused
        policy = json.loads(attributes.get("RedrivePolicy") or "{}")
        arn = policy.get("deadLetterTargetArn", "")
        name = self._url.rsplit("/", 1)[-1]
        dead_letters = arn.rsplit(":", 1)[-1] or None
        if dead_letters:
            self._dead_letters_url = await self._url_of(dead_letters, account_id=arn.split(":")[4])
        return QueueFacts(
            name=name,
            retention=float(attributes.get("MessageRetentionPeriod", 345_600)),
            dead_letters=dead_letters,
            fifo=name.endswith(".fifo"),
        )

    async def _close(self) -> None:
        """The connection belongs to the wiring."""

    async def _attributes(self) -> Mapping[str, str]:
        wanted = {"AttributeNames": ["MessageRetentionPeriod", "RedrivePolicy"]}
        try:
            answer = await self._call("GetQueueAttributes", wanted)
        except BackendRefused as refused:
            # The original builds the URL by itself, and so do we: it asks for no permission. Other servers than AWS
            # may have their own URLs, which only they can tell.
            if _code(refused) not in NO_QUEUE or not self._name or not self._aws.has_custom_endpoint("sqs"):
                raise
            found = await self._aws.call("sqs", "GetQueueUrl", {"QueueName": self._name})
            self._url = found["QueueUrl"]
            answer = await self._call("GetQueueAttributes", wanted)
        attributes: Mapping[str, str] = answer.get("Attributes", {})
        return attributes

    async def _url_of(self, name: str, *, account_id: str) -> str:
        """The dead-letter queue's URL: beside ours, as AWS lays them out, unless the server says otherwise."""
        if self._aws.has_custom_endpoint("sqs"):
            found = await self._aws.call("sqs", "GetQueueUrl", {"QueueName": name})
            return str(found["QueueUrl"])
        return f"{self._url.rsplit('/', 2)[0]}/{account_id}/{name}"

    async def _receive(self, limit: int, wait: float, hiding: float) -> list[Delivery]:
        request: dict[str, Any] = {
            "MaxNumberOfMessages": limit,
            "WaitTimeSeconds": int(wait),
            "VisibilityTimeout": int(hiding),
            "MessageSystemAttributeNames": _SYSTEM_ATTRIBUTES,
            "AttributeNames": _SYSTEM_ATTRIBUTES,  # the older spelling, for servers that know only that
        }
        if self.facts.fifo:
            request["ReceiveRequestAttemptId"] = uuid.uuid4().hex  # a retry after a lost answer gets the same messages
        answer = await self._call("ReceiveMessage", request, timeout=wait + 5.0, attempts=1)
        arrived, server_now = clock.now(), time.time() + self._aws.server_offset()
        return [_delivery(raw, arrived, server_now) for raw in answer.get("Messages") or []]

    async def _delete(self, entries: Sequence[tuple[str, str]]) -> Sequence[Exception | None]:
        batch = [{"Id": str(n), "ReceiptHandle": receipt} for n, (_, receipt) in enumerate(entries)]
        failures = await self._batch("DeleteMessageBatch", batch)
        # A void handle: the message was deleted by an earlier try, or delivered anew; its claim settles that delivery.
        return [None if isinstance(failure, Lapsed) else failure for failure in failures]

    async def _hide(self, entries: Sequence[Hiding]) -> Sequence[Exception | None]:
        return await self._batch(
            "ChangeMessageVisibilityBatch",
            [
                {"Id": str(n), "ReceiptHandle": entry.receipt, "VisibilityTimeout": int(entry.seconds)}
                for n, entry in enumerate(entries)
            ],
        )

    async def _bury(self, message: Message, reason: str) -> None:
        request: dict[str, Any] = {
            "QueueUrl": self._dead_letters_url,
            "MessageBody": message.body,
            "MessageAttributes": {
                "sqsjkr.reason": _text(reason[:1000]),
                "sqsjkr.message_id": _text(message.id),
                "sqsjkr.sent_at": _text(f"{message.sent_at:.3f}"),
            },
        }
        if self.facts.fifo:
            request |= {"MessageGroupId": message.group or "sqsjkr", "MessageDeduplicationId": message.id}
        try:
            await self._aws.call("sqs", "SendMessage", request, endpoint=self._endpoint)
        except BackendRefused as refused:
            if _code(refused) not in {"InvalidParameterValue", "InvalidMessageContents", "BatchRequestTooLong"}:
                raise
            del request["MessageAttributes"]  # a body of the greatest size leaves no room for reasons
            await self._aws.call("sqs", "SendMessage", request, endpoint=self._endpoint)

    async def _batch(self, operation: str, batch: Sequence[Mapping[str, Any]]) -> Sequence[Exception | None]:
        answer = await self._call(operation, {"Entries": batch})
        failures: list[Exception | None] = [None] * len(batch)
        for failed in answer.get("Failed") or []:
            code = str(failed.get("Code", ""))
            kind = Lapsed if code.rsplit(".", 1)[-1].removesuffix("Exception") in GONE else BackendUnavailable
            failures[int(failed["Id"])] = kind(f"{operation}: {code} {failed.get('Message', '')}".strip())
        return failures

    async def _call(
        self, operation: str, request: Mapping[str, Any], *, timeout: float = 5.0, attempts: int = 4
    ) -> Mapping[str, Any]:
        payload = {"QueueUrl": self._url, **request}
        return await self._aws.call(
            "sqs", operation, payload, timeout=timeout, attempts=attempts, endpoint=self._endpoint
        )


def _delivery(raw: Mapping[str, Any], arrived: float, server_now: float) -> Delivery:
    attributes = raw.get("Attributes") or {}
    sent_at = float(attributes.get("SentTimestamp", server_now * 1000)) / 1000
    message = Message(
        id=raw["MessageId"],
        body=raw.get("Body") or "",
        sent_at=sent_at,
        age=max(0.0, server_now - sent_at),
        received_at=arrived,
        receive_count=int(attributes.get("ApproximateReceiveCount", 1)),
        group=attributes.get("MessageGroupId"),
    )
    return Delivery(message, raw["ReceiptHandle"])


def _text(value: str) -> dict[str, str]:
    return {"DataType": "String", "StringValue": value}


def _code(refused: BackendRefused) -> str:
    return str(getattr(refused, "code", ""))
