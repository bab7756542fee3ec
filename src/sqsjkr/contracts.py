"""The former name of ``sqsjkr.testing``, kept for test suites written for 1.0."""

from sqsjkr.testing import *  # noqa: F403 - an alias
