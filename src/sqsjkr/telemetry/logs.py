"""The log: text for eyes or JSON for machines, one line for each event, and a writer that never waits.

A log is an observer: it may fall behind or fail, and no job stops for it. Three rules follow:

- The reader of the log may be slow or gone. Nothing here waits for it, since the event loop, and with it every lease,
  would wait too. Lines wait in a bounded buffer; beyond it they are counted and dropped.
- ``Logs.failure`` reports a full disk, so that the worker takes no new jobs while it lasts.
- A job's output must not look like a line of the worker's: control characters are escaped.

The callers of ``emit`` keep out what must not be in a line at all (values of environment variables; message bodies
above debug): nothing here can tell such a value from any other text.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import re
import select
import stat
import sys
import time
import traceback
from collections.abc import Callable
from typing import TextIO

from sqsjkr.errors import ConfigError
from sqsjkr.telemetry.events import LEVELS, LOGGER, Event, record

BUFFER = 1 << 20
"""Bytes of lines that wait for a reader at most."""
FORMATS = ("text", "json")
LAST_WAIT = 1.0
"""Seconds that ``Logs.close`` gives a slow reader to take what is left."""

_DISK = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG, errno.EROFS, errno.ESTALE})
"""The errors of a write to a full or broken disk. Any other error means that the reader is gone."""

_COLOURS = {"ERROR": "\x1b[1;31m", "WARN": "\x1b[33m", "INFO": "", "DEBUG": "\x1b[2m"}
_PLAIN = "\x1b[0m"

# C0 but for the tab, DEL, C1, and the two separators that some readers take for the end of a line. Whole runs of them:
# a job that prints zeros would keep the event loop busy otherwise, at half a microsecond for each.
_HARMFUL = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]+")


def set_up(level: str, format: str, stream: TextIO | None = None) -> Logs:  # noqa: A002 - the option's name
    """Send every line of this process to ``stream`` (stderr if None), ours from ``level`` on, others' from warning on.

    ``level`` is a word of ``events.LEVELS``. The stream needs a file descriptor; it is duplicated, so that closing the
    stream can't lead the log into another file. Raises ConfigError for an unknown level or format.
    """
    if level not in LEVELS:
        raise ConfigError(f"log level {level!r}: expected one of {', '.join(LEVELS)}")
    if format not in FORMATS:
        raise ConfigError(f"log format {format!r}: expected one of {', '.join(FORMATS)}")
    stream = sys.stderr if stream is None else stream
    # Python has no sys.stderr when it is started with descriptor 2 closed; that number may belong to a socket by now.
    fd = os.open(os.devnull, os.O_WRONLY) if stream is None else os.dup(stream.fileno())
    root = logging.getLogger()
    for old in [handler for handler in root.handlers if isinstance(handler, Logs)]:
        old.close()
    logs = Logs(fd, _Json() if format == "json" else _Text(colours=_takes_colours(fd)))
    root.addHandler(logs)
    root.setLevel(max(LEVELS[level], logging.WARNING))
    LOGGER.setLevel(LEVELS[level])
    logging.captureWarnings(capture=True)  # else they are printed between the lines, as no JSON
    # No line shows them, and looking them up is most of what a record costs (Python, "Logging HOWTO", Optimization).
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    return logs


class Logs(logging.Handler):
    """Where the lines go. Every method returns at once, but for ``close``."""

    def __init__(self, fd: int, form: Callable[[logging.LogRecord], bytes]) -> None:
        super().__init__()
        self._sink = _Sink(fd)
        self._form = form

    @property
    def failure(self) -> str | None:
        """Why the log can't be written, on one line; None while it can. A slow or absent reader is no failure."""
        return self._sink.failure

    @property
    def dropped(self) -> int:
        """How many lines were never written, since the start."""
        return self._sink.dropped_ever

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line, or keep it for later."""
        try:
            line = self._form(record)
        except Exception as exc:  # noqa: BLE001 - an observer fails open, whatever a library put into its record
            line = self._form(_line_of_ours(Event.LOG, f"a line of {record.name} cannot be shown: {exc!r}"))
        self._catch_up()
        self._sink.write(line)

    def write(self, line: str) -> None:
        """Write a line that has a form of its own, whatever the level is. Nothing in it may need to be escaped."""
        self.acquire()
        try:
            self._catch_up()
            self._sink.write(f"{line}\n".encode())
        finally:
            self.release()

    def flush(self) -> None:
        """Write what waited for the reader or the disk, as far as it goes. The worker calls this every second."""
        self.acquire()
        try:
            self._catch_up()
        finally:
            self.release()

    def close(self) -> None:
        """Give the reader a last second to take what is left, and leave the logging of this process."""
        self.acquire()
        try:
            if self._sink.wait(LAST_WAIT):
                self._catch_up()
            self._sink.close()
        finally:
            self.release()
        if self in logging.getLogger().handlers:
            logging.getLogger().removeHandler(self)
            logging.captureWarnings(capture=False)
        super().close()

    def _catch_up(self) -> None:
        sink = self._sink
        if sink.drain() and sink.dropped:
            count, sink.dropped = sink.dropped, 0
            text = f"{count} lines are missing here: {sink.dropped_for}"
            sink.write(self._form(_line_of_ours(Event.LOG_DROPPED, text, lines=count)))


class _Sink:
    """Puts whole lines into one file descriptor and never waits for its reader."""

    def __init__(self, fd: int) -> None:
        self.dropped = 0
        """Lines that are missing in the gap that begins here."""
        self.dropped_ever = 0
        self.dropped_for = ""
        self.failure: str | None = None
        self._fd = fd
        self._pending = bytearray()
        self._tty = os.isatty(fd)
        if self._tty:
            self._open_anew()
        self._poll: select.poll | None = None
        # What poll(2) promises of a pipe that is ready: this much goes in without waiting. Files are always ready.
        self._chunk = BUFFER if stat.S_ISREG(os.fstat(fd).st_mode) else select.PIPE_BUF
        if self._chunk != BUFFER:
            self._poll = select.poll()
            self._poll.register(self._fd, select.POLLOUT)

    def write(self, line: bytes) -> None:
        """Write the line, or keep it for later, or count it as dropped."""
        # Once lines were dropped, all are until the buffer is empty: one gap that can be counted, not many small ones.
        if self.dropped or (self._pending and len(self._pending) + len(line) > BUFFER):
            self.dropped += 1
            self.dropped_ever += 1
            self.dropped_for = self.failure or "the log was read too slowly"
            return
        self._pending += line
        self.drain()

    def drain(self) -> bool:
        """Write what is pending, as far as it goes. True if nothing is left."""
        sent = 0
        try:
            while sent < len(self._pending) and (self._poll is None or self._poll.poll(0)):
                sent += os.write(self._fd, self._pending[sent : sent + self._chunk])
        except BlockingIOError:
            pass
        except OSError as exc:
            sent = self._failed(exc, sent)
        if sent:
            del self._pending[:sent]
        if not self._pending:
            self.failure = None
        return not self._pending

    def wait(self, seconds: float) -> bool:
        """Wait for the reader, ``seconds`` at most. True if nothing is left."""
        end = time.monotonic() + seconds
        while not self.drain() and not self.failure and self._poll is not None:
            left = end - time.monotonic()
            if left <= 0 or not self._poll.poll(left * 1000):
                return False
        return not self._pending

    def close(self) -> None:
        """Write nothing from now on."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1
        self._poll = None
        self._pending.clear()

    def _failed(self, exc: OSError, sent: int) -> int:
        # A terminal that was hung up says EIO: its reader is gone, and no disk is broken.
        if exc.errno in _DISK and not self._tty:
            self.failure = f"the log cannot be written: {(exc.strerror or str(exc)).lower()}"
            return sent
        self.dropped = 0
        return len(self._pending)

    def _open_anew(self) -> None:
        # A terminal that is ready may still have room for less than a line (a stopped ssh client), and to set its
        # O_NONBLOCK would set it for the shell too. Opened a second time, the mode is our own.
        with contextlib.suppress(OSError):
            own = os.open(os.ttyname(self._fd), os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK)
            os.dup2(own, self._fd, inheritable=False)
            os.close(own)


class _Form:
    """What both forms share: the time, the level's word, and a library's line made into one of ours."""

    def __init__(self) -> None:
        self._second = -1
        self._date = ""
        self._offset = ""

    def time(self, record: logging.LogRecord) -> str:
        """Local time with its offset. The second's text is kept: a busy worker writes thousands of lines in one."""
        second = int(record.created)
        if second != self._second:
            local = time.localtime(second)
            self._date = time.strftime("%Y-%m-%dT%H:%M:%S.", local)
            zone = time.strftime("%z", local)
            self._offset = f"{zone[:3]}:{zone[3:]}"
            self._second = second
        return f"{self._date}{int(record.msecs):03d}{self._offset}"

    def message(self, record: logging.LogRecord) -> str:
        """The text, with the traceback if there is one: on lines of its own, which the forms escape."""
        text = record.getMessage()
        if record.exc_info and record.exc_info[0]:
            return f"{text}\n{''.join(traceback.format_exception(*record.exc_info)).rstrip()}"
        return text


class _Text(_Form):
    """``2026-11-21T15:05:04.123+09:00 INFO  job.started  text``, the level in colour on a terminal."""

    def __init__(self, *, colours: bool = False) -> None:
        super().__init__()
        self._words = {word: f"{word:<5}" for word in _COLOURS}
        if colours:
            self._words = {word: f"{start}{word:<5}{_PLAIN if start else ''}" for word, start in _COLOURS.items()}

    def __call__(self, record: logging.LogRecord) -> bytes:
        event = record.__dict__.get("event")
        text = self.message(record)
        if event is None:
            event, text = Event.LOG.value, f"{record.name}: {text}"
        if not text.isprintable():
            text = _HARMFUL.sub(_escaped, text)
        line = f"{self.time(record)} {self._words[_word(record.levelno)]} {event}  {text}\n"
        return line.encode("utf-8", "backslashreplace")


class _Json(_Form):
    """``{"time":...,"level":...,"event":...,"message":...}`` and the facts, which can't replace one of these four."""

    def __init__(self) -> None:
        super().__init__()
        self._encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode

    def __call__(self, record: logging.LogRecord) -> bytes:
        facts = record.__dict__.get("facts", {"logger": record.name})
        line = {
            "time": self.time(record),
            "level": _word(record.levelno),
            "event": record.__dict__.get("event", Event.LOG.value),
            "message": self.message(record),
        }
        try:
            text = self._encode({**line, **facts, **line})
        except (TypeError, ValueError):  # not a number that JSON has (NaN), or no Fact at all
            text = self._encode({**line, **{name: str(fact) for name, fact in facts.items()}, **line})
        if not text.isprintable():
            text = _HARMFUL.sub(_escaped_in_json, text)
        return f"{text}\n".encode("utf-8", "replace")


def _takes_colours(fd: int) -> bool:
    """Whether levels are coloured: on a terminal that can do it, unless NO_COLOR is set (no-color.org)."""
    return os.isatty(fd) and not os.environ.get("NO_COLOR") and os.environ.get("TERM", "dumb") != "dumb"


def _word(level: int) -> str:
    if level >= logging.ERROR:
        return "ERROR"
    if level >= logging.WARNING:
        return "WARN"
    return "INFO" if level >= logging.INFO else "DEBUG"


def _escaped(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode("ascii")


def _escaped_in_json(match: re.Match[str]) -> str:
    return "".join(f"\\u{ord(character):04x}" for character in match[0])


def _line_of_ours(event: Event, text: str, **facts: int) -> logging.LogRecord:
    return record(event, logging.WARNING, text, dict(facts))
