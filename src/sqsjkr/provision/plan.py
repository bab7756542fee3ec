"""What ``sqsjkr setup`` makes on AWS: the steps, in an order in which each finds what it needs."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqsjkr import clock
from sqsjkr.backends import tables
from sqsjkr.backends.aws.client import AWS
from sqsjkr.backends.dynamodb.table import table_exists
from sqsjkr.backends.sqs.client import QueueClient
from sqsjkr.config import Config
from sqsjkr.errors import BackendUnavailable, ConfigError
from sqsjkr.provision.inspect import INDEX, KEYS

MAX_RECEIVES = 1000
"""``maxReceiveCount``, the most that SQS allows: what is no job is moved by the worker itself, at once, so the count is
only there for a job that kills its worker each time. Deliveries of jobs that merely waited for a lock or for a free
slot count as well, so a low number would bury good jobs."""
GRAVES_KEPT = 1_209_600
"""Seconds the dead-letter queue keeps messages: the most, since the count goes on from the first send (AWS: Using
dead-letter queues in Amazon SQS)."""
READY_WITHIN = 120.0
"""Seconds to wait for a table or an index to be made."""
_LOOK_EVERY = 0.5
_SAMPLE_UNITS = {"ReadCapacityUnits": 5, "WriteCapacityUnits": 5}
"""What the original's sample gives the index, for a table that pays by capacity."""
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
"""The original's table (go-semantics section 7), with what its index is made of."""


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to make."""

    what: str
    do: Callable[[], Coroutine[Any, Any, None]]


@dataclass(frozen=True, slots=True)
class Plan:
    """What is there, what is to be made, and what only the operator can put right."""

    there: list[str] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    advice: list[str] = field(default_factory=list)


async def make_plan(aws: AWS, config: Config) -> Plan:
    """Look at what is there; change nothing. Raises ``ConfigError`` for what stands in the way."""
    plan = Plan()
    where = config.queue_url.rpartition("/")[0]

    def named(name: str) -> QueueClient:
        return QueueClient(aws, url=where and f"{where}/{name}", account_id=config.account_id, name=name)

    queue = named(config.queue_url.rpartition("/")[2] or config.queue_name)
    await _plan_queue(aws, queue, named(_name_of_graves(queue)), plan)
    if "dynamodb" in tables(config.locker, config.throttler):
        await _plan_table(aws, config.lock_table, plan)
    return plan


def _name_of_graves(queue: QueueClient) -> str:
    """A FIFO queue's dead-letter queue must be a FIFO queue, too."""
    suffix = ".fifo" if queue.fifo else ""
    return f"{queue.name.removesuffix(suffix)}-dlq{suffix}"


async def _plan_queue(aws: AWS, queue: QueueClient, graves: QueueClient, plan: Plan) -> None:
    facts = await queue.attributes()
    if facts is not None and facts.get("RedrivePolicy"):
        arn = json.loads(facts["RedrivePolicy"]).get("deadLetterTargetArn", "?")
        plan.there.append(f"queue {queue.name}, with its dead-letter queue {arn.rsplit(':', 1)[-1]}")
        return
    await _check_account(aws, queue)
    kind = {"FifoQueue": "true"} if queue.fifo else {}

    async def make_graves() -> None:
        await graves.create(kind | {"MessageRetentionPeriod": str(GRAVES_KEPT)})

    async def make_queue() -> None:
        await queue.create(kind | {"RedrivePolicy": await _policy(graves)})

    async def set_policy() -> None:
        await queue.call("SetQueueAttributes", {"Attributes": {"RedrivePolicy": await _policy(graves)}})

    if await graves.attributes() is None:
        plan.steps.append(
            Step(f"create the dead-letter queue {graves.name}, which keeps messages 14 days", make_graves)
        )
    else:
        plan.there.append(f"dead-letter queue {graves.name}")
    redrive = f"{graves.name} as its dead-letter queue after {MAX_RECEIVES} deliveries"
    if facts is None:
        kind_of = "FIFO queue" if queue.fifo else "queue"
        plan.steps.append(Step(f"create the {kind_of} {queue.name}, with {redrive}", make_queue))
    else:
        plan.there.append(f"queue {queue.name}")
        plan.steps.append(Step(f"give the queue {queue.name} {redrive}", set_policy))


async def _policy(graves: QueueClient) -> str:
    """The redrive policy. A queue that was just made may not be known yet (API reference, CreateQueue)."""
    facts = await _until(graves.attributes, f"the queue {graves.name}")
    return json.dumps({"deadLetterTargetArn": facts["QueueArn"], "maxReceiveCount": str(MAX_RECEIVES)})


async def _check_account(aws: AWS, queue: QueueClient) -> None:
    """A queue is made in the account of the credentials; that must be the one the configuration names."""
    if aws.has_custom_endpoint("sqs"):
        return
    with contextlib.suppress(BackendUnavailable):
        ours, theirs = (await aws.whoami()).split(":")[4], queue.url.split("/")[-2]
        if ours != theirs:
            raise ConfigError(f"{queue.url} is account {theirs}, the credentials are account {ours}'s: use {theirs}'s")


async def _plan_table(aws: AWS, name: str, plan: Plan) -> None:
    table = await table_exists(aws, name)

    async def make_table() -> None:
        await aws.call("dynamodb", "CreateTable", _TABLE | {"TableName": name})
        await _until_active(aws, name)

    async def make_index() -> None:
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
        plan.steps.append(Step(f"create the table {name}, with the index {INDEX}, paid by request", make_table))
        plan.steps.append(ttl)
        return
    keys = {key["AttributeName"]: key["KeyType"] for key in table.get("KeySchema", [])}
    if keys != KEYS:
        raise ConfigError(f"the table {name} has the keys {keys}, expected {KEYS}: name another with --lock-table")
    plan.there.append(f"table {name}")
    if INDEX in [index["IndexName"] for index in table.get("GlobalSecondaryIndexes", [])]:
        plan.there.append(f"index {INDEX}")
    else:
        plan.steps.append(Step(f"add the index {INDEX} to the table {name}", make_index))
    await _plan_ttl(aws, name, ttl, plan)


async def _plan_ttl(aws: AWS, name: str, step: Step, plan: Plan) -> None:
    answer = await aws.call("dynamodb", "DescribeTimeToLive", {"TableName": name})
    ttl = answer.get("TimeToLiveDescription", {})
    if ttl.get("TimeToLiveStatus") not in {"ENABLED", "ENABLING"}:
        plan.steps.append(step)
    elif ttl.get("AttributeName") == "Expired":
        plan.there.append("TTL on Expired")
    else:
        plan.advice.append(f"the TTL of {name}, which is on {ttl.get('AttributeName')}; rows will not expire")


async def _until_active(aws: AWS, name: str) -> None:
    """Wait for the table and all its indexes."""

    async def active() -> Mapping[str, Any] | None:
        table = await table_exists(aws, name)
        if table is None or table.get("TableStatus") != "ACTIVE":
            return None
        indexes = table.get("GlobalSecondaryIndexes", [])
        return table if all(index.get("IndexStatus", "ACTIVE") == "ACTIVE" for index in indexes) else None

    await _until(active, f"the table {name}")


async def _until(look: Callable[[], Awaitable[Mapping[str, Any] | None]], what: str) -> Mapping[str, Any]:
    """Look until there is something. Raises ``BackendUnavailable`` after ``READY_WITHIN`` seconds."""
    deadline = clock.now() + READY_WITHIN
    while (found := await look()) is None:
        if clock.now() > deadline:
            raise BackendUnavailable(f"{what} is not ready after {READY_WITHIN:g} s; next: sqsjkr setup, which goes on")
        await asyncio.sleep(_LOOK_EVERY)
    return found
