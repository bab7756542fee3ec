"""What ``sqsjkr check`` finds on AWS: credentials, queue, dead-letter queue, table. Nothing is changed or received."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence

from sqsjkr import durations
from sqsjkr.backends.aws.client import AWS
from sqsjkr.backends.aws.codes import DENIED, code_of
from sqsjkr.backends.dynamodb.table import table_description
from sqsjkr.backends.sqs.client import QueueClient, redrive
from sqsjkr.errors import BackendRefused, BackendUnavailable
from sqsjkr.plan import Section
from sqsjkr.provision import demands, rights
from sqsjkr.provision.finding import Finding, Level

FEW_DELIVERIES = 100
"""A ``maxReceiveCount`` below this sends jobs to the dead-letter queue that only waited for their lock."""
INDEX = "TypeExpiredIndex"
KEYS = {"Id": "HASH", "Type": "RANGE"}
_DAY = 86_400
_SHORT_RETENTION = _DAY
"""Seconds: a queue that keeps messages for less time loses jobs in an outage of one night."""


async def credentials(aws: AWS) -> Finding:
    """Whose credentials AWS takes them for."""
    try:
        return Finding(Level.OK, "credentials", f"{await aws.whoami()}, region {aws.region}")
    except BackendRefused as why:
        if aws.has_custom_endpoint("sqs"):  # such a server may have no STS
            return Finding(Level.WARN, "credentials", f"STS does not accept them: {why}")
        return Finding(Level.FAIL, "credentials", str(why), "correct them: aws sts get-caller-identity must work")
    except BackendUnavailable as why:
        return Finding(Level.WARN, "credentials", f"found, but STS cannot be asked whose they are: {why}")


async def queue(
    client: QueueClient, *, ack: str, jobs: Sequence[Section] = (), max_timeout: float = 0.0
) -> AsyncIterator[Finding]:
    """The queue, the worker's rights on it, its dead-letter queue, and how many messages are on both.

    ``jobs`` and ``max_timeout`` are what the configuration asks for, to be held against the queue.
    """
    try:
        facts = await client.attributes()
    except BackendUnavailable as why:
        yield _unanswered("queue", why, f"sqs:GetQueueAttributes on {client.name}")
        if _denied(why):
            async for finding in rights.on_queue(client, client.name):
                yield finding
        return
    if facts is None:
        advice = "sqsjkr setup, or correct [sqs] queue_name, [account] id or the region"
        yield Finding(Level.FAIL, "queue", f"{client.url} does not exist", advice)
        return
    kind = "FIFO" if client.fifo else "standard"
    kept, hidden = (_time(facts.get(name)) for name in ("MessageRetentionPeriod", "VisibilityTimeout"))
    yield Finding(Level.OK, "queue", f"{client.url}, {kind}, keeps messages {kept}, visibility timeout {hidden}")
    if client.fifo and ack == "finish":
        found = (
            'FIFO with ack = "finish": the jobs of one message group run one at a time, each after the one before it'
        )
        yield Finding(Level.WARN, "queue", found, 'if they should run side by side, set [kicker] ack = "start"')
    yield _retention(facts, max_timeout)
    deliveries = redrive(facts)[1]
    for finding in demands.against_queue(
        jobs, max_timeout=max_timeout, retention=_seconds(facts), deliveries=deliveries
    ):
        yield finding
    for finding in _open_to_everybody(facts.get("Policy", "")):
        yield finding
    arn = facts.get("QueueArn", client.name)
    async for finding in rights.on_queue(client, arn):
        yield finding
    yield rights.untried(arn, redrive(facts)[0])
    async for finding in _dead_letters(client, facts):
        yield finding
    counts = [facts.get(f"ApproximateNumberOfMessages{which}", "?") for which in ("", "NotVisible", "Delayed")]
    yield Finding(Level.OK, "messages", "{} waiting, {} in flight, {} delayed".format(*counts))


def _open_to_everybody(policy: str) -> Iterator[Finding]:
    """Name the statements of the queue's policy that let everybody send (AWS: Amazon SQS policy examples)."""
    statements = json.loads(policy).get("Statement", []) if policy else []
    for statement in statements if isinstance(statements, list) else [statements]:
        principal = statement.get("Principal")
        whom = principal.get("AWS") if isinstance(principal, dict) else principal
        sends = {"*", "sqs:*", "sqs:sendmessage"} & {action.lower() for action in _listed(statement.get("Action"))}
        if statement.get("Effect") != "Allow" or "*" not in _listed(whom) or not sends:
            continue
        name = statement.get("Sid") or "a statement"
        if statement.get("Condition"):
            found = f"{name} of the queue's policy lets everybody send (Principal *) under a condition"
            yield Finding(Level.NOTE, "policy", found, "make sure that only you can meet the condition")
        else:
            found = f"{name} of the queue's policy lets everybody send (Principal *), without an AWS account"
            yield Finding(
                Level.WARN, "policy", found, "name the roles that may send, or add a condition on aws:SourceArn"
            )


def _listed(value: object) -> list[str]:
    return [value] if isinstance(value, str) else [str(one) for one in value] if isinstance(value, list) else []


def _retention(facts: Mapping[str, str], max_timeout: float) -> Finding:
    """SQS drops a message at the end of its retention, counted from its sending, even while its job runs."""
    kept = _time(facts.get("MessageRetentionPeriod"))
    found = f"SQS drops a message {kept} after it was sent, even while its job waits or runs"
    if _seconds(facts) < _SHORT_RETENTION:
        advice = "set MessageRetentionPeriod of the queue to 4 days or more"
        return Finding(Level.WARN, "retention", f"{found}: an outage that long loses every job on the queue", advice)
    if max_timeout:
        return Finding(Level.OK, "retention", found)
    advice = "a [kicker] max_timeout below it, if no job should take that long"
    found = f"{found}: a job that takes longer is not run again if its worker dies"
    return Finding(Level.NOTE, "retention", found, advice)


async def _dead_letters(client: QueueClient, facts: Mapping[str, str]) -> AsyncIterator[Finding]:
    arn, most = redrive(facts)
    if not arn:
        found = "NONE: an invalid message stays on the queue, and a job whose tries are used up is dropped as errored"
        yield Finding(Level.WARN, "dead letters", found, "sqsjkr setup")
        return
    theirs = client.beside(arn)
    try:
        there = await theirs.attributes()
    except BackendUnavailable as why:
        advice = f"allow sqs:GetQueueAttributes on {arn}; only this check needs it" if _denied(why) else ""
        yield Finding(Level.WARN, "dead letters", f"{arn} cannot be looked at: {why}", advice)
        there = {}
    if there is None:
        yield Finding(Level.FAIL, "dead letters", f"{arn} does not exist", "create it, or correct the redrive policy")
        return
    if there:
        found = f"{theirs.name} after {most} deliveries, keeps messages {_time(there.get('MessageRetentionPeriod'))}"
        yield Finding(Level.OK, "dead letters", found)
    for found, advice in weaknesses(client.name, facts, theirs.name, there):
        yield Finding(Level.WARN, "dead letters", found, advice)
    lying = there.get("ApproximateNumberOfMessages", "0")
    if lying != "0":
        advice = (
            "receive them with their attributes; those with sqsjkr.reason can never run: correct the body and send it "
            "as a new job; redrive the others, which SQS moved"
        )
        messages = "message" if lying == "1" else "messages"
        yield Finding(Level.WARN, "dead letters", f"{lying} {messages} on {theirs.name}", advice)


def weaknesses(
    name: str, facts: Mapping[str, str], theirs: str, their_facts: Mapping[str, str]
) -> Iterator[tuple[str, str]]:
    """What is wrong with the redrive to an existing dead-letter queue, and what to do. ``their_facts`` may be empty."""
    _, most = redrive(facts)
    if most < FEW_DELIVERIES:
        found = f"maxReceiveCount of {name} is {most}, and each delivery of a job that only waits for its lock counts"
        yield found, "set maxReceiveCount in the queue's redrive policy to 1000"
    if their_facts and _seconds(their_facts) < _seconds(facts):
        found = f"{theirs} keeps messages for less time than {name}, and the time counts from the first send"
        yield found, f"set MessageRetentionPeriod of {theirs} to 14 days"


async def table(aws: AWS, name: str) -> AsyncIterator[Finding]:
    """The table, the worker's rights on it, its index and its TTL."""
    try:
        there = await table_description(aws, name)
    except BackendUnavailable as why:
        if not _denied(why):
            yield _unanswered("table", why, "")
            return
        advice = f"allow dynamodb:DescribeTable on table {name}; only this check needs it"
        yield Finding(Level.WARN, "table", f"{name} cannot be looked at: {why}", advice)
        async for finding in rights.on_table(aws, name, f"table {name}"):
            yield finding
        return
    if there is None:
        advice = "sqsjkr setup, or correct [kicker] lock_table"
        yield Finding(Level.FAIL, "table", f"table {name} does not exist in region {aws.region}", advice)
        return
    keys = {key["AttributeName"]: key["KeyType"] for key in there.get("KeySchema", [])}
    if keys != KEYS:
        found = f"{name} has the keys {keys}, expected {KEYS}"
        yield Finding(Level.FAIL, "table", found, "name another table in [kicker] lock_table")
        return
    billing = there.get("BillingModeSummary", {}).get("BillingMode", "PROVISIONED")
    state = there.get("TableStatus", "?")
    level = Level.OK if state in {"ACTIVE", "UPDATING"} else Level.FAIL
    yield Finding(level, "table", f"{name}, {state}, {billing}")
    async for finding in rights.on_table(aws, name, there.get("TableArn", f"table {name}")):
        yield finding
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
        advice = f"allow dynamodb:DescribeTimeToLive on table {name}; only this check needs it"
        return Finding(Level.WARN, "TTL", f"cannot be looked at: {why}", advice if _denied(why) else "")
    ttl = answer.get("TimeToLiveDescription", {})
    if ttl.get("TimeToLiveStatus") not in {"ENABLED", "ENABLING"}:
        return Finding(Level.WARN, "TTL", "off: rows of jobs that have ended are never deleted", "sqsjkr setup")
    if ttl.get("AttributeName") != "Expired":
        found = f"on {ttl.get('AttributeName')}: rows of jobs that have ended are never deleted"
        return Finding(Level.WARN, "TTL", found, "set it on Expired")
    return Finding(Level.OK, "TTL", "on Expired")


def _unanswered(what: str, why: BackendUnavailable, right: str) -> Finding:
    return Finding(Level.FAIL, what, str(why), f"allow {right}" if _denied(why) else "check the network and the region")


def _denied(why: BackendUnavailable) -> bool:
    return code_of(why) in DENIED


def _seconds(facts: Mapping[str, str]) -> float:
    return float(facts.get("MessageRetentionPeriod", 0))


def _time(seconds: str | None) -> str:
    """Days where they are whole, else as Go writes durations."""
    number = float(seconds or 0)
    return f"{number / _DAY:g} days" if number and number % _DAY == 0 else durations.format(number)
