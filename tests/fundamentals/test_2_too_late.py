"""A job may be worth nothing when it comes too late: life_time."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from embedded import Sqsjkr

TRIGGER = 'cat > "$PROOF/stdin"; printf %s "$SQSJKR_EXPIRED" > "$PROOF/facts"'


async def test_12_a_job_that_comes_too_late_is_not_started(sqsjkr: Sqsjkr, tmp_path: Path) -> None:
    """``life_time`` is how long after it was sent a job may start; then it is dropped and counted as failed."""
    await sqsjkr.send(command=f"touch {tmp_path}/stale", life_time="1m", age=61)
    await sqsjkr.send(command=f"touch {tmp_path}/fresh", life_time="1m", age=10)

    await sqsjkr.run_until_empty()

    assert not (tmp_path / "stale").exists()
    assert (tmp_path / "fresh").exists()
    assert sqsjkr.counters == {"succeeded": 1, "failed": 1, "errored": 0}


@pytest.mark.parametrize("size", [10, 1_000_000])
async def test_13_the_trigger_is_told_of_a_job_that_came_too_late(
    sqsjkr: Sqsjkr, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    """It reads the original's text on its standard input, whatever its size, and finds the facts in a variable."""
    monkeypatch.setenv("PROOF", str(tmp_path))
    command = f"echo {'x' * size}"
    message_id = await sqsjkr.send(command=command, event_id="nightly", life_time=60, age=3600)

    await sqsjkr.run_until_empty(trigger=TRIGGER)

    text = (tmp_path / "stdin").read_text()
    assert text.startswith(f"job_id:{message_id}, event_id:nightly, command:{command}, life_time:1m0s, sent_timestamp:")
    facts = json.loads((tmp_path / "facts").read_text())
    assert (facts["job_id"], facts["event_id"], facts["life_time"]) == (message_id, "nightly", 60)
    assert facts["command"] == command or facts["command_truncated"]
    assert sqsjkr.counters == {"succeeded": 0, "failed": 1, "errored": 0}


async def test_14_a_trigger_that_reads_nothing_is_fine(sqsjkr: Sqsjkr, tmp_path: Path) -> None:
    """Nobody waits for it to read."""
    await sqsjkr.send(command=f"echo {'x' * 1_000_000}", life_time=60, age=3600)

    await sqsjkr.run_until_empty(trigger=f"touch {tmp_path}/told")

    assert (tmp_path / "told").exists()


async def test_15_a_job_can_do_without_the_trigger(sqsjkr: Sqsjkr, tmp_path: Path) -> None:
    """``disable_life_time_trigger``: nobody is told."""
    await sqsjkr.send(command="true", life_time=60, disable_life_time_trigger=True, age=3600)

    await sqsjkr.run_until_empty(trigger=f"touch {tmp_path}/told")

    assert not (tmp_path / "told").exists()
    assert sqsjkr.counters == {"succeeded": 0, "failed": 1, "errored": 0}
