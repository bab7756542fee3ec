"""Jobs that must not run together: lock_id."""

from __future__ import annotations

from pathlib import Path

from embedded import Sqsjkr
from servers import until


def _holding(directory: Path, name: str = "holder") -> str:
    """A command that says it has begun and goes on until it is told to end."""
    return f"touch {directory}/{name}; until [ -e {directory}/end ]; do sleep 0.01; done"


async def test_16_two_jobs_with_one_lock_id_never_overlap(sqsjkr: Sqsjkr, tmp_path: Path) -> None:
    """One waits until the other has ended."""
    for _ in range(4):
        command = f"mkdir {tmp_path}/inside && sleep 0.03 && rmdir {tmp_path}/inside"  # fails if it is there already
        await sqsjkr.send(command=command, lock_id="report")

    await sqsjkr.run_until_empty(slots=4)

    assert sqsjkr.counters == {"succeeded": 4, "failed": 0, "errored": 0}


async def test_17_a_job_that_waits_for_its_lock_occupies_no_slot(sqsjkr: Sqsjkr, tmp_path: Path) -> None:
    """Two slots, one job that holds the lock, five that wait for it: the seventh still runs at once."""
    await sqsjkr.send(command=_holding(tmp_path), lock_id="report")
    for _ in range(5):
        await sqsjkr.send(command="true", lock_id="report")
    await sqsjkr.send(command=f"touch {tmp_path}/passed")

    sqsjkr.start(slots=2)
    await until((tmp_path / "passed").exists, description="the free job ran")
    await until((tmp_path / "holder").exists, description="the holder ran, which may be slower in it")

    assert sqsjkr.stats.outcomes["locked"] == 5
    (tmp_path / "end").touch()
    await until(lambda: sqsjkr.is_empty, description="the waiters ran")
    await sqsjkr.stop()
    assert sqsjkr.counters["succeeded"] == 7


async def test_18_a_job_may_give_up_rather_than_wait(sqsjkr: Sqsjkr, tmp_path: Path) -> None:
    """``abort_if_locked``: it is dropped and counted as failed."""
    await sqsjkr.send(command=_holding(tmp_path), lock_id="report")
    sqsjkr.start()
    await until((tmp_path / "holder").exists, description="the lock was held")
    await sqsjkr.send(command=f"touch {tmp_path}/second", lock_id="report", abort_if_locked=True)

    await until(lambda: sqsjkr.counters["failed"] == 1, description="the second gave up")

    (tmp_path / "end").touch()
    await until(lambda: sqsjkr.is_empty, description="the first ended")
    assert not (tmp_path / "second").exists()


async def test_19_waiting_ends_with_the_life_time(sqsjkr: Sqsjkr, tmp_path: Path) -> None:
    """A job that waits for its lock too long has come too late, and the trigger is told."""
    await sqsjkr.send(command=_holding(tmp_path), lock_id="report")
    sqsjkr.start(trigger=f"touch {tmp_path}/told")
    await until((tmp_path / "holder").exists, description="the lock was held")
    await sqsjkr.send(command=f"touch {tmp_path}/second", lock_id="report", life_time="300ms")

    await until((tmp_path / "told").exists, description="the trigger was told")

    await until(lambda: sqsjkr.counters["failed"] == 1, description="the second was counted")
    (tmp_path / "end").touch()
    await until(lambda: sqsjkr.is_empty, description="the first ended")
    assert not (tmp_path / "second").exists()


async def test_20_the_fencing_token_grows_with_every_lock(sqsjkr: Sqsjkr, tmp_path: Path) -> None:
    """``SQSJKR_FENCE`` lets a storage refuse a job that lost its lock without knowing it."""
    for _ in range(3):
        await sqsjkr.send(command=f"echo $SQSJKR_FENCE >> {tmp_path}/fences", lock_id="report")

    await sqsjkr.run_until_empty()

    assert (tmp_path / "fences").read_text().split() == ["1", "2", "3"]
