from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from servers import until
from sqsjkr.execution.output import LINE_COSTS, LONGEST_LINE, Output


class Pipe:
    """A pipe whose reading end an ``Output`` follows; the writing end is the test's."""

    def __init__(self, *, rate: int = 0, tail: int = 65_536, logged: bool = True) -> None:
        self.lines: list[str] = []
        self.cuts: list[int] = []
        self.now = 100.0
        reader, self.writer = os.pipe()
        self.output = Output(
            on_line=self.lines.append if logged else None,
            on_cut=self.cuts.append,
            rate=rate,
            tail=tail,
            now=lambda: self.now,
        )
        self.output.follow(reader)

    async def write(self, data: bytes) -> None:
        """Write, and wait until it was read; 64 KiB at most, or the pipe is full."""
        size = self.output.size + len(data)
        os.write(self.writer, data)
        await until(lambda: self.output.size >= size, description="it was read")

    def close(self) -> None:
        if self.writer >= 0:
            os.close(self.writer)
            self.writer = -1


@pytest.fixture
def pipe() -> Iterator[Callable[..., Pipe]]:
    """Makes pipes; both ends are closed after the test."""
    made: list[Pipe] = []

    def make(**settings: int | bool) -> Pipe:
        made.append(Pipe(**settings))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for each in made:
        each.close()
        each.output.ended()


SIZE = 11 * 18_000_000
"""Bytes of the flood: a whole number of its lines."""
Make = Callable[..., Pipe]


async def test_each_line_is_given_out_once_it_is_whole(pipe: Make) -> None:
    made = pipe()
    await made.write(b"one\ntwo\nthr")
    assert made.lines == ["one", "two"]
    await made.write(b"ee\n")
    assert made.lines == ["one", "two", "three"]


async def test_a_last_line_without_its_end_is_given_out_when_the_job_ends(pipe: Make) -> None:
    made = pipe()
    await made.write(b"one\ntwo")
    made.close()
    assert made.output.ended() is False
    assert made.lines == ["one", "two"]


async def test_what_still_stands_in_the_pipe_at_the_end_is_read(pipe: Make) -> None:
    made = pipe()
    os.write(made.writer, b"a\n" * 20_000)
    made.close()
    assert made.output.ended() is False
    assert made.lines == ["a"] * 20_000


async def test_an_empty_line_is_a_line_and_a_carriage_return_is_no_part_of_it(pipe: Make) -> None:
    made = pipe()
    await made.write(b"one\r\n\r\ntwo\n")
    assert made.lines == ["one", "", "two"]


async def test_bytes_that_are_no_text_are_shown_as_such(pipe: Make) -> None:
    made = pipe()
    await made.write("Grüße \U0001f44b\n".encode() + b"\xff\xfe\n")
    assert made.lines == ["Grüße \U0001f44b", "��"]


async def test_a_character_cut_in_two_by_a_read_is_whole_in_its_line(pipe: Make) -> None:
    made = pipe()
    await made.write("ü".encode()[:1])
    await made.write("ü".encode()[1:] + b"\n")
    assert made.lines == ["ü"]


async def test_a_line_without_an_end_is_given_out_in_parts(pipe: Make) -> None:
    made = pipe()
    for _ in range(5):
        await made.write(b"x" * LONGEST_LINE)
    assert "".join(made.lines) == "x" * 5 * LONGEST_LINE
    assert {len(line) for line in made.lines} == {LONGEST_LINE}


@pytest.mark.parametrize("step", [1, 7, 1000, 5000])
async def test_the_tail_is_the_last_that_was_printed(pipe: Make, step: int) -> None:
    made = pipe(tail=1000)
    printed = b"".join(b"%05d\n" % number for number in range(1000))
    for start in range(0, len(printed), step):
        os.write(made.writer, printed[start : start + step])
        await asyncio.sleep(0)
    await until(lambda: made.output.size == len(printed), description="all was read")
    assert made.output.tail() == printed[-996:].decode(), "from the beginning of a line on"


async def test_without_a_tail_nothing_is_kept(pipe: Make) -> None:
    made = pipe(tail=0)
    await made.write(b"one\n")
    assert made.output.tail() == ""


async def test_the_tail_is_kept_even_if_no_line_is_logged(pipe: Make) -> None:
    made = pipe(logged=False)
    await made.write(b"one\ntwo\n")
    assert made.output.tail() == "one\ntwo\n"


async def test_what_comes_too_fast_is_counted_and_not_logged(pipe: Make) -> None:
    made = pipe(rate=1000)
    await made.write(b"a" * 500 + b"\n")
    await made.write(b"b" * 999 + b"\n")
    assert made.lines == ["a" * 500]
    made.now += 2
    await made.write(b"c\n")
    assert made.lines == ["a" * 500, "c"]
    assert made.cuts == [1000]


async def test_a_flood_that_goes_on_to_the_end_is_told_at_the_end(pipe: Make) -> None:
    made = pipe(rate=1000)
    for _ in range(3):
        await made.write(b"b" * 2000)
    made.close()
    made.output.ended()
    assert made.lines == []
    assert made.cuts == [6000]


async def test_a_flood_of_empty_lines_counts_for_what_they_cost_the_log(pipe: Make) -> None:
    made = pipe(rate=1000 * (LINE_COSTS + 1))
    await made.write(b"\n" * 1000)
    await made.write(b"\n" * 1000)
    assert len(made.lines) == 1000
    made.close()
    made.output.ended()
    assert made.cuts == [1000]


async def test_the_end_is_seen_although_the_background_writes_as_fast_as_it_is_read(pipe: Make) -> None:
    made = pipe()

    class Echo(list[str]):
        def append(self, line: str) -> None:
            super().append(line)
            if len(self) < 1000:
                os.write(made.writer, b"again\n")

    echo = Echo()
    made.output._on_line = echo.append
    os.write(made.writer, b"first\n")
    assert made.output.ended() is True
    assert made.output.size <= len(b"first\nagain\nagain\n")
    await until(lambda: len(echo) == 1000, description="the background was read on")


async def test_a_flood_of_200_megabytes_adds_little_memory(pipe: Make) -> None:
    made = pipe(rate=1_048_576)
    before = _resident()
    flood = subprocess.Popen(["sh", "-c", f"yes 0123456789 | head -c {SIZE}"], stdout=made.writer)
    made.close()
    most = 0

    def ended() -> bool:
        nonlocal most
        most = max(most, _resident())
        return flood.poll() is not None and made.output.size == SIZE

    await until(ended, description="all was read")
    assert made.output.ended() is False
    assert most - before < 32 * 1024 * 1024
    assert made.output.tail().endswith("\n0123456789\n")
    assert sum(made.cuts) > SIZE / 2


def _resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
