"""``sqsjkr send``: one job, or many as JSON Lines. The rules for a job are the daemon's own: ``job.decode``."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import select
import shlex
import signal
import stat
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass

from sqsjkr.backends import Connections, Part, sender_class
from sqsjkr.cli.exit_codes import FAILED, INTERRUPTED, OK
from sqsjkr.cli.options import add_where
from sqsjkr.cli.progress import Progress
from sqsjkr.cli.reporting import complain
from sqsjkr.cli.settings import configured
from sqsjkr.config import Config, rules
from sqsjkr.errors import BackendUnavailable, ConfigError, InvalidJob
from sqsjkr.job import DECLARED, NAMES, Kind, decode, encode, for_sqs, unknown_names
from sqsjkr.sender import LONGEST, Rejected, Sender, Terms
from sqsjkr.telemetry.trace import from_variables
from sqsjkr.trust.policy import SIGNATURE_LIFE
from sqsjkr.trust.signer import Signer, signer

PAUSE = 0.2
"""Seconds without input after which the jobs read so far are sent: a slow producer's do not wait for a full batch."""
_CHUNK = 65_536
_UTF8_BOM = b"\xef\xbb\xbf"
_BLANK = b" \t\r\n"


EPILOG = """\
examples:
  sqsjkr send --lock-id report --life-time 1h 'make report'
  sqsjkr send --json jobs.jsonl

exit codes: 0 if everything was sent, 1 if anything was not, 2 if the command line is wrong, 130 if interrupted
"""


@dataclass(slots=True)
class Tally:
    """What became of many jobs."""

    sent: int = 0
    rejected: int = 0
    stopped: str = ""
    """Why the rest was not sent; "" if all lines were read."""
    last: int = 0
    """The number of the last line that was sent; 0 if none was."""
    interrupted: bool = False

    @property
    def text(self) -> str:
        """The summary line."""
        return f"sent {self.sent}, rejected {self.rejected}"


@dataclass(frozen=True, slots=True)
class _Line:
    number: int
    body: str


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of a job, which follow from its declaration, and those of its message."""
    add_where(parser, table=False)
    parser.add_argument("--json", metavar="FILE", help='many jobs, one JSON object a line; "-" is stdin')
    group = parser.add_argument_group("the job")
    for name, declared in DECLARED.items():
        option = _option(name)
        if name == "command":
            parser.add_argument(name, metavar=declared.metavar, nargs="?", help=declared.help)
        elif declared.kind is Kind.FLAG:
            group.add_argument(option, action="store_true", default=None, help=declared.help)
        else:
            action = "append" if declared.kind.pairs else "store"
            group.add_argument(option, metavar=declared.metavar, action=action, help=declared.help, dest=name)
    how = parser.add_argument_group("how it is sent")
    how.add_argument("--delay", metavar="SECONDS", default="0", help="hide it at first, 900 at most (default: 0)")
    how.add_argument(
        "--group",
        metavar="ID",
        default="",
        help="FIFO queue: message group, required; standard queue: tenant id (fair queues)",
    )
    how.add_argument(
        "--sign", metavar="KEY", default="", help="sign it: a private key's file, or kms:ALIAS, kms:ALIAS#ID"
    )
    how.add_argument("--dedup-id", metavar="ID", default="", help="deduplication id, FIFO queues only (default: new)")


def execute(arguments: argparse.Namespace) -> int:
    """Send one job and print its message id, or a file of jobs and print how many."""
    fields = _job_fields(arguments)
    _, config = configured(arguments)
    terms = Terms(
        delay=_delay(arguments.delay),
        group=arguments.group,
        dedup_id=arguments.dedup_id,
        attributes=from_variables(os.environ),
    )
    if not arguments.json:
        sys.stdout.write(f"{send_one(config, fields, terms, sign=arguments.sign)}\n")
        return OK
    tally = send_many(config, arguments.json, terms, sign=arguments.sign)
    if tally.stopped:
        complain(tally.stopped)
    sys.stdout.write(f"{tally.text}\n")
    if tally.interrupted:
        return INTERRUPTED
    return FAILED if tally.rejected or tally.stopped else OK


def _job_fields(arguments: argparse.Namespace) -> dict[str, object]:
    """Read the job from the command line, as a message's body would have it; what is not given is left out."""
    fields = {name: value for name in DECLARED if (value := getattr(arguments, name)) is not None}
    if arguments.json is None:
        if not (arguments.command or arguments.name):
            raise ConfigError(
                "nothing to send; give a shell command (in quotes, as one word), --job NAME, or --json FILE"
            )
        if arguments.command and (extra := [name for name in fields if DECLARED[name].without]):
            raise ConfigError(f"{_option(extra[0])}: a job has a command or a name; leave one of them out")
    elif fields:
        name = next(iter(fields))
        given = DECLARED[name].metavar if name == "command" else _option(name)
        raise ConfigError(f"leave {given} out: with --json, each line is a whole job")
    elif arguments.dedup_id:
        raise ConfigError("leave --dedup-id out: with --json, SQS would keep the first job only")
    for name, value in fields.items():
        if DECLARED[name].kind.pairs:
            fields[name] = dict(_pair(_option(name), DECLARED[name].metavar, pair) for pair in value)
    return {DECLARED[name].name or name: value for name, value in fields.items()}


def _option(name: str) -> str:
    return DECLARED[name].option or f"--{name.replace('_', '-')}"


def _pair(option: str, form: str, pair: str) -> tuple[str, str]:
    name, equals, value = pair.partition("=")
    if not (name and equals):
        raise ConfigError(f"{option}: expected {form}")  # the pair is not shown: it may be a secret
    return name, value


def _delay(text: str) -> float:
    try:
        delay = rules.seconds(900)(float(text) if text.replace(".", "", 1).isdigit() else text)
    except ValueError as expected:
        raise ConfigError(f"--delay = {rules.shown(text)}: expected {expected}") from None
    if not delay.is_integer():
        raise ConfigError(f"--delay = {rules.shown(text)}: expected whole seconds, the unit of SQS")
    return delay


def send_one(config: Config, fields: Mapping[str, object], terms: Terms, *, sign: str = "") -> str:
    """Send one job and return its message id. ``fields`` are named as in a message's body, ``sign`` is what signs it.

    Raises:
        ConfigError: the fields make no valid job.
        BackendUnavailable: the job was not sent.
    """
    try:
        json.dumps(fields, ensure_ascii=False).encode()
        body = encode(decode(json.dumps(fields), ""))
    except UnicodeEncodeError:  # half a character: bytes on the command line that are not UTF-8
        raise ConfigError("invalid job: its text is not UTF-8, as SQS requires") from None
    except InvalidJob as why:
        raise ConfigError(f"invalid job: {why}") from why
    if len(body.encode()) > LONGEST:
        raise ConfigError(f"invalid job: {len(body.encode())} bytes, expected at most {LONGEST}")
    with asyncio.Runner() as runner, _opened(runner, config, terms, sign) as outbox:
        answer = runner.run(outbox.send([body]))[0]
    if isinstance(answer, Rejected):
        raise BackendUnavailable(f"not sent: {answer.reason}")
    return answer


def send_many(config: Config, source: str, terms: Terms, *, sign: str = "") -> Tally:
    """Send each line of the file ``source`` ("-": stdin) as one job; at most one batch of them is in memory.

    Each line that was not sent is an error on stderr: "jobs.jsonl:17: why".

    Raises:
        ConfigError: there is no such file, or the options do not fit the queue.
        BackendUnavailable: the queue cannot be used at all.
    """
    name = "stdin" if source == "-" else source
    tally = Tally()
    under_way: Sequence[_Line] = ()
    with _reading(source) as fd, asyncio.Runner() as runner, _opened(runner, config, terms, sign) as outbox:
        signals, progress = _Signals(), Progress(fd)

        def reject(line: int, reason: str) -> None:
            tally.rejected += 1
            progress.complain(f"{name}:{line}: {reason}")

        try:
            for batch in _batches(progress.counting(read_lines(fd)), outbox.size, reject):
                with signals.held():
                    under_way = batch
                    answers = runner.run(outbox.send([line.body for line in batch]))
                    for line, answer in zip(batch, answers, strict=True):
                        if isinstance(answer, Rejected):
                            reject(line.number, answer.reason)
                        else:
                            tally.sent += 1
                            tally.last = line.number
                    progress.show(tally.text)
                    under_way = ()
        except BackendUnavailable as why:
            tally.stopped = f"{name}:{under_way[0].number}: not sent, nor is what follows: {why}"
        except KeyboardInterrupt:
            tally.interrupted = True
            tally.stopped = _how_far(name, tally, under_way)
        finally:
            progress.close()
            signals.close()
    return tally


def _how_far(name: str, tally: Tally, batch: Sequence[_Line]) -> str:
    """Say after an interruption which line was the last one sent, so that the rest can be sent later."""
    doubtful = ""
    if batch:
        doubtful = f"lines {batch[0].number} to {batch[-1].number} were being sent and may be on the queue; "
    last = f"line {tally.last} of {name} was the last one sent" if tally.sent else f"no line of {name} was sent"
    rest = f"tail -n +{tally.last + 1} {shlex.quote(name)} | sqsjkr send --json - (and the same options)"
    resume = "" if name == "stdin" else f"; to send the rest: {rest}"
    return f"interrupted: {doubtful}{last}{resume}"


def read_lines(fd: int, longest: int = LONGEST) -> Iterator[bytes | None]:
    """The lines behind a descriptor, without their ends; None whenever the input pauses.

    A line longer than ``longest`` comes cut to one byte more than that: memory is bounded, whatever is read.
    """
    line = b""
    while True:
        if not select.select([fd], [], [], PAUSE)[0]:
            yield None
            select.select([fd], [], [])
        chunk = os.read(fd, _CHUNK)
        if not chunk:
            break
        first, *others = chunk.split(b"\n")
        line = (line + first)[: longest + 1]
        for other in others:
            yield line
            line = other[: longest + 1]
    if line:
        yield line


def _batches(lines: Iterator[bytes | None], size: int, reject: Callable[[int, str], None]) -> Iterator[Sequence[_Line]]:
    """What may be sent together: at most ``size`` jobs and ``LONGEST`` bytes, and nothing waits for slow input."""
    batch: list[_Line] = []
    room = LONGEST
    number = 0
    for raw in lines:
        if raw is None:
            if batch:
                yield batch
                batch, room = [], LONGEST
            continue
        number += 1
        content = raw.removeprefix(_UTF8_BOM if number == 1 else b"").strip(_BLANK)
        if not content:
            continue
        try:
            body = _checked(content)
        except InvalidJob as why:
            reject(number, str(why))
            continue
        weight = len(body.encode())
        if batch and (len(batch) == size or weight > room):
            yield batch
            batch, room = [], LONGEST
        batch.append(_Line(number, body))
        room -= weight
    if batch:
        yield batch


def _checked(content: bytes) -> str:
    """The body for one line. Raises ``InvalidJob`` if the daemon would not take it."""
    if len(content) > LONGEST:
        raise InvalidJob(f"body: too long, expected at most {LONGEST} bytes, which is what SQS takes")
    try:
        text = content.decode()
    except UnicodeDecodeError as why:
        raise InvalidJob(f"body: not UTF-8 at byte {why.start}, {content[why.start]:#04x}") from None
    _check_names(text)
    decode(text, "")
    return for_sqs(text)


def _check_names(text: str) -> None:
    """Raise ``InvalidJob`` at a name that no field has: before a field is called missing that is only misspelt."""
    names: list[str] = []
    with contextlib.suppress(InvalidJob):  # which decode words better
        names = unknown_names(text)
    for name in names:
        near = rules.nearest(name, NAMES)
        hint = f"; did you mean {near}?" if near else f", expected one of {', '.join(NAMES)}."
        raise InvalidJob(
            f"{name if name.isidentifier() else rules.shown(name)}: unknown field{hint} It would be ignored"
        )


@contextlib.contextmanager
def _reading(source: str) -> Iterator[int]:
    try:
        fd = os.dup(0) if source == "-" else os.open(source, os.O_RDONLY)
    except OSError as why:
        raise ConfigError(f"--json {source}: cannot be read: {(why.strerror or str(why)).lower()}") from why
    try:
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            raise ConfigError(f"--json {source}: is a directory; expected a file with one job on each line")
        yield fd
    finally:
        os.close(fd)


class _Outbox:
    """A sender, and what signs the messages before it sends them."""

    def __init__(self, sender: Sender, signer: Signer | None) -> None:
        self._sender = sender
        self._signer = signer
        self.size = sender.size
        """The most messages that one ``send`` takes."""

    async def send(self, bodies: Sequence[str]) -> list[str | Rejected]:
        """As ``Sender.send``."""
        if self._signer is None:
            return await self._sender.send(bodies)
        now = time.time()
        signatures = await asyncio.gather(*(self._signer.sign(body, now) for body in bodies))
        return await self._sender.send(bodies, signatures)


@contextlib.contextmanager
def _opened(runner: asyncio.Runner, config: Config, terms: Terms, sign: str) -> Iterator[_Outbox]:
    stack = AsyncExitStack()
    try:
        yield runner.run(_open(stack, config, terms, sign))
    finally:
        runner.run(stack.aclose())


async def _open(stack: AsyncExitStack, config: Config, terms: Terms, sign: str) -> _Outbox:
    connections = Connections(config)
    connections.begin()
    sender: Sender = sender_class(config).configured(connections, terms)
    key = _signer(config, sign) if sign else None
    parts: list[Part] = [connections, sender, *([key] if key else [])]
    for part in parts:
        await part.open()
        stack.push_async_callback(part.close)
    return _Outbox(sender, key)


def _signer(config: Config, name: str) -> Signer:
    return signer(name, audience=config.audience, life=SIGNATURE_LIFE, profile=config.profile, region=config.region)


class _Signals:
    """INT and TERM while many jobs are sent: the batch on its way is finished first, a second signal cuts it off."""

    def __init__(self) -> None:
        self._sending = False
        self._asked = False
        # What is ignored stays so: a shell starts a job in the background with INT ignored.
        heeded = [n for n in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(n) is not signal.SIG_IGN]
        self._before = {number: signal.signal(number, self._stop) for number in heeded}

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Put a signal off until the end of the block. Raises KeyboardInterrupt there if one came."""
        self._sending = True
        try:
            yield
        finally:
            self._sending = False
        if self._asked:
            raise KeyboardInterrupt

    def close(self) -> None:
        """Restore what the signals did before."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _stop(self, *_: object) -> None:
        if self._asked or not self._sending:
            raise KeyboardInterrupt
        self._asked = True
