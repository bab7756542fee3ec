"""What the configuration names is what the worker works with."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from sqsjkr import backends
from sqsjkr.backends import BACKENDS, Connections, Name, parse
from sqsjkr.backends.aws.codes import bare
from sqsjkr.backends.sqlite.store import Store
from sqsjkr.config import Config
from sqsjkr.errors import BackendRefused
from sqsjkr.leases.table import Table
from sqsjkr.locker import NoLocker
from sqsjkr.queue import Queue
from sqsjkr.resources import Resources
from sqsjkr.sender import Sender
from sqsjkr.throttler import NoThrottler


class EmptyLocker(NoLocker):
    """False where a bool is asked for, as a container of locks is while it is empty."""

    def __len__(self) -> int:
        return 0


class EmptyThrottler(NoThrottler):
    def __len__(self) -> int:
        return 0


def test_a_locker_and_a_throttler_that_are_false_are_used_all_the_same(tmp_path: Path) -> None:
    locker, throttler = EmptyLocker(), EmptyThrottler()
    resources = Resources(Config(local=str(tmp_path)), AsyncExitStack(), locker=locker, throttler=throttler)
    assert resources.locker is locker
    assert resources.throttler is throttler


async def test_a_queue_and_a_table_in_one_store_share_its_connection(tmp_path: Path) -> None:
    connections = Connections(Config(local=str(tmp_path)))
    assert connections.once(Store, str(tmp_path)) is connections.once(Store, str(tmp_path))
    assert connections.once(Store, str(tmp_path)) is not connections.once(Store, str(tmp_path / "other"))


async def test_a_failure_to_open_is_reported_as_that_of_the_part_that_failed(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no directory")
    async with AsyncExitStack() as stack:
        resources = Resources(Config(local=str(tmp_path), locker=f"sqlite:{tmp_path}/file"), stack)
        with pytest.raises(BackendRefused):
            await resources.open()
        assert resources.outage_of_opening() is resources.table_outage


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("none", Name()),
        ("dynamodb", Name(table="dynamodb")),
        ("sqlite", Name(table="sqlite")),
        ("sqlite:/var/lib/jobs", Name(table="sqlite", place="/var/lib/jobs")),
        ("jobs.locks:RedisLocker", Name(plugin="jobs.locks:RedisLocker")),
        ("sqlite:", None),
        ("sqs", None),
        ("redis", None),
        ("jobs.locks:", None),
    ],
)
def test_a_backend_is_named_in_one_way(text: str, name: Name | None) -> None:
    assert parse(text) == name


@pytest.mark.parametrize("name", BACKENDS)
def test_each_line_of_the_registry_leads_to_classes_that_serve_their_ports(name: str) -> None:
    row = BACKENDS[name]
    served = [(path, port) for path, port in ((row.queue, Queue), (row.sender, Sender), (row.table, Table)) if path]
    assert served
    for path, port in served:
        assert issubclass(backends._load(name, path), port)


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("com.amazon.coral.service#InvalidParameterValueException", "InvalidParameterValue"),
        ("com.amazonaws.sqs#QueueDoesNotExist", "QueueDoesNotExist"),
        ("AWS.SimpleQueueService.NonExistentQueue", "NonExistentQueue"),
        ("ResourceNotFoundException:http://internal.amazon.com/coral/", "ResourceNotFound"),
        ("ReceiptHandleIsInvalid", "ReceiptHandleIsInvalid"),
        ("", ""),
    ],
)
def test_a_code_of_aws_is_the_same_in_each_spelling(code: str, name: str) -> None:
    assert bare(code) == name
