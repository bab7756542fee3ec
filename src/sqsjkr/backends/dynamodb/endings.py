"""The history in DynamoDB as viewers read it: pages newest first, the endings of an event, the story of one message."""

from __future__ import annotations

import heapq
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from sqsjkr.backends.aws.client import AWS
from sqsjkr.backends.dynamodb import facts
from sqsjkr.backends.dynamodb.claims import _claim as claim_of
from sqsjkr.backends.dynamodb.history import AGAIN, BAD, CLAIM, DAY, PAST, RUNS, event_key, page_of, stamp
from sqsjkr.backends.dynamodb.rows import THROTTLE, text, text_of
from sqsjkr.runs import Run
from sqsjkr.views.source import ClaimRow, Endings, OfEvent, without_claim

SPAN = 120.0
"""Seconds that a page may cover, and more: so much later than an ending its page may have been written."""
PAGES = 25
"""Pages that one request reads."""


class DynamoDBEndings(Endings):
    """The history in one table."""

    def __init__(self, aws: AWS, name: str) -> None:
        self._aws = aws
        self._name = name

    async def story(self, message_id: str) -> ClaimRow | None:
        """One Query: the claim, and the attempts that were cut off. A second one if the claim has a key of its own."""
        items = await self._under(message_id)
        past = [
            replace(facts.run_of(item), attempt=kind.partition("/")[2])
            for kind, item in items.items()
            if kind.startswith(f"{PAST}/")
        ]
        if THROTTLE not in items and CLAIM in items:
            items = await self._under(text_of(items[CLAIM], "Key"))
        item = items.get(THROTTLE)
        if item is None:
            return without_claim(past)
        return ClaimRow(row=claim_of(item), run=facts.run_of(item).with_past(past))

    async def endings(self, queue: str, *, since: float, until: float, failed: bool = False) -> AsyncIterator[Run]:
        """Query the pages of one day after the other."""
        waiting: list[tuple[float, int, Run]] = []
        number = 0
        async for page in self._pages(queue, since, until + SPAN, failed=failed):
            newest = float(page.get("To", {}).get("N", 0)) / 1000
            while waiting and -waiting[0][0] > newest:  # no page that follows has anything newer
                yield heapq.heappop(waiting)[2]
            if newest < since:
                break
            for run in page_of(page, queue):
                ended_at = run.ended_at or 0.0
                if since <= ended_at <= until:
                    number += 1
                    heapq.heappush(waiting, (-ended_at, number, run))
        while waiting:
            yield heapq.heappop(waiting)[2]

    async def endings_of(self, event_id: str, limit: int) -> OfEvent:
        """One Query."""
        answer = await self._ask(
            {
                "KeyConditionExpression": "Id = :id",
                "ExpressionAttributeValues": {":id": text(event_key(event_id))},
                "ScanIndexForward": False,
                "Limit": limit + 1,
            }
        )
        runs = {item["Type"]["S"]: replace(facts.run_of(item), claim_key="") for item in answer.get("Items", [])}
        again = runs.pop(AGAIN, None)
        return OfEvent(endings=tuple(runs.values())[:limit], again=again)

    async def _under(self, row_id: str) -> Mapping[str, Mapping[str, Any]]:
        """The rows with this ``Id``, by their ``Type``."""
        values = {":id": text(row_id)}
        answer = await self._ask({"KeyConditionExpression": "Id = :id", "ExpressionAttributeValues": values})
        return {item["Type"]["S"]: item for item in answer.get("Items", [])}

    async def _pages(self, queue: str, since: float, until: float, *, failed: bool) -> AsyncIterator[Mapping[str, Any]]:
        """Yield pages, those that were written last first."""
        kind = BAD if failed else RUNS
        for day in _days(since, until):
            request: dict[str, Any] = {
                "KeyConditionExpression": "Id = :id AND #type BETWEEN :since AND :until",
                "ExpressionAttributeNames": {"#type": "Type"},
                "ExpressionAttributeValues": {
                    ":id": text(f"{kind}/{queue}/{day}"),
                    ":since": text(stamp(since)),
                    ":until": text(f"{stamp(until)}~"),
                },
                "ScanIndexForward": False,
                "Limit": PAGES,
            }
            while True:
                answer = await self._ask(request)
                for item in answer.get("Items", []):
                    yield item
                if not answer.get("LastEvaluatedKey"):
                    break
                request["ExclusiveStartKey"] = answer["LastEvaluatedKey"]

    async def _ask(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        return await self._aws.call("dynamodb", "Query", {"TableName": self._name, **request})


def _days(since: float, until: float) -> Iterator[str]:
    """Yield the days of the hash keys, the newest first."""
    moment, oldest = datetime.fromtimestamp(until, UTC), datetime.fromtimestamp(since, UTC).strftime(DAY)
    while (day := moment.strftime(DAY)) >= oldest:
        yield day
        moment -= timedelta(days=1)
