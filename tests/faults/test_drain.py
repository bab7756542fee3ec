from __future__ import annotations

import signal
from collections.abc import Callable

import servers
from daemon import Daemon
from faults.history import History
from faults.proxy import Proxy
from faults.rules import Fault
from faults.workers import now
from fleet import Fleet

StartWorker = Callable[..., Daemon]
HELD = {"Id": "held", "Type": "lock", "EventId": "an event of a Go daemon"}


def test_what_waits_is_visible_within_a_second_of_the_signal(
    worker: StartWorker, proxy: Proxy, fleet: Fleet, history: History
) -> None:
    fleet.put(HELD)
    a = worker("a", scale=1, max_concurrent_num=1, grace_period="2s")
    for number in range(3):
        fleet.send_job(command=history.command(f"waiter{number}"), lock_id="held")
    servers.wait_until(lambda: a.stderr.count("job.waiting") == 3, description="three waited")
    fleet.send_job(command=history.command("running", beats=80))
    servers.wait_until(
        lambda: any(
            call.payload["Entries"][0]["VisibilityTimeout"] == 30 for call in proxy.seen("ChangeMessageVisibilityBatch")
        ),
        description="they were hidden for half a minute",
    )

    stopped = now()
    a.signal(signal.SIGTERM)

    servers.wait_until(lambda: fleet.depth()[0] == 3, description="those who waited were visible")
    assert now() - stopped < 1
    assert a.is_running(), "the running job has its grace"
    assert a.wait() == 0


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


def test_an_idle_worker_stops_within_half_a_second(worker: StartWorker, proxy: Proxy) -> None:
    a = worker("a", scale=1)
    servers.wait_until(lambda: proxy.seen("ReceiveMessage"), description="it received")

    stopped = now()
    a.signal(signal.SIGTERM)

    assert a.wait() == 0
    assert now() - stopped < 0.5
