"""Writes that travel together: BatchExecuteStatement carries up to 25, and each fails alone.

They need a right of their own (``dynamodb:PartiQLInsert``, ``dynamodb:PartiQLUpdate``), which a fleet may not have
granted yet, and not every server that speaks DynamoDB's language knows the request. Callers therefore have a single
request for each write, too.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqsjkr.backends.aws.client import AWS
from sqsjkr.backends.aws.codes import DENIED, code_of
from sqsjkr.backends.aws.errors import AWSError
from sqsjkr.errors import BackendUnavailable
from sqsjkr.telemetry.events import Event, emit

MOST = 25
"""Statements of one request (Amazon DynamoDB API Reference: BatchExecuteStatement)."""
CONDITION = "ConditionalCheckFailed"
"""Why an UPDATE fails: its row does not exist, or does not meet its condition."""
_PASSING = frozenset(
    {
        "InternalServerError",
        "ProvisionedThroughputExceeded",
        "RequestLimitExceeded",
        "ThrottlingError",
        "TransactionConflict",
    }
)
"""What a statement may fail with for a moment (Amazon DynamoDB API Reference: BatchStatementError)."""
_UNKNOWN = frozenset({"NotImplemented", "UnknownOperation", "Validation"})
"""How a server says that it does not know the request, or its language."""
_PAUSES = (0.05, 0.1, 0.2)
"""Seconds before what has failed for a moment is sent again; with jitter."""


@dataclass(frozen=True, slots=True)
class Statement:
    """One write in PartiQL, with a value for each question mark."""

    text: str
    values: Sequence[dict[str, str]]


class Statements:
    """Sends writes to different rows together, as long as the server takes them.

    ``what`` they are, and the ``right`` that they need, with its resource, for the log.
    """

    def __init__(self, aws: AWS, what: str, right: str) -> None:
        self._aws = aws
        self._what = what
        self._right = right
        self.refused = False
        """The server does not take them: send each write by itself."""

    async def send(self, statements: Sequence[Statement]) -> list[str | BackendUnavailable] | None:
        """Send up to ``MOST`` writes. None if they are ``refused``: some may have been made all the same.

        Returns for each "" if it was made, else DynamoDB's code; an error for what fails for a moment every time.
        Raises ``BackendUnavailable`` if there is no answer.
        """
        codes = [""] * len(statements)
        left = list(range(len(statements)))
        texts: dict[int, str] = {}
        for pause in (*_PAUSES, 0.0):
            errors = await self._once([statements[number] for number in left])
            if errors is None:
                return None
            for number, error in zip(left, errors, strict=True):
                codes[number], texts[number] = code_of(error.get("Code", "")), str(error.get("Message", ""))
            left = [number for number in left if codes[number] in _PASSING]
            if not left:
                break
            if pause:
                await asyncio.sleep(random.uniform(pause / 2, pause))  # noqa: S311 - jitter
        return [self.failure(code, texts[number]) if code in _PASSING else code for number, code in enumerate(codes)]

    def failure(self, code: str, text: str = "") -> BackendUnavailable:
        """Return the error of a write that failed with DynamoDB's ``code``."""
        return BackendUnavailable(": ".join(filter(None, (self._right, code, text))))

    async def _once(self, statements: Sequence[Statement]) -> Sequence[dict[str, Any]] | None:
        """Send them once. Returns the error of each, {} for none; None if the server refuses them all."""
        payload = {"Statements": [{"Statement": one.text, "Parameters": one.values} for one in statements]}
        try:
            answer = await self._aws.call("dynamodb", "BatchExecuteStatement", payload)
        except AWSError as error:
            if code_of(error) in DENIED | _UNKNOWN:
                self._refuse(str(error))
                return None
            raise
        errors = [response.get("Error") or {} for response in answer["Responses"]]
        denied = next((error for error in errors if code_of(error.get("Code", "")) in DENIED), None)
        if denied is not None:
            self._refuse(f"{denied.get('Code')}: {denied.get('Message', '')}")
            return None
        return errors

    def _refuse(self, why: str) -> None:
        if not self.refused:
            self.refused = True
            advice = f"next: allow {self._right}"
            emit(Event.TABLE_UNBATCHED, f"{self._what} travel one by one, which costs more requests: {why}; {advice}")
