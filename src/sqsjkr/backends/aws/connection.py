"""Where the connection to AWS is made from the settings."""

from __future__ import annotations

from sqsjkr.backends import Connections
from sqsjkr.backends.aws.client import AWS


def connection(connections: Connections) -> AWS:
    """The connection that SQS and DynamoDB share, to the account of the settings."""
    account, patience, requests = connections.account, connections.patience, connections.requests
    return connections.link(AWS, account=account, patience=patience, requests=requests)
