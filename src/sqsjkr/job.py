"""A job: what a message body asks for. Bodies are read as the Go original reads them (go-semantics section 5).

``Job`` is the one declaration of a job's fields: decoding, encoding, the options of ``sqsjkr send``, the JSON Schema
and the reference table all follow it. A new field is declared there, and used where it has its effect.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from datetime import datetime
from enum import Enum
from types import MappingProxyType
from typing import Any, NoReturn, TypeAlias

from sqsjkr import durations
from sqsjkr.errors import InvalidJob

_Pairs: TypeAlias = tuple[tuple[str, object], ...]
"""A JSON object as its pairs in order: a dict would hide the duplicates, which have a meaning. Arrays are lists."""

LONGEST_LOCK_ID = 2048
"""Bytes: the longest key that DynamoDB takes (AWS: Constraints in Amazon DynamoDB)."""

_MOST_WRAPPINGS = 6  # the deepest that makes sense: text > SNS > text > EventBridge > text, and one to spare
_SHOWN = 60
_FIRST_INEXACT = 2.0**53
_EXPECTED = 'expected a JSON object such as {"command": "true"}'
_SURROGATE = re.compile("[\ud800-\udfff]")
_NUMBER = re.compile(r"[-+]?[0-9]+(\.[0-9]+)?([eE][-+]?[0-9]+)?")
_MOMENT = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[-+]\d\d:\d\d)", re.ASCII)
_END = re.compile(r"(?P<first>[1-9]\d{0,2})(-(?P<last>[1-9]\d{0,2}))?", re.ASCII)
_LAST_CODE = 255

SIGNAL, TIMEOUT, CRASH, ANY_OTHER = "signal", "timeout", "crash", "*"
"""The keys of ``on_exit`` that are no exit codes."""


class Kind(Enum):
    """What a field holds; the value is its type in the reference."""

    TEXT = "string"
    FLAG = "boolean"
    DURATION = "duration"
    COUNT = "whole number"
    MOMENT = "time"
    ENVIRONMENT = "object of strings"
    ARGUMENTS = "object of strings, numbers and booleans"
    VERBS = "object of verbs"

    @property
    def pairs(self) -> bool:
        """Whether it is an object of strings, ``KEY=VALUE`` on a command line."""
        return self in {Kind.ENVIRONMENT, Kind.ARGUMENTS, Kind.VERBS}


class Verb(Enum):
    """What becomes of a job whose command has ended in a certain way (``on_exit``)."""

    OK = "ok"
    """It has succeeded."""
    RETRY = "retry"
    """It has failed, and runs again while retries are left."""
    LATER = "later"
    """It could not do its work now, and runs again; this is no failure."""
    NEVER = "never"
    """It has failed and never runs again."""


VERBS_OF_CRASHES = (Verb.RETRY, Verb.NEVER)
"""What may be asked for the death of a worker: retries count it, or it is the end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """What everything but the code that acts on a field has to know about it."""

    kind: Kind
    meaning: str
    """The sentences of the schema and of the reference, as Markdown."""
    absent: str
    """What it means to leave the field out, as the reference says it."""
    help: str
    """The line in ``sqsjkr send --help``."""
    metavar: str = ""
    """The option's argument. A flag has none."""
    name: str = ""
    """The field's name in a body, if it is not that of the attribute."""
    alias: str = ""
    """A second name in a body, which the first one overrides."""
    alias_meaning: str = ""
    option: str = ""
    """The option of ``sqsjkr send``, if it is not made of the attribute."""
    required: str = ""
    """What was expected, if the field may not be empty."""
    without: str = ""
    """It counts only in a body without this field. With it, its value is not even looked at."""
    most_bytes: int = 0
    """The longest text in UTF-8. 0: no limit."""
    least: float = float("-inf")
    """The smallest duration or count."""
    most: float = float("inf")
    """The greatest count."""
    in_sections: bool = False
    """An operator may set it for jobs that leave it out (``[jobs]`` in the configuration)."""


def _is(kind: Kind, **facts: Any) -> dict[str, Declared]:
    return {"declared": Declared(kind=kind, **facts)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One command to run and the conditions it runs under. Its printed form leaves the environment out."""

    id: str
    """The message's id."""
    command: str = field(
        metadata=_is(
            Kind.TEXT,
            meaning="The command line, run with `sh -c`.",
            absent="an error, unless the body has a `job`",
            help="the shell command, as one word",
            metavar="COMMAND",
            required="the shell command to run",
        )
    )
    """What ``sh -c`` runs. Holds no NUL. Empty only in a job that has a name."""
    name: str = field(
        default="",
        metadata=_is(
            Kind.TEXT,
            meaning="The name of a job in the worker's [trust file](trust-file.md), which says what it runs. "
            "Instead of `command`.",
            absent="no name",
            help="the name of a job in the worker's trust file, instead of a command",
            metavar="NAME",
            name="job",
            option="--job",
            without="command",
        ),
    )
    """The name under which the operator has published the job; "" for a job that brings its command."""
    args: Mapping[str, str] = field(
        default_factory=dict,
        repr=False,
        hash=False,
        metadata=_is(
            Kind.ARGUMENTS,
            meaning="The arguments of that job. A number becomes its shortest text, a boolean `true` or `false`; "
            "`null` leaves an argument out.",
            absent="`{}`",
            help="an argument of that job; may be repeated",
            metavar="NAME=VALUE",
            option="--arg",
            without="command",
        ),
    )
    """The arguments of a job that has a name, as text. Nothing here holds a NUL."""
    env: Mapping[str, str] = field(
        default_factory=dict,
        repr=False,
        hash=False,
        metadata=_is(
            Kind.ENVIRONMENT,
            meaning="Environment variables for the command, on top of the daemon's own. "
            "A value of `null` is an empty string.",
            absent="`{}`",
            help="set a variable for the job; may be repeated",
            metavar="KEY=VALUE",
            name="envs",
            alias="env",
            alias_meaning="The same as `envs`, which wins where both name a variable. The Go daemon ignores `env`: "
            "write `envs` while one of its daemons reads the queue.",
        ),
    )
    """Variables on top of the daemon's own. Names hold no "=", nothing here holds a NUL."""
    event_id: str = field(
        metadata=_is(
            Kind.TEXT,
            meaning="The producer's name for this event. It appears in the log, in the lock's row and in "
            "`SQSJKR_EVENT_ID`, and need not be unique. Empty: as if it were left out.",
            absent="the id of the message",
            help="your name for this event (default: the message id)",
            metavar="ID",
        )
    )
    """The producer's name for this event; the message's id when the producer gave none."""
    lock_id: str = field(
        default="",
        metadata=_is(
            Kind.TEXT,
            meaning="Jobs with the same `lock_id` never run at the same time, on any number of hosts. "
            f"At most {LONGEST_LOCK_ID} bytes.",
            absent="no lock",
            help="never run together with another job of this lock id",
            metavar="ID",
            most_bytes=LONGEST_LOCK_ID,
            in_sections=True,
        ),
    )
    """Jobs with one lock_id never run together. Empty: no lock."""
    life_time: float = field(
        default=0.0,
        metadata=_is(
            Kind.DURATION,
            meaning="How long after it was sent the job may still start. `0`: for ever. Negative: it is over already.",
            absent="`0`",
            help="start the job within this time or not at all: 90, 1h30m",
            metavar="TIME",
            in_sections=True,
        ),
    )
    """Seconds after it was sent during which the job may start. 0: for ever; negative: over already."""
    abort_if_locked: bool = field(
        default=False,
        metadata=_is(
            Kind.FLAG,
            meaning="Give the job up when its lock is taken. Without it the job waits until the lock is free or its "
            "`life_time` is over.",
            absent="`false`",
            help="if the lock is taken, give the job up instead of waiting",
            in_sections=True,
        ),
    )
    """Give the job up, rather than wait, when its lock is taken."""
    disable_life_time_trigger: bool = field(
        default=False,
        metadata=_is(
            Kind.FLAG,
            meaning="Do not run the daemon's `life_time_trigger` when this job is over its `life_time`.",
            absent="`false`",
            help="if the job comes too late, do not run the daemon's life_time_trigger",
            in_sections=True,
        ),
    )
    """Do not run the daemon's ``life_time_trigger`` for this job."""
    timeout: float = field(
        default=0.0,
        metadata=_is(
            Kind.DURATION,
            meaning="How long one run of the command may take. Then all its processes get TERM, and KILL after the "
            "daemon's `kill_after`. `0`: no limit.",
            absent="`0`",
            help="end a run that takes longer than this: 90, 1h30m",
            metavar="TIME",
            least=0,
            in_sections=True,
        ),
    )
    """Seconds that one attempt may run. 0: for ever."""
    retries: int = field(
        default=0,
        metadata=_is(
            Kind.COUNT,
            meaning="How often the job is run again after a failure: an exit code other than 0, a signal, or the end "
            "of its `timeout`. Runs that sqsjkr cut off (a stop, a lost lease) are no failures. At most 1000.",
            absent="`0`",
            help="run the job again after a failure, this often at most",
            metavar="N",
            least=0,
            most=1000,
            in_sections=True,
        ),
    )
    """How often it is run again after a failure."""
    retry_delay: float = field(
        default=30.0,
        metadata=_is(
            Kind.DURATION,
            meaning="The pause before the first retry. It doubles with each failure, up to an hour (or stays as it is "
            "if it is longer), and up to a quarter is added at random.",
            absent="`30`",
            help="pause before the first retry, doubled for each further one (default: 30)",
            metavar="TIME",
            least=0,
            in_sections=True,
        ),
    )
    """Seconds before the first retry."""
    on_exit: Mapping[str, Verb] = field(
        default_factory=dict,
        hash=False,
        metadata=_is(
            Kind.VERBS,
            meaning='What an end of the command means, by its exit code: `"3"`, `"64-78"`, `"signal"`, `"timeout"`, '
            '`"crash"` (its worker died), or `"*"` for every failure that is not named. The verbs are `ok`, `retry`, '
            "`later` (not now: run again after `retry_delay`, not counted) and `never` (to the dead-letter queue). "
            "With `retries`, 75 is `later` and 65 `never` unless you name them.",
            absent="`{}`",
            help="what an exit code means: ok, retry, later or never; CODE may be 3, 64-78, signal, timeout, crash or "
            "*; may be repeated",
            metavar="CODE=VERB",
            in_sections=True,
        ),
    )
    """What an end of the command means, by exit code, range of exit codes, or one of the words above."""
    not_before: float = field(
        default=0.0,
        metadata=_is(
            Kind.MOMENT,
            meaning="The job does not start before this time: RFC 3339 (`2026-12-01T03:00:00+01:00`), or seconds since "
            "1970. `life_time` counts from then.",
            absent="at once",
            help="do not start the job before this time: 2026-12-01T03:00:00Z, or seconds since 1970",
            metavar="WHEN",
            least=0,
        ),
    )
    """When it may start, in epoch seconds on the queue's clock. 0: at once."""
    signed: str = field(default="", repr=False, compare=False)
    """The text that ``signature`` is for, if the job came in a signed envelope."""
    signature: str = field(default="", repr=False, compare=False)
    """The signature in that envelope."""
    given: frozenset[str] = field(default=frozenset(), repr=False, compare=False)
    """The fields that the message itself sets, by their names here. An empty text counts as left out."""

    def expired(self, age: float, *, sent_at: float = 0.0) -> bool:
        """Whether it is too old to start ``age`` seconds after it was sent at ``sent_at`` (epoch seconds)."""
        return age > self.latest_start(sent_at)

    def first_start(self, sent_at: float) -> float:
        """Return from which age on it may start, if it was sent at ``sent_at`` (epoch seconds)."""
        return max(0.0, self.not_before - sent_at)

    def latest_start(self, sent_at: float) -> float:
        """Return until which age it may start, if it was sent at ``sent_at`` (epoch seconds)."""
        if self.life_time < 0:
            return float("-inf")
        return self.first_start(sent_at) + self.life_time if self.life_time else float("inf")


DECLARED: Mapping[str, Declared] = MappingProxyType(
    {item.name: item.metadata["declared"] for item in fields(Job) if item.metadata}
)
"""Every field of a body, by its attribute of ``Job``, in the order of the reference."""

_DEFAULTS = {
    item.name: item.default if item.default is not MISSING else {} if item.default_factory is not MISSING else ""
    for item in fields(Job)
}
_ATTRIBUTES = {
    name: attribute
    for attribute, declared in DECLARED.items()
    for name in (declared.name or attribute, declared.alias)
    if name
}
_REQUIRED = tuple(attribute for attribute, declared in DECLARED.items() if declared.required)
_ENVIRONMENTS = {
    attribute: (declared.alias, declared.name or attribute)  # the second one overrides the first
    for attribute, declared in DECLARED.items()
    if declared.kind is Kind.ENVIRONMENT
}
NAMES = tuple(_ATTRIBUTES)
"""Every name that a field may have in a body."""


def decode(body: str, message_id: str) -> Job:
    """Read the job in a message body. Raises InvalidJob with one line that shows no environment value.

    Every body that Go's encoding/json accepts has the same meaning here: names in any case, the last of a
    duplicate wins, null says nothing, half a surrogate pair becomes U+FFFD. SNS notifications, EventBridge events,
    signed envelopes and JSON text within JSON text are unwrapped, unless the object has a ``command`` or a ``job`` of
    its own.
    """
    wrappings = _Wrappings()
    try:
        return _job(_unwrap(body, wrappings), message_id, wrappings)
    except InvalidJob as e:
        if wrappings.names:
            raise InvalidJob(f"{e} (inside {', inside '.join(reversed(wrappings.names))})") from None
        raise


def event_id_in(body: str) -> str:
    """Return the event id that a body names even if it is not a valid job, for the log; "" if none can be read."""
    try:
        pairs = _unwrap(body, _Wrappings())
    except InvalidJob:
        return ""
    named = [value for name, value in pairs if _ATTRIBUTES.get(name.casefold()) == "event_id"]
    return named[-1] if named and isinstance(named[-1], str) else ""


def encode(job: Job) -> str:
    """Write the body that carries this job, for this daemon and for the Go original. What is not set is left out.

    Only characters that SQS accepts (API reference, SendMessage). Nothing is checked: ``decode`` does that.
    """
    body = {}
    for attribute, declared in DECLARED.items():
        value = getattr(job, attribute)
        if value == _DEFAULTS[attribute] and attribute not in job.given:
            continue
        if declared.kind is Kind.DURATION:
            seconds = max(-durations.LONGEST, min(durations.LONGEST, value))
            value = int(seconds) if seconds.is_integer() else durations.format(seconds)
        elif declared.kind is Kind.MOMENT:
            value = int(value) if value.is_integer() else value
        elif declared.kind in {Kind.ENVIRONMENT, Kind.ARGUMENTS}:
            value = dict(value)
        elif declared.kind is Kind.VERBS:
            value = {end: verb.value for end, verb in value.items()}
        body[declared.name or attribute] = value
    return for_sqs(_whole_text(json.dumps(body, ensure_ascii=False)))


def for_sqs(body: str) -> str:
    """Escape the two characters that JSON allows in a string and SQS does not (API reference, SendMessage)."""
    return body.replace("\ufffe", "\\ufffe").replace("\uffff", "\\uffff")


def field_value(attribute: str, value: object) -> object:
    """Read one field as a message body's is read, from plain Python values. Raises ``InvalidJob``."""
    value = _READERS[DECLARED[attribute].kind](attribute, _as_json(value))
    _check(attribute, value)
    return value


def unknown_names(body: str) -> list[str]:
    """List the names in a body that no field has. The daemon ignores them, as Go does; a typo looks like one.

    Empty for a body that came in a wrapping (SNS, EventBridge, JSON text): it is another service's to write. Raises
    InvalidJob if the body is not JSON.
    """
    wrappings = _Wrappings()
    pairs = _unwrap(body, wrappings)
    return [] if wrappings.names else [name for name, _ in pairs if name.casefold() not in _ATTRIBUTES]


@dataclass(slots=True)
class _Wrappings:
    """What a job came in."""

    names: list[str] = field(default_factory=list)
    """Outermost first."""
    signed: str = ""
    signature: str = ""


def _constant(name: str) -> NoReturn:
    raise InvalidJob(f"body: not JSON ({name} is not a JSON number), {_EXPECTED}")


# Whole numbers are read as floats: Python refuses an int of 4,300 digits, which Go reads over in an unknown field.
_DECODER = json.JSONDecoder(object_pairs_hook=tuple, parse_int=float, parse_constant=_constant)


def _parse(text: str) -> object:
    """Parse ``text``. The error does not show it: an environment value may be in it."""
    try:
        return _DECODER.decode(text)
    except json.JSONDecodeError as e:
        raise InvalidJob(f"body: not JSON ({e.msg.removesuffix(' at')} at character {e.pos}), {_EXPECTED}") from None
    except RecursionError:
        raise InvalidJob(f"body: nested too deeply, {_EXPECTED}") from None


def _unwrap(body: str, wrappings: _Wrappings) -> _Pairs:
    """Take the job's object out of its wrappings, and note them in ``wrappings``."""
    value = _parse(body)
    for _ in range(_MOST_WRAPPINGS):
        if isinstance(value, str):
            wrappings.names.append("JSON text")
            value = _parse(value)
        elif isinstance(value, tuple) and not _is_a_job(value):
            inner = _inside(value, wrappings)
            if inner is value:
                return value
            value = inner
        else:
            break
    if value is None:
        return ()
    if not isinstance(value, tuple):
        raise InvalidJob(f"body: {_kind(value)}, {_EXPECTED}")
    return value


def _is_a_job(pairs: _Pairs) -> bool:
    return any(isinstance(value, str) and name.casefold() in {"command", "job"} for name, value in pairs)


def _inside(pairs: _Pairs, wrappings: _Wrappings) -> object:
    """Return what an SNS notification, an EventBridge event or a signed envelope carries; anything else unchanged.

    Sources: Amazon SNS, "Parsing message formats" (HTTP/S notification JSON, the same on a queue); Amazon EventBridge,
    "Event structure reference"; EventBridge Scheduler's own event has its detail as JSON text.
    """
    given = dict(pairs)
    if given.get("Type") == "Notification" and {"TopicArn", "Message"} <= given.keys():
        wrappings.names.append("the Message of an SNS notification")
        return given["Message"]
    if {"detail-type", "source", "detail"} <= given.keys():
        wrappings.names.append("the detail of an EventBridge event")
        return given["detail"]
    signed, signature = given.get("signed"), given.get("signature")
    if isinstance(signed, str) and isinstance(signature, str) and not wrappings.signature:
        wrappings.names.append("a signed envelope")
        wrappings.signed, wrappings.signature = signed, signature
        return signed
    return pairs


def _job(pairs: _Pairs, message_id: str, wrappings: _Wrappings) -> Job:
    values: dict[str, Any] = {}
    environments: dict[str, dict[str, str]] = {}
    conditional: dict[str, tuple[str, object]] = {}
    for key, value in pairs:
        name = key.casefold()
        attribute = _ATTRIBUTES.get(name)
        if attribute is None:
            continue
        kind = DECLARED[attribute].kind
        if DECLARED[attribute].without:
            conditional[attribute] = name, value
        elif kind is Kind.ENVIRONMENT:  # Go adds a second map to the first, and null empties it
            variables = environments.setdefault(name, {})
            variables.clear() if value is None else variables.update(_environment(name, value))
        elif value is not None:
            values[attribute] = _READERS[kind](name, value)
    asked = {attribute for attribute, (_, value) in conditional.items() if value is not None and value != ""}
    if not values.get("command"):
        values |= {attribute: _READERS[DECLARED[attribute].kind](*conditional[attribute]) for attribute in asked}
    _check_all(values)
    if environments:
        values |= _joined(environments)
    given = frozenset(name for name, value in values.items() if value != "") | asked
    values["event_id"] = values.get("event_id") or message_id
    values.setdefault("command", "")
    return Job(id=message_id, given=given, signed=wrappings.signed, signature=wrappings.signature, **values)


def _joined(environments: Mapping[str, Mapping[str, str]]) -> dict[str, dict[str, str]]:
    """Join what the two names of a field set, by the field's attribute."""
    return {
        attribute: {key: text for name in names for key, text in environments.get(name, {}).items()}
        for attribute, names in _ENVIRONMENTS.items()
    }


def _check_all(values: Mapping[str, Any]) -> None:
    """Raise ``InvalidJob`` if a required field is missing, or a value outside the limits of its field."""
    for attribute in _REQUIRED:
        if not values.get(attribute) and not values.get("name"):
            raise InvalidJob(f"{attribute}: missing or empty, expected {DECLARED[attribute].required}")
    for attribute, value in values.items():
        _check(attribute, value)


def _check(attribute: str, value: object) -> None:
    """Raise ``InvalidJob`` if a value is outside the limits of its field."""
    declared = DECLARED[attribute]
    if isinstance(value, str) and declared.most_bytes and len(value.encode()) > declared.most_bytes:
        raise InvalidJob(f"{attribute} = {_shown(value)}: too long, expected at most {declared.most_bytes} bytes")
    if isinstance(value, float | int) and not declared.least <= value <= declared.most:
        upper = f" and at most {declared.most:g}" if declared.most < float("inf") else ""
        raise InvalidJob(f"{attribute} = {value:g}: expected at least {declared.least:g}{upper}")


def _as_json(value: object) -> object:
    """Return a plain value as ``_DECODER`` would have read it."""
    if isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, Mapping):
        return tuple((str(key), _as_json(item)) for key, item in value.items())
    return value


def _text(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise InvalidJob(f"{name} = {_shown(value)}: expected a string")
    if "\0" in value:
        raise InvalidJob(f"{name} = {_shown(value)}: holds a NUL character, expected text that a process can be given")
    return _whole_text(value)


def _flag(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise InvalidJob(f"{name} = {_shown(value)}: expected true or false")
    return value


def _environment(name: str, value: object) -> dict[str, str]:
    """Read the variables in an object. No error here shows a value: it may be a secret."""
    if not isinstance(value, tuple):
        raise InvalidJob(f"{name}: {_kind(value)}, expected an object of strings")
    variables = {}
    for key, content in value:
        text = "" if content is None else content  # as Go reads it
        if not isinstance(text, str):
            raise InvalidJob(f"{name}[{_shown(key)}]: {_kind(text)}, expected a string")
        if "\0" in key or "\0" in text:
            raise InvalidJob(f"{name}[{_shown(key)}]: holds a NUL character, expected text that a process can be given")
        # A process is given "key=value": with a "=" in the key, the variable's name ends there.
        variable, equals, rest = key.partition("=")
        variables[_whole_text(variable)] = _whole_text(f"{rest}={text}" if equals else text)
    return variables


def _arguments(name: str, value: object) -> dict[str, str]:
    """Read the arguments in an object, each as text. No error here shows a value."""
    if not isinstance(value, tuple):
        raise InvalidJob(f"{name}: {_kind(value)}, expected an object of strings, numbers and booleans")
    last = dict(value)
    return {key: _argument(name, key, content) for key, content in last.items() if content is not None}


def _argument(name: str, key: str, value: object) -> str:
    if isinstance(value, str) and "\0" not in value:
        return _whole_text(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and abs(value) < _FIRST_INEXACT:
        return str(int(value)) if value.is_integer() else repr(value)
    problem = f"{_kind(value)}, expected a string, a number or a boolean"
    if isinstance(value, float):
        problem = "a number that JSON cannot carry exactly, write it as a string"
    elif isinstance(value, str):
        problem = "holds a NUL character, expected text that a process can be given"
    raise InvalidJob(f"{name}[{_shown(key)}]: {problem}")


def _seconds(name: str, value: object) -> float:
    """Seconds: a number, a number as text, or a Go duration."""
    reason = "not a duration"
    if isinstance(value, str | float):
        try:
            go_text = isinstance(value, str) and not _NUMBER.fullmatch(value)
            seconds = durations.parse(str(value)) if go_text else float(value)
            return max(-durations.LONGEST, min(durations.LONGEST, seconds))
        except ValueError as e:
            reason = str(e)
    expected = 'expected a Go duration such as "90s" or "1h30m", or whole seconds'
    raise InvalidJob(f"{name} = {_shown(value)}: {reason}, {expected}")


def _count(name: str, value: object) -> int:
    """A whole number: also as text, which is how a command line gives it."""
    if isinstance(value, str) and value.isascii() and value.isdecimal():
        value = float(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    raise InvalidJob(f"{name} = {_shown(value)}: expected a whole number")


def _moment(name: str, value: object) -> float:
    """Epoch seconds: a number, a number as text, or an RFC 3339 time."""
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        value = float(value)
    if isinstance(value, float) and value <= durations.LONGEST:
        return value
    if isinstance(value, str) and _MOMENT.fullmatch(value):
        with contextlib.suppress(ValueError):
            return datetime.fromisoformat(value.upper()).timestamp()
    expected = "expected a time with its zone such as 2026-12-01T03:00:00+01:00, or seconds since 1970"
    raise InvalidJob(f"{name} = {_shown(value)}: {expected}")


def _verbs(name: str, value: object) -> dict[str, Verb]:
    """What each end of a command means."""
    if not isinstance(value, tuple):
        raise InvalidJob(f'{name}: {_kind(value)}, expected an object such as {{"3": "never"}}')
    verbs: dict[str, Verb] = {}
    for end, word in value:
        place = f"{name}[{_shown(end)}]"
        if not _is_end(end):
            raise InvalidJob(f"{place}: {_EXPECTED_END}")
        allowed = [verb.value for verb in (VERBS_OF_CRASHES if end == CRASH else Verb)]
        if word not in allowed:
            raise InvalidJob(f"{place} = {_shown(word)}: expected one of {', '.join(allowed)}")
        verbs[end] = Verb(word)
    return verbs


_EXPECTED_END = 'expected an exit code such as "3", a range such as "64-78", "signal", "timeout", "crash" or "*"'


def _is_end(key: str) -> bool:
    if key in {SIGNAL, TIMEOUT, CRASH, ANY_OTHER}:
        return True
    codes = _END.fullmatch(key)
    return codes is not None and int(codes["first"]) <= int(codes["last"] or codes["first"]) <= _LAST_CODE


_READERS: Mapping[Kind, Callable[[str, object], object]] = {
    Kind.TEXT: _text,
    Kind.FLAG: _flag,
    Kind.DURATION: _seconds,
    Kind.COUNT: _count,
    Kind.MOMENT: _moment,
    Kind.VERBS: _verbs,
    Kind.ARGUMENTS: _arguments,
}


def _whole_text(text: str) -> str:
    """``text`` with every half of a surrogate pair replaced, so that it can be written as UTF-8."""
    return text if text.isascii() else _SURROGATE.sub("\ufffd", text)


def _shown(value: object) -> str:
    """Shorten a value for an error message: one line, and nothing of what lists and objects hold."""
    if isinstance(value, list | tuple):
        return "[...]" if isinstance(value, list) else "{...}"
    if isinstance(value, float):
        return f"{value:.15g}"
    if isinstance(value, str) and len(value) > _SHOWN:
        value = f"{value[:_SHOWN]}..."
    text = json.dumps(value, ensure_ascii=False)
    return "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text)


def _kind(value: object) -> str:
    """Name the type of a JSON value."""
    return {bool: "a boolean", str: "a string", list: "a list", tuple: "an object"}.get(type(value), "a number")
