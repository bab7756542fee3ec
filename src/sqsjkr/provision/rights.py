"""Which of a worker's rights are granted, as far as using them can be kept without effect.

The requests are the worker's own, on a receipt handle or a key that does not exist, or with a condition that never
holds: IAM decides before SQS or DynamoDB looks at those.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass

from sqsjkr.backends.aws.client import AWS
from sqsjkr.backends.aws.codes import DENIED, code_of
from sqsjkr.backends.aws.errors import AWSError, AWSRefused, ConditionFailed
from sqsjkr.backends.sqs.client import QueueClient
from sqsjkr.errors import BackendUnavailable
from sqsjkr.provision.finding import Finding, Level

_SUBJECT = "permissions"
_NO_HANDLE = {"Id": "0", "ReceiptHandle": "sqsjkr-check"}
_NO_ROW = {"Id": {"S": "sqsjkr check"}, "Type": {"S": "check"}}
_NEVER = "attribute_exists(Id) AND attribute_not_exists(Id)"
_HANDLE_REFUSED = frozenset({"ReceiptHandleIsInvalid", "InvalidParameterValue"})


@dataclass(frozen=True, slots=True)
class _Trial:
    """A right, what happens to a worker without it, and a request that needs it."""

    action: str
    without: str
    request: Callable[[], Awaitable[object]]
    needed: bool = True
    """Without it the worker does not do its work; else it does, at a higher price."""


def on_queue(queue: QueueClient, arn: str) -> AsyncIterator[Finding]:
    """The worker's rights on its queue."""
    return _tried(
        arn,
        [
            _Trial(
                "sqs:DeleteMessage",
                "the messages of jobs that have ended stay on the queue",
                lambda: queue.call("DeleteMessageBatch", {"Entries": [_NO_HANDLE]}),
            ),
            _Trial(
                "sqs:ChangeMessageVisibility",
                "a job that runs for more than 10 seconds is delivered again while it runs",
                lambda: queue.call(
                    "ChangeMessageVisibilityBatch", {"Entries": [_NO_HANDLE | {"VisibilityTimeout": 0}]}
                ),
            ),
        ],
    )


def on_table(aws: AWS, name: str, arn: str) -> AsyncIterator[Finding]:
    """The worker's rights on the table."""
    row = {"TableName": name, "Key": _NO_ROW}
    never = row | {"ConditionExpression": _NEVER}
    deletes = {"RequestItems": {name: [{"DeleteRequest": {"Key": _NO_ROW}}]}}
    return _tried(
        arn,
        [
            _Trial(
                "dynamodb:GetItem",
                "the locks of dead workers are never taken over",
                lambda: aws.call("dynamodb", "GetItem", row),
            ),
            _Trial(
                "dynamodb:UpdateItem",
                "no job starts",
                lambda: aws.call("dynamodb", "UpdateItem", never | {"UpdateExpression": "REMOVE Expired"}),
            ),
            _Trial(
                "dynamodb:DeleteItem",
                "a job that goes back to the queue unstarted waits for a lease before it can run",
                lambda: aws.call("dynamodb", "DeleteItem", never),
            ),
            _Trial(
                "dynamodb:BatchWriteItem",
                "jobs that have ended cannot be marked as done, and soon no more messages are taken",
                lambda: aws.call("dynamodb", "BatchWriteItem", deletes),
            ),
            _Trial(
                "dynamodb:PartiQLInsert",
                "claims travel one by one: more requests a job under load, at the same price in write units",
                # An empty key is refused once it is known who asks; no condition could keep an INSERT from inserting.
                lambda: _statement(aws, f"INSERT INTO \"{name}\" VALUE {{'Id': '', 'Type': 'check'}}"),
                needed=False,
            ),
            _Trial(
                "dynamodb:PartiQLUpdate",
                "unlocks travel one by one: more requests a job with a lock_id under load",
                lambda: _statement(aws, _update_of_no_row(name)),
                needed=False,
            ),
        ],
    )


def _update_of_no_row(table: str) -> str:
    return f"UPDATE \"{table}\" REMOVE Expired WHERE Id = 'sqsjkr check' AND \"Type\" = 'check'"


async def _statement(aws: AWS, text: str) -> None:
    """Send one PartiQL statement in a batch, as the worker does. Raises ``AWSRefused`` if it is denied."""
    answer = await aws.call("dynamodb", "BatchExecuteStatement", {"Statements": [{"Statement": text}]})
    error = answer["Responses"][0].get("Error") or {}
    if code_of(error.get("Code", "")) in DENIED:
        raise AWSRefused(str(error.get("Message", "")), code=error["Code"])


def untried(queue_arn: str, dead_letters_arn: str) -> Finding:
    """The rights that cannot be used without effect: a receive counts, a message would be sent."""
    rights = [f"sqs:ReceiveMessage on {queue_arn}"]
    if dead_letters_arn:
        rights.append(f"sqs:SendMessage on {dead_letters_arn}")
    return Finding(Level.NOTE, _SUBJECT, f"not tried, as that would have effects: {' and '.join(rights)}")


async def _tried(resource: str, trials: Sequence[_Trial]) -> AsyncIterator[Finding]:
    granted = []
    for trial in trials:
        try:
            await trial.request()
        except (AWSError, BackendUnavailable) as answer:
            if code_of(answer) in DENIED:
                found = f"{trial.action} on {resource} is denied: {trial.without}"
                level = Level.FAIL if trial.needed else Level.WARN
                yield Finding(level, _SUBJECT, found, f"allow {trial.action} on {resource}")
                continue
            if not (isinstance(answer, ConditionFailed) or code_of(answer) in _HANDLE_REFUSED):
                yield Finding(Level.WARN, _SUBJECT, f"{trial.action} on {resource} could not be tried: {answer}")
                continue
        granted.append(trial.action)
    if granted:
        yield Finding(Level.OK, _SUBJECT, f"{', '.join(granted)} on {resource}")
