"""What `sqsjkr status` says: the worst first, each with the next command, and nothing green above something red."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from sqsjkr.views.model import Level, Life, LockView, Notice, QueueView, RunLine, ScaleSignal, WorkerView
from sqsjkr.views.picture import Picture
from sqsjkr.views.recent import Failing, Recent
from sqsjkr.views.verdicts import judge, worst

NOW = 1_000_000.0


def worker(name: str = "aaaaaaaa", **facts: Any) -> WorkerView:
    given: dict[str, Any] = {
        "worker": name,
        "queue": "jobs",
        "host": f"host-{name[0]}",
        "pid": 1,
        "version": "1",
        "started_at": NOW - 5000,
        "life": Life.BUSY,
        "slots": 10,
        "busy": 1,
        "ready": 0,
        "waiting": 0,
        "last_heartbeat_at": NOW - 3,
    }
    return WorkerView(**given | facts)


def picture(
    *workers: WorkerView, visible: int = 0, dead: int | None = 0, oldest: float | None = None, **more: Any
) -> Picture:
    there = [each for each in workers if each.life in {Life.BUSY, Life.IDLE}]
    given: dict[str, Any] = {
        "at": NOW,
        "queue": QueueView(name="jobs", visible=visible, hidden=0, dead=dead, oldest_seconds=oldest),
        "workers": workers,
        "running": (),
        "unnamed": 0,
        "waiting": (),
        "locks": (),
        "scale": ScaleSignal.of(
            visible=visible,
            busy=sum(each.busy for each in there),
            waiting=0,
            slots=sum(each.slots for each in there),
            workers=len(there),
        ),
        "drained": {},
    }
    return Picture(**given | more)


def said(seen: Picture, *, stuck: bool = False) -> list[str]:
    return [
        f"{verdict.level.value} {verdict.subject} {verdict.name}|{verdict.text}|{verdict.next or ''}"
        for verdict in judge(seen, stuck=stuck)
    ]


def test_all_well_is_two_green_lines() -> None:
    seen = picture(worker(), worker("bbbbbbbb", busy=9), visible=12)
    assert said(seen) == [
        "ok queue |12 visible; 10 of 20 slots busy on 2 workers; 22 slots wanted, 3 workers will do|",
        "ok dead letters |none|",
    ]
    assert worst(judge(seen)) is Level.OK


def test_nothing_green_stands_above_something_red() -> None:
    locks = (LockView(lock_id="l", held=True, waiting=2, oldest_at=NOW - 7200),)
    seen = picture(worker(), dead=3, locks=locks)
    levels = [verdict.level for verdict in judge(seen)]
    assert levels == [Level.FAIL, Level.WARN, Level.OK]
    assert worst(judge(seen)) is Level.FAIL


@pytest.mark.parametrize(
    ("seen", "line"),
    [
        (
            picture(worker(life=Life.SILENT, last_heartbeat_at=NOW - 51, busy=6)),
            "warn worker aaaaaaaa on host-a|silent for 51s: its 6 jobs run again in about 9s|sqsjkr fleet --call",
        ),
        (
            picture(worker(life=Life.SILENT, last_heartbeat_at=NOW - 300, busy=1)),
            (
                "warn worker aaaaaaaa on host-a|silent for 5m: its job runs again when another worker has a free slot|"
                "sqsjkr fleet --call"
            ),
        ),
        (
            picture(worker(life=Life.LOST, last_heartbeat_at=NOW - 300)),
            (
                "warn worker aaaaaaaa on host-a|"
                "lost: its last heartbeat is 5m old, and others have taken its jobs over|"
                "sqsjkr fleet"
            ),
        ),
        (
            picture(worker(reason="the lock table: no answer")),
            "FAIL worker aaaaaaaa on host-a|takes no new jobs: the lock table: no answer|sqsjkr check",
        ),
        (
            picture(worker(), locks=(LockView(lock_id="a b", held=True, waiting=1, oldest_at=NOW - 4000),)),
            (
                "FAIL lock a b|held by a Go daemon, which may be dead; 1 job waits, the oldest for 1h6m|"
                "sqsjkr locks free 'a b'"
            ),
        ),
        (
            picture(
                worker(),
                locks=(
                    LockView(
                        lock_id="report",
                        held=True,
                        owner="s/1",
                        event_id="index",
                        host="host-b",
                        since_at=NOW - 11520,
                        waiting=14,
                        oldest_at=NOW - 10680,
                    ),
                ),
            ),
            (
                "warn lock report|held for 3h12m by index on host-b; 14 jobs wait, the oldest for 2h58m|"
                "sqsjkr cancel --lock report"
            ),
        ),
        (picture(worker(), dead=7), "warn dead letters |7 on the dead-letter queue|sqsjkr dead"),
        (
            picture(worker(), dead=None),
            (
                "warn dead letters |the queue has no dead-letter queue: messages that can never run stay on it|"
                "sqsjkr setup"
            ),
        ),
        (picture(visible=4), "FAIL queue |no worker has entered; 4 visible|sqsjkr fleet"),
        (
            picture(worker(busy=10), visible=40),
            "warn queue |40 visible; all 10 slots busy; 50 slots wanted, 5 workers will do|start more workers",
        ),
        (
            picture(worker(), visible=4, oldest=400.0),
            (
                "FAIL queue |4 visible, the oldest for 6m40s, and 9 of 10 slots idle: nobody takes them|"
                "sqsjkr fleet --call"
            ),
        ),
        (
            picture(worker(), drained={"host-x": Notice(by="bob", since_at=NOW - 60, why="kernel")}),
            "warn host host-x|drained by bob 1m ago: kernel|sqsjkr fleet resume host-x",
        ),
    ],
)
def test_what_is_wrong_is_said_with_the_next_command(seen: Picture, line: str) -> None:
    assert line in said(seen)


def test_a_pause_is_said_once_and_no_worker_is_blamed_for_it() -> None:
    seen = picture(worker(reason="paused by ann: deploy"), visible=4)
    seen = replace(seen, queue=replace(seen.queue, paused=Notice(by="ann", since_at=NOW - 90, why="deploy")))
    assert said(seen, stuck=True)[0] == "warn queue |paused by ann 1m30s ago: deploy|sqsjkr fleet resume"
    assert not any("nobody takes them" in line or "takes no new jobs" in line for line in said(seen, stuck=True))


def test_visible_messages_beside_idle_slots_count_only_if_they_stay() -> None:
    seen = picture(worker(), visible=4)
    assert worst(judge(seen)) is Level.OK
    assert "FAIL queue |4 visible, and 9 of 10 slots idle: nobody takes them|sqsjkr fleet --call" in said(
        seen, stuck=True
    )


def test_a_worker_that_was_restarted_on_its_host_is_missed_no_more() -> None:
    gone = worker(life=Life.LOST, last_heartbeat_at=NOW - 300)
    back = replace(worker("cccccccc", started_at=NOW - 10), host=gone.host)
    assert worst(judge(picture(gone, back))) is Level.OK
    assert worst(judge(picture(gone, replace(back, host="elsewhere")))) is Level.WARN


def test_a_lock_that_is_held_for_long_with_nobody_waiting_is_nobodys_business() -> None:
    lock = LockView(lock_id="l", held=True, owner="s/1", since_at=NOW - 99_999)
    assert worst(judge(picture(worker(), locks=(lock,)))) is Level.OK


def test_an_event_that_fails_is_the_first_thing_that_is_said() -> None:
    newest = RunLine(ended_at=NOW - 60, message_id="m", event_id="nightly", outcome="errored", last_line="no column")
    failing = Failing(event_id="nightly", failed=4, of=4, in_a_row=True, since_at=NOW - 13_200, newest=newest)
    [first, *_] = judge(picture(worker()), Recent(failing=(failing,)))
    assert (first.level, first.subject, first.name) == (Level.FAIL, "event", "nightly")
    assert first.text == "all of the last 4 failed, the first of them 3h40m ago; the newest: no column"
    assert first.next == "sqsjkr explain nightly"
    some = replace(failing, failed=12, of=20, in_a_row=False)
    [first, *_] = judge(picture(worker()), Recent(failing=(some,)))
    assert first.text.startswith("12 of the last 20 failed")


@pytest.mark.parametrize(("held", "level"), [(100.0, Level.OK), (800.0, Level.FAIL), (50.0, Level.OK)])
def test_a_lock_that_is_held_for_three_times_the_usual_time_is_named(held: float, level: Level) -> None:
    lock = LockView(
        lock_id="report", held=True, owner="s/1", event_id="index", since_at=NOW - held, waiting=1, oldest_at=NOW - 10
    )
    verdicts = judge(picture(worker(), locks=(lock,)), Recent(usual={"index": 240.0 if held > 60 else 1.0}))
    assert worst(verdicts) is level
    if level is Level.FAIL:
        assert verdicts[0].text == "held for 13m20s by index (usually 4m); 1 job waits, the oldest for 10s"


@pytest.mark.parametrize(("failed", "is_said"), [(2, False), (3, True)])
def test_jobs_without_a_name_that_fail_are_counted(failed: int, is_said: bool) -> None:
    newest = RunLine(ended_at=NOW - 90, message_id="m", outcome="errored", last_line="no such file")
    verdicts = judge(picture(worker()), Recent(others=failed, newest_other=newest))
    found = [verdict for verdict in verdicts if verdict.subject == "jobs"]
    assert bool(found) is is_said
    if found:
        text = "3 have failed within an hour, the newest 1m30s ago: m: no such file"
        assert (found[0].level, found[0].text, found[0].next) == (Level.WARN, text, "sqsjkr runs --failed --since 1h")
