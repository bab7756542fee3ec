"""What a call may fail with."""

from collections.abc import Mapping
from typing import Any

Json = dict[str, Any]


class ApiError(Exception):
    """An error answer, as AWS gives it: a code, a sentence, HTTP 400, and what more the body holds.

    Args:
        code: the exception's shape name, for example `ConditionalCheckFailedException`.
        message: the sentence for the caller.
        query_code: the code of the old Query protocol where it differs from the shape name.
        extra: more members of the body, for example the `Item` of a failed condition.
    """

    def __init__(
        self, code: str, message: str, *, query_code: str = "", extra: Mapping[str, object] | None = None
    ) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.query_code = query_code or code
        self.extra = extra or {}


def validation_error(message: str) -> ApiError:
    """DynamoDB's word for a request that makes no sense."""
    return ApiError("ValidationException", message)


def invalid_value(message: str) -> ApiError:
    """SQS's word for a parameter that is out of its range."""
    return ApiError("InvalidParameterValueException", message, query_code="InvalidParameterValue")
