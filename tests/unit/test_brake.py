"""Why no new jobs are taken: each cause is logged by an event of its own, once when it begins and once when it ends."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sqsjkr.intake.brake import Brake
from sqsjkr.telemetry.events import Event
from sqsjkr.telemetry.outage import Outage


class Log:
    failure: str | None = None


class Cause:
    """A brake, and a log whose disk can be full."""

    def __init__(self) -> None:
        self.log = Log()
        table = Outage("the lock table", Event.TABLE_UNREACHABLE, Event.TABLE_RECOVERED)
        host = Outage("starting jobs", Event.HOST_EXHAUSTED, Event.HOST_RECOVERED, over="works again")
        self.brake = Brake(table, host, log=self.log, table_is_probed=True)

    def disk(self, failure: str | None) -> None:
        self.log.failure = failure
        self.brake.look()


Change = Callable[[Cause], object]


@pytest.mark.parametrize(
    ("begin", "end", "events", "reason"),
    [
        (
            lambda cause: cause.disk("the log cannot be written: no space left on device"),
            lambda cause: cause.disk(None),
            ["worker.paused", "worker.resumed"],
            "the log cannot be written: no space left on device",
        ),
        (
            lambda cause: cause.brake.unsettled("120 jobs can't be settled: marking jobs as done: denied"),
            lambda cause: cause.brake.unsettled(""),
            ["worker.paused", "worker.resumed"],
            "120 jobs can't be settled: marking jobs as done: denied",
        ),
        (
            lambda cause: cause.brake.host_failed("no process: resource temporarily unavailable"),
            lambda cause: cause.brake.host_recovered(),
            ["host.exhausted", "host.recovered"],
            "starting jobs: no process: resource temporarily unavailable",
        ),
        (
            lambda cause: cause.brake.table_failed("no answer within 5 s"),
            lambda cause: cause.brake.table_answered(),
            ["table.unreachable", "table.recovered"],
            "the lock table: no answer within 5 s",
        ),
    ],
    ids=["log", "settling", "host", "table"],
)
def test_each_cause_is_said_once_when_it_begins_and_once_when_it_is_over(
    begin: Change, end: Change, events: list[str], reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    cause = Cause()
    assert (cause.brake.reason, cause.brake.allows(5)) == (None, 5)
    with caplog.at_level("INFO"):
        begin(cause)
        begin(cause)
        assert cause.brake.reason == reason
        assert cause.brake.allows(5) == 0
        assert cause.brake.held_since < float("inf")
        end(cause)
        end(cause)
    assert [record.__dict__["event"] for record in caplog.records] == events
    assert reason in caplog.records[0].getMessage()
    assert (cause.brake.reason, cause.brake.allows(5), cause.brake.held_since) == (None, 5, float("inf"))
