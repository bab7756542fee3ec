"""Errors of calls to AWS, typed by what a caller may do about them."""

from __future__ import annotations

import enum
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

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
_DENIED = frozenset({"AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "KMS.AccessDeniedException"})
_CLOCK = frozenset({"RequestExpired", "RequestInTheFuture", "RequestTimeTooSkewed"})
_KEYS = frozenset({"ExpiredToken", "ExpiredTokenException", "RequestExpiredToken", "UnrecognizedClientException"})
_SIGNATURE = frozenset({"AuthFailure", "InvalidSignatureException", "SignatureDoesNotMatch"})


class Remedy(enum.Enum):
    """The one thing to correct before AWS will consider a rejected request."""

    CLOCK = enum.auto()
    KEYS = enum.auto()


class Call(NamedTuple):
    """The action that was asked for, as IAM names it, and its target.

    ``action`` is like "sqs:DeleteMessage", for DeleteMessageBatch too. ``resource`` is a queue's URL or name or a
    table's name, empty if the call names none. ``where`` is the address that the request went to.
    """

    action: str = ""
    resource: str = ""
    where: str = ""

    @classmethod
    def of(cls, service: str, operation: str, payload: Mapping[str, Any], where: str) -> Call:
        """The call of ``operation`` with ``payload``."""
        if operation == "BatchExecuteStatement":
            return cls(*_of_statement(str(payload["Statements"][0]["Statement"])), where)
        name = operation.removesuffix("Batch") if service == "sqs" else operation  # SQS has no rights for batches
        resource = payload.get("QueueUrl") or payload.get("TableName") or payload.get("QueueName")
        return cls(f"{service}:{name}", str(resource or ", ".join(payload.get("RequestItems") or ())), where)

    def __str__(self) -> str:
        return f"{self.action} on {self.resource}" if self.resource else self.action


def _of_statement(text: str) -> tuple[str, str]:
    """Return the right that a PartiQL statement needs, and its table."""
    verb, table = text.partition(" ")[0], text.partition('"')[2].partition('"')[0]
    return f"dynamodb:PartiQL{verb.capitalize()}", table


class AWSError(SqsjkrError):
    """A call that did not succeed. The text is one line: action, resource, cause, AWS's message.

    ``refused`` is true if AWS answered no for good, false if it did not answer or may answer differently later.
    ``action`` and ``resource`` are those of ``Call``, empty if unknown. ``code`` is AWS's error code as sent, without
    its namespace ("QueueDoesNotExist"; see ``code_of``), ``status`` the HTTP status, ``message`` AWS's message; empty
    and 0 without an answer. ``ambiguous``: AWS may have acted on the last attempt although it failed (its answer was
    lost, or was a server error). ``ambiguous_before``: AWS may have acted on an earlier attempt of the same call.
    """

    refused = False

    def __init__(
        self,
        text: str,
        *,
        call: Call = Call(),  # noqa: B008 - immutable
        code: str = "",
        status: int = 0,
        message: str = "",
        ambiguous: bool = False,
    ) -> None:
        super().__init__(" ".join(text.split())[:_LONGEST_TEXT])
        self.action = call.action
        self.resource = call.resource
        self.code = code
        self.status = status
        self.message = message
        self.ambiguous = ambiguous
        self.ambiguous_before = False

    @property
    def result(self) -> str:
        """What became of the last attempt, as one of ``telemetry.requests.RESULTS``."""
        if self.code in _PASSING or self.status in _TRY_AGAIN:
            return "throttled"
        return "failed" if self.status >= _SERVER_ERROR else "lost"


class AWSUnavailable(AWSError, BackendUnavailable):
    """No answer, a throttled call, or a server error: a later attempt may succeed."""


class AWSRefused(AWSError, BackendRefused):
    """Access denied, no such queue or table, bad credentials, a bad request: retrying does not help."""

    refused = True
    result = "refused"


class ConditionFailed(AWSError):
    """DynamoDB's condition does not hold. ``item`` is the current row, if the call requested it (ALL_OLD).

    With ``ambiguous_before`` the row may be what an earlier attempt of the same call wrote: compare the owner.
    """

    item: Mapping[str, Any] | None = None
    result = "condition"


def lost(call: Call, error: Exception, timeout: float) -> AWSUnavailable:
    """The error for an exchange that broke: AWS may have acted on ``call`` unless there was no connection."""
    unsent = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.ClientHttpProxyError)
    text = f"{call}: {_cause(error, timeout)} ({call.where})"
    return AWSUnavailable(text, call=call, ambiguous=not isinstance(error, unsent))


def _cause(error: Exception, timeout: float) -> str:
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return f"cannot trust {error.host}:{error.port}: {error.certificate_error}; check AWS_CA_BUNDLE and the proxy"
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        why = error.os_error.strerror or error.os_error
        return f"cannot find the host {error.host}: {why}; check the region, the endpoint settings and DNS"
    if isinstance(error, aiohttp.ClientConnectorError):
        what = "the proxy " if isinstance(error, aiohttp.ClientProxyConnectionError) else ""
        why = error.os_error.strerror or error.os_error
        return f"cannot connect to {what}{error.host}:{error.port}: {why}; check the network and the endpoint settings"
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return "connecting took too long; check the network, the region and the endpoint settings"
    if isinstance(error, TimeoutError):
        return f"no answer within {timeout:g} s"
    return str(error) or type(error).__name__


def garbled(call: Call, status: int, why: str) -> AWSUnavailable:
    """The error for an answer that arrived broken, so that it is unknown whether AWS has acted."""
    text = f"{call}: unreadable answer: {why} ({call.where}, status {status})"
    return AWSUnavailable(text, call=call, status=status, ambiguous=True)


def refused(call: Call, status: int, raw: bytes) -> AWSError:
    """The error for an answer other than 200."""
    try:
        answer = json.loads(raw)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):  # not from AWS: a load balancer, a proxy
        answer = {"message": raw[:_LONGEST_TEXT].decode(errors="replace")}
    # "com.amazonaws.sqs#QueueDoesNotExist", sometimes with ":" and an address behind (Smithy: "AWS JSON 1.0 protocol")
    code = str(answer.get("__type") or answer.get("code") or "").rpartition("#")[2].partition(":")[0]
    message = str(answer.get("message") or answer.get("Message") or "")
    text = f"{call}: {_why(code) or status}: {message}" + ("" if "://" in call.resource else f" ({call.where})")
    if code == "ConditionalCheckFailedException":
        failed = ConditionFailed(text, call=call, code=code, status=status, message=message)
        failed.item = answer.get("Item")
        return failed
    if code in _PASSING or status in _TRY_AGAIN:
        return AWSUnavailable(text, call=call, code=code, status=status, message=message)
    if status < _SERVER_ERROR:
        return AWSRefused(text, call=call, code=code, status=status, message=message)
    return AWSUnavailable(text, call=call, code=code, status=status, message=message, ambiguous=True)


def of_entry(call: Call, failed: Mapping[str, Any]) -> AWSUnavailable:
    """The error of one entry of a batch of SQS, in the words of ``refused``: the other entries may have succeeded."""
    code, message = str(failed.get("Code", "")), str(failed.get("Message") or "")
    return AWSUnavailable(f"{call}: {_why(code)}: {message}", call=call, code=code, message=message)


def _why(code: str) -> str:
    return f"access denied ({code})" if code in _DENIED else code


def remedy_for(error: AWSError) -> Remedy | None:
    """The correction after which the same call can succeed; None if there is none."""
    if error.code in _CLOCK:
        return Remedy.CLOCK
    if error.code in _SIGNATURE and ("Signature expired" in error.message or "not yet current" in error.message):
        return Remedy.CLOCK
    return Remedy.KEYS if error.code in _KEYS else None
