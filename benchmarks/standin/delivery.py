"""What a receiver is shown of a message."""

from benchmarks.standin.digests import md5_of_attributes
from benchmarks.standin.errors import Json
from benchmarks.standin.shelves import Message


def received(wanted: frozenset[str], attribute_names: tuple[str, ...], messages: list[Message]) -> Json:
    """The answer that delivers the messages, with the system attributes and attributes the receiver wants."""
    return {"Messages": [_rendered(message, wanted, attribute_names) for message in messages]}


def _rendered(message: Message, wanted: frozenset[str], attribute_names: tuple[str, ...]) -> Json:
    answer: Json = {
        "MessageId": message.id,
        "ReceiptHandle": message.handle,
        "MD5OfBody": message.md5,
        "Body": message.body,
    }
    if wanted:
        answer["Attributes"] = _system_attributes(message, wanted)
    if message.attributes and attribute_names:
        chosen = {name: value for name, value in message.attributes.items() if _chosen(name, attribute_names)}
        if chosen:
            answer["MessageAttributes"] = chosen
            whole = len(chosen) == len(message.attributes)
            answer["MD5OfMessageAttributes"] = message.attributes_md5 if whole else md5_of_attributes(chosen)
    return answer


def _system_attributes(message: Message, wanted: frozenset[str]) -> Json:
    every = {
        "SenderId": message.sender,
        "SentTimestamp": str(message.sent_ms),
        "ApproximateReceiveCount": str(message.receives),
        "ApproximateFirstReceiveTimestamp": str(message.first_receive_ms),
    }
    if message.group:
        every["MessageGroupId"] = message.group
    if message.deduplication:
        every["MessageDeduplicationId"] = message.deduplication
        every["SequenceNumber"] = f"{message.sequence:020}"
    if message.source_arn:
        every["DeadLetterQueueSourceArn"] = message.source_arn
    return every if "All" in wanted else {key: value for key, value in every.items() if key in wanted}


def _chosen(name: str, patterns: tuple[str, ...]) -> bool:
    return any(
        pattern in {"All", name} or (pattern.endswith(".*") and name.startswith(pattern[:-2])) for pattern in patterns
    )
