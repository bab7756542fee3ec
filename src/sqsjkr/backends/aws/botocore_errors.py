"""Errors and log records of botocore, as plain values and in the lengths of this product."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from botocore.exceptions import ClientError, CredentialRetrievalError, HTTPClientError
from botocore.exceptions import ConnectionError as BotoConnectionError

_SERVER_ERROR = 500
_THROTTLED = frozenset({"RequestLimitExceeded", "SlowDown", "Throttling", "ThrottlingException"})
_LONGEST_CAUSE = 300  # characters


class Refused(Exception):
    """A mistake in the settings. The text says all of it: places and next step."""


def explained(error: Exception, what: str, action: str = "") -> dict[str, Any]:
    """Describe an error for ``lookup``: ``refused`` is false if a later attempt may succeed, ``text`` says it all."""
    if isinstance(error, Refused):
        return _described(str(error), action)
    text = f"{what}: {error or type(error).__name__}"
    if isinstance(error, (HTTPClientError, BotoConnectionError, CredentialRetrievalError)):
        return _described(text, action, refused=False)
    if not isinstance(error, ClientError):
        return _described(text, action)
    code = str(error.response.get("Error", {}).get("Code", ""))
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    passes = status >= _SERVER_ERROR or code in _THROTTLED
    return _described(text, action, refused=not passes, code=code, status=status, message=str(error))


def _described(text: str, action: str, *, refused: bool = True, **facts: Any) -> dict[str, Any]:
    return {"refused": refused, "text": text, "action": action, **facts}


@contextmanager
def captured_log(level: int) -> Iterator[list[tuple[str, int, str]]]:
    """Collect what is logged in here from ``level`` on: logger, level and text, each on one line."""
    handler, root = _Lines(), logging.getLogger()
    root.addHandler(handler)
    root.setLevel(level)
    logging.captureWarnings(capture=True)
    try:
        yield handler.lines
    finally:
        root.removeHandler(handler)


class _Lines(logging.Handler):
    """Keeps the cause of a traceback. botocore logs 8 KB at each try to renew credentials, an outage of ours anyway."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[tuple[str, int, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if record.exc_info:
            text += f" {' '.join(str(record.exc_info[1]).split())[:_LONGEST_CAUSE]}"
        self.lines.append((record.name, record.levelno, " ".join(text.split())))
