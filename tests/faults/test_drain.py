from __future__ import annotations

import signal
from collections.abc import Callable

import servers
from daemons import Daemon
from faults.history import History
from faults.proxy import Proxy
from faults.rules import Fault
from fleet import Fleet

StartWorker = Callable[..., Daemon]
HELD = {"Id": "held", "Type": "lock", "EventId": "an event of a Go daemon"}


def test_what_waits_is_visible_again_while_the_running_job_has_its_grace(
    worker: StartWorker, proxy: Proxy, fleet: Fleet, history: History
) -> None:
    fleet.put(HELD)
    a = worker("a", scale=1, max_concurrent_num=1, grace_period="60s")
    for number in range(3):
        fleet.send_job(command=history.command(f"waiter{number}"), lock_id="held")
    servers.wait_until(lambda: a.stderr.count("job.waiting") == 3, description="three waited")
    fleet.send_job(command=history.held("running"))
    servers.wait_until(
        lambda: any(
            call.payload["Entries"][0]["VisibilityTimeout"] == 30 for call in proxy.seen("ChangeMessageVisibilityBatch")
        ),
        description="they were hidden for half a minute",
    )

    before = len(proxy.seen("ChangeMessageVisibilityBatch"))
    a.signal(signal.SIGTERM)

    servers.wait_until(lambda: fleet.depth()[0] == 3, description="those who waited were visible")
    assert not history.has("end", "running")
    since = [entry for call in proxy.seen("ChangeMessageVisibilityBatch")[before:] for entry in call.payload["Entries"]]
    assert sum(entry["VisibilityTimeout"] == 0 for entry in since) == 3, "given back: their hiding did not just lapse"
    assert a.is_running(), "the running job has its grace"
    history.release("running")
    assert a.wait() == 0
    assert history.has("end", "running")


def test_who_begins_to_wait_during_a_stop_is_visible_again_as_well(
    worker: StartWorker, proxy: Proxy, fleet: Fleet, history: History
) -> None:
    fleet.put(HELD)
    a = worker("a", scale=1, max_concurrent_num=1)  # so no poll is under way that could catch the message once more
    asking = proxy.add(Fault.HANG, operation="UpdateItem", text='"lock"')
    fleet.send_job(command=history.command("waiter"), lock_id="held")
    servers.wait_until(lambda: asking.hits, description="the lock was asked for")

    a.signal(signal.SIGTERM)
    a.wait_for_line("worker.stopping")
    proxy.release(asking)

    assert a.wait() == 0
    assert fleet.depth()[0] == 1


def test_an_idle_worker_stops_without_waiting_for_its_poll(worker: StartWorker, proxy: Proxy) -> None:
    a = worker("a", scale=1)
    servers.wait_until(lambda: proxy.seen("ReceiveMessage"), description="it received")

    a.signal(signal.SIGTERM)

    assert a.wait() == 0
    assert proxy.seen("ReceiveMessage")[-1].status is None, "the poll was given up, not answered"
