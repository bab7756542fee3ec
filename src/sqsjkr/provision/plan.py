"""What ``sqsjkr setup`` creates on AWS: the steps, in an order in which each finds what it needs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqsjkr import clock
from sqsjkr.backends import tables
from sqsjkr.backends.aws.client import AWS
from sqsjkr.backends.dynamodb.table import table_description
from sqsjkr.backends.sqs.client import QueueClient, redrive
from sqsjkr.config import Config
from sqsjkr.errors import BackendRefused, BackendUnavailable, ConfigError
from sqsjkr.provision.inspect import INDEX, KEYS, weaknesses

MAX_RECEIVES = 1000
"""``maxReceiveCount``, the most that SQS allows. The worker itself moves invalid messages, at once, so the count is for
a job that kills its worker each time. Deliveries of jobs that merely waited for a lock or a free slot count, too: a low
number would make dead letters of good jobs."""
DEAD_LETTERS_KEPT = 1_209_600
"""Seconds the dead-letter queue keeps messages: the most, since the count goes on from the first send (AWS: Using
dead-letter queues in Amazon SQS)."""
READY_WITHIN = 120.0
"""Seconds to wait for a queue, a table or an index that was just created."""
_LOOK_EVERY = 0.5
_SAMPLE_UNITS = {"ReadCapacityUnits": 5, "WriteCapacityUnits": 5}
"""What the original's sample gives the index, for a table with provisioned capacity."""
_INDEX: dict[str, Any] = {
    "IndexName": INDEX,
    "KeySchema": [{"AttributeName": "Type", "KeyType": "HASH"}, {"AttributeName": "Expired", "KeyType": "RANGE"}],
    "Projection": {"ProjectionType": "ALL"},
}
_TABLE: dict[str, Any] = {
    "KeySchema": [{"AttributeName": name, "KeyType": kind} for name, kind in KEYS.items()],
    "AttributeDefinitions": [
        {"AttributeName": name, "AttributeType": kind} for name, kind in (("Id", "S"), ("Type", "S"), ("Expired", "N"))
    ],
    "GlobalSecondaryIndexes": [_INDEX],
    "BillingMode": "PAY_PER_REQUEST",
}
"""The original's table (go-semantics section 7)."""


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to create."""

    what: str
    do: Callable[[], Coroutine[Any, Any, None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What exists, what will be created, and what only the operator can correct."""

    where: str
    """Account, region and identity: one line for an operator to check before saying yes."""
    there: list[str] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    advice: list[str] = field(default_factory=list)


async def make_plan(aws: AWS, config: Config) -> Plan:
    """Look at what exists; change nothing. Raises ``ConfigError`` for what stands in the way."""
    account, where = await _identity(aws)
    plan = Plan(where=where)
    base = config.queue_url.rpartition("/")[0]

    def named(name: str) -> QueueClient:
        return QueueClient(aws, url=base and f"{base}/{name}", account_id=config.account_id, name=name)

    queue = named(config.queue_url.rpartition("/")[2] or config.queue_name)
    facts = await queue.attributes()
    if facts is not None and redrive(facts)[0]:
        await _inspect_queue(queue, facts, plan)
    else:
        _check_account(aws, queue, account)
        await _plan_queue(queue, facts, named(_dead_letter_name(queue)), plan)
    if "dynamodb" in tables(config.locker, config.throttler):
        await _plan_table(aws, config.lock_table, plan)
    return plan


async def _identity(aws: AWS) -> tuple[str, str]:
    """The account of the credentials, "" if STS does not say, and the line for ``Plan.where``."""
    server = f" at {aws.endpoint('sqs')}" if aws.has_custom_endpoint("sqs") else ""
    try:
        arn = await aws.whoami()
    except BackendUnavailable as why:
        return "", f"region {aws.region}{server}; account unknown: {why}"
    account = arn.split(":")[4]
    return account, f"account {account}, region {aws.region}{server}, as {arn}"


def _dead_letter_name(queue: QueueClient) -> str:
    """A FIFO queue's dead-letter queue must be a FIFO queue, too."""
    suffix = ".fifo" if queue.fifo else ""
    return f"{queue.name.removesuffix(suffix)}-dlq{suffix}"


async def _inspect_queue(queue: QueueClient, facts: Mapping[str, str], plan: Plan) -> None:
    """A queue with a redrive policy is left as it is; what is wrong with it becomes advice."""
    arn, _ = redrive(facts)
    dead_letters = queue.beside(arn)
    plan.there.append(f"queue {queue.name}, with its dead-letter queue {dead_letters.name}")
    try:
        their_facts = await dead_letters.attributes()
    except BackendRefused as why:
        plan.advice.append(f"the dead-letter queue {dead_letters.name}, which cannot be looked at: {why}")
        their_facts = {}
    if their_facts is None:
        plan.advice.append(
            f"the dead-letter queue {arn} does not exist; next: create it, or correct the redrive policy"
        )
    found = weaknesses(queue.name, facts, dead_letters.name, their_facts or {})
    plan.advice.extend(f"{weakness}; next: {advice}" for weakness, advice in found)


async def _plan_queue(
    queue: QueueClient, facts: Mapping[str, str] | None, dead_letters: QueueClient, plan: Plan
) -> None:
    kind = {"FifoQueue": "true"} if queue.fifo else {}

    async def create_dead_letters() -> None:
        await dead_letters.create(kind | {"MessageRetentionPeriod": str(DEAD_LETTERS_KEPT)})

    async def create_queue() -> None:
        await queue.create(kind | {"RedrivePolicy": await _policy(dead_letters)})

    async def set_policy() -> None:
        await queue.call("SetQueueAttributes", {"Attributes": {"RedrivePolicy": await _policy(dead_letters)}})

    if await dead_letters.attributes() is None:
        what = f"create the dead-letter queue {dead_letters.name}, which keeps messages 14 days"
        plan.steps.append(Step(what, create_dead_letters))
    else:
        plan.there.append(f"dead-letter queue {dead_letters.name}")
    policy = f"{dead_letters.name} as its dead-letter queue after {MAX_RECEIVES} deliveries"
    if facts is None:
        kind_of = "FIFO queue" if queue.fifo else "queue"
        plan.steps.append(Step(f"create the {kind_of} {queue.name}, with {policy}", create_queue))
    else:
        plan.there.append(f"queue {queue.name}")
        plan.steps.append(Step(f"give the queue {queue.name} {policy}", set_policy))


async def _policy(dead_letters: QueueClient) -> str:
    """The redrive policy. A queue that was just created may not be known yet (API reference, CreateQueue)."""
    facts = await _until(dead_letters.attributes, f"the queue {dead_letters.name}")
    return json.dumps({"deadLetterTargetArn": facts["QueueArn"], "maxReceiveCount": str(MAX_RECEIVES)})


def _check_account(aws: AWS, queue: QueueClient, ours: str) -> None:
    """A queue is created in the account of the credentials; that must be the one the configuration names."""
    if aws.has_custom_endpoint("sqs") or not ours:
        return
    theirs = queue.url.split("/")[-2]
    if ours != theirs:
        raise ConfigError(f"{queue.url} belongs to account {theirs}, the credentials to {ours}: use those of {theirs}")


async def _plan_table(aws: AWS, name: str, plan: Plan) -> None:
    table = await table_description(aws, name)

    async def create_table() -> None:
        await aws.call("dynamodb", "CreateTable", _TABLE | {"TableName": name})
        await _until_active(aws, name)

    async def create_index() -> None:
        billing = (table or {}).get("BillingModeSummary", {}).get("BillingMode")
        units = {} if billing == "PAY_PER_REQUEST" else {"ProvisionedThroughput": _SAMPLE_UNITS}
        request = {
            "TableName": name,
            "AttributeDefinitions": _TABLE["AttributeDefinitions"],
            "GlobalSecondaryIndexUpdates": [{"Create": _INDEX | units}],
        }
        await _until_active(aws, name)
        await aws.call("dynamodb", "UpdateTable", request)
        await _until_active(aws, name)

    async def set_ttl() -> None:
        request = {"TableName": name, "TimeToLiveSpecification": {"Enabled": True, "AttributeName": "Expired"}}
        await _until_active(aws, name)
        await aws.call("dynamodb", "UpdateTimeToLive", request)

    ttl = Step(f"turn on the TTL of the table {name}, on Expired", set_ttl)
    if table is None:
        plan.steps.append(Step(f"create the table {name}, with the index {INDEX}, paid per request", create_table))
        plan.steps.append(ttl)
        return
    keys = {key["AttributeName"]: key["KeyType"] for key in table.get("KeySchema", [])}
    if keys != KEYS:
        raise ConfigError(f"the table {name} has the keys {keys}, expected {KEYS}: name another with --lock-table")
    plan.there.append(f"table {name}")
    if INDEX in [index["IndexName"] for index in table.get("GlobalSecondaryIndexes", [])]:
        plan.there.append(f"index {INDEX}")
    else:
        plan.steps.append(Step(f"add the index {INDEX} to the table {name}", create_index))
    await _plan_ttl(aws, name, ttl, plan)


async def _plan_ttl(aws: AWS, name: str, step: Step, plan: Plan) -> None:
    answer = await aws.call("dynamodb", "DescribeTimeToLive", {"TableName": name})
    ttl = answer.get("TimeToLiveDescription", {})
    if ttl.get("TimeToLiveStatus") not in {"ENABLED", "ENABLING"}:
        plan.steps.append(step)
    elif ttl.get("AttributeName") == "Expired":
        plan.there.append("TTL on Expired")
    else:
        plan.advice.append(
            f"the TTL of {name} is on {ttl.get('AttributeName')}: rows never expire; next: set it on Expired"
        )


async def _until_active(aws: AWS, name: str) -> None:
    """Wait for the table and all its indexes."""

    async def active() -> Mapping[str, Any] | None:
        table = await table_description(aws, name)
        if table is None or table.get("TableStatus") != "ACTIVE":
            return None
        indexes = table.get("GlobalSecondaryIndexes", [])
        return table if all(index.get("IndexStatus", "ACTIVE") == "ACTIVE" for index in indexes) else None

    await _until(active, f"the table {name}")


async def _until(look: Callable[[], Awaitable[Mapping[str, Any] | None]], what: str) -> Mapping[str, Any]:
    """Look until there is an answer. Raises ``BackendUnavailable`` after ``READY_WITHIN`` seconds."""
    deadline = clock.now() + READY_WITHIN
    while (found := await look()) is None:
        if clock.now() > deadline:
            raise BackendUnavailable(
                f"{what} is not ready after {READY_WITHIN:g} s; next: sqsjkr setup, which continues from there"
            )
        await asyncio.sleep(_LOOK_EVERY)
    return found
