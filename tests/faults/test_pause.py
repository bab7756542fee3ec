"""A worker that takes nothing new keeps nothing from others either."""

from __future__ import annotations

from collections.abc import Callable

import servers
from daemons import Daemon
from faults.history import History
from faults.proxy import Proxy
from faults.workers import clean_disk, fill_disk
from fleet import Fleet

StartWorker = Callable[..., Daemon]
HELD = {"Id": "L", "Type": "lock", "EventId": "an event of a Go daemon"}
FREE = {"Id": "L", "Type": "lock"}


def hidden(proxy: Proxy) -> set[int]:
    """For how many seconds messages were to be hidden."""
    calls = proxy.seen("ChangeMessageVisibilityBatch")
    return {entry["VisibilityTimeout"] for call in calls for entry in call.payload["Entries"]}


def test_a_worker_whose_log_disk_is_full_gives_back_who_waits(
    worker: StartWorker, proxy: Proxy, fleet: Fleet, history: History
) -> None:
    fleet.put(HELD)
    a = worker("a", own_log=True, options=("--pause=3",))
    fleet.send_job(command=history.command("waiter"), lock_id="L")
    a.wait_for_line("job.waiting")
    fill_disk(a)
    fleet.send_job(command=history.command("noticed"))
    servers.wait_until(lambda: 3 in hidden(proxy), description="who waited went back")

    fleet.put(FREE)
    worker("b")

    servers.wait_until(lambda: history.has("end", "waiter"), description="who waited ran")
    assert {note.worker for note in history.notes() if note.job == "waiter"} == {"b"}
    clean_disk(a)
    a.wait_for_line("worker.resumed")


def test_who_finds_no_slot_for_long_goes_back_for_a_pause_and_burns_no_receives(
    worker: StartWorker, proxy: Proxy, fleet: Fleet, history: History
) -> None:
    """A delivery counts towards the dead-letter queue, so the message must not be back at once."""

    fleet.put(HELD)
    a = worker("a", options=("--pause=77",), max_concurrent_num=1)
    fleet.send_job(command=history.command("waiter"), lock_id="L")
    a.wait_for_line("job.waiting")
    fleet.send_job(command=history.held("long"))
    servers.wait_until(lambda: history.has("begin", "long"), description="the only slot was taken")

    a.wait_for_line("no slot is free here")
    servers.wait_until(lambda: hidden(proxy) & {0, 77}, description="it went back")
    assert 0 not in hidden(proxy)
