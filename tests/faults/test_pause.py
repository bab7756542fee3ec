"""A worker that takes nothing new keeps nothing from others either."""

from __future__ import annotations

from collections.abc import Callable

import servers
from daemons import Daemon
from faults.history import History
from faults.workers import clean_disk, fill_disk
from fleet import Fleet

StartWorker = Callable[..., Daemon]
HELD = {"Id": "L", "Type": "lock", "EventId": "an event of a Go daemon"}
FREE = {"Id": "L", "Type": "lock"}


def test_a_worker_whose_log_disk_is_full_gives_back_who_waits(
    worker: StartWorker, fleet: Fleet, history: History
) -> None:
    fleet.put(HELD)
    a = worker("a", own_log=True)
    fleet.send_job(command=history.command("waiter"), lock_id="L")
    a.wait_for_line("job.waiting")
    fill_disk(a)
    fleet.send_job(command=history.command("noticed"))
    servers.wait_until(lambda: history.has("end", "noticed"), description="there was something to log")

    fleet.put(FREE)
    worker("b")

    servers.wait_until(lambda: history.has("end", "waiter"), description="who waited ran")
    assert {note.worker for note in history.notes() if note.job == "waiter"} == {"b"}
    clean_disk(a)
    a.wait_for_line("worker.resumed")
