from __future__ import annotations

import asyncio
import calendar
import json
import logging
import os
import re
import shutil
import ssl
import subprocess
import sys
import textwrap
import time
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from botocore.awsrequest import AWSResponse
from botocore.session import Session

import daemons
from fleet import Fleet
from servers import PATIENCE, free_port, until
from sqsjkr.backends.aws import credentials, lookup
from sqsjkr.backends.aws.client import AWS
from sqsjkr.backends.aws.codes import code_of
from sqsjkr.backends.aws.credentials import Account
from sqsjkr.backends.aws.errors import AWSRefused, AWSUnavailable, ConditionFailed
from sqsjkr.errors import BackendRefused, BackendUnavailable
from sqsjkr.supervision.process_tree import has_ended

JSON = "application/x-amz-json-1.0"
Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


def says(body: str, status: int = 200, **headers: str) -> Answer:
    async def answer(_: web.Request) -> web.StreamResponse:
        await asyncio.sleep(0)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.Response(text=body, status=status, content_type=JSON, headers=named)

    return answer


def refuses(code: str, message: str = "No.", status: int = 400, **more: str) -> Answer:
    return says(f'{{"__type":"com.amazonaws.test#{code}","message":"{message}"}}', status, **more)


async def resets(request: web.Request) -> web.StreamResponse:
    """Act on the request, then lose the answer."""
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def never(_: web.Request) -> web.StreamResponse:
    await asyncio.Event().wait()
    raise AssertionError("unreachable")


class Service:
    """A server on loopback that gives the answers it was told to give, in order, and the last one for ever."""

    def __init__(self) -> None:
        self.answers: list[Answer] = [says("{}")]
        self.seen: list[web.Request] = []
        self.connections: set[object] = set()
        self.url = ""

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        await request.read()
        self.seen.append(request)
        self.connections.add(request.transport)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return await answer(request)

    def keys(self) -> list[str]:
        """The access keys that signed what came in."""
        return [re.findall(r"Credential=([^/]+)/", request.headers["Authorization"])[0] for request in self.seen]


async def serving(service: Service, tls: ssl.SSLContext | None = None) -> web.AppRunner:
    server = web.Server(service, access_log=None, handler_cancellation=True)
    runner = web.ServerRunner(server, shutdown_timeout=0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
    service.url = f"{'https' if tls else 'http'}://127.0.0.1:{runner.addresses[0][1]}"
    return runner


@pytest.fixture(autouse=True)
def config_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An environment with keys and a region, and nothing of the developer's own; the shared file is empty."""
    for name in os.environ:
        if name.upper().startswith("AWS_") or name.upper().endswith("_PROXY"):
            monkeypatch.delenv(name)
    config = tmp_path / "config"
    config.touch()
    for name, value in {
        "AWS_CONFIG_FILE": str(config),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "credentials"),
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_ACCESS_KEY_ID": "AKIDENV",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "ap-northeast-1",
    }.items():
        monkeypatch.setenv(name, value)
    return config


@pytest.fixture
async def service(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Service]:
    service = Service()
    runner = await serving(service)
    monkeypatch.setenv("AWS_ENDPOINT_URL", service.url)
    yield service
    await runner.cleanup()


@pytest.fixture
async def opened() -> AsyncIterator[Callable[..., Awaitable[AWS]]]:
    made: list[AWS] = []

    async def open_aws(**options: Any) -> AWS:
        made.append(AWS(**options))
        await made[-1].open()
        return made[-1]

    yield open_aws
    for aws in made:
        await aws.close()


Opened = Callable[..., Awaitable[AWS]]


async def test_a_call_posts_signed_json_and_returns_the_answer(service: Service, opened: Opened) -> None:
    service.answers = [says('{"QueueUrl":"here"}')]
    answer = await (await opened()).call("sqs", "GetQueueUrl", {"QueueName": "jobs ✓"})
    assert answer == {"QueueUrl": "here"}
    (request,) = service.seen
    assert (request.method, request.path) == ("POST", "/")
    assert await request.json() == {"QueueName": "jobs ✓"}
    assert request.headers["X-Amz-Target"] == "AmazonSQS.GetQueueUrl"
    assert request.headers["Content-Type"] == JSON
    assert request.headers["User-Agent"].startswith("sqsjkr/")
    assert "/ap-northeast-1/sqs/aws4_request" in request.headers["Authorization"]


async def test_a_call_to_the_table_names_its_protocol(service: Service, opened: Opened) -> None:
    await (await opened()).call("dynamodb", "ListTables", {})
    assert service.seen[0].headers["X-Amz-Target"] == "DynamoDB_20120810.ListTables"


async def test_an_empty_answer_is_an_empty_dict(service: Service, opened: Opened) -> None:
    service.answers = [says("")]
    assert await (await opened()).call("sqs", "DeleteMessage", {}) == {}


async def test_half_a_surrogate_pair_passes_both_ways(service: Service, opened: Opened) -> None:
    """JSON can say it, and UTF-8 can't: one message with it must not make those beside it unreadable."""
    service.answers = [says(r'{"Messages":[{"Body":"\ud800"},{"Body":"fine"}]}')]
    answer = await (await opened()).call("sqs", "ReceiveMessage", {"QueueName": "\ud800"})
    assert answer == {"Messages": [{"Body": "\ud800"}, {"Body": "fine"}]}
    assert await service.seen[0].json() == {"QueueName": "\ud800"}


async def test_calls_one_after_the_other_share_a_connection(service: Service, opened: Opened) -> None:
    aws = await opened()
    for _ in range(10):
        await aws.call("sqs", "ListQueues", {})
    assert len(service.seen) == 10
    assert len(service.connections) == 1


async def test_an_address_given_with_the_call_is_used(service: Service, opened: Opened) -> None:
    aws = await opened()
    await aws.call("sqs", "ListQueues", {}, endpoint=f"{service.url}/elsewhere/")
    assert service.seen[0].path == "/elsewhere/"


@pytest.mark.parametrize(
    "trouble",
    [
        pytest.param(says("<html>", 502), id="bad gateway"),
        pytest.param(refuses("InternalServerError", status=500), id="server error"),
        pytest.param(refuses("ProvisionedThroughputExceededException"), id="throttled table"),
        pytest.param(refuses("RequestThrottled", status=403), id="throttled queue"),
        pytest.param(resets, id="reset"),
        pytest.param(says("{}", x_amz_crc32="1"), id="wrong checksum"),
        pytest.param(says('{"half":'), id="cut off"),
        pytest.param(says("[]"), id="no object"),
    ],
)
async def test_trouble_that_may_pass_is_tried_again(service: Service, opened: Opened, trouble: Answer) -> None:
    service.answers = [trouble, trouble, says('{"a":1}')]
    assert await (await opened()).call("sqs", "ListQueues", {}) == {"a": 1}
    assert len(service.seen) == 3


async def test_trouble_that_stays_is_told_after_the_last_attempt(service: Service, opened: Opened) -> None:
    service.answers = [refuses("ServiceUnavailable", status=503)]
    with pytest.raises(AWSUnavailable, match="sqs:ListQueues: ServiceUnavailable") as caught:
        await (await opened()).call("sqs", "ListQueues", {}, attempts=2)
    assert len(service.seen) == 2
    assert isinstance(caught.value, BackendUnavailable)
    assert not isinstance(caught.value, BackendRefused)
    assert (caught.value.code, caught.value.status) == ("ServiceUnavailable", 503)


async def test_a_right_checksum_is_accepted(service: Service, opened: Opened) -> None:
    body = '{"Item":{}}'
    service.answers = [says(body, x_amz_crc32=str(zlib.crc32(body.encode())))]
    assert await (await opened()).call("dynamodb", "GetItem", {}, attempts=1) == {"Item": {}}


async def test_a_no_is_not_asked_again(service: Service, opened: Opened) -> None:
    service.answers = [refuses("QueueDoesNotExist", "The queue\\nis not there.")]
    with pytest.raises(AWSRefused) as caught:
        await (await opened()).call("sqs", "ReceiveMessage", {})
    assert len(service.seen) == 1
    assert isinstance(caught.value, BackendRefused)
    assert caught.value.code == "QueueDoesNotExist"
    assert str(caught.value) == f"sqs:ReceiveMessage: QueueDoesNotExist: The queue is not there. ({service.url})"


async def test_a_no_from_something_that_is_not_aws_is_told_with_its_words(service: Service, opened: Opened) -> None:
    service.answers = [says("<h1>Blocked by the firewall</h1>" * 1000, 403)]
    with pytest.raises(AWSRefused, match="sqs:ListQueues: 403: <h1>Blocked by the firewall") as caught:
        await (await opened()).call("sqs", "ListQueues", {})
    assert len(str(caught.value)) < 1000


async def test_a_failed_condition_brings_the_row_and_is_no_outage(service: Service, opened: Opened) -> None:
    row = '{"__type":"c#ConditionalCheckFailedException","message":"No","Item":{"Owner":{"S":"other"}}}'
    service.answers = [says(row, 400)]
    with pytest.raises(ConditionFailed) as caught:
        await (await opened()).call("dynamodb", "UpdateItem", {})
    assert caught.value.item == {"Owner": {"S": "other"}}
    assert not isinstance(caught.value, BackendUnavailable)
    assert not caught.value.ambiguous_before


async def test_a_failed_condition_tells_that_an_earlier_attempt_may_have_done_it(
    service: Service, opened: Opened
) -> None:
    service.answers = [
        resets,
        refuses("ProvisionedThroughputExceededException"),
        refuses("ConditionalCheckFailedException"),
    ]
    with pytest.raises(ConditionFailed) as caught:
        await (await opened()).call("dynamodb", "UpdateItem", {})
    assert caught.value.item is None
    assert caught.value.ambiguous_before
    assert not caught.value.ambiguous


@pytest.mark.parametrize(
    ("trouble", "ambiguous"),
    [
        pytest.param(never, True, id="no answer"),
        pytest.param(resets, True, id="reset"),
        pytest.param(refuses("InternalServerError", status=500), True, id="server error"),
        pytest.param(says("?"), True, id="unreadable"),
        pytest.param(refuses("ThrottlingException"), False, id="throttled"),
    ],
)
async def test_an_error_says_whether_aws_may_have_acted(
    service: Service, opened: Opened, trouble: Answer, ambiguous: bool
) -> None:
    service.answers = [trouble]
    with pytest.raises(AWSUnavailable) as caught:
        await (await opened()).call("sqs", "SendMessage", {}, timeout=2 if trouble is never else PATIENCE, attempts=1)
    assert len(service.seen) == 1
    assert caught.value.ambiguous is ambiguous


async def test_where_nothing_listens_nothing_was_done(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    with pytest.raises(
        AWSUnavailable, match=r"sqs:SendMessage: cannot connect to 127\.0\.0\.1:\d+: .*; check the network"
    ) as caught:
        await (await opened()).call("sqs", "SendMessage", {}, attempts=2)
    assert not caught.value.ambiguous
    assert not caught.value.ambiguous_before


async def test_one_answer_may_take_the_patience(service: Service, opened: Opened) -> None:
    service.answers = [never]
    with pytest.raises(AWSUnavailable, match=r"no answer within 2 s"):
        await (await opened(patience=2)).call("sqs", "ListQueues", {}, attempts=1)


async def test_a_long_polls_own_wait_is_added_to_the_patience(service: Service, opened: Opened) -> None:
    service.answers = [never]
    with pytest.raises(AWSUnavailable, match=r"no answer within 2\.5 s"):
        await (await opened(patience=2)).call("sqs", "ReceiveMessage", {}, waiting=0.5, attempts=1)


QUEUE = "https://sqs.us-east-1.amazonaws.com/1/jobs"


@pytest.mark.parametrize(
    ("service_name", "operation", "payload", "action", "resource"),
    [
        ("sqs", "ChangeMessageVisibility", {"QueueUrl": QUEUE}, "sqs:ChangeMessageVisibility", QUEUE),
        ("sqs", "DeleteMessageBatch", {"QueueUrl": QUEUE}, "sqs:DeleteMessage", QUEUE),
        ("dynamodb", "GetItem", {"TableName": "locks"}, "dynamodb:GetItem", "locks"),
        ("dynamodb", "BatchWriteItem", {"RequestItems": {"locks": []}}, "dynamodb:BatchWriteItem", "locks"),
    ],
)
async def test_a_refusal_names_action_and_resource(
    service: Service,
    opened: Opened,
    service_name: str,
    operation: str,
    payload: dict[str, object],
    action: str,
    resource: str,
) -> None:
    service.answers = [refuses("AccessDeniedException", "Not authorized.")]
    with pytest.raises(AWSRefused) as caught:
        await (await opened()).call(service_name, operation, payload)
    error = caught.value
    assert str(error).startswith(f"{action} on {resource}: access denied (AccessDeniedException): Not authorized.")
    assert (error.refused, error.action, error.resource) == (True, action, resource)
    assert code_of(error) == "AccessDenied"


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        ("com.amazon.coral.service#AccessDeniedException", "AccessDenied"),
        ("AWS.SimpleQueueService.NonExistentQueue", "NonExistentQueue"),
        ("ReceiptHandleIsInvalid", "ReceiptHandleIsInvalid"),
        (ValueError("no code"), ""),
    ],
)
def test_a_code_has_neither_namespace_nor_suffix(raw: object, code: str) -> None:
    assert code_of(raw) == code


async def test_a_host_that_does_not_exist_is_one_clear_line(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "https://sqs.typo.invalid")
    with pytest.raises(
        AWSUnavailable, match=r"cannot find the host sqs\.typo\.invalid: .*; check the region"
    ) as caught:
        await (await opened()).call("sqs", "ListQueues", {}, attempts=1)
    assert "object at" not in str(caught.value)
    assert not caught.value.refused


@pytest.fixture
def assume_role(monkeypatch: pytest.MonkeyPatch, config_file: Path) -> None:
    """A profile "role" that needs STS, and an STS out of reach."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", f"http://127.0.0.1:{free_port()}")
    config_file.write_text(
        "[profile role]\nrole_arn = arn:aws:iam::1:role/jobs\ncredential_source = Environment\nregion = us-east-1\n"
    )


@pytest.mark.usefixtures("assume_role")
async def test_an_sts_out_of_reach_is_an_outage_on_one_short_line(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING), pytest.raises(AWSUnavailable, match="cannot get AWS credentials") as caught:
        await Account(profile="role").open()
    assert not isinstance(caught.value, BackendRefused)
    assert "\n" not in str(caught.value)
    assert any(record.name == "botocore.credentials" for record in caplog.records)
    assert [record for record in caplog.records if record.exc_info] == []
    assert all(len(record.getMessage()) < 1000 for record in caplog.records)


@pytest.mark.usefixtures("assume_role")
async def test_tries_to_renew_credentials_do_not_repeat_their_line(caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(3):
        with caplog.at_level(logging.WARNING), pytest.raises(AWSUnavailable):
            await Account(profile="role").open()
    assert len([record for record in caplog.records if record.name == "botocore.credentials"]) == 1


async def test_what_is_no_name_of_a_region_is_called_so(opened: Opened) -> None:
    with pytest.raises(
        BackendRefused, match=r"^AWS region 'us east': not a region's name, expected one like us-east-1$"
    ):
        await opened(region="us east")


@pytest.mark.usefixtures("assume_role")
async def test_keys_that_no_sts_confirms_are_not_refused(opened: Opened) -> None:
    with pytest.raises(AWSUnavailable, match=r"^sts:GetCallerIdentity: Could not connect") as caught:
        await (await opened()).whoami()
    assert not caught.value.refused


async def test_no_answer_in_time_is_told_with_the_time(service: Service, opened: Opened) -> None:
    service.answers = [never]
    with pytest.raises(AWSUnavailable, match=r"no answer within 2 s"):
        await (await opened()).call("sqs", "ListQueues", {}, timeout=2, attempts=1)


async def test_a_poll_that_is_cut_off_ends_at_the_server_too(service: Service, opened: Opened) -> None:
    ended = asyncio.Event()

    async def long_poll(_: web.Request) -> web.StreamResponse:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        raise AssertionError("unreachable")

    service.answers = [long_poll]
    poll = asyncio.create_task((await opened()).call("sqs", "ReceiveMessage", {}, timeout=30))
    await until(lambda: service.seen, description="the poll arrived")
    poll.cancel()
    async with asyncio.timeout(PATIENCE):
        await ended.wait()
    with pytest.raises(asyncio.CancelledError):
        await poll


def punctual(ahead: float) -> Answer:
    """A server whose clock is ``ahead`` of ours by so many seconds, and that is as strict about it as AWS."""

    async def answer(request: web.Request) -> web.StreamResponse:
        now = time.time() + ahead
        signed = calendar.timegm(time.strptime(request.headers["X-Amz-Date"], "%Y%m%dT%H%M%SZ"))
        date = formatdate(now, usegmt=True)
        if abs(now - signed) > 300:
            no = refuses("InvalidSignatureException", "Signature expired: is now earlier than", Date=date)
            return await no(request)
        return await says("{}", Date=date)(request)

    return answer


@pytest.mark.parametrize("ahead", [600, -600])
async def test_a_wrong_clock_is_set_by_the_first_answer(service: Service, opened: Opened, ahead: float) -> None:
    service.answers = [punctual(ahead)]
    aws = await opened()
    assert aws.server_offset() == 0.0
    await aws.call("sqs", "ListQueues", {}, attempts=1)
    assert len(service.seen) == 2
    assert aws.server_offset() == pytest.approx(ahead, abs=3)
    await aws.call("sqs", "ListQueues", {}, attempts=1)
    assert len(service.seen) == 3


async def test_a_clock_one_second_off_is_noticed(service: Service, opened: Opened) -> None:
    service.answers = [punctual(1)]
    aws = await opened()
    await aws.call("sqs", "ListQueues", {})
    assert aws.server_offset() == pytest.approx(1, abs=0.75)


async def test_a_clock_that_stays_wrong_is_told(service: Service, opened: Opened) -> None:
    service.answers = [refuses("RequestTimeTooSkewed")]
    with pytest.raises(AWSRefused, match="RequestTimeTooSkewed"):
        await (await opened()).call("sqs", "ListQueues", {}, attempts=9)
    assert len(service.seen) == 2


def accepts(*good: str) -> Answer:
    """A server that has only these access keys."""

    async def answer(request: web.Request) -> web.StreamResponse:
        if any(f"Credential={key}/" in request.headers["Authorization"] for key in good):
            return await says("{}")(request)
        return await refuses("UnrecognizedClientException", "The security token is invalid.")(request)

    return answer


async def test_keys_that_were_replaced_in_the_shared_file_are_taken_up(
    service: Service, opened: Opened, config_file: Path
) -> None:
    profile = "[profile p]\naws_access_key_id = {}\naws_secret_access_key = secret\n"
    config_file.write_text(profile.format("AKIDOLD"))
    service.answers = [accepts("AKIDNEW")]
    aws = await opened(profile="p")
    config_file.write_text(profile.format("AKIDNEW"))
    assert await aws.call("sqs", "ListQueues", {}, attempts=1) == {}
    assert service.keys() == ["AKIDOLD", "AKIDNEW"]


async def test_wrong_keys_are_told_at_once(service: Service, opened: Opened) -> None:
    service.answers = [accepts("AKIDOTHER")]
    with pytest.raises(AWSRefused, match="UnrecognizedClientException"):
        await (await opened()).call("sqs", "ListQueues", {})
    assert len(service.seen) == 1


@pytest.fixture
def vending(tmp_path: Path, config_file: Path) -> Iterator[Callable[..., None]]:
    """A profile "p" whose process hands out AKID1, AKID2, ...; from the third on it waits for the file "go".

    botocore asks at once for a second set when the first one is good for less than ten minutes.
    """

    def write(first: float, *, then: str = "") -> None:
        """``first`` is the seconds the first two keys are good for; ``then`` a line for later runs."""
        script = tmp_path / "vend.py"
        script.write_text(
            textwrap.dedent(f"""
                import datetime, json, os, pathlib, sys, time
                here = pathlib.Path({str(tmp_path)!r})
                runs = here / "runs"
                runs.write_text((runs.read_text() if runs.exists() else "") + "x")
                number = len(runs.read_text())
                if number > 2:
                    while not (here / "go").exists():
                        time.sleep(0.02)
                    {then or "pass"}
                end = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds={first} if number < 3 else 7200)
                print(json.dumps({{"Version": 1, "AccessKeyId": f"AKID{{number}}", "SecretAccessKey": "secret",
                                   "SessionToken": "token", "Expiration": end.isoformat()}}))
            """)
        )
        config_file.write_text(f"[profile p]\ncredential_process = {sys.executable} {script}\n")

    yield write
    (tmp_path / "go").touch()


Vending = Callable[..., None]


def runs(tmp_path: Path) -> int:
    return len((tmp_path / "runs").read_text())


async def test_keys_that_last_are_asked_for_once(
    service: Service, opened: Opened, vending: Vending, tmp_path: Path
) -> None:
    vending(3600)
    aws = await opened(profile="p")
    for _ in range(20):
        await aws.call("sqs", "ListQueues", {})
    assert runs(tmp_path) == 1
    assert set(service.keys()) == {"AKID1"}
    assert service.seen[0].headers["X-Amz-Security-Token"] == "token"


async def test_keys_that_end_soon_are_renewed_while_calls_go_on_with_them(
    service: Service, opened: Opened, vending: Vending, tmp_path: Path
) -> None:
    vending(300)
    aws = await opened(profile="p")
    await aws.call("sqs", "ListQueues", {})
    await until(lambda: runs(tmp_path) == 3, description="the renewal began")
    for _ in range(5):
        await aws.call("sqs", "ListQueues", {})
    assert set(service.keys()) == {"AKID2"}
    (tmp_path / "go").touch()
    async with asyncio.timeout(PATIENCE):
        while service.keys()[-1] != "AKID3":
            await aws.call("sqs", "ListQueues", {})
    assert runs(tmp_path) == 3


async def test_keys_in_their_last_minute_are_waited_for(
    service: Service, opened: Opened, vending: Vending, tmp_path: Path
) -> None:
    vending(30)
    aws = await opened(profile="p")
    calls = [asyncio.create_task(aws.call("sqs", "ListQueues", {})) for _ in range(5)]
    await until(lambda: runs(tmp_path) == 3, description="the renewal began")
    assert service.seen == []
    (tmp_path / "go").touch()
    await asyncio.gather(*calls)
    assert set(service.keys()) == {"AKID3"}
    assert runs(tmp_path) == 3


async def test_keys_whose_renewal_hangs_are_used_to_their_end(
    service: Service, opened: Opened, vending: Vending, tmp_path: Path
) -> None:
    vending(30)
    aws = await opened(profile="p", patience=1.0)
    await aws.call("sqs", "ListQueues", {})
    assert service.keys() == ["AKID2"]
    (tmp_path / "go").touch()
    async with asyncio.timeout(PATIENCE):
        while service.keys()[-1] != "AKID3":
            await aws.call("sqs", "ListQueues", {})


async def test_keys_whose_renewal_fails_are_used_to_their_end(
    service: Service, opened: Opened, vending: Vending, tmp_path: Path
) -> None:
    (tmp_path / "go").touch()
    vending(30, then="sys.exit('the vault is closed')")
    aws = await opened(profile="p")
    await aws.call("sqs", "ListQueues", {})
    assert runs(tmp_path) == 3
    assert service.keys() == ["AKID2"]


async def test_keys_that_have_ended_without_new_ones_stop_the_call(
    service: Service, opened: Opened, vending: Vending, tmp_path: Path
) -> None:
    (tmp_path / "go").touch()
    vending(3, then="sys.exit('the vault is closed')")
    aws = await opened(profile="p", patience=PATIENCE)
    end = datetime.now(UTC) + timedelta(seconds=3)
    await until(lambda: datetime.now(UTC) > end, description="the keys ended")
    with pytest.raises(BackendUnavailable, match=r"credentials have expired: .*the vault is closed"):
        await aws.call("sqs", "ListQueues", {})
    assert service.seen == []


@pytest.fixture
def hanging(tmp_path: Path, config_file: Path) -> Path:
    """A profile "p" whose process writes the pids of botocore's process and its own into this file, and hangs."""
    pids, source = tmp_path / "pids", tmp_path / "hang.sh"
    source.write_text(f"echo $PPID $$ > {pids}.new\nmv {pids}.new {pids}\nexec sleep 600\n")
    config_file.write_text(f"[profile p]\ncredential_process = sh {source}\n")
    return pids


async def all_gone(pids: Path) -> None:
    numbers = [int(word) for word in pids.read_text().split()]
    assert len(numbers) == 2
    await until(lambda: all(has_ended(pid) for pid in numbers), description="both processes have ended")


async def test_a_source_of_keys_that_hangs_does_not_keep_the_process_alive(hanging: Path) -> None:
    program = textwrap.dedent(f"""
        import asyncio, pathlib
        from sqsjkr.backends.aws.client import AWS
        async def main():
            opening = asyncio.create_task(AWS(profile="p").open())
            while not pathlib.Path({str(hanging)!r}).exists():
                await asyncio.sleep(0.02)
            opening.cancel()
        asyncio.run(main())
    """)
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", program)
    async with asyncio.timeout(PATIENCE):
        assert await process.wait() == 0
    await all_gone(hanging)


async def test_a_lookup_ends_with_a_worker_that_is_killed(hanging: Path) -> None:
    program = "import asyncio, sqsjkr.backends.aws.client as c; asyncio.run(c.AWS(profile='p').open())"
    worker = await asyncio.create_subprocess_exec(sys.executable, "-c", program)
    await until(hanging.exists, description="the lookup hangs")
    worker.kill()
    await worker.wait()
    await all_gone(hanging)


async def test_a_renewal_that_hangs_ends_with_the_account(
    service: Service, opened: Opened, vending: Vending, tmp_path: Path
) -> None:
    vending(300)
    aws = await opened(profile="p")
    await aws.call("sqs", "ListQueues", {})
    await until(lambda: runs(tmp_path) == 3, description="the renewal hangs")
    await aws.close()
    await until(lambda: not daemons.ours(), description="it has ended")


async def test_a_lookup_that_takes_too_long_is_an_outage(
    monkeypatch: pytest.MonkeyPatch, hanging: Path, opened: Opened
) -> None:
    monkeypatch.setattr(lookup, "_LONGEST", 3.0)
    with pytest.raises(BackendUnavailable, match=r"^cannot get AWS credentials: .* not answered within 3 s$") as caught:
        await opened(profile="p")
    assert not isinstance(caught.value, BackendRefused)
    if hanging.exists():
        await all_gone(hanging)


async def test_a_lookup_that_is_killed_is_an_outage(opened: Opened, config_file: Path) -> None:
    config_file.write_text("[profile p]\ncredential_process = sh -c 'kill -9 $PPID'\n")
    with pytest.raises(BackendUnavailable, match=r"the process that asks botocore was ended by SIGKILL$") as caught:
        await opened(profile="p")
    assert not isinstance(caught.value, BackendRefused)


async def test_a_lookup_that_is_over_before_it_is_waited_for_has_answered(opened: Opened) -> None:
    account = Account()
    account.begin()
    (process,) = daemons.ours()
    await until(lambda: has_ended(process.pid), description="it is over")
    await account.open()
    assert (await account.keys()).access_key == "AKIDENV"


async def test_a_lookup_that_nobody_waited_for_is_ended(hanging: Path) -> None:
    account = Account(profile="p")
    account.begin()
    await until(hanging.exists, description="it hangs")
    await account.close()
    await all_gone(hanging)


async def test_a_host_that_can_start_no_process_is_an_outage_and_takes_no_keys_away(
    monkeypatch: pytest.MonkeyPatch, service: Service, opened: Opened, vending: Vending
) -> None:
    vending(300)
    aws = await opened(profile="p")
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    for _ in range(3):
        await aws.call("sqs", "ListQueues", {})
    assert service.keys() == ["AKID2"] * 3
    with pytest.raises(
        BackendUnavailable, match=r"^cannot get AWS credentials: cannot start /no/such/python: No such file"
    ):
        await opened()


async def test_an_answer_of_another_version_says_so() -> None:
    with pytest.raises(BackendUnavailable, match="sqsjkr was updated while it ran; restart it"):
        credentials._found({"keys": {}})


async def test_a_source_of_keys_finds_what_it_would_find_in_the_worker(
    monkeypatch: pytest.MonkeyPatch, opened: Opened, config_file: Path, tmp_path: Path
) -> None:
    source = tmp_path / "look.py"
    source.write_text(
        textwrap.dedent(f"""
            import json, os, pathlib
            above = f"/proc/{{os.getppid()}}"
            pathlib.Path({str(tmp_path / "seen")!r}).write_text(json.dumps({{
                "environment": dict(os.environ),
                "directory": os.getcwd(),
                "stdin": os.readlink("/proc/self/fd/0"),
                "group": os.getpgid(os.getppid()),
                "files": [os.readlink(file) for file in pathlib.Path(above, "fd").iterdir() if file.is_symlink()],
                "shown": pathlib.Path(above, "environ").read_text(),
                "command": pathlib.Path(above, "cmdline").read_text(),
            }}))
            print(json.dumps({{"Version": 1, "AccessKeyId": "AKID", "SecretAccessKey": "secret"}}))
        """)
    )
    config_file.write_text(f"[profile p]\ncredential_process = {sys.executable} {source}\n")
    monkeypatch.setenv("ODD", "half a pair: \udcff")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "of the worker")
    monkeypatch.setenv("PYTHONPATH", "/of/the/worker")
    with (tmp_path / "open").open("w"):
        await opened(profile="p")
    seen = json.loads((tmp_path / "seen").read_text())
    assert seen["environment"] == dict(os.environ)
    assert seen["directory"] == str(Path.cwd())
    assert seen["stdin"] == os.readlink("/proc/self/fd/0")  # noqa: PTH115 - "/dev/null (deleted)" and the like
    assert seen["group"] == os.getpgrp()
    assert str(tmp_path / "open") not in seen["files"]
    assert "of the worker" not in seen["shown"] + seen["command"]


async def test_botocore_is_found_where_this_program_finds_it(tmp_path: Path) -> None:
    """A program may have its packages where neither the interpreter nor PYTHONPATH looks."""
    program = textwrap.dedent(f"""
        import sys
        sys.path[:0] = {[path for path in sys.path if "site-packages" in path or path.endswith("/src")]!r}
        import asyncio
        from sqsjkr.backends.aws.credentials import Account
        account = Account()
        asyncio.run(account.open())
        print(account.region, "botocore" in sys.modules)
    """)
    bare = Path(sys.executable).resolve()
    (tmp_path / "json.py").write_text("raise SystemExit('this directory is not to be searched')\n")
    process = await asyncio.create_subprocess_exec(
        bare, "-I", "-S", "-c", program, stdout=subprocess.PIPE, cwd=tmp_path
    )
    said, _ = await process.communicate()
    assert said == b"ap-northeast-1 False\n"


def test_a_worker_never_imports_botocore(fleet: Fleet, daemon: Callable[..., daemons.Daemon]) -> None:
    traced = (sys.executable, "-X", "importtime", "-m", "sqsjkr", "run")
    worker = daemon("--until-empty", config=fleet.config(lock_table=fleet.table), command=traced)
    assert worker.wait() == 0
    imported = {line.rpartition("|")[2].strip() for line in worker.lines if line.startswith("import time:")}
    assert {"aiohttp", "sqsjkr.backends.aws.lookup"} <= imported
    assert not {name for name in imported if name.partition(".")[0] == "botocore"}


async def test_no_keys_anywhere_is_told_with_what_to_do(monkeypatch: pytest.MonkeyPatch, opened: Opened) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(BackendRefused, match=r"no AWS credentials: looked at AWS_ACCESS_KEY_ID .* set one of them up"):
        await opened()


async def test_an_unknown_profile_is_told_with_the_files(opened: Opened, config_file: Path) -> None:
    with pytest.raises(BackendRefused, match=f"no AWS profile 'typo' in {config_file} and .*credentials: correct"):
        await opened(profile="typo")


async def test_no_region_is_told_with_what_to_do(monkeypatch: pytest.MonkeyPatch, opened: Opened) -> None:
    monkeypatch.delenv("AWS_REGION")
    with pytest.raises(BackendRefused, match="no AWS region: set AWS_REGION, --region"):
        await opened()


@pytest.mark.parametrize(
    "what", ["aws_access_key_id = only-half", "region = not a region", "credential_process = /none"]
)
async def test_a_broken_profile_is_refused_in_one_line(
    monkeypatch: pytest.MonkeyPatch, opened: Opened, config_file: Path, what: str
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION"):
        monkeypatch.delenv(name)
    config_file.write_text(f"[profile p]\n{what}\n" + ("" if "region" in what else "region = us-east-1\n"))
    with pytest.raises(BackendRefused) as caught:
        await opened(profile="p")
    assert "\n" not in str(caught.value)


async def test_the_region_given_wins_over_the_environment_and_that_over_the_profile(
    monkeypatch: pytest.MonkeyPatch, opened: Opened, config_file: Path
) -> None:
    config_file.write_text("[default]\nregion = eu-west-1\n")
    assert (await opened(region="us-west-2")).region == "us-west-2"
    assert (await opened()).region == "ap-northeast-1"
    monkeypatch.delenv("AWS_REGION")
    assert (await opened()).region == "eu-west-1"


def botocores_address(service: str, operation: str, region: str) -> str:
    """Where botocore's own client would send a request."""
    sent: list[str] = []

    def stop(request: Any, **_: Any) -> AWSResponse:
        sent.append(request.url)
        return AWSResponse(request.url, 400, {}, None)

    client = Session().create_client(service, region_name=region)
    client.meta.events.register(f"before-send.{service}", stop)
    with pytest.raises(Exception, match=r".*"):
        getattr(client, operation)()
    client.close()
    return sent[0].rstrip("/")


SETTINGS = {
    "nothing": ({}, ""),
    "an address for all": ({"AWS_ENDPOINT_URL": "http://all:1"}, ""),
    "an address for one": ({"AWS_ENDPOINT_URL": "http://all:1", "AWS_ENDPOINT_URL_SQS": "http://sqs:2"}, ""),
    "an address in the profile": ({}, "[default]\nendpoint_url = http://profile:3\n"),
    "an address in a services section": (
        {},
        "[default]\nservices = mine\n[services mine]\ndynamodb =\n  endpoint_url = http://table:4\n",
    ),
    "addresses ignored": (
        {"AWS_ENDPOINT_URL": "http://all:1", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true"},
        "[default]\nendpoint_url = http://profile:3\n",
    ),
    "fips": ({"AWS_USE_FIPS_ENDPOINT": "true"}, ""),
    "dual stack": ({"AWS_USE_DUALSTACK_ENDPOINT": "true"}, ""),
    "both, by profile": ({}, "[default]\nuse_fips_endpoint = true\nuse_dualstack_endpoint = true\n"),
}


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS.keys())
@pytest.mark.parametrize("region", ["us-east-1", "cn-north-1", "us-gov-west-1"])
async def test_addresses_are_those_that_botocores_client_would_use(
    monkeypatch: pytest.MonkeyPatch,
    opened: Opened,
    config_file: Path,
    settings: tuple[dict[str, str], str],
    region: str,
) -> None:
    environment, config = settings
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    config_file.write_text(config)
    aws = await opened(region=region)
    assert aws.endpoint("sqs") == botocores_address("sqs", "list_queues", region)
    assert aws.endpoint("dynamodb") == botocores_address("dynamodb", "list_tables", region)


async def test_an_address_of_ones_own_is_known_as_such(monkeypatch: pytest.MonkeyPatch, opened: Opened) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", "http://127.0.0.1:8000")
    aws = await opened()
    assert aws.has_custom_endpoint("dynamodb")
    assert not aws.has_custom_endpoint("sqs")
    assert aws.endpoint("sts") == "https://sts.ap-northeast-1.amazonaws.com"


async def test_contradicting_addresses_are_refused(
    monkeypatch: pytest.MonkeyPatch, opened: Opened, config_file: Path
) -> None:
    monkeypatch.setenv("AWS_PROFILE", "p")
    config_file.write_text("[profile p]\nservices = nowhere\n")
    with pytest.raises(BackendRefused, match=r"no address for sqs in region 'ap-northeast-1': .*nowhere"):
        (await opened()).endpoint("sqs")


async def test_calls_go_through_the_proxy_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, service: Service, opened: Opened
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://queue.example")
    monkeypatch.setenv("HTTP_PROXY", service.url.replace("http://", "http://me:pass%40word@"))
    await (await opened()).call("sqs", "ListQueues", {}, attempts=1)
    (request,) = service.seen
    assert request.headers["Host"] == "queue.example"
    assert request.headers["Proxy-Authorization"] == "Basic bWU6cGFzc0B3b3Jk"  # me:pass@word


async def test_no_proxy_is_honoured(monkeypatch: pytest.MonkeyPatch, service: Service, opened: Opened) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    await (await opened()).call("sqs", "ListQueues", {}, attempts=1)
    assert len(service.seen) == 1


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for 127.0.0.1 and its key, in one file, signed by nobody."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl to make a certificate")
    file = tmp_path_factory.mktemp("tls") / "both.pem"
    words = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=test"
    command = [
        "openssl",
        *words.split(),
        "-addext",
        "subjectAltName=IP:127.0.0.1",
        "-keyout",
        file,
        "-out",
        f"{file}.c",
    ]
    subprocess.run(command, check=True, capture_output=True)
    file.write_text(file.read_text() + Path(f"{file}.c").read_text())
    return file


async def test_a_server_is_trusted_by_the_bundle_and_by_nothing_less(
    monkeypatch: pytest.MonkeyPatch, opened: Opened, certificate: Path
) -> None:
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate)
    service = Service()
    runner = await serving(service, tls)
    monkeypatch.setenv("AWS_ENDPOINT_URL", service.url)
    try:
        with pytest.raises(AWSUnavailable, match="CERTIFICATE_VERIFY_FAILED") as caught:
            await (await opened()).call("sqs", "ListQueues", {}, attempts=1)
        assert not caught.value.ambiguous
        monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate))
        aws = await opened()
        assert await aws.call("sqs", "ListQueues", {}, attempts=1) == {}
        await aws.close()
    finally:
        await runner.cleanup()


async def test_a_bundle_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch, opened: Opened) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", "/no/such/bundle.pem")
    with pytest.raises(BackendRefused, match=r"AWS_CA_BUNDLE or ca_bundle = '/no/such/bundle.pem'"):
        await (await opened()).call("sqs", "ListQueues", {})


async def test_whoami_is_what_sts_says(service: Service, opened: Opened) -> None:
    who = "<GetCallerIdentityResult><Arn>arn:aws:iam::1:user/me</Arn></GetCallerIdentityResult>"
    service.answers = [says(f"<GetCallerIdentityResponse>{who}</GetCallerIdentityResponse>")]
    assert await (await opened()).whoami() == "arn:aws:iam::1:user/me"
