"""What a setting may be. A rule returns the value as it is kept, or raises ValueError with what was expected."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Collection

from sqsjkr import backends, durations

_VARIABLES = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\*?|\*")
_QUEUE_URL = re.compile(r"https?://[^/\s]+/\S+")
_HTTP_URL = re.compile(r"https?://[^/\s]+(/\S*)?")
_MOST_SHOWN = 60
_MOST_SOCKET = 103  # bytes: sun_path holds 108 on Linux and 104 on macOS, with a NUL at the end

Rule = Callable[[object], object]


def text(value: object) -> str:
    """Any string. No process takes one with a NUL in it as an argument, a variable or a path."""
    if isinstance(value, str) and "\0" not in value:
        return value
    if type(value) in {int, float}:
        raise ValueError(f'a string: write "{shown(value)}", in quotes')
    raise ValueError("a string without NUL characters" if isinstance(value, str) else "a string")


def filled(value: object) -> str:
    """A string that is not empty."""
    if string := text(value):
        return string
    raise ValueError("a string that is not empty")


def queue_name(value: object) -> str:
    """The name of a queue, not its URL or ARN."""
    if set(string := text(value)) & set("/:"):
        raise ValueError("a queue's name; its address goes into queue_url")
    return string


def queue_url(value: object) -> str:
    """The URL of a queue, or ""."""
    string = text(value)
    if string and not _QUEUE_URL.fullmatch(string):
        raise ValueError("a queue's whole address, as https://sqs.REGION.amazonaws.com/ACCOUNT/NAME")
    return string


def http_url(value: object) -> str:
    """The address of a server, or ""."""
    string = text(value)
    if string and not _HTTP_URL.fullmatch(string):
        raise ValueError("an address as http://HOST:PORT")
    return string


def flag(value: object) -> bool:
    """True or false."""
    if isinstance(value, bool):
        return value
    raise ValueError("true or false")


def socket_path(value: object) -> str:
    """A path that a Unix socket can have, or ""."""
    string = text(value)
    if len(os.fsencode(string)) > _MOST_SOCKET:
        raise ValueError(f"a path of at most {_MOST_SOCKET} bytes: a Unix socket's cannot be longer")
    return string


def anything(value: object) -> object:
    """Any value: it is checked elsewhere."""
    return value


def argv(value: object) -> tuple[str, ...]:
    """A program and its arguments; an empty list is none."""
    words = value if isinstance(value, list | tuple) else None
    if (
        words is None
        or not all(isinstance(word, str) and "\0" not in word for word in words)
        or words[:1] in ([""], ("",))
    ):
        raise ValueError('a list of strings such as ["nice", "-n", "10"]')
    return tuple(words)


def variables(value: object) -> tuple[str, ...]:
    """Names of variables, or beginnings of them that end with ``*``."""
    names = value if isinstance(value, list | tuple) else None
    if names is None or not all(isinstance(name, str) and _VARIABLES.fullmatch(name) for name in names):
        raise ValueError('a list of names such as ["PATH", "LC_*"]')
    return tuple(names)


def whole(least: int, most: int | None = None, *, zero: int | None = None) -> Callable[[object], int]:
    """A whole number from ``least`` to ``most``. ``zero`` is what 0 stands for, which is Go's "not given"."""

    def rule(value: object) -> int:
        if isinstance(value, int) and not isinstance(value, bool):
            if value == 0 and zero is not None:
                return zero
            if value >= least and (most is None or value <= most):
                return value
        raise ValueError(f"a whole number >= {least}" + ("" if most is None else f" and <= {most}"))

    return rule


def seconds(most: float, *, above_zero: bool = False) -> Callable[[object], float]:
    """A duration up to ``most`` seconds: a number of seconds, or a string as Go writes durations."""

    def rule(value: object) -> float:
        try:
            number = durations.parse(value) if isinstance(value, str) else value
        except ValueError:
            number = None
        if isinstance(number, int | float) and not isinstance(number, bool):
            enough = number > 0 if above_zero else number >= 0
            if enough and number <= most:
                return float(number)
        limits = f"{'>' if above_zero else '>='} 0 and <= {most:g}"
        raise ValueError(f'seconds {limits}, as a number or as a string like "1m30s"')

    return rule


def choice(*names: str, or_else: str = "") -> Callable[[object], str]:
    """One of ``names``."""

    def rule(value: object) -> str:
        if isinstance(value, str) and value in names:
            return value
        near = nearest(value, names) if isinstance(value, str) else ""
        among = ", ".join(f'"{name}"' for name in names)
        raise ValueError(f"one of {among}{or_else}" + (f'; did you mean "{near}"?' if near else ""))

    return rule


def choices(*names: str) -> Callable[[object], frozenset[str]]:
    """Any of ``names``, in a list."""
    one = choice(*names)

    def rule(value: object) -> frozenset[str]:
        if not isinstance(value, list | tuple | frozenset | set):
            raise ValueError(f'a list such as ["{names[0]}", "{names[1]}"]')  # noqa: TRY004 - as every rule
        for word in value:
            try:
                one(word)
            except ValueError as expected:
                raise ValueError(f"a list of words; {shown(word)} is none: {expected}") from None
        return frozenset(value)

    return rule


_with_place = "".join(f', "{name}:{row.place}"' for name, row in backends.BACKENDS.items() if row.table and row.place)
_built_in = choice(*backends.TABLES, backends.NONE, or_else=f'{_with_place} or "package.module:Class"')


def backend(value: object) -> str:
    """A backend's name as ``backends.parse`` reads it; "" is the one that suits the queue."""
    string = text(value) if isinstance(value, str) else ""
    if value == "" or backends.parse(string):
        return string
    return _built_in(value)


def nearest(name: str, names: Collection[str], least: float = 0.65) -> str:
    """The one of ``names`` that ``name`` may misspell, "" if none. ``least`` of 1 is the same word, 0 any word."""
    # Imported where needed: a worker whose configuration has no mistakes needs no such module in its memory.
    import difflib  # noqa: PLC0415

    if len(name) < len("abc"):  # one slip in two letters leaves half of them
        least = 0.5
    return next(iter(difflib.get_close_matches(name.lower(), names, n=1, cutoff=least)), "")


def shown(value: object) -> str:
    """The value as TOML would have it, on one line of bounded length."""
    match value:
        case dict():
            return "{...}"
        case list():
            return "[...]"
        case str() | bool():
            line = json.dumps(value[: _MOST_SHOWN * 2] if isinstance(value, str) else value, ensure_ascii=False)
        case int():
            line = str(value) if abs(value) < 10**_MOST_SHOWN else "a very large number"
        case _:
            line = str(value)
    line = "".join(char if char.isprintable() else f"\\u{ord(char):04x}" for char in line)
    return line if len(line) <= _MOST_SHOWN else f"{line[: _MOST_SHOWN - 3]}..."
