from __future__ import annotations

import contextlib
import json
import logging
import os
import pty
import re
import resource
import socket
import subprocess
import sys
import threading
import time
import tty
import warnings
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sqsjkr.errors import ConfigError
from sqsjkr.telemetry.events import LEVELS, LOGGER, Event, emit
from sqsjkr.telemetry.logs import BUFFER, Logs, set_up

REFERENCE = Path(__file__).parents[2] / "docs" / "reference" / "log-events.md"
STAMP = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d"


@pytest.fixture
def log_to() -> Iterator[Callable[..., Logs]]:
    """Set the log up, and put the logging of this process back at the end."""
    root = logging.getLogger()
    before = root.level, LOGGER.level
    with contextlib.ExitStack() as opened:

        def start(stream: Any, form: Any = "text", level: str = "info") -> Logs:
            logs = set_up(level, form, stream)
            opened.callback(logs.close)
            return logs

        yield start
    root.setLevel(before[0])
    LOGGER.setLevel(before[1])


class Pipe:
    """A pipe: its one end is for the log, the other reads when it is told to."""

    def __init__(self) -> None:
        self.read_end, write_end = os.pipe()
        os.set_blocking(self.read_end, False)
        self.stream = os.fdopen(write_end, "w")

    def lines(self) -> list[str]:
        """Every line that is in the pipe now."""
        return taken(self.read_end)

    def close_read_end(self) -> None:
        os.close(self.read_end)
        self.read_end = -1


def taken(fd: int) -> list[str]:
    return whatever_is_in(fd).decode().split("\n")[:-1]


def whatever_is_in(fd: int) -> bytes:
    got = b""
    with contextlib.suppress(BlockingIOError):
        while piece := os.read(fd, 1 << 16):
            got += piece
    return got


def read_to_the_end(fd: int, logs: Logs) -> list[str]:
    """Read what is there, and what the log kept for later, until there is no more."""
    got = b""
    while piece := whatever_is_in(fd):
        got += piece
        logs.flush()
    return got.decode().replace("\r\n", "\n").split("\n")[:-1]


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    made = Pipe()
    yield made
    made.stream.close()
    if made.read_end >= 0:
        made.close_read_end()


def numbers(lines: list[str]) -> list[int]:
    return [int(line.split()[-1]) for line in lines if "job.output " in line]


# What a line looks like


def test_a_text_line_has_time_level_event_and_text(pipe: Pipe, log_to: Any) -> None:
    log_to(pipe.stream)
    emit(Event.JOB_STARTED, "nightly-report", delivery=1)
    (line,) = pipe.lines()
    assert re.fullmatch(STAMP + r" INFO  job\.started  nightly-report", line)


def test_a_json_line_has_the_same_and_the_facts(pipe: Pipe, log_to: Any) -> None:
    log_to(pipe.stream, "json")
    emit(Event.JOB_ENDED, "定期 50% done", delivery=1, seconds=0.5, locked=False, group=None, level="warn")
    (line,) = pipe.lines()
    facts = {"delivery": 1, "seconds": 0.5, "locked": False, "group": None}
    logged = json.loads(line)
    assert re.fullmatch(STAMP, logged.pop("time"))
    assert logged == {"level": "WARN", "event": "job.ended", "message": "定期 50% done"} | facts
    assert list(json.loads(line))[:4] == ["time", "level", "event", "message"]
    assert "定期" in line


@pytest.mark.parametrize(("zone", "offset"), [("JST-9", "+09:00"), ("NST3:30", "-03:30"), ("UTC0", "+00:00")])
def test_the_time_is_local_and_says_its_offset(
    pipe: Pipe, log_to: Any, monkeypatch: pytest.MonkeyPatch, zone: str, offset: str
) -> None:
    log_to(pipe.stream, "json")
    with monkeypatch.context() as patch:
        patch.setenv("TZ", zone)
        time.tzset()
        before = time.time()
        emit(Event.JOB_STARTED, "x")
        after = time.time()
    time.tzset()
    logged = json.loads(pipe.lines()[0])["time"]
    assert logged.endswith(offset)
    assert before - 0.001 <= datetime.fromisoformat(logged).timestamp() <= after


def test_the_date_follows_when_a_second_is_over(pipe: Pipe, log_to: Any) -> None:
    log_to(pipe.stream, "json")
    moments = [1_700_000_000.25, 1_700_000_000.5, 1_700_000_001.0, 1_700_000_000.75]
    for moment in moments:
        fields = {"created": moment, "msecs": moment % 1 * 1000, "levelno": logging.INFO, "msg": "x"}
        LOGGER.handle(logging.makeLogRecord(fields))
    assert [datetime.fromisoformat(json.loads(line)["time"]).timestamp() for line in pipe.lines()] == moments


@pytest.mark.parametrize("level", LEVELS)
def test_lines_below_the_level_are_left_out(pipe: Pipe, log_to: Any, level: str) -> None:
    log_to(pipe.stream, "json", level)
    for each in LEVELS:
        emit(Event.JOB_STARTED, each, level=each)  # type: ignore[arg-type]
    ordered = ["error", "warn", "info", "debug"]
    assert [json.loads(line)["message"] for line in pipe.lines()] == ordered[: ordered.index(level) + 1]


def test_a_level_may_be_a_number_of_logging(pipe: Pipe, log_to: Any) -> None:
    log_to(pipe.stream)
    emit(Event.JOB_ENDED, "x", level=logging.ERROR)
    assert " ERROR job.ended  x" in pipe.lines()[0]


def test_an_unknown_level_or_format_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="log level 'loud': expected one of error, warn, info, debug"):
        set_up("loud", "text")
    with pytest.raises(ConfigError, match="log format 'xml': expected one of text, json"):
        set_up("info", "xml")  # type: ignore[arg-type]


# What a job prints can't look like a line of ours


@pytest.mark.parametrize(
    ("char", "shown"),
    [
        ("\n", r"\n"),
        ("\r", r"\r"),
        ("\x1b", r"\x1b"),
        ("\x00", r"\x00"),
        ("\x7f", r"\x7f"),
        ("\x85", r"\x85"),
        ("\x9b", r"\x9b"),
        ("\u2028", r"\u2028"),
        ("\udc80", r"\udc80"),
        ("\t", "\t"),
        ("全\u3000角", "全\u3000角"),
        ("100%s", "100%s"),
    ],
    ids=ascii,  # half a surrogate pair in a test's name cannot be sent to pytest-xdist's other processes
)
def test_control_characters_are_escaped_in_text(pipe: Pipe, log_to: Any, char: str, shown: str) -> None:
    log_to(pipe.stream)
    emit(Event.JOB_OUTPUT, f"a{char}b")
    (line,) = pipe.lines()
    assert line.endswith(f"  a{shown}b")


@pytest.mark.parametrize("form", ["text", "json"])
def test_any_text_stays_one_line_for_every_reader(pipe: Pipe, log_to: Any, form: str) -> None:
    log_to(pipe.stream, form)

    @given(st.text())
    def one_line(text: str) -> None:
        emit(Event.JOB_OUTPUT, text, fact=text)
        whole = whatever_is_in(pipe.read_end).decode()
        assert whole.splitlines() == [whole[:-1]]
        if form == "json":
            logged = json.loads(whole)
            assert (logged["message"], logged["fact"]) == (text, text)

    one_line()


def test_json_stays_json_whatever_the_facts_are(pipe: Pipe, log_to: Any) -> None:
    log_to(pipe.stream, "json")
    emit(Event.JOB_ENDED, "x", seconds=float("nan"), left="\udc80", time="noon", odd=object())  # type: ignore[arg-type]
    (line,) = pipe.lines()

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    logged = json.loads(line, parse_constant=refuse)
    assert (logged["seconds"], logged["left"]) == ("nan", "?")
    assert re.fullmatch(STAMP, logged["time"])


# The lines of libraries


def test_a_librarys_warnings_come_in_our_form_and_the_rest_is_left_out(pipe: Pipe, log_to: Any) -> None:
    log_to(pipe.stream, "json", "debug")
    logging.getLogger("asyncio").info("nothing of interest")
    logging.getLogger("asyncio").warning("took %s", "long")
    (line,) = pipe.lines()
    logged = json.loads(line)
    assert (logged["event"], logged["level"]) == ("log", "WARN")
    assert (logged["message"], logged["logger"]) == ("took long", "asyncio")


def test_a_traceback_is_one_line(pipe: Pipe, log_to: Any) -> None:
    log_to(pipe.stream)
    try:
        {}["nowhere"]
    except KeyError:
        logging.getLogger("asyncio").exception("lost")
    (line,) = pipe.lines()
    assert re.match(STAMP + r" ERROR log  asyncio: lost\\nTraceback", line)
    assert line.endswith(r"\nKeyError: 'nowhere'")


def test_a_librarys_line_that_does_not_fit_its_arguments_stops_nothing(pipe: Pipe, log_to: Any) -> None:
    logs = log_to(pipe.stream)
    logs.handle(logging.makeLogRecord({"name": "asyncio", "msg": "%d jobs", "args": ("x",)}))
    assert "log  a line of asyncio cannot be shown: TypeError" in pipe.lines()[0]


def test_pythons_warnings_come_in_our_form(pipe: Pipe, log_to: Any) -> None:
    log_to(pipe.stream, "json")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=False)
        logging.captureWarnings(capture=True)
        warnings.warn("old", UserWarning, stacklevel=1)
        logging.captureWarnings(capture=False)
    assert "UserWarning: old" in json.loads(pipe.lines()[0])["message"]


def test_set_up_again_takes_the_place_of_the_first(pipe: Pipe, log_to: Any) -> None:
    log_to(pipe.stream)
    log_to(pipe.stream, "json")
    emit(Event.JOB_STARTED, "once")
    assert [json.loads(line)["message"] for line in pipe.lines()] == ["once"]


def test_a_process_without_stderr_logs_nowhere_and_not_into_another_file(tmp_path: Path) -> None:
    script = (
        "import sys; from sqsjkr.telemetry.logs import set_up; from sqsjkr.telemetry.events import Event, emit\n"
        "other = open(sys.argv[1], 'w')\n"
        "set_up('info', 'text'); emit(Event.JOB_STARTED, 'x')\n"
        "print(other.fileno())"
    )
    shell = ["sh", "-c", 'exec "$0" -c "$1" "$2" 2>&-', sys.executable, script, str(tmp_path / "other")]
    answer = subprocess.run(shell, stdout=subprocess.PIPE, check=True)
    assert answer.stdout == b"2\n", "the file has stderr's number"
    assert (tmp_path / "other").read_bytes() == b""


# Nobody waits for a reader


def test_a_reader_that_stands_still_stops_nobody_and_the_gap_is_counted(pipe: Pipe, log_to: Any) -> None:
    logs = log_to(pipe.stream)
    many = 2 * BUFFER // 100
    for number in range(many):
        emit(Event.JOB_OUTPUT, f"{'x' * 100} {number}")
    assert logs.failure is None
    before = read_to_the_end(pipe.read_end, logs)
    emit(Event.JOB_OUTPUT, f"after {many}")
    after = pipe.lines()
    assert all(re.match(STAMP, line) for line in before + after), "no line is torn"
    kept = numbers(before)
    assert kept == list(range(len(kept)))
    gaps = [line for line in before + after if "log.dropped" in line]
    assert re.fullmatch(
        STAMP + r" WARN  log\.dropped  \d+ lines are missing here: the log was read too slowly", gaps[0]
    )
    assert len(gaps) == 1
    assert len(kept) + int(gaps[0].split()[3]) == many
    assert (before + after).index(gaps[0]) == len(kept), "the gap is said where it is"
    assert numbers(after) == [many]


def test_what_waits_is_bounded(pipe: Pipe, log_to: Any) -> None:
    logs = log_to(pipe.stream)
    for _ in range(4 * BUFFER // 1000):
        emit(Event.JOB_OUTPUT, "x" * 1000)
    everything = sum(len(line) + 1 for line in read_to_the_end(pipe.read_end, logs))
    assert BUFFER <= everything <= BUFFER + 65536 + 4096


def test_a_line_longer_than_the_pipe_arrives_whole(pipe: Pipe, log_to: Any) -> None:
    logs = log_to(pipe.stream)
    emit(Event.JOB_OUTPUT, "x" * 300_000)
    emit(Event.JOB_OUTPUT, "1")
    first, second = read_to_the_end(pipe.read_end, logs)
    assert first.endswith("x" * 300_000)
    assert numbers([second]) == [1]


def test_a_socket_whose_reader_stands_still_stops_nobody(log_to: Any) -> None:
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    with ours, theirs:
        logs = log_to(ours)
        for number in range(5000):
            emit(Event.JOB_OUTPUT, f"{'x' * 100} {number}")
        assert numbers(read_to_the_end(theirs.fileno(), logs)) == list(range(5000))


def test_a_terminal_that_stands_still_stops_nobody(log_to: Any) -> None:
    screen, terminal = pty.openpty()
    tty.setraw(terminal)
    os.set_blocking(screen, False)
    with os.fdopen(terminal, "w") as stream:
        logs = log_to(stream)
        for number in range(200):
            emit(Event.JOB_OUTPUT, f"{'x' * 4000} {number}")
        assert os.get_blocking(terminal), "the shell on the same terminal keeps its mode"
        assert numbers(read_to_the_end(screen, logs)) == list(range(200))
    os.close(screen)


def test_a_reader_that_is_gone_stops_nobody(pipe: Pipe, log_to: Any) -> None:
    logs = log_to(pipe.stream)
    pipe.close_read_end()
    for _ in range(3):
        emit(Event.JOB_STARTED, "x")
    logs.flush()
    assert logs.failure is None


def test_a_terminal_that_was_hung_up_is_no_broken_disk(log_to: Any) -> None:
    screen, terminal = pty.openpty()
    with os.fdopen(terminal, "w") as stream:
        logs = log_to(stream)
        os.close(screen)
        emit(Event.JOB_STARTED, "x")
        assert logs.failure is None


def test_the_last_lines_get_a_moment_to_be_read(pipe: Pipe, log_to: Any) -> None:
    logs = log_to(pipe.stream)
    for number in range(3000):
        emit(Event.JOB_OUTPUT, f"{'x' * 100} {number}")
    got = bytearray()
    os.set_blocking(pipe.read_end, True)

    def read() -> None:
        while piece := os.read(pipe.read_end, 1 << 16):
            got.extend(piece)

    reader = threading.Thread(target=read)
    reader.start()
    logs.close()
    pipe.stream.close()
    reader.join()
    assert numbers(got.decode().splitlines()) == list(range(3000))


def test_an_end_without_a_reader_takes_a_second_at_most(pipe: Pipe, log_to: Any) -> None:
    logs = log_to(pipe.stream)
    for _ in range(3000):
        emit(Event.JOB_OUTPUT, "x" * 100)
    begun = time.monotonic()
    logs.close()
    assert time.monotonic() - begun > 0.9
    emit(Event.JOB_STARTED, "nobody listens any more")


# A full disk


@contextlib.contextmanager
def no_file_beyond(size: int) -> Iterator[None]:
    """A disk with room for ``size`` bytes in a file: the kernel refuses the rest of a write."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_said(log_to: Any) -> None:
    with Path("/dev/full").open("w") as full:
        logs = log_to(full)
        assert logs.failure is None
        emit(Event.JOB_STARTED, "x")
        assert logs.failure == "the log cannot be written: no space left on device"


def test_a_log_goes_on_where_it_stopped_when_there_is_room_again(tmp_path: Path, log_to: Any) -> None:
    path = tmp_path / "log"
    with path.open("w") as file:
        logs = log_to(file)
        with no_file_beyond(100):
            for number in range(3):
                emit(Event.JOB_OUTPUT, f"{'x' * 50} {number}")
            logs.flush()
            failure = logs.failure
            size = path.stat().st_size
        assert failure == "the log cannot be written: file too large"
        assert size == 100, "the second line is torn"
        logs.flush()
        assert logs.failure is None
    assert numbers(path.read_text().splitlines()) == [0, 1, 2]


def test_lines_that_a_full_disk_cost_are_counted_with_the_reason(tmp_path: Path, log_to: Any) -> None:
    path = tmp_path / "log"
    many = 2 * BUFFER // 1000
    with path.open("w") as file:
        logs = log_to(file, "json")
        with no_file_beyond(0):
            for number in range(many):
                emit(Event.JOB_OUTPUT, f"{'x' * 1000} {number}")
        logs.flush()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    gap = lines.pop()
    assert (gap["event"], gap["lines"]) == ("log.dropped", many - len(lines))
    assert gap["message"].endswith("the log cannot be written: file too large")


# The reference


def test_the_reference_describes_every_event_in_the_words_of_the_code() -> None:
    page = REFERENCE.read_text(encoding="utf-8").partition("## Events")[2]
    described = dict(re.findall(r"^\| `([a-z_.]+)` \| ([^|]+) \|", page, flags=re.MULTILINE))
    assert {event.value: event.meaning for event in Event} == described


def test_the_reference_names_the_keys_that_every_json_line_has(pipe: Pipe, log_to: Any) -> None:
    log_to(pipe.stream, "json")
    emit(Event.WORKER_STARTED, "x")
    page = REFERENCE.read_text(encoding="utf-8")
    described = re.findall(r"^- `([a-z]+)`: ", page, flags=re.MULTILINE)
    assert described == list(json.loads(pipe.lines()[0]))


def test_levels_are_coloured_on_a_terminal(log_to: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert on_a_terminal(log_to, "text").count("\x1b[") == 6
    assert " \x1b[1;31mERROR\x1b[0m queue.unreachable  gone\n" in on_a_terminal(log_to, "text")


@pytest.mark.parametrize(
    ("form", "variables"),
    [
        ("text", {"TERM": "xterm", "NO_COLOR": "1"}),
        ("text", {"TERM": "dumb", "NO_COLOR": ""}),
        ("json", {"TERM": "xterm", "NO_COLOR": ""}),
    ],
)
def test_a_terminal_is_sent_no_colours_it_does_not_want(
    log_to: Any, monkeypatch: pytest.MonkeyPatch, form: str, variables: dict[str, str]
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert "\x1b" not in on_a_terminal(log_to, form)


def test_a_pipe_is_sent_no_colours(pipe: Pipe, log_to: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    log_to(pipe.stream)
    emit(Event.QUEUE_UNREACHABLE, "gone")
    assert "\x1b" not in "".join(pipe.lines())


def on_a_terminal(log_to: Any, form: str) -> str:
    """A line of each level, as a terminal is sent them."""
    screen, terminal = pty.openpty()
    os.set_blocking(screen, False)
    with os.fdopen(terminal, "w") as stream:
        logs = log_to(stream, form, "debug")
        emit(Event.QUEUE_UNREACHABLE, "gone")
        emit(Event.LEASE_TAKEOVER, "taken")
        emit(Event.QUEUE_RECOVERED, "back")
        emit(Event.MESSAGE_DUPLICATE, "twice")
        shown = "\n".join(read_to_the_end(screen, logs)) + "\n"
    os.close(screen)
    return shown
