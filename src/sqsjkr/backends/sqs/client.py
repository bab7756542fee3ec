"""One SQS queue for those who do not receive from it: who sends to it, looks at it, or sets it up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from sqsjkr.backends.aws.client import AWS
from sqsjkr.backends.sqs.queue import NO_QUEUE
from sqsjkr.errors import BackendRefused


class QueueClient:
    """A queue by its URL, or by account id and name as in the original; ``aws`` is open."""

    def __init__(self, aws: AWS, *, url: str = "", account_id: str = "", name: str = "") -> None:
        self._aws = aws
        self._endpoint: str | None = None
        self._may_ask = not url
        if url and not aws.has_custom_endpoint("sqs"):
            parts = urlsplit(url)
            self._endpoint = f"{parts.scheme}://{parts.netloc}"  # another region's queue, or a VPC endpoint's
        self.url = url or f"{aws.endpoint('sqs').rstrip('/')}/{account_id}/{name}"
        self.name = self.url.rsplit("/", 1)[-1]

    @property
    def fifo(self) -> bool:
        """Whether it is a FIFO queue: its name says so (AWS: Amazon SQS queue and message identifiers)."""
        return self.name.endswith(".fifo")

    async def call(self, operation: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """One SQS call about this queue. Raises ``BackendRefused`` if there is no such queue, among others.

        The URL is built from its parts, which needs no permission. Servers other than AWS may have URLs of their own;
        they are asked for it once.
        """
        try:
            return await self._call(operation, request)
        except BackendRefused as refused:
            if code_of(refused) not in NO_QUEUE or not self._may_ask or not self._aws.has_custom_endpoint("sqs"):
                raise
        found = await self._aws.call("sqs", "GetQueueUrl", {"QueueName": self.name})
        self.url, self._may_ask = str(found["QueueUrl"]), False
        return await self._call(operation, request)

    async def attributes(self) -> dict[str, str] | None:
        """All of the queue's attributes; None if there is no such queue."""
        try:
            answer = await self.call("GetQueueAttributes", {"AttributeNames": ["All"]})
        except BackendRefused as refused:
            if code_of(refused) in NO_QUEUE:
                return None
            raise
        return dict(answer.get("Attributes") or {})

    async def create(self, attributes: Mapping[str, str]) -> None:
        """Make the queue, in the account of the credentials. A queue that is there with these attributes is fine."""
        request = {"QueueName": self.name, "Attributes": attributes}
        made = await self._aws.call("sqs", "CreateQueue", request, endpoint=self._endpoint)
        if self._aws.has_custom_endpoint("sqs"):
            self.url = str(made["QueueUrl"])

    async def _call(self, operation: str, request: Mapping[str, Any]) -> dict[str, Any]:
        return await self._aws.call("sqs", operation, {"QueueUrl": self.url, **request}, endpoint=self._endpoint)


def code_of(refused: Exception) -> str:
    """AWS's name for what it said, "" if it was not AWS."""
    return str(getattr(refused, "code", ""))
