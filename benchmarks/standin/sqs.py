"""The calls of SQS, on decoded JSON."""

import asyncio
import base64
import hashlib
import json
import re
import time
import uuid
from collections.abc import Callable
from functools import partial
from itertools import count

from benchmarks.standin.delivery import received
from benchmarks.standin.digests import md5_of_attributes, md5_of_body
from benchmarks.standin.errors import ApiError, Json, invalid_value
from benchmarks.standin.queues import ACCOUNT, Queue
from benchmarks.standin.shelves import Message

DEDUPLICATION_SECONDS = 300
DEFAULTS = {
    "VisibilityTimeout": "30",
    "MaximumMessageSize": "1048576",
    "MessageRetentionPeriod": "345600",
    "DelaySeconds": "0",
    "ReceiveMessageWaitTimeSeconds": "0",
}
_ID_HEAD = str(uuid.uuid4())[:23]
_NOT_ALLOWED = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class Sqs:
    """All queues, and one method per call: `CreateQueue` is `create_queue`."""

    def __init__(self) -> None:
        self.queues: dict[str, Queue] = {}
        self.base_url = "http://127.0.0.1"
        self._sequence = count(1)
        self._senders: dict[str, str] = {}
        self.access_key = ""
        """Whose call is answered now: what is sent by it carries a SenderId made of it."""
        self.calls: dict[str, Callable[[Json], Json | asyncio.Future[Json]]] = {
            "CreateQueue": self.create_queue,
            "GetQueueUrl": self.get_queue_url,
            "ListQueues": self.list_queues,
            "GetQueueAttributes": self.get_queue_attributes,
            "SetQueueAttributes": self.set_queue_attributes,
            "PurgeQueue": self.purge_queue,
            "SendMessage": self.send_message,
            "SendMessageBatch": self.send_message_batch,
            "ReceiveMessage": self.receive_message,
            "DeleteMessage": self.delete_message,
            "DeleteMessageBatch": self.delete_message_batch,
            "ChangeMessageVisibility": self.change_message_visibility,
            "ChangeMessageVisibilityBatch": self.change_message_visibility_batch,
        }

    def queue(self, name: str) -> Queue:
        """The queue of that name.

        Raises:
            ApiError: there is none.
        """
        try:
            return self.queues[name]
        except KeyError:
            raise ApiError(
                "QueueDoesNotExist",
                "The specified queue does not exist.",
                query_code="AWS.SimpleQueueService.NonExistentQueue",
            ) from None

    def create_queue(self, payload: Json) -> Json:
        """CreateQueue. Creating it again with other attributes is an error, with the same ones it is not."""
        name = payload["QueueName"]
        wanted = {key: str(value) for key, value in payload.get("Attributes", {}).items()}
        if name in self.queues:
            if wanted.items() - self.queues[name].attributes.items():
                raise ApiError(
                    "QueueNameExists",
                    f"A queue already exists with the same name and a different value for attributes: {name}",
                    query_code="QueueAlreadyExists",
                )
        else:
            self.queues[name] = queue = Queue(name, dict(DEFAULTS))
            self._configure(queue, wanted)
        return {"QueueUrl": self._url(name)}

    def get_queue_url(self, payload: Json) -> Json:
        """GetQueueUrl."""
        return {"QueueUrl": self._url(self.queue(payload["QueueName"]).name)}

    def list_queues(self, payload: Json) -> Json:
        """ListQueues, in one page."""
        prefix = payload.get("QueueNamePrefix", "")
        return {"QueueUrls": [self._url(name) for name in sorted(self.queues) if name.startswith(prefix)]}

    def get_queue_attributes(self, payload: Json) -> Json:
        """GetQueueAttributes."""
        queue = self._by_url(payload)
        queue.refresh()
        every = queue.attributes | {
            "QueueArn": queue.arn,
            "ApproximateNumberOfMessages": str(queue.visible),
            "ApproximateNumberOfMessagesNotVisible": str(queue.in_flight),
            "ApproximateNumberOfMessagesDelayed": str(queue.delayed),
            "CreatedTimestamp": str(queue.created),
            "LastModifiedTimestamp": str(queue.created),
        }
        wanted = payload.get("AttributeNames", [])
        return {"Attributes": {key: value for key, value in every.items() if "All" in wanted or key in wanted}}

    def set_queue_attributes(self, payload: Json) -> Json:
        """SetQueueAttributes."""
        self._configure(self._by_url(payload), {key: str(value) for key, value in payload["Attributes"].items()})
        return {}

    def purge_queue(self, payload: Json) -> Json:
        """PurgeQueue, at once and as often as one likes."""
        self._by_url(payload).purge()
        return {}

    def send_message(self, payload: Json) -> Json:
        """SendMessage."""
        queue = self._by_url(payload)
        answer = self._send(queue, payload)
        queue.wake()
        return answer

    def send_message_batch(self, payload: Json) -> Json:
        """SendMessageBatch."""
        queue = self._by_url(payload)
        return _each_entry(payload, partial(self._send, queue), queue)

    def receive_message(self, payload: Json) -> Json | asyncio.Future[Json]:
        """ReceiveMessage. A long poll gives a future, which may be cancelled."""
        queue = self._by_url(payload)
        limit = _whole(payload, "MaxNumberOfMessages", 1, 10, default="1")
        visibility = _whole(payload, "VisibilityTimeout", 0, 43200, default=queue.attributes["VisibilityTimeout"])
        default_wait = queue.attributes["ReceiveMessageWaitTimeSeconds"]
        seconds = _whole(payload, "WaitTimeSeconds", 0, 20, default=default_wait)
        wanted = (*payload.get("AttributeNames", ()), *payload.get("MessageSystemAttributeNames", ()))
        render = partial(received, frozenset(wanted), tuple(payload.get("MessageAttributeNames", ())))
        messages = queue.take(limit, visibility)
        if messages or not seconds:
            return render(messages) if messages else {}
        return queue.wait(limit, visibility, seconds, render)

    def delete_message(self, payload: Json) -> Json:
        """DeleteMessage."""
        queue = self._by_url(payload)
        queue.delete(payload["ReceiptHandle"])
        queue.wake()  # the next message of its group may go now
        return {}

    def delete_message_batch(self, payload: Json) -> Json:
        """DeleteMessageBatch."""
        queue = self._by_url(payload)

        def delete(entry: Json) -> Json:
            queue.delete(entry["ReceiptHandle"])
            return {}

        return _each_entry(payload, delete, queue)

    def change_message_visibility(self, payload: Json) -> Json:
        """ChangeMessageVisibility."""
        queue = self._by_url(payload)
        queue.change_visibility(payload["ReceiptHandle"], _whole(payload, "VisibilityTimeout", 0, 43200))
        queue.wake()
        return {}

    def change_message_visibility_batch(self, payload: Json) -> Json:
        """ChangeMessageVisibilityBatch."""
        queue = self._by_url(payload)

        def change(entry: Json) -> Json:
            queue.change_visibility(entry["ReceiptHandle"], _whole(entry, "VisibilityTimeout", 0, 43200))
            return {}

        return _each_entry(payload, change, queue)

    def fill(self, queue: Queue, template: str, number: int, groups: int) -> None:
        """Lay `number` messages on the queue at once.

        `@N@` in the template becomes the message's number. On a FIFO queue they are dealt to `groups` groups.
        """
        now_ms = time.time_ns() // 1_000_000
        for index in range(number):
            message = self._message(template.replace("@N@", str(index)), now_ms)
            if queue.fifo:
                message.group = f"group-{index % groups}"
            queue.put(message)
        queue.wake()

    def _configure(self, queue: Queue, attributes: dict[str, str]) -> None:
        if policy := attributes.get("RedrivePolicy"):
            rule = json.loads(policy)
            target = self.queue(rule["deadLetterTargetArn"].rpartition(":")[2])
            queue.dead_letters = (target, int(rule["maxReceiveCount"]))
        elif "RedrivePolicy" in attributes:
            queue.dead_letters = None
        queue.attributes.update(attributes)

    def _send(self, queue: Queue, entry: Json) -> Json:
        body = entry["MessageBody"]
        limit = int(queue.attributes["MaximumMessageSize"])
        if not 1 <= len(body.encode(errors="replace")) <= limit:
            raise invalid_value(f"One or more parameters are invalid. Reason: Message must have 1 to {limit} bytes.")
        if _NOT_ALLOWED.search(body):
            raise ApiError("InvalidMessageContents", "Invalid characters in the message body.")
        message = self._message(body, time.time_ns() // 1_000_000)
        if attributes := entry.get("MessageAttributes"):
            message.attributes = attributes
            message.attributes_md5 = md5_of_attributes(attributes)
        message.group = entry.get("MessageGroupId", "")
        if queue.fifo and (earlier := _deduplicate(queue, message, entry)):
            message = earlier
        else:
            default_delay = queue.attributes["DelaySeconds"]
            queue.put(message, _whole(entry, "DelaySeconds", 0, 900, default=default_delay))
        answer: Json = {"MessageId": message.id, "MD5OfMessageBody": message.md5}
        if message.attributes_md5:
            answer["MD5OfMessageAttributes"] = message.attributes_md5
        if queue.fifo:
            answer["SequenceNumber"] = f"{message.sequence:020}"
        return answer

    def _message(self, body: str, now_ms: int) -> Message:
        sequence = next(self._sequence)
        return Message(
            id=f"{_ID_HEAD}-{sequence:012x}",
            body=body,
            md5=md5_of_body(body),
            sent_ms=now_ms,
            sequence=sequence,
            sender=self._sender(),
        )

    def _sender(self) -> str:
        """An id like that of an IAM user: the same for each call with one access key, another for another key."""
        key = self.access_key
        if key not in self._senders:
            self._senders[key] = "AIDA" + base64.b32encode(hashlib.sha256(key.encode()).digest()).decode()[:17]
        return self._senders[key]

    def _by_url(self, payload: Json) -> Queue:
        return self.queue(payload["QueueUrl"].rpartition("/")[2])

    def _url(self, name: str) -> str:
        return f"{self.base_url}/{ACCOUNT}/{name}"


def _whole(payload: Json, key: str, low: int, high: int, *, default: str | None = None) -> int:
    value = payload.get(key, default)
    if value is None:
        raise ApiError("MissingParameter", f"The request must contain the parameter {key}.")
    if not low <= (number := int(value)) <= high:
        raise invalid_value(f"Value {number} for parameter {key} is invalid. Reason: Must be >= {low} and <= {high}.")
    return number


def _each_entry(payload: Json, act: Callable[[Json], Json], queue: Queue) -> Json:
    entries = payload.get("Entries") or []
    prefix = "AWS.SimpleQueueService."
    if not entries:
        code = "EmptyBatchRequest"
        raise ApiError(code, "There should be at least one entry in the request.", query_code=prefix + code)
    if len(entries) > 10:
        code = "TooManyEntriesInBatchRequest"
        raise ApiError(
            code, f"Maximum number of entries is 10. You have sent {len(entries)}.", query_code=prefix + code
        )
    if len({entry["Id"] for entry in entries}) < len(entries):
        code = "BatchEntryIdsNotDistinct"
        raise ApiError(code, "Two or more batch entries have the same Id.", query_code=prefix + code)
    successful: list[Json] = []
    failed: list[Json] = []
    for entry in entries:
        try:
            successful.append({"Id": entry["Id"], **act(entry)})
        except ApiError as error:
            failed.append({"Id": entry["Id"], "SenderFault": True, "Code": error.query_code, "Message": error.message})
    queue.wake()
    return {"Successful": successful, "Failed": failed} if failed else {"Successful": successful}


def _deduplicate(queue: Queue, message: Message, entry: Json) -> Message | None:
    """The message sent in the last five minutes under the same deduplication id, if any."""
    if not message.group:
        raise ApiError("MissingParameter", "The request must contain the parameter MessageGroupId.")
    key = entry.get("MessageDeduplicationId")
    if not key:
        if queue.attributes.get("ContentBasedDeduplication") != "true":
            raise invalid_value(
                "The queue should either have ContentBasedDeduplication enabled or MessageDeduplicationId provided."
            )
        key = hashlib.sha256(message.body.encode()).hexdigest()
    message.deduplication = key
    now = time.monotonic()
    sent = queue.deduplicated
    while sent and next(iter(sent.values()))[0] <= now:
        sent.popitem(last=False)
    if key in sent:
        return sent[key][1]
    sent[key] = (now + DEDUPLICATION_SECONDS, message)
    return None
