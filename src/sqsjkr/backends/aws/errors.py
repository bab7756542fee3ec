"""What AWS said, other than yes: typed by what a caller may do about it."""

from __future__ import annotations

import enum
import json
from collections.abc import Mapping
from typing import Any

import aiohttp

from sqsjkr.errors import BackendRefused, BackendUnavailable, SqsjkrError

_SERVER_ERROR = 500
_TRY_AGAIN = frozenset({408, 429})  # Request Timeout, Too Many Requests
_LONGEST_TEXT = 600  # characters of an error: a proxy's error page must not fill the log

_PASSING = frozenset(
    {
        # AWS SDKs and Tools Reference Guide, "Retry behavior"
        "BandwidthLimitExceeded",
        "LimitExceededException",
        "PriorRequestNotComplete",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "RequestTimeout",
        "RequestTimeoutException",
        "SlowDown",
        "ThrottledException",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
        "TransactionInProgressException",
        # Amazon DynamoDB Developer Guide, "Error handling with DynamoDB"
        "ReplicatedWriteConflictException",
        "TransactionConflictException",
        # Amazon SQS API Reference: 120,000 messages in flight; a key that encrypts the queue
        "KmsThrottled",
        "OverLimit",
    }
)
_CLOCK = frozenset({"RequestExpired", "RequestInTheFuture", "RequestTimeTooSkewed"})
_KEYS = frozenset({"ExpiredToken", "ExpiredTokenException", "RequestExpiredToken", "UnrecognizedClientException"})
_SIGNATURE = frozenset({"AuthFailure", "InvalidSignatureException", "SignatureDoesNotMatch"})


class Ailment(enum.Enum):
    """Why AWS did not even look at a request."""

    CLOCK = enum.auto()
    KEYS = enum.auto()


class AWSError(SqsjkrError):
    """A call that did not succeed. The text is one line: service, operation, what AWS said, where.

    ``code`` is AWS's name for it ("QueueDoesNotExist"), ``status`` the HTTP status, ``message`` AWS's words; empty
    and 0 without an answer. ``ambiguous``: the last attempt may have been acted upon although it failed (its answer
    was lost, or was a server's error). ``ambiguous_before``: so may an earlier attempt of the same call.
    """

    def __init__(
        self, text: str, *, code: str = "", status: int = 0, message: str = "", ambiguous: bool = False
    ) -> None:
        super().__init__(" ".join(text.split())[:_LONGEST_TEXT])
        self.code = code
        self.status = status
        self.message = message
        self.ambiguous = ambiguous
        self.ambiguous_before = False


class AWSUnavailable(AWSError, BackendUnavailable):
    """No answer, a throttled one, or a server's error: it may pass."""


class AWSRefused(AWSError, BackendRefused):
    """Access denied, no such queue or table, bad credentials, a bad request: it will not pass by itself."""


class ConditionFailed(AWSError):
    """DynamoDB's condition does not hold. ``item`` is the row as it is, if the call asked for it (ALL_OLD).

    With ``ambiguous_before`` the row may be what an earlier attempt of the same call wrote: compare the owner.
    """

    item: Mapping[str, Any] | None = None


def lost(call: str, where: str, error: Exception, timeout: float) -> AWSUnavailable:
    """The error for an exchange that broke: ``call`` may have been acted upon unless there was no connection."""
    if isinstance(error, TimeoutError) and not isinstance(error, aiohttp.ConnectionTimeoutError):
        why = f"no answer within {timeout:g} s"
    else:
        why = str(error) or type(error).__name__
    unsent = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.ClientHttpProxyError)
    return AWSUnavailable(f"{call}: {why} ({where})", ambiguous=not isinstance(error, unsent))


def garbled(call: str, where: str, status: int, why: str) -> AWSUnavailable:
    """The error for an answer that arrived broken: AWS has acted, or not; the answer does not say."""
    return AWSUnavailable(
        f"{call}: an unreadable answer: {why} ({where}, status {status})", status=status, ambiguous=True
    )


def refused(call: str, where: str, status: int, raw: bytes) -> AWSError:
    """The error for an answer that is not 200."""
    try:
        answer = json.loads(raw)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):  # not from AWS: a load balancer, a proxy
        answer = {"message": raw[:_LONGEST_TEXT].decode(errors="replace")}
    # "com.amazonaws.sqs#QueueDoesNotExist", sometimes with ":" and an address behind (Smithy: "AWS JSON 1.0 protocol")
    code = str(answer.get("__type") or answer.get("code") or "").rpartition("#")[2].partition(":")[0]
    message = str(answer.get("message") or answer.get("Message") or "")
    text = f"{call}: {code or status}: {message} ({where})"
    if code == "ConditionalCheckFailedException":
        failed = ConditionFailed(text, code=code, status=status, message=message)
        failed.item = answer.get("Item")
        return failed
    if code in _PASSING or status in _TRY_AGAIN:
        return AWSUnavailable(text, code=code, status=status, message=message)
    if status < _SERVER_ERROR:
        return AWSRefused(text, code=code, status=status, message=message)
    return AWSUnavailable(text, code=code, status=status, message=message, ambiguous=True)


def ailment(error: AWSError) -> Ailment | None:
    """What to set right before the same call can succeed, if that is all that stands in its way."""
    if error.code in _CLOCK:
        return Ailment.CLOCK
    if error.code in _SIGNATURE and ("Signature expired" in error.message or "not yet current" in error.message):
        return Ailment.CLOCK
    return Ailment.KEYS if error.code in _KEYS else None
