from __future__ import annotations

from collections.abc import Callable

import pytest

import servers
from daemons import Daemon
from faults.history import History
from faults.proxy import Proxy
from faults.rules import Fault
from fleet import Fleet

StartWorker = Callable[..., Daemon]
GO_LOCK = {"Type": "lock", "EventId": "an event of a Go daemon"}


@pytest.mark.parametrize("where", ["same", "another"])
def test_a_message_that_comes_again_while_its_job_runs_is_not_run_again(
    where: str, worker: StartWorker, proxy: Proxy, fleet: Fleet, history: History
) -> None:
    proxy.add(Fault.REDELIVER, limit=1, seconds=3600)
    worker("a", max_concurrent_num=4 if where == "same" else 1)
    fleet.send_job(command=history.held("job"))
    servers.wait_until(lambda: history.has("begin", "job"), description="the job ran")
    if where == "another":
        worker("b")

    proxy.bring_back()
    servers.wait_until(proxy.brought_back, description="the message came again")
    history.release("job")
    servers.wait_until(lambda: history.has("end", "job"), description="the job ended")
    servers.wait_until(lambda: fleet.depth() == (0, 0, 0), description="the queue was empty")
    assert history.jobs("begin") == ["job"]


@pytest.mark.parametrize("where", ["same", "another"])
def test_a_message_that_comes_again_while_its_job_waits_is_run_once(
    where: str, worker: StartWorker, proxy: Proxy, fleet: Fleet, history: History
) -> None:
    fleet.put({"Id": "L", **GO_LOCK})
    proxy.add(Fault.REDELIVER, limit=1, seconds=3600)
    a = worker("a", max_concurrent_num=1)
    fleet.send_job(command=history.command("job"), lock_id="L")
    a.wait_for_line("job.waiting")
    if where == "another":
        worker("b")

    proxy.bring_back()
    servers.wait_until(proxy.brought_back, description="the message came again")
    fleet.put({"Id": "L", "Type": "lock"})
    servers.wait_until(lambda: history.has("end", "job"), description="the job ran")
    servers.wait_until(lambda: fleet.depth() == (0, 0, 0), description="the queue was empty")
    assert history.jobs("begin") == ["job"]


@pytest.mark.parametrize("where", ["same", "another"])
def test_a_message_that_comes_again_after_its_job_is_dropped(
    where: str, worker: StartWorker, proxy: Proxy, fleet: Fleet, history: History
) -> None:
    proxy.add(Fault.REDELIVER, limit=1, seconds=3600)
    a = worker("a")
    fleet.send_job(command=history.command("job"))
    servers.wait_until(lambda: fleet.depth() == (0, 0, 0) and history.has("end", "job"), description="the job is over")
    if where == "another":
        a.kill_tree()
        a = worker("b")

    proxy.bring_back()
    a.wait_for_line("duplicate")
    assert history.jobs("begin") == ["job"]


def test_a_copy_of_a_job_that_ends_without_the_table_is_not_run(
    worker: StartWorker, proxy: Proxy, fleet: Fleet, history: History
) -> None:
    """Its worker can't say that it has ended, and looks dead a lease later; but the message has left the queue."""
    proxy.add(Fault.REDELIVER, limit=1, seconds=3600)
    a = worker("a", max_concurrent_num=1)
    fleet.send_job(command=history.held("job"))
    servers.wait_until(lambda: history.has("begin", "job"), description="the job ran")
    proxy.cut("a", "dynamodb")
    b = worker("b", log_level="debug")
    proxy.bring_back()
    b.wait_for_line("another worker runs it")
    history.release("job")
    servers.wait_until(lambda: fleet.depth() == (0, 0, 0), description="the job ended and its message was deleted")

    b.wait_for_line("has left the queue")
    fleet.send_job(command=history.command("next"))
    servers.wait_until(lambda: history.has("end", "next"), description="b took other jobs")
    assert history.jobs("begin") == ["job", "next"]
    assert "lease.takeover" not in b.stderr
    assert a.is_running()


def test_at_the_twelve_hour_cap_the_job_goes_on_and_runs_once(
    worker: StartWorker, proxy: Proxy, fleet: Fleet, history: History
) -> None:
    proxy.add(Fault.CAP, worker="a")
    a = worker("a", max_concurrent_num=1)
    fleet.send_job(command=history.held("job"))
    a.wait_for_line("message.lapsed")
    b = worker("b")

    b.wait_for_line("another worker runs it")
    history.release("job")
    servers.wait_until(lambda: history.has("end", "job"), description="the job ended")
    servers.wait_until(lambda: fleet.depth() == (0, 0, 0), description="the queue was empty")
    assert history.jobs("begin") == ["job"]


def test_a_message_whose_hiding_lapses_early_is_run_once(
    worker: StartWorker, proxy: Proxy, fleet: Fleet, history: History
) -> None:
    worker("a", max_concurrent_num=1)
    fleet.send_job(command=history.held("job"))
    servers.wait_until(lambda: proxy.seen("ChangeMessageVisibilityBatch"), description="it was hidden for longer")
    (entry,) = proxy.seen("ChangeMessageVisibilityBatch")[0].payload["Entries"]
    b = worker("b")

    shown = {"ReceiptHandle": entry["ReceiptHandle"], "VisibilityTimeout": 0}
    fleet.sqs("ChangeMessageVisibility", QueueUrl=fleet.queue_url, **shown)

    b.wait_for_line("another worker runs it")
    history.release("job")
    servers.wait_until(lambda: history.has("end", "job"), description="the job ended")
    servers.wait_until(lambda: fleet.depth() == (0, 0, 0), description="the queue was empty")
    assert history.jobs("begin") == ["job"]
