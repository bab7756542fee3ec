"""Time limits, retries, and what else a job or its operator may ask for."""

from __future__ import annotations

import time
from pathlib import Path

from daemons import processes
from embedded import Sqsjkr
from servers import until


def lives(pid: int) -> bool:
    process = processes().get(pid)
    return process is not None and process.lives()


async def test_31_a_job_has_as_much_time_as_it_asks_for(sqsjkr: Sqsjkr) -> None:
    """At its ``timeout`` it is ended, and that is final unless it asked for retries."""
    await sqsjkr.send(command="sleep 600", timeout=0.2, event_id="slow")
    await sqsjkr.send(command="true", timeout=60)

    await sqsjkr.run_until_empty()

    assert sqsjkr.counters == {"succeeded": 1, "failed": 0, "errored": 1}
    assert any(": timed_out its time limit is over, in " in text for text in sqsjkr.log("job.ended"))


async def test_32_nothing_of_a_job_outlives_its_time_limit(sqsjkr: Sqsjkr, tmp_path: Path) -> None:
    """TERM goes to every process of the job, wherever it has moved to, and KILL to those that do not listen."""
    deaf = "trap '' TERM; echo $$ > {file}; while :; do sleep 0.05; done"
    child = deaf.format(file=tmp_path / "child")
    parent = deaf.format(file=tmp_path / "parent")
    await sqsjkr.send(command=f'setsid sh -c "{child.replace("$", chr(92) + "$")}" & {parent}', timeout=1)

    await sqsjkr.run_until_empty(kill_after=0.3)

    assert sqsjkr.stats.outcomes["timed_out"] == 1
    assert not [name for name in ("child", "parent") if lives(int((tmp_path / name).read_text()))]


async def test_33_an_operator_limits_the_time_of_all_jobs(sqsjkr: Sqsjkr, tmp_path: Path) -> None:
    """``max_timeout`` holds for what messages ask for; a section of the operator's may exceed it."""
    command = f'echo "$SQSJKR_EVENT_ID $SQSJKR_TIMEOUT" >> {tmp_path}/proof'
    for name, fields in {"long": {"timeout": "2h"}, "short": {"timeout": 5}, "none": {}, "nightly": {}}.items():
        await sqsjkr.send(command=command, event_id=name, lock_id="in turn", **fields)

    await sqsjkr.run_until_empty(max_timeout=60, jobs={"nightly": {"timeout": "1h30m"}})

    told = sorted((tmp_path / "proof").read_text().splitlines())
    assert told == ["long 60", "nightly 5400", "none 60", "short 5"]


async def test_34_a_failed_job_is_run_again_if_it_asks_for_it(sqsjkr: Sqsjkr, tmp_path: Path) -> None:
    """It fails twice, then succeeds. Each run knows how many failures there were."""
    command = f'echo "$SQSJKR_RETRY_COUNT" >> {tmp_path}/proof; test "$(wc -l < {tmp_path}/proof)" = 3'
    await sqsjkr.send(command=command, retries=2, retry_delay="100ms")

    await sqsjkr.run_until_empty()

    assert (tmp_path / "proof").read_text().split() == ["0", "1", "2"]
    assert sqsjkr.counters == {"succeeded": 1, "failed": 0, "errored": 0}
    assert sqsjkr.stats.outcomes["retried"] == 2


async def test_35_a_job_whose_retries_are_used_up_is_on_the_dead_letter_queue(sqsjkr: Sqsjkr, tmp_path: Path) -> None:
    """It was run once and then as often as it asked for, and no more."""
    await sqsjkr.send(command=f"echo run >> {tmp_path}/proof; exit 3", retries=2, retry_delay=0)

    await sqsjkr.run_until_empty()

    assert (tmp_path / "proof").read_text().split() == ["run"] * 3
    ((_, reason),) = sqsjkr.dead_letters
    assert reason.startswith("dead: exit status 3 in ")
    assert reason.endswith("; its 2 retries are used up")
    assert sqsjkr.counters == {"succeeded": 0, "failed": 0, "errored": 1}


async def test_36_an_exit_code_means_what_the_job_says(sqsjkr: Sqsjkr, tmp_path: Path) -> None:
    """``ok`` is a success, ``never`` ends on the dead-letter queue at once, ``later`` is no failure."""
    await sqsjkr.send(command="exit 3", on_exit={"3": "ok"})
    await sqsjkr.send(command="exit 4", retries=5, on_exit={"4-5": "never"})
    later = f'echo run >> {tmp_path}/proof; test "$(wc -l < {tmp_path}/proof)" = 3 || exit 75'
    await sqsjkr.send(command=later, retries=1, retry_delay=0)

    await sqsjkr.run_until_empty()

    assert sqsjkr.counters == {"succeeded": 2, "failed": 0, "errored": 1}
    assert [reason.split(" in ")[0] for _, reason in sqsjkr.dead_letters] == ["dead: exit status 4"]
    assert (tmp_path / "proof").read_text().split() == ["run"] * 3
    assert sqsjkr.stats.outcomes["deferred"] == 2


async def test_37_a_job_does_not_start_before_its_time(sqsjkr: Sqsjkr, tmp_path: Path) -> None:
    """``not_before`` is a time on the queue's clock; ``life_time`` counts from it."""
    at = time.time() + 1.5
    await sqsjkr.send(command=f"date +%s.%N > {tmp_path}/proof", not_before=at, life_time=3600)
    await sqsjkr.send(age=7200, command="true", not_before=time.time() - 3700, life_time=3600, event_id="too late")

    sqsjkr.start()
    await until(lambda: sqsjkr.stats.outcomes["early"] == 1, description="it came too early")
    assert not (tmp_path / "proof").exists()
    await until(lambda: sqsjkr.is_empty, description="it ran in its time")
    await sqsjkr.stop()

    assert float((tmp_path / "proof").read_text()) >= at
    assert sqsjkr.counters == {"succeeded": 1, "failed": 1, "errored": 0}


async def test_38_with_ack_start_nothing_is_run_again_and_the_log_says_so(sqsjkr: Sqsjkr, tmp_path: Path) -> None:
    """The message is gone before the command starts, so there is nothing that could come back."""
    await sqsjkr.send(command=f"echo run >> {tmp_path}/proof; exit 3", retries=5, event_id="eager")
    await sqsjkr.send(command=f"echo run >> {tmp_path}/proof; exit 4", on_exit={"4": "never"})

    await sqsjkr.run_until_empty(ack="start")

    assert (tmp_path / "proof").read_text().split() == ["run"] * 2
    assert sqsjkr.counters == {"succeeded": 0, "failed": 0, "errored": 2}
    assert sqsjkr.log("job.retries_ignored") == ['eager asks for 5 retries; with ack = "start" no job is run again']
