"""The faults that the proxy knows: what each is, which requests it meets, and the answers AWS would give."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import json
import random
import socket
import struct
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

_SERVICES = {"AmazonSQS": "sqs", "DynamoDB_20120810": "dynamodb"}
_CAP = "Reason: Total VisibilityTimeout for the message is beyond the limit [43200 seconds]"


class Fault(enum.StrEnum):
    """What can happen to one request. Words in backticks are the rule's."""

    ERROR = "error"  # a 500 answer; the server is not asked
    THROTTLE = "throttle"  # the service's own "slow down" answer; the server is not asked
    REFUSE = "refuse"  # a 400 answer with `code`; the server is not asked
    RESET_BEFORE = "reset-before"  # the connection is reset; the server is not asked
    RESET_AFTER = "reset-after"  # the server has acted, its answer is lost: the connection is reset
    DELAY = "delay"  # the server is asked `seconds` later
    LATE = "late"  # the server is asked at once, its answer comes `seconds` later
    STRAY = (
        "stray"  # the connection is reset, and the server gets the request `seconds` later: its packet was under way
    )
    HANG = "hang"  # the request waits until the rule is released or its client gives up, then goes on
    DUPLICATE = "duplicate"  # the server gets the request twice; the first answer counts (only where SQS may do so)
    REDELIVER = "redeliver"  # what a ReceiveMessage returned, a later one returns again, after `seconds` at the soonest
    SHORT = "short"  # a ReceiveMessage that finds `messages` at most, whatever there is; 0: none, at once
    CAP = "cap"  # hidden for 12 hours: ChangeMessageVisibility fails, in a batch for the entries that hold `text`
    PART = (
        "part"  # the entries of a batch that hold `text` fail with `code`, or are left unprocessed; the others do not
    )
    CLOCK = (
        "clock"  # AWS's clock is `seconds` ahead: Date and SentTimestamp say so; a signature 5 minutes off is refused
    )


#: Where SQS may do a thing twice. A DynamoDB write done twice is a client that asked again: see RESET_AFTER.
DUPLICABLE = frozenset(
    name + batch for name in ("SendMessage", "DeleteMessage", "ChangeMessageVisibility") for batch in ("", "Batch")
)
ONLY = {
    Fault.DUPLICATE: DUPLICABLE,
    Fault.REDELIVER: frozenset({"ReceiveMessage"}),
    Fault.SHORT: frozenset({"ReceiveMessage"}),
    Fault.CAP: frozenset({"ChangeMessageVisibility", "ChangeMessageVisibilityBatch"}),
    Fault.PART: frozenset({"DeleteMessageBatch", "ChangeMessageVisibilityBatch", "BatchWriteItem"}),
}


@dataclass(slots=True, kw_only=True, eq=False)
class Rule:
    """One fault and the requests it meets: those of the worker, service and operation that hold the text; "" is any."""

    fault: Fault
    service: str = ""
    operation: str = ""
    worker: str = ""
    text: str = ""
    probability: float = 1.0
    limit: int | None = None  #: how often at most
    seconds: float = 0.0
    messages: int = 0
    code: str = "AccessDeniedException"
    hits: int = 0  #: how often so far
    chance: random.Random = field(default_factory=random.Random)
    released: bool = False

    def fires(self, call: Call) -> bool:
        """Whether the request gets this fault; counts it if so."""
        fits = self.worker in ("", call.worker) and self.service in ("", call.service)
        fits = fits and self.operation in ("", call.operation) and self.text in json.dumps(call.payload)
        if not fits or self.released or call.operation not in ONLY.get(self.fault, {call.operation}):
            return False
        if self.fault in (Fault.CAP, Fault.PART) and not self.failing(call):
            return False
        if self.hits == self.limit or self.chance.random() >= self.probability:
            return False
        self.hits += 1
        return True

    def failing(self, call: Call) -> list[dict[str, Any]]:
        """The entries of a batch that this rule fails; a single call is a batch of one.

        The 12-hour cap lets zero seconds through.
        """
        entries = next(iter(call.payload.get("RequestItems", {}).values()), call.payload.get("Entries", [call.payload]))
        mine = [entry for entry in entries if self.text in json.dumps(entry)]
        return [entry for entry in mine if entry.get("VisibilityTimeout")] if self.fault is Fault.CAP else mine


@dataclass(slots=True, kw_only=True, eq=False)
class Call:
    """One request as the proxy saw it."""

    time: float  #: `time.monotonic()` when it had been read
    worker: str
    service: str
    operation: str
    payload: dict[str, Any]
    fault: str = ""  #: "" for none, a Fault, or "cut"
    status: int | None = None  #: of the answer; None as long as there is none, and for ever if it was lost

    @property
    def queue(self) -> str:
        """The name of the queue; the rest of its URL differs from worker to worker."""
        return str(self.payload.get("QueueUrl", "")).rpartition("/")[2]


def read(worker: str, target: str, body: bytes) -> Call:
    """A request that has just arrived, from its X-Amz-Target and its body."""
    prefix, _, operation = target.partition(".")
    payload = json.loads(body) if body else {}
    service = _SERVICES.get(prefix, prefix)
    return Call(time=time.monotonic(), worker=worker, service=service, operation=operation, payload=payload)


@dataclass(slots=True, kw_only=True)
class Answer:
    """An HTTP answer, the server's or ours."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes

    def decoded(self) -> dict[str, Any]:
        """The body as JSON; {} where it is none."""
        try:
            return dict(json.loads(self.body))
        except ValueError:
            return {}


def good(payload: Mapping[str, Any]) -> Answer:
    """A 200 answer."""
    headers = {"Content-Type": "application/x-amz-json-1.0"}
    return Answer(status=200, headers=headers, body=json.dumps(payload).encode())


def failure(status: int, code: str, message: str, *, namespace: str = "com.amazon.coral.service") -> Answer:
    """An error as both services word it; the header is what SQS adds for clients of its old protocol."""
    body = json.dumps({"__type": f"{namespace}#{code}", "message": message}).encode()
    blame = "Sender" if status < 500 else "Receiver"
    headers = {"Content-Type": "application/x-amz-json-1.0", "x-amzn-query-error": f"{code};{blame}"}
    return Answer(status=status, headers=headers, body=body)


def instead(rule: Rule, call: Call) -> Answer | None:
    """The answer to a request that never reaches the server under this rule; None: it does.

    The codes are those under "Errors" in each operation's page of the SQS and DynamoDB API references.
    """
    if rule.fault is Fault.ERROR:
        code = "InternalFailure" if call.service == "sqs" else "InternalServerError"
        return failure(500, code, "The request processing has failed because of an internal error.")
    if rule.fault is Fault.REFUSE:
        return failure(400, rule.code, f"{call.service}:{call.operation} is refused")
    if rule.fault is Fault.THROTTLE:
        return _slow_down(call.service, rule.chance)
    if rule.fault is Fault.SHORT and rule.messages == 0:
        return good({})
    if rule.fault is Fault.CAP and call.operation == "ChangeMessageVisibility":
        return failure(400, "InvalidParameterValue", _beyond(call.payload))
    return None


def reduced(rule: Rule, call: Call) -> dict[str, Any] | None:
    """The payload that the server gets in place of the client's; None: the client's own."""
    if rule.fault is Fault.SHORT:
        most = min(rule.messages, call.payload.get("MaxNumberOfMessages", 1))
        return call.payload | {"MaxNumberOfMessages": most}
    if rule.fault in (Fault.CAP, Fault.PART):
        failing = rule.failing(call)
        if "RequestItems" in call.payload:
            ((table, puts),) = call.payload["RequestItems"].items()
            return call.payload | {"RequestItems": {table: [put for put in puts if put not in failing]}}
        return call.payload | {"Entries": [entry for entry in call.payload["Entries"] if entry not in failing]}
    return None


def with_refusals(rule: Rule, call: Call, answer: Answer) -> Answer:
    """A batch's answer, with the entries failed that the rule fails."""
    told = answer.decoded()  # an error without "Successful" if no entry was left: the server got an empty batch
    failing = rule.failing(call)
    if "RequestItems" in call.payload:
        (table,) = call.payload["RequestItems"]
        return good({"UnprocessedItems": {table: failing}})
    code = {"Code": "InvalidParameterValue", "SenderFault": True}
    if rule.fault is Fault.PART:
        code = {"Code": rule.code, "SenderFault": False}
    failed = [{"Id": entry["Id"], "Message": _why(rule, entry)} | code for entry in failing]
    return good({"Successful": told.get("Successful", []), "Failed": told.get("Failed", []) + failed})


def with_date(answer: Answer, ahead: float) -> Answer:
    """The answer of a server whose clock is that many seconds ahead: its Date, and when its messages were sent."""
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=ahead), usegmt=True)
    headers = {name: value for name, value in answer.headers.items() if name.lower() != "date"} | {"Date": date}
    told = answer.decoded()
    for message in told.get("Messages") or ():
        attributes = message.get("Attributes", {})
        if "SentTimestamp" in attributes:
            attributes["SentTimestamp"] = str(int(attributes["SentTimestamp"]) + int(ahead * 1000))
    body = json.dumps(told).encode() if "Messages" in told else answer.body
    return Answer(status=answer.status, headers=headers, body=body)


def received_again(message: dict[str, Any]) -> dict[str, Any]:
    """The message with its receive count one higher, where it was asked for."""
    attributes = dict(message.get("Attributes", {}))
    if "ApproximateReceiveCount" in attributes:
        attributes["ApproximateReceiveCount"] = str(int(attributes["ApproximateReceiveCount"]) + 1)
    return message | ({"Attributes": attributes} if attributes else {})


def _why(rule: Rule, entry: Mapping[str, Any]) -> str:
    return _beyond(entry) if rule.fault is Fault.CAP else "Please try again."


def _beyond(entry: Mapping[str, Any]) -> str:
    return f"Value {entry['VisibilityTimeout']} for parameter VisibilityTimeout is invalid. {_CAP}"


def _slow_down(service: str, chance: random.Random) -> Answer:
    if service == "sqs":
        return failure(400, "RequestThrottled", "Rate exceeded", namespace="com.amazonaws.sqs")
    code, namespace = chance.choice(
        [
            ("ProvisionedThroughputExceededException", "com.amazonaws.dynamodb.v20120810"),
            ("ThrottlingException", "com.amazon.coral.availability"),
        ]
    )
    return failure(400, code, "Rate exceeded", namespace=namespace)


def wrong_time(ahead: float, signed: str) -> Answer | None:
    """The refusal of a request signed more than 5 minutes off AWS's time; None if it was signed well, or not at all."""
    if not signed:
        return None
    off = datetime.strptime(signed, "%Y%m%dT%H%M%S%z") - datetime.now(UTC) - timedelta(seconds=ahead)
    if abs(off) <= timedelta(minutes=5):
        return None
    what = "Signature expired" if off < timedelta(0) else "Signature not yet current"
    return failure(400, "InvalidSignatureException", f"{what}: {signed} is {abs(off).total_seconds():.0f} s off")


def reset(transport: asyncio.BaseTransport | None) -> None:
    """End a connection with RST: the peer sees a reset, not an orderly end."""
    if isinstance(transport, asyncio.WriteTransport):
        peer = transport.get_extra_info("socket")
        with contextlib.suppress(OSError):
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
