"""What ``sqsjkr check`` finds on AWS: credentials, queue, dead-letter queue, table. Nothing is changed or received."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping

from sqsjkr import durations
from sqsjkr.backends.aws.client import AWS
from sqsjkr.backends.aws.codes import DENIED, code_of
from sqsjkr.backends.dynamodb.table import table_exists
from sqsjkr.backends.sqs.client import QueueClient
from sqsjkr.errors import BackendRefused, BackendUnavailable
from sqsjkr.provision.finding import Finding, Level

FEW_DELIVERIES = 10
"""A ``maxReceiveCount`` below this sends jobs to the dead-letter queue that only waited for their lock."""
INDEX = "TypeExpiredIndex"
_DAY = 86_400
KEYS = {"Id": "HASH", "Type": "RANGE"}
_SQS_ACTIONS = "sqs:ReceiveMessage, sqs:DeleteMessage, sqs:ChangeMessageVisibility, sqs:GetQueueAttributes"
_TABLE_ACTIONS = "dynamodb:GetItem, dynamodb:UpdateItem, dynamodb:DeleteItem, dynamodb:BatchWriteItem"


async def credentials(aws: AWS) -> Finding:
    """Who AWS takes us for."""
    try:
        return Finding(Level.OK, "credentials", f"{await aws.whoami()}, region {aws.region}")
    except BackendRefused as why:
        if aws.has_custom_endpoint("sqs"):  # a server of one's own may have no STS
            return Finding(Level.WARN, "credentials", f"STS does not know them: {why}")
        return Finding(Level.FAIL, "credentials", str(why), "correct them: aws sts get-caller-identity must work")
    except BackendUnavailable as why:
        return Finding(Level.WARN, "credentials", f"there are some, and STS cannot be asked whose: {why}")


async def queue_and_graves(queue: QueueClient) -> AsyncIterator[Finding]:
    """The queue, its dead-letter queue, and what lies on both."""
    try:
        facts = await queue.attributes()
    except BackendUnavailable as why:
        yield _cannot_ask("queue", why, "sqs:GetQueueAttributes")
        return
    if facts is None:
        advice = "sqsjkr setup, or correct [sqs] queue_name, [account] id or the region"
        yield Finding(Level.FAIL, "queue", f"there is no {queue.url}", advice)
        return
    kind = "FIFO" if queue.fifo else "standard"
    kept, hidden = (_time(facts.get(name)) for name in ("MessageRetentionPeriod", "VisibilityTimeout"))
    yield Finding(Level.OK, "queue", f"{queue.url}, {kind}, keeps messages {kept}, visibility timeout {hidden}")
    yield Finding(Level.NOTE, "permissions", f"not tried, as trying has effects; the worker needs {_SQS_ACTIONS}")
    async for finding in _dead_letters(queue, facts):
        yield finding
    counts = [facts.get(f"ApproximateNumberOfMessages{which}", "?") for which in ("", "NotVisible", "Delayed")]
    yield Finding(Level.OK, "messages", "{} waiting, {} in flight, {} delayed".format(*counts))


async def _dead_letters(queue: QueueClient, facts: Mapping[str, str]) -> AsyncIterator[Finding]:
    policy = json.loads(facts.get("RedrivePolicy") or "{}")
    arn = str(policy.get("deadLetterTargetArn", ""))
    if not arn:
        found = "NONE: a message that is no job stays on the queue, and so does a job that kills its worker"
        yield Finding(Level.WARN, "dead letters", found, "sqsjkr setup")
        return
    theirs = queue.beside(arn)
    name = theirs.name
    most = int(policy.get("maxReceiveCount", 0))
    if most < FEW_DELIVERIES:
        found = f"maxReceiveCount is {most}: deliveries of a job that only waits for its lock count, too"
        yield Finding(Level.WARN, "dead letters", found, "set maxReceiveCount in the queue's redrive policy to 1000")
    try:
        grave = await theirs.attributes()
    except BackendUnavailable as why:
        yield Finding(Level.WARN, "dead letters", f"{arn} cannot be looked at: {why}", "allow sqs:SendMessage on it")
        return
    if grave is None:
        yield Finding(Level.FAIL, "dead letters", f"there is no {arn}", "create it, or correct the redrive policy")
        return
    lying = grave.get("ApproximateNumberOfMessages", "0")
    found = f"{name} after {most} deliveries, keeps messages {_time(grave.get('MessageRetentionPeriod'))}"
    note = Finding(Level.OK, "dead letters", f"{found}; the worker needs sqs:SendMessage on it")
    yield note
    if _seconds(grave) < _seconds(facts):
        found = f"{name} keeps messages for less time than {queue.name}: it counts from the first send"
        yield Finding(Level.WARN, "dead letters", found, "set its MessageRetentionPeriod to 14 days")
    if lying != "0":
        advice = "read their attribute sqsjkr.reason, then redrive or purge them"
        yield Finding(Level.WARN, "dead letters", f"{lying} messages lie on {name}", advice)


async def table(aws: AWS, name: str) -> AsyncIterator[Finding]:
    """The table, its index and its TTL."""
    try:
        there = await table_exists(aws, name)
    except BackendUnavailable as why:
        yield _cannot_ask("table", why, "dynamodb:DescribeTable, for this check only")
        return
    if there is None:
        advice = "sqsjkr setup, or correct [kicker] lock_table"
        yield Finding(Level.FAIL, "table", f"there is no table {name} in region {aws.region}", advice)
        return
    keys = {key["AttributeName"]: key["KeyType"] for key in there.get("KeySchema", [])}
    if keys != KEYS:
        yield Finding(Level.FAIL, "table", f"{name} has the keys {keys}, expected {KEYS}", "name another table")
        return
    billing = there.get("BillingModeSummary", {}).get("BillingMode", "PROVISIONED")
    state = there.get("TableStatus", "?")
    level = Level.OK if state in {"ACTIVE", "UPDATING"} else Level.FAIL
    yield Finding(level, "table", f"{name}, {state}, {billing}; the worker needs {_TABLE_ACTIONS} on it")
    indexes = [index["IndexName"] for index in there.get("GlobalSecondaryIndexes", [])]
    if INDEX in indexes:
        yield Finding(Level.OK, "index", INDEX)
    else:
        found = f"no {INDEX}: Go daemons on this table cannot clean up (this one does not use it)"
        yield Finding(Level.WARN, "index", found, "sqsjkr setup")
    yield await _ttl(aws, name)


async def _ttl(aws: AWS, name: str) -> Finding:
    try:
        answer = await aws.call("dynamodb", "DescribeTimeToLive", {"TableName": name})
    except BackendUnavailable as why:
        return Finding(Level.WARN, "TTL", f"cannot be asked for: {why}", "allow dynamodb:DescribeTimeToLive")
    ttl = answer.get("TimeToLiveDescription", {})
    if ttl.get("TimeToLiveStatus") not in {"ENABLED", "ENABLING"}:
        return Finding(Level.WARN, "TTL", "is off: rows of jobs that have ended stay for ever", "sqsjkr setup")
    if ttl.get("AttributeName") != "Expired":
        found = f"is on {ttl.get('AttributeName')}: rows of jobs that have ended stay for ever"
        return Finding(Level.WARN, "TTL", found, "set it on Expired")
    return Finding(Level.OK, "TTL", "on Expired")


def _cannot_ask(what: str, why: BackendUnavailable, actions: str) -> Finding:
    denied = code_of(why) in DENIED
    return Finding(
        Level.FAIL, what, str(why), f"allow {actions}" if denied else "see that AWS can be reached from here"
    )


def _seconds(facts: Mapping[str, str]) -> float:
    return float(facts.get("MessageRetentionPeriod", 0))


def _time(seconds: str | None) -> str:
    """Days where they are whole, else as Go writes durations."""
    number = float(seconds or 0)
    return f"{number / _DAY:g} days" if number and number % _DAY == 0 else durations.format(number)
