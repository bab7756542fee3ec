"""What rides on a heartbeat: it comes back as it was written, never grows, and survives what it does not know."""

from __future__ import annotations

import uuid
import zlib

from hypothesis import given
from hypothesis import strategies as st

from sqsjkr.leases.live import MOST_BYTES, Live, LiveRun, LiveWait, Notice, Order

TEXT = st.text(max_size=300)
AGE = st.floats(0, 1e7)


def test_what_was_encoded_is_decoded() -> None:
    live = Live(
        worker="ab12cd34",
        slots=20,
        busy=2,
        ready=1,
        parked=3,
        why="paused by ann",
        running=(LiveRun(message_id=str(uuid.uuid4()), seconds=12.5), LiveRun(message_id="x", seconds=1.0)),
        waits=(LiveWait(key="lock report", number=3, oldest="m", seconds=40.1),),
        endings={"succeeded": 41, "errored": 1},
    )
    assert Live.decode(live.encode()) == live


@given(
    st.builds(
        Live,
        worker=st.just("ab12cd34"),
        slots=st.integers(0, 10_000),
        busy=st.integers(0, 10_000),
        ready=st.integers(0, 10_000),
        parked=st.integers(0, 100_000),
        why=TEXT,
        running=st.lists(st.builds(LiveRun, message_id=st.uuids().map(str) | TEXT, seconds=AGE), max_size=200).map(
            tuple
        ),
        waits=st.lists(
            st.builds(LiveWait, key=TEXT, number=st.integers(1, 1000), oldest=st.uuids().map(str), seconds=AGE),
            max_size=50,
        ).map(tuple),
        endings=st.just({"succeeded": 123_456_789, "errored": 12, "interrupted": 3}),
    )
)
def test_it_fits_beside_the_heartbeat_into_one_write_unit(live: Live) -> None:
    packed = live.encode()
    assert len(packed) <= MOST_BYTES
    again = Live.decode(packed)
    assert again is not None
    assert (again.worker, again.slots, again.busy, again.parked) == (live.worker, live.slots, live.busy, live.parked)


def test_twenty_running_jobs_and_three_locks_fit() -> None:
    live = Live(
        worker="ab12cd34",
        slots=20,
        busy=20,
        ready=5,
        parked=60,
        running=tuple(LiveRun(message_id=str(uuid.uuid4()), seconds=n * 7.3) for n in range(20)),
        waits=tuple(LiveWait(key=f"lock report-{n}", number=n, oldest=str(uuid.uuid4()), seconds=n) for n in range(3)),
        endings={"succeeded": 123_456, "errored": 12},
    )
    again = Live.decode(live.encode())
    assert again is not None
    assert (len(again.running), len(again.waits)) == (20, 3)


def test_the_oldest_jobs_and_the_longest_lines_are_named() -> None:
    live = Live(
        worker="w",
        slots=500,
        busy=500,
        ready=0,
        parked=9,
        running=tuple(LiveRun(message_id=str(uuid.uuid4()), seconds=float(n)) for n in range(500)),
        waits=tuple(LiveWait(key=f"lock {n}", number=n + 1, oldest="m", seconds=1.0) for n in range(20)),
    )
    again = Live.decode(live.encode())
    assert again is not None
    assert again.running[0].seconds == 499.0
    assert len(again.running) >= 15
    assert [wait.number for wait in again.waits] in ([20, 19, 18, 17, 16], [])


def test_what_a_later_release_wrote_is_unknown_and_no_error() -> None:
    def packed(text: str) -> bytes:
        packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        return packer.compress(text.encode()) + packer.flush()

    assert Live.decode(packed('{"v": 2}')) is None
    assert Live.decode(packed("[]")) is None
    assert Live.decode(b"\xff not deflated") is None
    assert Live.decode(b"") is None
    newer = Live.decode(packed('{"w": "a", "s": 1, "b": 0, "later": {}}'))
    assert newer is not None
    assert newer.worker == "a"


def test_an_order_is_read_as_it_was_written() -> None:
    order = Order(verb="cancel", attempt="0123", by="arn:aws:sts::1:assumed-role/ops/ann b")
    assert Order.read(order.text) == order
    assert Order.read("reboot 0123 ann") is None
    assert Order.read("cancel") is None
    assert Order.read("") is None


def test_a_notice_is_read_as_it_was_written() -> None:
    notice = Notice(by="ann", at=1.5, why="deploy\n")
    assert Notice.read(notice.text_for("host-a")) == ("host-a", notice)
    assert Notice.read('{"by": 1}') is None
    assert Notice.read("no json") is None
    assert Notice.read("[]") is None
