"""A job: what a message body asks for. Bodies are read as the Go original reads them (go-semantics section 5)."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NoReturn, TypeAlias

from sqsjkr import durations
from sqsjkr.errors import InvalidJob

_Pairs: TypeAlias = tuple[tuple[str, object], ...]
"""A JSON object as its pairs in order: a dict would hide the duplicates, which have a meaning. Arrays are lists."""

LONGEST_LOCK_ID = 2048
"""Bytes: the most that a key in DynamoDB may have (AWS: Constraints in Amazon DynamoDB)."""

_TEXTS = {"command": "", "event_id": "", "lock_id": ""}
_FLAGS = {"abort_if_locked": False, "disable_life_time_trigger": False}
_MOST_WRAPPINGS = 6  # the deepest that makes sense: text > SNS > text > EventBridge > text, and one to spare
_SHOWN = 60
_EXPECTED = 'expected a JSON object such as {"command": "true"}'
_SURROGATE = re.compile("[\ud800-\udfff]")
_NUMBER = re.compile(r"[-+]?[0-9]+(\.[0-9]+)?([eE][-+]?[0-9]+)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One command to run and the conditions it runs under. Its printed form leaves the environment out."""

    id: str
    """The message's id."""
    command: str
    """What ``sh -c`` runs. Never empty, holds no NUL."""
    event_id: str
    """The producer's name for this event; the message's id when the producer gave none."""
    env: Mapping[str, str] = field(default_factory=dict, repr=False, hash=False)
    """Variables on top of the daemon's own. Names hold no "=", nothing here holds a NUL."""
    lock_id: str = ""
    """Jobs with one lock_id never run together. Empty: no lock."""
    life_time: float = 0.0
    """Seconds after it was sent during which the job may start. 0: for ever; negative: over already."""
    abort_if_locked: bool = False
    """Give the job up, rather than wait, when its lock is taken."""
    disable_life_time_trigger: bool = False
    """Do not run the daemon's ``life_time_trigger`` for this job."""

    def expired(self, age: float) -> bool:
        """Whether a job that was sent ``age`` seconds ago is too old to start."""
        return self.life_time < 0 or 0 < self.life_time < age


def decode(body: str, message_id: str) -> Job:
    """The job in a message body. Raises InvalidJob with one line that shows no environment value.

    Every body that Go's encoding/json accepts has the same meaning here: names in any case, the last of a
    duplicate wins, null says nothing, half a surrogate pair becomes U+FFFD. SNS notifications, EventBridge events
    and JSON text within JSON text are unwrapped, unless the object has a ``command`` of its own.
    """
    wrappings: list[str] = []
    try:
        return _job(_unwrap(body, wrappings), message_id)
    except InvalidJob as e:
        if wrappings:
            raise InvalidJob(f"{e} (inside {', inside '.join(reversed(wrappings))})") from None
        raise


def encode(
    *,
    command: str,
    event_id: str = "",
    env: Mapping[str, str] | None = None,
    lock_id: str = "",
    life_time: float = 0.0,
    abort_if_locked: bool = False,
    disable_life_time_trigger: bool = False,
) -> str:
    """The body that carries these fields, for this daemon and for the Go original. What is not set is left out.

    Only characters that SQS accepts (API reference, SendMessage). Nothing is checked: ``decode`` does that.
    """
    life_time = max(-durations.LONGEST, min(durations.LONGEST, life_time))
    fields = {
        "command": command,
        "event_id": event_id,
        "envs": dict(env or {}),
        "lock_id": lock_id,
        "life_time": int(life_time) if life_time.is_integer() else durations.format(life_time),
        "abort_if_locked": abort_if_locked,
        "disable_life_time_trigger": disable_life_time_trigger,
    }
    body = _whole_text(json.dumps({name: value for name, value in fields.items() if value}, ensure_ascii=False))
    return body.replace("\ufffe", "\\ufffe").replace("\uffff", "\\uffff")


def _constant(name: str) -> NoReturn:
    raise InvalidJob(f"body: not JSON ({name} is no JSON number), {_EXPECTED}")


# Whole numbers are read as floats: Python refuses an int of 4,300 digits, which Go reads over in an unknown field.
_DECODER = json.JSONDecoder(object_pairs_hook=tuple, parse_int=float, parse_constant=_constant)


def _parse(text: str) -> object:
    """The JSON value in ``text``. The error does not show the text: an environment value may be in it."""
    try:
        return _DECODER.decode(text)
    except json.JSONDecodeError as e:
        raise InvalidJob(f"body: not JSON ({e.msg} at character {e.pos}), {_EXPECTED}") from None
    except RecursionError:
        raise InvalidJob(f"body: nested too deeply, {_EXPECTED}") from None


def _unwrap(body: str, wrappings: list[str]) -> _Pairs:
    """The object that is the job, out of its wrappings, whose names are added to ``wrappings``, outermost first."""
    value = _parse(body)
    for _ in range(_MOST_WRAPPINGS):
        if isinstance(value, str):
            wrappings.append("JSON text")
            value = _parse(value)
        elif isinstance(value, tuple) and not _has_command(value):
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


def _has_command(pairs: _Pairs) -> bool:
    return any(isinstance(value, str) and name.casefold() == "command" for name, value in pairs)


def _inside(pairs: _Pairs, wrappings: list[str]) -> object:
    """What an SNS notification or an EventBridge event carries; anything else itself.

    Sources: Amazon SNS, "Parsing message formats" (HTTP/S notification JSON, the same on a queue); Amazon EventBridge,
    "Event structure reference"; EventBridge Scheduler's own event has its detail as JSON text.
    """
    given = dict(pairs)
    if given.get("Type") == "Notification" and {"TopicArn", "Message"} <= given.keys():
        wrappings.append("the Message of an SNS notification")
        return given["Message"]
    if {"detail-type", "source", "detail"} <= given.keys():
        wrappings.append("the detail of an EventBridge event")
        return given["detail"]
    return pairs


def _job(pairs: _Pairs, message_id: str) -> Job:
    texts, flags, envs = _TEXTS.copy(), _FLAGS.copy(), dict[str, dict[str, str]](env={}, envs={})
    life_time = 0.0
    for key, value in pairs:
        name = key.casefold()
        if name in envs:  # Go adds a second map to the first, and null empties it
            envs[name].clear() if value is None else envs[name].update(_environment(name, value))
        elif value is None:
            continue
        elif name in texts:
            texts[name] = _text(name, value)
        elif name in flags:
            flags[name] = _flag(name, value)
        elif name == "life_time":
            life_time = _seconds(value)
    if not texts["command"]:
        raise InvalidJob("command: missing or empty, expected the shell command to run")
    if len(texts["lock_id"].encode()) > LONGEST_LOCK_ID:
        raise InvalidJob(f"lock_id = {_shown(texts['lock_id'])}: too long, expected at most {LONGEST_LOCK_ID} bytes")
    return Job(
        id=message_id,
        command=texts["command"],
        event_id=texts["event_id"] or message_id,
        env=envs["env"] | envs["envs"],
        lock_id=texts["lock_id"],
        life_time=life_time,
        **flags,
    )


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
    """The variables in an object. No error here shows a value: secrets travel in them."""
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


def _seconds(value: object) -> float:
    """A life_time in seconds: a number, a number as text, or a Go duration."""
    reason = "not a duration"
    if isinstance(value, str | float):
        try:
            go_text = isinstance(value, str) and not _NUMBER.fullmatch(value)
            seconds = durations.parse(str(value)) if go_text else float(value)
            return max(-durations.LONGEST, min(durations.LONGEST, seconds))
        except ValueError as e:
            reason = str(e)
    expected = 'expected a Go duration such as "90s" or "1h30m", or whole seconds'
    raise InvalidJob(f"life_time = {_shown(value)}: {reason}, {expected}")


def _whole_text(text: str) -> str:
    """``text`` with every half of a surrogate pair replaced, so that it can be written as UTF-8."""
    return text if text.isascii() else _SURROGATE.sub("\ufffd", text)


def _shown(value: object) -> str:
    """A value as an error message shows it: short, on one line, and nothing of what lists and objects hold."""
    if isinstance(value, list | tuple):
        return "[...]" if isinstance(value, list) else "{...}"
    if isinstance(value, float):
        return f"{value:.15g}"
    if isinstance(value, str) and len(value) > _SHOWN:
        value = f"{value[:_SHOWN]}..."
    text = json.dumps(value, ensure_ascii=False)
    return "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text)


def _kind(value: object) -> str:
    """What a JSON value is, in words."""
    return {bool: "a boolean", str: "a string", list: "a list", tuple: "an object"}.get(type(value), "a number")
