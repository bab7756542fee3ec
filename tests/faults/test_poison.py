from __future__ import annotations

import json
from collections.abc import Callable

import servers
from daemons import Daemon
from faults.history import History
from faults.proxy import Proxy
from faults.rules import Fault
from fleet import Fleet

StartWorker = Callable[..., Daemon]


def test_nine_poisons_do_not_delay_the_good_one_of_their_batch(
    worker: StartWorker, proxy: Proxy, fleet: Fleet, history: History
) -> None:
    bodies = [f"no job {number}" for number in range(9)]
    bodies.insert(8, json.dumps({"command": history.command("good")}))
    entries = [{"Id": str(number), "MessageBody": body} for number, body in enumerate(bodies)]
    fleet.sqs("SendMessageBatch", QueueUrl=fleet.queue_url, Entries=entries)
    burying = proxy.add(Fault.HANG, operation="SendMessage")

    a = worker("a", scale=1, max_concurrent_num=1)

    servers.wait_until(lambda: history.has("end", "good"), description="the good one ran")
    assert not fleet.dead_letters(), "while the others could not be buried yet"
    proxy.release(burying)
    servers.wait_until(lambda: len(fleet.dead_letters()) == 9, description="nine were buried")
    servers.wait_until(lambda: fleet.depth() == (0, 0, 0), description="the queue was empty")
    for letter in fleet.dead_letters():
        assert letter["Body"] in bodies
        assert "invalid" in letter["MessageAttributes"]["sqsjkr.reason"]["StringValue"]
    assert a.stats()["invocations"] == {"succeeded": 1, "failed": 9, "errored": 0}


def test_without_a_dead_letter_queue_poison_stays_and_is_said_loudly(
    worker: StartWorker, proxy: Proxy, fleet: Fleet
) -> None:
    fleet.sqs("DeleteQueue", QueueUrl=fleet.queue_url)
    fleet.name = f"{fleet.table}-bare"
    fleet.queue_url = fleet.sqs("CreateQueue", QueueName=fleet.name)["QueueUrl"]
    fleet.send("no job")

    a = worker("a", scale=1)

    a.wait_for_line(lambda line: "WARN" in line and "no_dead_letter_queue" in line)
    a.wait_for_line(lambda line: "ERROR" in line and "no_dead_letter_queue" in line)
    servers.wait_until(lambda: proxy.seen("ChangeMessageVisibilityBatch"), description="the message was hidden")
    (entry,) = proxy.seen("ChangeMessageVisibilityBatch")[0].payload["Entries"]
    assert entry["VisibilityTimeout"] == 3600
    assert not proxy.seen("DeleteMessageBatch")
