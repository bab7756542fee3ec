"""What the daemons of one test share: a queue, its dead-letter queue and a table, new for each test."""

from __future__ import annotations

import contextlib
import json
import uuid
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import servers

_COUNTS = ("", "NotVisible", "Delayed")


class Fleet:
    """A queue that dead-letters, and a table as in `examples/dynamodb.tf`, on the given servers.

    Attributes:
        sqs_url, dynamodb_url: the servers, without a proxy: what a test asks here is never disturbed.
        name: of the queue and of the table; the dead-letter queue has `-dead` after it.
        queue_url, dlq_url, table: as SQS and DynamoDB know them.
    """

    def __init__(self, sqs_url: str, dynamodb_url: str, **queue_attributes: str) -> None:
        self.sqs_url = sqs_url
        self.dynamodb_url = dynamodb_url
        fifo = queue_attributes.get("FifoQueue") == "true"
        suffix = ".fifo" if fifo else ""
        self.table = f"jobs-{uuid.uuid4().hex[:12]}"
        self.name = self.table + suffix
        kind = {"FifoQueue": "true"} if fifo else {}
        self.dlq_url: str = self.sqs("CreateQueue", QueueName=f"{self.table}-dead{suffix}", Attributes=kind)["QueueUrl"]
        told = self.sqs("GetQueueAttributes", QueueUrl=self.dlq_url, AttributeNames=["QueueArn"])
        # 1000 is the most SQS allows: what lands on the dead-letter queue was put there, not worn out by receives.
        redrive = json.dumps({"deadLetterTargetArn": told["Attributes"]["QueueArn"], "maxReceiveCount": 1000})
        attributes = {"RedrivePolicy": redrive} | queue_attributes
        self.queue_url: str = self.sqs("CreateQueue", QueueName=self.name, Attributes=attributes)["QueueUrl"]
        self._create_table()

    def sqs(self, operation: str, **payload: Any) -> dict[str, Any]:
        """One SQS call; an error answer fails the test."""
        return _ask(self.sqs_url, "sqs", operation, payload)

    def dynamodb(self, operation: str, **payload: Any) -> dict[str, Any]:
        """One DynamoDB call; an error answer fails the test."""
        return _ask(self.dynamodb_url, "dynamodb", operation, payload)

    def send(self, *bodies: str, **more: Any) -> list[str]:
        """Send each body as one message; `more` goes into each call (DelaySeconds, MessageGroupId). The message ids."""
        calls = [self.sqs("SendMessage", QueueUrl=self.queue_url, MessageBody=body, **more) for body in bodies]
        return [str(answer["MessageId"]) for answer in calls]

    def send_job(self, **fields: Any) -> str:
        """Send one job: `send_job(command="true", lock_id="nightly")`. The message id."""
        return self.send(json.dumps(fields))[0]

    def depth(self) -> tuple[int, int, int]:
        """How many messages are visible, in flight and delayed."""
        names = [f"ApproximateNumberOfMessages{count}" for count in _COUNTS]
        told = self.sqs("GetQueueAttributes", QueueUrl=self.queue_url, AttributeNames=names)["Attributes"]
        visible, in_flight, delayed = (int(told[name]) for name in names)
        return visible, in_flight, delayed

    def dead_letters(self) -> list[dict[str, Any]]:
        """The messages on the dead-letter queue, as ReceiveMessage gives them; they stay there and stay visible."""
        found: dict[str, dict[str, Any]] = {}
        wanted: dict[str, Any] = {"MaxNumberOfMessages": 10, "VisibilityTimeout": 5}
        wanted |= {"MessageAttributeNames": ["All"], "MessageSystemAttributeNames": ["All"]}
        while page := self.sqs("ReceiveMessage", QueueUrl=self.dlq_url, **wanted).get("Messages"):
            found |= {message["MessageId"]: message for message in page}
        for message in found.values():
            shown = {"ReceiptHandle": message["ReceiptHandle"], "VisibilityTimeout": 0}
            self.sqs("ChangeMessageVisibility", QueueUrl=self.dlq_url, **shown)
        return list(found.values())

    def rows(self, kind: str | None = None) -> list[dict[str, Any]]:
        """The rows of the table, of one `Type` if given, as plain values; read consistently, one page after another."""
        found: list[dict[str, Any]] = []
        after: dict[str, Any] = {}
        while True:
            page = self.dynamodb("Scan", TableName=self.table, ConsistentRead=True, **after)
            found += [{name: plain(value) for name, value in row.items()} for row in page["Items"]]
            if "LastEvaluatedKey" not in page:
                return [row for row in found if kind in (None, row["Type"])]
            after = {"ExclusiveStartKey": page["LastEvaluatedKey"]}

    def put(self, row: Mapping[str, str | int]) -> None:
        """Write a row of strings and whole numbers, whatever was there: what a Go daemon or a dead worker left."""
        item = {name: {"S": value} if isinstance(value, str) else {"N": str(value)} for name, value in row.items()}
        self.dynamodb("PutItem", TableName=self.table, Item=item)

    def config(self, **kicker: str | int | bool | list[str]) -> str:
        """The text of a config file for a daemon of this fleet; the arguments go into `[kicker]`."""
        settings = "\n".join(f"{key} = {json.dumps(value)}" for key, value in kicker.items())
        account = self.queue_url.rsplit("/", 2)[1]
        return (
            f'[account]\nid = "{account}"\nregion = "us-east-1"\n\n'
            f'[sqs]\nqueue_name = "{self.name}"\n\n[kicker]\n{settings}\n'
        )

    def remove(self) -> None:
        """Delete both queues and the table; from a server that is gone there is nothing to delete."""
        with contextlib.suppress(OSError):
            self.sqs("DeleteQueue", QueueUrl=self.queue_url)
            self.sqs("DeleteQueue", QueueUrl=self.dlq_url)
        with contextlib.suppress(OSError):
            self.dynamodb("DeleteTable", TableName=self.table)

    def _create_table(self) -> None:
        keys = {"Id": "S", "Type": "S", "Expired": "N"}
        index = {
            "IndexName": "TypeExpiredIndex",
            "KeySchema": _keys("Type", "Expired"),
            "Projection": {"ProjectionType": "ALL"},
        }
        self.dynamodb(
            "CreateTable",
            TableName=self.table,
            AttributeDefinitions=[{"AttributeName": name, "AttributeType": kind} for name, kind in keys.items()],
            KeySchema=_keys("Id", "Type"),
            GlobalSecondaryIndexes=[index],
            BillingMode="PAY_PER_REQUEST",
        )
        ttl = {"Enabled": True, "AttributeName": "Expired"}
        self.dynamodb("UpdateTimeToLive", TableName=self.table, TimeToLiveSpecification=ttl)


def plain(value: Mapping[str, Any]) -> Any:
    """A DynamoDB attribute value as Python's own: `{"N": "1"}` is 1, `{"SS": ["a"]}` is `{"a"}`."""
    ((kind, content),) = value.items()
    match kind:
        case "N":
            return _number(content)
        case "NULL":
            return None
        case "SS":
            return set(content)
        case "L":
            return [plain(each) for each in content]
        case "M":
            return {name: plain(each) for name, each in content.items()}
        case _:
            return content


def _number(text: str) -> int | Decimal:
    number = Decimal(text)
    return int(number) if number == number.to_integral_value() else number


def _keys(partition: str, sort: str) -> list[dict[str, str]]:
    return [{"AttributeName": partition, "KeyType": "HASH"}, {"AttributeName": sort, "KeyType": "RANGE"}]


def _ask(url: str, service: str, operation: str, payload: Mapping[str, Any]) -> dict[str, Any]:
    status, answer = servers.call(url, service, operation, payload)
    assert status == 200, f"{operation} at {url}: {status} {answer}"
    return answer
