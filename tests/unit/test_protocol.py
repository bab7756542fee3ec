"""What worker and launcher send each other, over a real pair of sockets."""

from __future__ import annotations

import itertools
import os
import socket
from collections.abc import Iterator

import pytest

from sqsjkr.supervision import protocol
from sqsjkr.supervision.protocol import ENDED, STARTED, Report, Request

Line = tuple[socket.socket, socket.socket]


@pytest.fixture
def line() -> Iterator[Line]:
    ends = protocol.pair()
    with ends[0], ends[1]:
        yield ends


@pytest.fixture
def null() -> Iterator[int]:
    descriptor = os.open(os.devnull, os.O_RDWR)
    yield descriptor
    os.close(descriptor)


def strings(request: Request) -> tuple[object, ...]:
    return request.slot, request.program, list(request.argv), request.base, dict(request.variables)


@pytest.mark.parametrize("size", [0, 1, 4_000, 5_000, 1_000_000], ids=lambda size: f"{size} bytes")
def test_a_request_arrives_as_it_was_sent(line: Line, null: int, size: int) -> None:
    sent = Request(7, b"/bin/sh", [b"sh", b"-c", b"", b"x" * size], 1, {b"A": b"", b"B": b"a=b\n"}, stdout=null)
    protocol.send(line[0], sent)
    got = protocol.receive(line[1])
    assert got is not None
    assert strings(got) == strings(sent)
    assert got.stdin == -1
    assert os.fstat(got.stdout) == os.fstat(null)
    assert not os.get_inheritable(got.stdout)
    os.close(got.stdout)


@pytest.mark.parametrize("size", [1, 5_000], ids=lambda size: f"{size} bytes")
def test_input_and_output_are_not_mixed_up(line: Line, null: int, size: int) -> None:
    source, sink = os.pipe()
    protocol.send(line[0], Request(0, b"cat", [b"c" * size], 0, {}, stdin=source, stdout=null))
    got = protocol.receive(line[1])
    assert got is not None
    assert os.fstat(got.stdin).st_ino == os.fstat(source).st_ino
    assert os.fstat(got.stdout).st_ino == os.fstat(null).st_ino
    for descriptor in (source, sink, got.stdin, got.stdout):
        os.close(descriptor)


@pytest.mark.parametrize("variables", [{}, {b"A": b"1"}, {b"A": b"x" * 10_000, b"B": b""}], ids=len)
def test_a_base_has_no_program(line: Line, variables: dict[bytes, bytes]) -> None:
    protocol.send(line[0], Request(0, b"", (), 3, variables))
    got = protocol.receive(line[1])
    assert got is not None
    assert (list(got.argv), got.base, got.variables) == ([], 3, variables)


@pytest.mark.parametrize("word", [b"a\0b", b"\0"])
def test_a_nul_is_not_sent(line: Line, word: bytes) -> None:
    with pytest.raises(ValueError, match="null"):
        protocol.send(line[0], Request(0, b"sh", [word], 0, {}))
    with pytest.raises(BlockingIOError):
        protocol.receive(line[1])


def fill(end: socket.socket, stdout: int) -> int:
    """Send until there is no room; how many requests were sent."""
    for slot in itertools.count():
        try:
            protocol.send(end, Request(slot, b"sh", [b"x" * 4_000], 0, {}, stdout=stdout))
        except BlockingIOError:
            return slot
    raise AssertionError


def test_a_full_line_takes_no_request_by_halves(line: Line, null: int) -> None:
    sent = fill(line[0], null)
    for slot in range(sent):
        got = protocol.receive(line[1])
        assert got is not None
        assert got.slot == slot
        os.close(got.stdout)
    with pytest.raises(BlockingIOError):
        protocol.receive(line[1])


def test_reports_arrive_in_their_order(line: Line) -> None:
    reports = [Report(STARTED, 1, 4_000_000), Report(ENDED, 1, 0x7F00, 0.25, 10**12)] * 200
    sent = 0
    while sent < len(reports):
        sent += protocol.send_reports(line[0], reports[sent:])
    got: list[Report] = []
    while len(got) < len(reports):
        got += protocol.receive_reports(line[1]) or []
    assert got == reports


def test_what_was_reported_before_the_end_is_heard_although_requests_were_not_read(line: Line, null: int) -> None:
    protocol.send(line[1], Request(0, b"sh", [b"sh"], 0, {}, stdout=null))
    protocol.send_reports(line[0], [Report(ENDED, 1, 0)])
    line[0].close()
    assert protocol.receive_reports(line[1]) == [Report(ENDED, 1, 0)]
    assert protocol.receive_reports(line[1]) is None


def test_what_a_dead_worker_still_asked_for_is_not_done_if_it_left_reports_unread(line: Line, null: int) -> None:
    protocol.send(line[0], Request(0, b"sh", [b"sh"], 0, {}, stdout=null))
    protocol.send_reports(line[1], [Report(ENDED, 1, 0)])
    line[0].close()
    assert protocol.receive(line[1]) is None
