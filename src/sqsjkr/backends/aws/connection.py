"""Where the connection to AWS is made from the settings."""

from __future__ import annotations

from sqsjkr.backends import Connections
from sqsjkr.backends.aws.client import AWS


def connection(connections: Connections) -> AWS:
    """The connection that SQS and DynamoDB share, with the profile and the region of the settings."""
    settings = connections.settings
    return connections.link(
        AWS,
        profile=settings.profile,
        region=settings.region,
        patience=connections.patience,
        requests=connections.requests,
    )
