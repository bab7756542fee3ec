"""One worker's view of a table, made as every worker process makes it."""

from __future__ import annotations

from collections.abc import Callable

from sqsjkr.backends.aws.client import AWS
from sqsjkr.backends.dynamodb.table import DynamoDBTable
from sqsjkr.leases.table import Table

NewTable = Callable[[], Table]
"""Makes one worker's view of the same rows, not opened yet."""


class OwnConnection(DynamoDBTable):
    """A DynamoDB table that opens and closes its own connection, as every worker process does."""

    def __init__(self, name: str) -> None:
        self.aws = AWS()
        super().__init__(self.aws, name)

    async def open(self) -> None:
        await self.aws.open()
        await super().open()

    async def close(self) -> None:
        await self.aws.close()
