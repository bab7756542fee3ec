"""The dead-letter queue on Amazon SQS, which no request can list: a look receives, and hides for a while."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any

from sqsjkr.backends import Connections
from sqsjkr.backends.sqs.client import QueueClient
from sqsjkr.errors import BackendRefused, BackendUnavailable
from sqsjkr.views.dead_letters import HIDDEN, PAGE, DeadLetters, Letter

_WAIT = 1
"""Seconds of a receive: with a long poll SQS asks all of its servers, so that nothing is answered only if there is
nothing (AWS: Amazon SQS short and long polling)."""
_MOVED = "the queue moved it here: it was received more often than its redrive policy allows"
_UNSAID = "no reason given: the queue moved it here, or it is too long to carry one (then the log has it: job.buried)"
_REASON, _ID, _SENT, _SENDER = "sqsjkr.reason", "sqsjkr.message_id", "sqsjkr.sent_at", "sqsjkr.sender"
_FAILURES, _OUTPUT = "sqsjkr.failures", "sqsjkr.output"
_OURS = (_REASON, _ID, _SENT, _SENDER, _FAILURES, _OUTPUT)
"""The attributes that a worker adds when it buries a message (backends/sqs/queue.py)."""


class SQSDeadLetters(DeadLetters):
    """The dead-letter queue that the job queue's redrive policy names."""

    def __init__(self, queue: QueueClient) -> None:
        self._queue = queue
        self._there: QueueClient | None = None

    @classmethod
    def configured(cls, connections: Connections) -> SQSDeadLetters:
        """Return the dead-letter queue of the queue of the settings."""
        return cls(QueueClient.configured(connections))

    async def open(self) -> None:
        """Ask the job queue for its redrive policy."""
        self._there = await self._queue.dead_letter_queue()
        if self._there is None:
            raise BackendRefused(f"{self._queue.name} has no dead-letter queue; next: sqsjkr setup")

    async def close(self) -> None:
        """Leave the connection open: others share it."""

    def now(self) -> float:
        """The time on the clock of SQS."""
        return time.time() + self._queue.aws.server_offset()

    async def receive(self) -> list[Letter]:
        """Send one ReceiveMessage."""
        request = {
            "MaxNumberOfMessages": PAGE,
            "WaitTimeSeconds": _WAIT,
            "VisibilityTimeout": HIDDEN,
            "MessageAttributeNames": ["All"],
            "MessageSystemAttributeNames": ["All"],
            "AttributeNames": ["All"],  # the older spelling, for servers that know only that
        }
        answer = await self._dead.call("ReceiveMessage", request, waiting=_WAIT)
        return [_letter(raw) for raw in answer.get("Messages") or []]

    async def release(self, letters: Sequence[Letter]) -> None:
        """Send one ChangeMessageVisibilityBatch."""
        entries = [
            {"Id": str(n), "ReceiptHandle": letter.handle, "VisibilityTimeout": 0} for n, letter in enumerate(letters)
        ]
        await self._dead.call("ChangeMessageVisibilityBatch", {"Entries": entries})

    async def redrive(self, letters: Sequence[Letter]) -> list[str | Exception]:
        """Send one SendMessage for each, then one DeleteMessageBatch for those that SQS took."""
        answers = list(await asyncio.gather(*(self._send(letter) for letter in letters)))
        sent = [letter for letter, answer in zip(letters, answers, strict=True) if isinstance(answer, str)]
        removed = dict(zip((letter.id for letter in sent), await self.drop(sent), strict=True))
        for n, (letter, answer) in enumerate(zip(letters, answers, strict=True)):
            if (failure := removed.get(letter.id)) is not None:
                answers[n] = BackendUnavailable(f"sent again as {answer}, but it is still here, too: {failure}")
        return answers

    async def drop(self, letters: Sequence[Letter]) -> list[Exception | None]:
        """Send one DeleteMessageBatch."""
        failures: list[Exception | None] = [None] * len(letters)
        if not letters:
            return failures
        entries = [{"Id": str(n), "ReceiptHandle": letter.handle} for n, letter in enumerate(letters)]
        try:
            answer = await self._dead.call("DeleteMessageBatch", {"Entries": entries})
        except BackendUnavailable as failure:
            return [failure] * len(letters)
        for number, failed in self._dead.failures("DeleteMessageBatch", answer).items():
            failures[number] = failed
        return failures

    async def _send(self, letter: Letter) -> str | Exception:
        more: Any = letter.more
        request = {"MessageBody": letter.body, **more}
        if self._queue.fifo:  # the same in each try within five minutes, so that SQS drops what comes twice
            request |= {
                "MessageGroupId": more.get("MessageGroupId", "sqsjkr"),
                "MessageDeduplicationId": f"redrive-{letter.id}",
            }
        try:
            return str((await self._queue.call("SendMessage", request))["MessageId"])
        except BackendUnavailable as failure:
            return failure

    @property
    def _dead(self) -> QueueClient:
        if self._there is None:
            raise BackendUnavailable("the dead-letter queue is not open yet")
        return self._there


def _letter(raw: Mapping[str, Any]) -> Letter:
    system, given = raw.get("Attributes") or {}, raw.get("MessageAttributes") or {}
    ours = {name: str(given[name].get("StringValue", "")) for name in _OURS if name in given}
    arrived, buried = _seconds(system.get("SentTimestamp"), 1000), _REASON in ours
    return Letter(
        id=str(raw["MessageId"]),
        body=str(raw.get("Body") or ""),
        message_id=ours.get(_ID) if buried else str(raw["MessageId"]),
        reason=ours.get(_REASON) or (_MOVED if "DeadLetterQueueSourceArn" in system else _UNSAID),
        sender=(ours.get(_SENDER) if buried else system.get("SenderId")) or None,
        sent_at=_seconds(ours.get(_SENT)) if buried else arrived,
        died_at=arrived if buried else None,
        receive_count=int(system.get("ApproximateReceiveCount", 0)) or None,
        failures=int(ours[_FAILURES]) if ours.get(_FAILURES, "").isdecimal() else None,
        output=ours.get(_OUTPUT) or None,
        handle=str(raw["ReceiptHandle"]),
        more=_of_producer(system, given),
    )


def _of_producer(system: Mapping[str, str], given: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any]:
    """Return what its producer sent with the body, as SendMessage takes it."""
    kept = ("DataType", "StringValue", "BinaryValue")
    more: dict[str, Any] = {}
    attributes = {
        name: {part: value[part] for part in kept if value.get(part) is not None}
        for name, value in given.items()
        if name not in _OURS
    }
    if attributes:
        more["MessageAttributes"] = attributes
    if trace := system.get("AWSTraceHeader"):
        more["MessageSystemAttributes"] = {"AWSTraceHeader": {"DataType": "String", "StringValue": trace}}
    if group := system.get("MessageGroupId"):
        more["MessageGroupId"] = group
    return more


def _seconds(text: object, each: float = 1.0) -> float | None:
    """Read a time; None if there is none, or what stands there was not written by us or by SQS."""
    try:
        seconds = float(str(text)) / each
    except ValueError:
        return None
    return seconds if 0 <= seconds < 1e11 else None  # noqa: PLR2004 - the year 5138: later ones have no date
