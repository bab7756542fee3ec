"""Claims and unlocks that travel together, on DynamoDB: what a request carries, and what bad weather makes of it."""

from __future__ import annotations

import asyncio
import collections
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any

import pytest

from contracts.stores import OwnConnection
from faults.proxy import Proxy
from faults.rules import Fault
from fleet import Fleet
from servers import until
from sqsjkr.backends.aws.client import AWS
from sqsjkr.backends.dynamodb.statements import Statement, Statements
from sqsjkr.batcher import side_by_side
from sqsjkr.errors import BackendUnavailable
from sqsjkr.leases.locker import TableLocker
from sqsjkr.leases.session import Session
from sqsjkr.leases.throttler import TableThrottler
from sqsjkr.throttler import Claim

TOGETHER = "BatchExecuteStatement"
ALONE = "UpdateItem"


@pytest.fixture
def wire(dynamodb_fleet: Fleet, dynamodb_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """The way to DynamoDB, where requests are counted and meet faults."""
    with Proxy(dynamodb_url) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", proxy.url)
        yield proxy


@pytest.fixture
async def table(wire: Proxy, dynamodb_fleet: Fleet) -> AsyncIterator[OwnConnection]:
    table = OwnConnection(dynamodb_fleet.table)
    await table.open()
    yield table
    await table.close()


@pytest.fixture
def here(table: OwnConnection) -> TableThrottler:
    return TableThrottler(table, Session(table))


def writes(wire: Proxy) -> Mapping[str, int]:
    """How often each writing request was sent."""
    return collections.Counter(
        call.operation for call in wire.calls if call.operation in {TOGETHER, ALONE, "DeleteItem"}
    )


async def claims(throttler: TableThrottler, names: Sequence[str], *, by: str = "") -> list[Claim | Exception]:
    """Ask for these messages in one moment."""
    return await side_by_side(throttler.claim(name, f"{by}{name}") for name in names)


def numbered(count: int) -> list[str]:
    return [f"m{number}" for number in range(count)]


async def test_claims_of_one_moment_share_requests(here: TableThrottler, wire: Proxy) -> None:
    assert await claims(here, numbered(60)) == [Claim.FRESH] * 60
    assert writes(wire) == {TOGETHER: 3}


async def test_a_claim_alone_is_the_request_that_it_was(here: TableThrottler, wire: Proxy) -> None:
    assert await claims(here, ["m"]) == [Claim.FRESH]
    assert writes(wire) == {ALONE: 1}


async def test_claims_that_are_asked_for_in_turn_share_what_is_on_its_way(here: TableThrottler, wire: Proxy) -> None:
    slow = wire.add(Fault.DELAY, operation=ALONE, seconds=0.2)
    first = asyncio.create_task(here.claim("first", "a"))
    await until(lambda: slow.hits, description="the first was on its way")
    later = [asyncio.create_task(here.claim(name, name)) for name in numbered(5)]
    assert set(await asyncio.gather(first, *later)) == {Claim.FRESH}
    assert writes(wire) == {ALONE: 1, TOGETHER: 1}


async def test_of_a_batch_those_that_others_run_are_asked_for_alone(
    here: TableThrottler, table: OwnConnection, wire: Proxy
) -> None:
    elsewhere = TableThrottler(table, Session(table))
    await claims(elsewhere, ["m1", "m3"], by="their ")
    await elsewhere.confirm("m3", "their m3")
    before = writes(wire)
    assert await claims(here, numbered(5)) == [Claim.FRESH, Claim.BUSY, Claim.FRESH, Claim.DONE, Claim.FRESH]
    assert writes(wire)[TOGETHER] - before[TOGETHER] == 1
    assert writes(wire)[ALONE] - before[ALONE] == 2


async def test_copies_of_one_message_in_one_moment_make_one_claim(here: TableThrottler) -> None:
    answers = await side_by_side(here.claim("m", f"a{number}") for number in range(5))
    assert sorted(str(answer) for answer in answers) == ["Claim.BUSY"] * 4 + ["Claim.FRESH"]


async def test_a_batch_whose_answer_is_lost_is_asked_for_again_and_is_ours(
    here: TableThrottler, wire: Proxy, dynamodb_fleet: Fleet
) -> None:
    wire.add(Fault.RESET_AFTER, operation=TOGETHER, limit=1)
    assert await claims(here, numbered(5)) == [Claim.FRESH] * 5
    assert len(dynamodb_fleet.rows("throttle")) == 5


async def test_a_batch_without_any_answer_fails_each_claim_and_each_is_given_back(
    here: TableThrottler, wire: Proxy, dynamodb_fleet: Fleet
) -> None:
    lost = wire.add(Fault.RESET_AFTER, operation=TOGETHER)
    answers = await claims(here, numbered(5))
    assert all(isinstance(answer, BackendUnavailable) for answer in answers)
    assert len(dynamodb_fleet.rows("throttle")) == 5, "they were taken all the same"
    wire.release(lost)
    for name in numbered(5):
        await here.forget(name, name)
    assert not dynamodb_fleet.rows("throttle")
    assert here._echoes, "and are given back again, should a request be on its way still"
    await here.close()


@pytest.mark.parametrize("code", ["AccessDeniedException", "UnknownOperationException"])
async def test_where_batches_are_refused_each_claim_travels_alone(
    here: TableThrottler, wire: Proxy, code: str, caplog: pytest.LogCaptureFixture
) -> None:
    wire.add(Fault.REFUSE, operation=TOGETHER, code=code)
    for batch in ("a", "b"):
        assert await claims(here, [f"{batch}{name}" for name in numbered(5)]) == [Claim.FRESH] * 5
    assert writes(wire) == {TOGETHER: 1, ALONE: 10}, "it is tried once"
    (said,) = [record.getMessage() for record in caplog.records if "claims travel one by one" in record.getMessage()]
    assert "dynamodb:PartiQLInsert on" in said
    assert "; next: allow dynamodb:PartiQLInsert on " in said


async def test_an_outage_is_not_taken_for_a_refusal(here: TableThrottler, wire: Proxy) -> None:
    wire.add(Fault.THROTTLE, operation=TOGETHER, limit=2)
    assert await claims(here, numbered(5)) == [Claim.FRESH] * 5
    wire.add(Fault.ERROR, operation=TOGETHER, limit=2)
    assert await claims(here, ["n1", "n2"]) == [Claim.FRESH] * 2
    assert writes(wire) == {TOGETHER: 6}


async def test_unlocks_of_one_moment_share_a_request(table: OwnConnection, wire: Proxy, dynamodb_fleet: Fleet) -> None:
    locker = TableLocker(table, Session(table))
    for name in numbered(25):
        await locker.lock(name, name, "event")
    before = writes(wire)
    await asyncio.gather(*(locker.unlock(name, name) for name in numbered(25)))
    assert writes(wire) == {ALONE: before[ALONE], TOGETHER: 1}
    assert not [row for row in dynamodb_fleet.rows("lock") if "EventId" in row]


async def test_where_batches_are_refused_each_unlock_travels_alone(
    table: OwnConnection, wire: Proxy, dynamodb_fleet: Fleet
) -> None:
    wire.add(Fault.REFUSE, operation=TOGETHER)
    locker = TableLocker(table, Session(table))
    for name in numbered(5):
        await locker.lock(name, name, "event")
    await asyncio.gather(*(locker.unlock(name, name) for name in numbered(5)))
    assert not [row for row in dynamodb_fleet.rows("lock") if "EventId" in row]


class Answers(AWS):
    """A DynamoDB that gives each statement the answers of its list: no local server throttles a part of a batch."""

    def __init__(self, **codes: list[str]) -> None:
        self.codes = codes
        self.asked: list[list[str]] = []

    async def call(self, service: str, operation: str, payload: Mapping[str, Any], **_: Any) -> dict[str, Any]:
        texts = [statement["Statement"] for statement in payload["Statements"]]
        self.asked.append(texts)
        codes = [self.codes[text].pop(0) for text in texts]
        return {"Responses": [{"Error": {"Code": code, "Message": "so it is"}} if code else {} for code in codes]}


async def together(aws: Answers, *texts: str) -> list[str | BackendUnavailable] | None:
    return await Statements(aws, "claims", "a right").send([Statement(text, []) for text in texts])


async def test_of_a_batch_only_what_is_throttled_is_sent_again() -> None:
    aws = Answers(a=[""], b=["ThrottlingError", "InternalServerError", ""], c=["DuplicateItem"])
    assert await together(aws, "a", "b", "c") == ["", "", "DuplicateItem"]
    assert aws.asked == [["a", "b", "c"], ["b"], ["b"]]


async def test_what_is_throttled_every_time_fails_alone() -> None:
    done, throttled = await together(Answers(a=[""], b=["ProvisionedThroughputExceeded"] * 4), "a", "b") or []
    assert done == ""
    assert isinstance(throttled, BackendUnavailable)
    assert "ProvisionedThroughputExceeded: so it is" in str(throttled)


async def test_a_statement_that_is_denied_means_that_all_travel_alone() -> None:
    assert await together(Answers(a=["AccessDenied"], b=["AccessDenied"]), "a", "b") is None


async def test_what_is_wrong_with_one_statement_is_asked_for_alone() -> None:
    assert await together(Answers(a=["ValidationError"], b=[""]), "a", "b") == ["ValidationError", ""]
