"""A queue may deliver a message twice, and a worker may be stopped or die: what becomes of the message."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from embedded import Sqsjkr
from servers import until


async def test_21_a_message_that_is_delivered_again_while_its_job_runs_is_not_run_again(
    sqsjkr: Sqsjkr, tmp_path: Path
) -> None:
    """SQS may hand out a message twice; the job is run once."""
    command = f"echo ran >> {tmp_path}/runs; until [ -e {tmp_path}/end ]; do sleep 0.01; done"
    message_id = await sqsjkr.send(command=command)
    sqsjkr.start()
    await until((tmp_path / "runs").exists, description="the job ran")

    sqsjkr.sql("UPDATE message SET visible = 0 WHERE id = ?", message_id)
    again = "SELECT 1 FROM message WHERE receives = 2"
    await until(lambda: sqsjkr.sql(again), description="it was delivered again")

    (tmp_path / "end").touch()
    await until(lambda: sqsjkr.is_empty, description="the job ended")
    assert (tmp_path / "runs").read_text() == "ran\n"


async def test_22_a_message_that_is_delivered_again_after_its_job_ended_is_not_run_again(
    sqsjkr: Sqsjkr, tmp_path: Path
) -> None:
    """Another worker gets it, long after: it is known as done, and deleted. Nothing is counted twice."""
    message_id = await sqsjkr.send(command=f"echo ran >> {tmp_path}/runs")
    sqsjkr.sql("CREATE TABLE copy AS SELECT id, body, sent FROM message")
    await sqsjkr.run_until_empty()

    sqsjkr.sql("INSERT INTO message (id, body, sent, visible) SELECT id, body, sent, 0 FROM copy")
    await sqsjkr.run_until_empty()

    assert (tmp_path / "runs").read_text() == "ran\n"
    assert sqsjkr.counters == {"succeeded": 0, "failed": 0, "errored": 0}
    assert sqsjkr.log("job.ended")[-1].startswith(f"{message_id}: duplicate")


async def test_23_a_stop_lets_running_jobs_end(sqsjkr: Sqsjkr, tmp_path: Path) -> None:
    """Within the grace period; what waits to be started is on the queue again at once."""
    command = f"touch {tmp_path}/begun; until [ -e {tmp_path}/end ]; do sleep 0.01; done"
    await sqsjkr.send(command=command, lock_id="report")
    sqsjkr.start(grace=86_400)
    await until((tmp_path / "begun").exists, description="the first ran")
    await sqsjkr.send(command=f"touch {tmp_path}/second", lock_id="report")
    await until(lambda: sqsjkr.stats.outcomes["locked"], description="the second waited for its lock")
    assert sqsjkr.visible == 0

    stopping = asyncio.create_task(sqsjkr.stop())

    await until(lambda: sqsjkr.visible == 1, description="the second was left for others")
    await until(lambda: sqsjkr.stats.outcomes["returned"], description="it was given back: its hiding did not lapse")
    assert not stopping.done()
    (tmp_path / "end").touch()
    await stopping

    assert sqsjkr.counters == {"succeeded": 1, "failed": 0, "errored": 0}
    assert not (tmp_path / "second").exists()
    assert sqsjkr.visible == 1


async def test_24_a_job_that_outlives_the_grace_period_is_told_to_end(sqsjkr: Sqsjkr, tmp_path: Path) -> None:
    """It gets TERM; its message is on the queue again at once, and it is no failure."""
    await sqsjkr.send(command=f'trap "touch {tmp_path}/told; exit" TERM; touch {tmp_path}/begun; sleep 86400 & wait')
    sqsjkr.start(grace=0.1, kill_after=8.0)
    await until((tmp_path / "begun").exists, description="the job ran")

    await sqsjkr.stop()

    assert (tmp_path / "told").exists()
    assert sqsjkr.visible == 1
    assert sqsjkr.counters == {"succeeded": 0, "failed": 0, "errored": 0}


async def test_25_a_job_that_does_not_listen_is_killed(sqsjkr: Sqsjkr, tmp_path: Path) -> None:
    """KILL comes ``kill_after`` seconds after TERM."""
    await sqsjkr.send(command=f'trap "" TERM; touch {tmp_path}/begun; while true; do sleep 1; done')
    sqsjkr.start(grace=0.1, kill_after=0.3)
    await until((tmp_path / "begun").exists, description="the job ran")

    begun = time.monotonic()
    await sqsjkr.stop()

    assert time.monotonic() - begun >= 0.4
    assert sqsjkr.visible == 1


async def test_26_a_second_signal_ends_the_grace_period(sqsjkr: Sqsjkr, tmp_path: Path) -> None:
    """Who cannot wait says so twice."""
    await sqsjkr.send(command=f"touch {tmp_path}/begun; sleep 86400")
    sqsjkr.start(grace=86_400)
    await until((tmp_path / "begun").exists, description="the job ran")

    await sqsjkr.stop(times=2)

    assert sqsjkr.visible == 1


async def test_27_an_interrupted_job_runs_again(sqsjkr: Sqsjkr, tmp_path: Path) -> None:
    """The next worker takes it as if it had never begun, but knows that it was delivered before."""
    await sqsjkr.send(command=f"echo $SQSJKR_RECEIVE_COUNT >> {tmp_path}/runs; [ -e {tmp_path}/end ] || sleep 60")
    sqsjkr.start(grace=0)
    await until((tmp_path / "runs").exists, description="the job ran")
    await sqsjkr.stop()

    (tmp_path / "end").touch()
    await sqsjkr.run_until_empty()

    assert (tmp_path / "runs").read_text().split() == ["1", "2"]
    assert sqsjkr.counters == {"succeeded": 1, "failed": 0, "errored": 0}


async def test_28_with_ack_start_a_job_runs_at_most_once(sqsjkr: Sqsjkr, tmp_path: Path) -> None:
    """The message is deleted before the command starts, as the Go original does: what is interrupted is gone."""
    await sqsjkr.send(command=f"touch {tmp_path}/begun; sleep 60")
    sqsjkr.start(grace=0, ack="start")
    await until((tmp_path / "begun").exists, description="the job ran")

    assert sqsjkr.is_empty
    await sqsjkr.stop()

    assert sqsjkr.is_empty
    assert sqsjkr.counters["succeeded"] == 0
