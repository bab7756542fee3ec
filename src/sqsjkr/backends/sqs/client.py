"""One SQS queue: its URL, its endpoint, and the calls about it. The only place that knows how a queue is addressed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cached_property
from typing import Any
from urllib.parse import urlsplit

from sqsjkr.backends import Connections
from sqsjkr.backends.aws.client import AWS
from sqsjkr.backends.aws.codes import code_of
from sqsjkr.backends.aws.connection import connection
from sqsjkr.backends.aws.errors import AWSRefused, AWSUnavailable, Call, of_entry
from sqsjkr.errors import BackendRefused

_NO_QUEUE = frozenset({"QueueDoesNotExist", "NonExistentQueue"})


class QueueClient:
    """A queue by its URL, or by account id and name as in the original. ``aws`` must be open before the first call.

    ``may_look_up``: the URL is built, not given. AWS lays URLs out as we build them; another server may have its own,
    and is asked for it (GetQueueUrl) if it does not know ours.
    """

    def __init__(
        self, aws: AWS, *, url: str = "", account_id: str = "", name: str = "", may_look_up: bool | None = None
    ) -> None:
        self.aws = aws
        self._given = self._url = url
        self._account_id = account_id
        self._may_look_up = not url if may_look_up is None else may_look_up
        self.name = url.rpartition("/")[2] or name

    @classmethod
    def configured(cls, connections: Connections) -> QueueClient:
        """The queue of the settings."""
        settings = connections.settings
        return cls(
            connection(connections), url=settings.queue_url, account_id=settings.account_id, name=settings.queue_name
        )

    @property
    def url(self) -> str:
        """The queue's URL. Building it needs no permission."""
        if not self._url:
            self._url = f"{self.aws.endpoint('sqs').rstrip('/')}/{self._account_id}/{self.name}"
        return self._url

    @property
    def fifo(self) -> bool:
        """Whether it is a FIFO queue: its name says so (AWS: Amazon SQS queue and message identifiers)."""
        return self.name.endswith(".fifo")

    def beside(self, arn: str) -> QueueClient:
        """The queue with this ARN, such as the dead-letter queue: at the same address, as AWS lays queues out."""
        _, _, _, _, account_id, name = arn.split(":")
        return QueueClient(self.aws, url=f"{self.url.rsplit('/', 2)[0]}/{account_id}/{name}", may_look_up=True)

    async def dead_letter_queue(self) -> QueueClient | None:
        """Ask for the redrive policy; return the queue that it names, None if there is none.

        Raises ``BackendRefused`` if there is no such job queue, or no right to ask; ``BackendUnavailable``.
        """
        attributes = await self.attributes("RedrivePolicy")
        if attributes is None:
            advice = "are [account] id, region and [sqs] queue_name right? next: sqsjkr setup"
            raise AWSRefused(f"queue {self.url} does not exist: {advice}", code="QueueDoesNotExist")
        arn, _ = redrive(attributes)
        return self.beside(arn) if arn else None

    async def call(
        self, operation: str, request: Mapping[str, Any], *, waiting: float = 0.0, attempts: int = 4
    ) -> dict[str, Any]:
        """Make one SQS call about this queue; ``waiting`` and ``attempts`` as for ``AWS.call``.

        Raises ``BackendRefused`` if there is no such queue, among others.
        """
        try:
            return await self._call(operation, request, waiting, attempts)
        except BackendRefused as refused:
            if not (does_not_exist(refused) and self._may_look_up and self.aws.has_custom_endpoint("sqs")):
                raise
            await self._look_up(refused)
        return await self._call(operation, request, waiting, attempts)

    async def attributes(self, *names: str) -> dict[str, str] | None:
        """The queue's attributes of these names, all of them if none is named; None if there is no such queue."""
        try:
            answer = await self.call("GetQueueAttributes", {"AttributeNames": names or ["All"]})
        except BackendRefused as refused:
            if does_not_exist(refused):
                return None
            raise
        return dict(answer.get("Attributes") or {})

    async def create(self, attributes: Mapping[str, str]) -> None:
        """Create the queue in the account of the credentials. One that exists with these attributes is fine."""
        request = {"QueueName": self.name, "Attributes": attributes}
        made = await self.aws.call("sqs", "CreateQueue", request, endpoint=self._endpoint)
        if self.aws.has_custom_endpoint("sqs"):
            self._url = str(made["QueueUrl"])

    def failures(self, operation: str, answer: Mapping[str, Any]) -> dict[int, AWSUnavailable]:
        """The errors of a batch, by the number that is the entry's ``Id``: what failed alone in the ``answer``."""
        call = Call.of("sqs", operation, {"QueueUrl": self.url}, "")
        return {int(failed["Id"]): of_entry(call, failed) for failed in answer.get("Failed") or []}

    @cached_property
    def _endpoint(self) -> str | None:
        """The address to call; None for the region's own. A URL may name another region, or a VPC endpoint."""
        if not self._given or self.aws.has_custom_endpoint("sqs"):
            return None
        parts = urlsplit(self._given)
        return f"{parts.scheme}://{parts.netloc}"

    async def _look_up(self, refused: BackendRefused) -> None:
        """Ask the server for the URL. Raises ``refused`` if it has none for us."""
        self._may_look_up = False
        try:
            found = await self.aws.call("sqs", "GetQueueUrl", {"QueueName": self.name})
        except BackendRefused:
            raise refused from None
        self._url = str(found["QueueUrl"])

    async def _call(self, operation: str, request: Mapping[str, Any], waiting: float, attempts: int) -> dict[str, Any]:
        return await self.aws.call(
            "sqs",
            operation,
            {"QueueUrl": self.url, **request},
            waiting=waiting,
            attempts=attempts,
            endpoint=self._endpoint,
        )


def redrive(attributes: Mapping[str, str]) -> tuple[str, int]:
    """The ARN of the dead-letter queue and ``maxReceiveCount``, from a queue's attributes; "" and 0 if it has none."""
    policy = json.loads(attributes.get("RedrivePolicy") or "{}")
    return str(policy.get("deadLetterTargetArn", "")), int(policy.get("maxReceiveCount", 0))


def does_not_exist(refused: Exception) -> bool:
    """Whether AWS says that there is no such queue."""
    return code_of(refused) in _NO_QUEUE
