"""AWS's error codes, compared by their bare names: services and servers differ in what they put before and behind."""

from __future__ import annotations

DENIED = frozenset({"AccessDenied", "UnauthorizedOperation"})
"""IAM or a resource policy says no to this action on this resource."""


def bare(code: str) -> str:
    """The code without namespace and suffix: "InvalidParameterValue" for each of its spellings.

    AWS sends "com.amazon.coral.service#InvalidParameterValueException" and "AWS.SimpleQueueService.NonExistentQueue",
    and in an entry of a batch "ReceiptHandleIsInvalid" (Smithy: "AWS JSON 1.0 protocol"; Amazon SQS API Reference:
    "Errors").
    """
    return code.rpartition("#")[2].partition(":")[0].rpartition(".")[2].removesuffix("Exception")


def code_of(error: object) -> str:
    """Return the bare code of an error that AWS answered with; of a code as text, too. "" for any other error."""
    return bare(error if isinstance(error, str) else str(getattr(error, "code", "")))
