"""The trust file in force: read again when it changes, kept when the new one is bad."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from sqsjkr.errors import ConfigError
from sqsjkr.telemetry.events import LOGGER
from sqsjkr.trust.authority import TrustFile

GOOD = '[job.a]\nrun = ["true"]\n'
BETTER = GOOD + '[job.b]\nrun = ["true"]\n'
BAD = "[job.a]\n"


class Lines(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.events: list[tuple[str, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.events.append((record.__dict__["event"], record.getMessage()))


@pytest.fixture
def lines() -> Iterator[list[tuple[str, str]]]:
    handler = Lines()
    LOGGER.addHandler(handler)
    LOGGER.setLevel(logging.INFO)
    yield handler.events
    LOGGER.removeHandler(handler)
    LOGGER.setLevel(logging.NOTSET)


def jobs(trust: TrustFile) -> set[str]:
    return set(trust.in_force.policy.jobs)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "trust.toml"
    path.write_text(GOOD)
    return path


async def test_a_file_that_has_changed_is_read_again(path: Path, lines: list[tuple[str, str]]) -> None:
    trust = TrustFile(str(path), audience="q")
    await trust.look()
    assert [event for event, _ in lines] == ["trust.loaded"]
    path.write_text(BETTER)
    await trust.look()
    assert jobs(trust) == {"a", "b"}
    assert [event for event, _ in lines] == ["trust.loaded", "trust.loaded"]
    assert str(path) in lines[1][1]


async def test_a_bad_file_changes_nothing_and_is_complained_of_once(path: Path, lines: list[tuple[str, str]]) -> None:
    trust = TrustFile(str(path), audience="q")
    path.write_text(BAD)
    for _ in range(3):
        await trust.look()
    assert jobs(trust) == {"a"}
    [(event, text)] = lines[1:]
    assert event == "trust.invalid"
    assert text.startswith(f"{path}:1: [job.a]: has nothing to run")
    assert text.endswith(f"(the file of SHA-256 {trust.in_force.digest[:16]} stays in force)")
    path.write_text(BETTER)
    await trust.look()
    assert jobs(trust) == {"a", "b"}


async def test_a_file_that_others_may_write_now_changes_nothing(path: Path, lines: list[tuple[str, str]]) -> None:
    trust = TrustFile(str(path), audience="q")
    path.write_text(BETTER)
    path.chmod(0o666)
    await trust.look()
    assert jobs(trust) == {"a"}
    assert "group or others may write" in lines[-1][1]
    path.chmod(0o644)
    await trust.look()
    assert jobs(trust) == {"a", "b"}


async def test_a_file_that_is_gone_changes_nothing(path: Path, lines: list[tuple[str, str]]) -> None:
    trust = TrustFile(str(path), audience="q")
    path.unlink()
    await trust.look()
    assert jobs(trust) == {"a"}
    assert lines[-1][0] == "trust.invalid"
    path.write_text(BETTER)
    await trust.look()
    assert jobs(trust) == {"a", "b"}


async def test_the_swap_of_a_link_is_seen_as_a_config_map_is_updated(tmp_path: Path) -> None:
    for version, text in (("1", GOOD), ("2", BETTER)):
        (tmp_path / version).mkdir()
        (tmp_path / version / "trust.toml").write_text(text)
        os.utime(tmp_path / version / "trust.toml", (1, 1))
    (tmp_path / "data").symlink_to("1")
    (tmp_path / "trust.toml").symlink_to("data/trust.toml")
    trust = TrustFile(str(tmp_path / "trust.toml"), audience="q")
    (tmp_path / "new").symlink_to("2")
    (tmp_path / "new").rename(tmp_path / "data")
    await trust.look()
    assert jobs(trust) == {"a", "b"}


def test_a_bad_file_at_the_start_is_an_error(path: Path) -> None:
    path.write_text(BAD)
    with pytest.raises(ConfigError, match="has nothing to run"):
        TrustFile(str(path), audience="q")
