"""Every error that sqsjkr raises on purpose. None of them carries a verdict about a job: verdicts are values."""

from __future__ import annotations


class SqsjkrError(Exception):
    """The root: ``except SqsjkrError`` catches all that sqsjkr raises on purpose."""


class ConfigError(SqsjkrError):
    """The configuration or the command line is wrong. The text names file, line, key, value and what was expected."""


class InvalidJob(SqsjkrError):
    """A message body is not a valid job. The text names the field, its value and what was expected."""


class BindError(SqsjkrError):
    """The HTTP server can't listen on its address. The text names the address, the cause and the settings."""


class BackendUnavailable(SqsjkrError):
    """A queue or table could not be asked, so it has not said yes: nothing may run on the strength of it."""


class BackendRefused(BackendUnavailable):
    """A queue or table answered no for good (no such queue, access denied, no credentials): asking again won't help."""
