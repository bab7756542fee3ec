"""Secrets by reference: looked up once for many jobs, and never shown."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import servers
from sqsjkr.errors import BackendUnavailable
from sqsjkr.execution.masking import Veil
from sqsjkr.trust.vault import FAILED_FOR, Vault, shelves


class Counting:
    """A shelf that answers as it is told, and counts."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.answers: dict[str, str] = {}
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def get(self, name: str) -> str:
        self.asked.append(name)
        await self.may_answer.wait()
        if name not in self.answers:
            raise BackendUnavailable("there is none")
        return self.answers[name]

    async def close(self) -> None:
        pass


class Clock:
    def __init__(self) -> None:
        self.time = 100.0

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def shelf() -> Counting:
    return Counting()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def vault(shelf: Counting, clock: Clock) -> Vault:
    return Vault({"x": shelf}, now=clock)


PASSWORD = {"PASSWORD": "x:db"}


async def test_a_secret_is_looked_up_once_for_the_jobs_of_five_minutes(
    vault: Vault, shelf: Counting, clock: Clock
) -> None:
    shelf.answers["db"] = "hunter22"
    for _ in range(3):
        assert await vault.values(PASSWORD, age=300.0) == {"PASSWORD": "hunter22"}
    assert shelf.asked == ["db"]
    clock.time += 300.0
    shelf.answers["db"] = "another"
    assert await vault.values(PASSWORD, age=300.0) == {"PASSWORD": "another"}
    assert shelf.asked == ["db", "db"]


async def test_jobs_that_need_it_at_the_same_time_share_one_answer(vault: Vault, shelf: Counting) -> None:
    shelf.answers["db"] = "hunter22"
    shelf.may_answer.clear()
    jobs = [asyncio.create_task(vault.values(PASSWORD, age=300.0)) for _ in range(10)]
    await asyncio.sleep(0)
    jobs[0].cancel()
    shelf.may_answer.set()
    assert await asyncio.gather(*jobs[1:]) == [{"PASSWORD": "hunter22"}] * 9
    assert shelf.asked == ["db"]


async def test_what_cannot_be_looked_up_is_named_with_its_cause_and_is_not_asked_for_by_every_job(
    vault: Vault, shelf: Counting, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(3):
        with pytest.raises(BackendUnavailable, match=r"^secret x:db: there is none$"):
            await vault.values(PASSWORD, age=300.0)
    assert shelf.asked == ["db"]
    assert [record.__dict__["event"] for record in caplog.records] == ["secret.unavailable"]
    clock.time += FAILED_FOR
    shelf.answers["db"] = "hunter22"
    assert await vault.values(PASSWORD, age=300.0) == {"PASSWORD": "hunter22"}


@pytest.mark.parametrize("value", ["a\0b", "x" * 70_000])
async def test_what_no_process_can_be_given_is_refused(vault: Vault, shelf: Counting, value: str) -> None:
    shelf.answers["db"] = value
    with pytest.raises(BackendUnavailable, match="NUL character, or more than 65536 bytes"):
        await vault.values(PASSWORD, age=300.0)


async def test_a_file_is_a_secret_without_its_last_line_end(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("line one\nline two\n")
    (tmp_path / "b").write_bytes(b"\xff")
    vault = Vault(shelves())
    assert await vault.values({"A": f"file:{tmp_path}/a"}, age=1.0) == {"A": "line one\nline two"}
    with pytest.raises(BackendUnavailable, match="cannot be read: no such file or directory"):
        await vault.values({"A": f"file:{tmp_path}/none"}, age=1.0)
    with pytest.raises(BackendUnavailable, match="not UTF-8"):
        await vault.values({"A": f"file:{tmp_path}/b"}, age=1.0)
    await vault.close()


@pytest.fixture
def on_aws(aws_url: str, aws_env: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Vault]:
    """A vault on a server that keeps parameters and secrets."""
    for name, value in aws_env.items():
        if name.startswith("AWS_"):
            monkeypatch.setenv(name, value)
    targets = {"ssm": "AmazonSSM", "secretsmanager": "secretsmanager"}
    for service, target in targets.items():
        monkeypatch.setitem(servers.TARGETS, service, target)
    calls: list[tuple[str, str, dict[str, Any]]] = [
        ("ssm", "PutParameter", {"Name": "/db", "Value": "hunter22", "Type": "SecureString", "Overwrite": True}),
        ("secretsmanager", "CreateSecret", {"Name": f"db-{os.getpid()}", "SecretString": json.dumps({"user": "me"})}),
    ]
    for service, operation, payload in calls:
        servers.call(aws_url, service, operation, payload)
    return Vault(shelves())


async def test_parameters_and_secrets_of_aws_are_looked_up(on_aws: Vault) -> None:
    name = f"db-{os.getpid()}"
    references = {"A": "ssm:/db", "B": f"secretsmanager:{name}#user", "C": f"secretsmanager:{name}"}
    assert await on_aws.values(references, age=1.0) == {"A": "hunter22", "B": "me", "C": '{"user": "me"}'}
    for reference, cause in (
        ("ssm:/none", "ParameterNotFound"),
        ("secretsmanager:none", "ResourceNotFoundException"),
        (f"secretsmanager:{name}#none", "it has no key none"),
    ):
        with pytest.raises(BackendUnavailable, match=cause):
            await on_aws.values({"A": reference}, age=1.0)
    await on_aws.close()


# Never shown


def veiled(values: list[str], pieces: list[bytes]) -> bytes:
    veil = Veil(values)
    return b"".join([*(veil.pass_on(piece) for piece in pieces), veil.rest()])


@given(
    st.lists(st.text("abc", min_size=6, max_size=9), min_size=1, max_size=3),
    st.lists(st.text("abc\n", max_size=12), max_size=6),
    st.data(),
)
def test_a_value_is_hidden_wherever_the_pieces_of_the_stream_end(
    values: list[str], around: list[str], data: st.DataObject
) -> None:
    text = "-".join(data.draw(st.permutations([*around, *values]))).encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=5)))
    pieces = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    shown = veiled(values, pieces)
    assert shown == veiled(values, [text]), "pieces make no difference"
    assert not any(value.encode() in shown for value in values)


def test_a_longer_value_is_hidden_whole_although_a_shorter_one_is_its_beginning() -> None:
    assert veiled(["hunter22", "hunter22-and-more"], [b"x hunter22", b"-and-m", b"ore hunter22"]) == b"x *** ***"


def test_each_line_of_a_value_is_hidden_and_short_ones_are_not() -> None:
    assert veiled(["-----BEGIN\nMIIEvQIBADANBg\nab"], [b"-----BEGIN\nMIIEvQIBA", b"DANBg\nab\n"]) == b"***\n***\nab\n"


def test_a_line_without_a_value_is_passed_on_at_once() -> None:
    veil = Veil(["hunter22"])
    assert veil.pass_on(b"nothing here\nhun") == b"nothing here\n"
    assert veil.pass_on(b"gry\n") == b"hungry\n"
