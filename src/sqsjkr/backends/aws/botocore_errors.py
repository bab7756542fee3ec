"""Errors and log records of botocore, in the terms and lengths of this product."""

from __future__ import annotations

import logging

from botocore.exceptions import ClientError, CredentialRetrievalError, HTTPClientError
from botocore.exceptions import ConnectionError as BotoConnectionError

from sqsjkr import clock
from sqsjkr.backends.aws.errors import AWSRefused, AWSUnavailable, Call

_SERVER_ERROR = 500
_THROTTLED = frozenset({"RequestLimitExceeded", "SlowDown", "Throttling", "ThrottlingException"})
_LONGEST_CAUSE = 300  # characters
_AGAIN = 300.0
"""Seconds after which a line of botocore's is logged again."""
_REMEMBERED = 100


def explained(error: Exception, what: str, call: Call = Call()) -> AWSUnavailable | AWSRefused:  # noqa: B008 - immutable
    """Our error for one of botocore's: unavailable if a later attempt may succeed, refused if not."""
    text = f"{what}: {error}"
    if isinstance(error, (HTTPClientError, BotoConnectionError, CredentialRetrievalError)):
        return AWSUnavailable(text, call=call)
    if not isinstance(error, ClientError):
        return AWSRefused(text, call=call)
    code = str(error.response.get("Error", {}).get("Code", ""))
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    kind = AWSUnavailable if status >= _SERVER_ERROR or code in _THROTTLED else AWSRefused
    return kind(text, call=call, code=code, status=status, message=str(error))


class _OneLine(logging.Filter):
    """Lets a record through as one line, and the same line again only after ``_AGAIN`` seconds.

    botocore logs a traceback of 8 KB at each try to renew credentials, whose failure is an outage of ours anyway.
    """

    def __init__(self) -> None:
        super().__init__()
        self._said: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if record.exc_info:
            cause = " ".join(str(record.exc_info[1]).split())[:_LONGEST_CAUSE]
            record.msg, record.args = f"{record.getMessage()} {cause}", ()
            record.exc_info = record.exc_text = None
        text, now = record.getMessage(), clock.now()
        if now - self._said.get(text, -_AGAIN) < _AGAIN:
            return False
        self._said = {text: now} if len(self._said) > _REMEMBERED else self._said | {text: now}
        return True


_one_line = _OneLine()


def shorten_logs() -> None:
    """Keep botocore's tracebacks and repetitions out of the log of this process."""
    for name in ("credentials", "tokens", "utils"):  # a filter does not apply to the loggers below its own
        logging.getLogger(f"botocore.{name}").addFilter(_one_line)  # adding it again has no effect
