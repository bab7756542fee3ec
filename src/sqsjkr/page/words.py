"""How values read on the page: durations, times, sizes, and text that may hold anything."""

from __future__ import annotations

import logging
from datetime import UTC, datetime

from sqsjkr.outcome import Counter, Outcome

_UNITS = ((86_400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s"))
DASH = "\N{EN DASH}"
_SIZES = ("bytes", "KiB", "MiB", "GiB", "TiB")


def lasting(seconds: float | None) -> str:
    """Return a duration in two units at most: "0.25s", "42s", "3m12s", "3h12m", "4d2h"; a dash for None."""
    if seconds is None:
        return DASH
    if seconds < 10:  # noqa: PLR2004 - below, tenths of a second tell one job from another
        return f"{max(0.0, seconds):.2f}".rstrip("0").rstrip(".") + "s"
    whole = int(seconds)
    for unit, name, part, lesser in _UNITS:
        if whole >= unit:
            rest = whole % unit // part
            return f"{whole // unit}{name}{rest}{lesser}" if rest else f"{whole // unit}{name}"
    return f"{whole}s"


def age(seconds: float) -> str:
    """Return how long ago something was, to the second."""
    return lasting(float(int(seconds))) if seconds >= 1 else "0s"


def exactly(at: float) -> str:
    """Return a time to the millisecond, in this host's time zone and in UTC."""
    local = datetime.fromtimestamp(round(at, 3)).astimezone()
    utc = datetime.fromtimestamp(round(at, 3), UTC)
    text = f"{local:%Y-%m-%d %H:%M:%S}.{local.microsecond // 1000:03d} {local:%z}"
    return text if local.utcoffset() == utc.utcoffset() else f"{text} = {utc:%H:%M:%S} UTC"


def stamp(at: float) -> str:
    """Return a time for machines: RFC 3339 in UTC."""
    return datetime.fromtimestamp(round(at, 3), UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def clock_time(at: float) -> str:
    """Return the time of day in this host's time zone, to the minute."""
    return f"{datetime.fromtimestamp(at).astimezone():%H:%M}"


def size(number: int | None) -> str:
    """Return a number of bytes in the unit in which it is short; a dash for None."""
    if number is None:
        return DASH
    value, unit = float(number), 0
    while value >= 1024 and unit < len(_SIZES) - 1:  # noqa: PLR2004 - the units are binary
        value, unit = value / 1024, unit + 1
    return f"{value:.0f} {_SIZES[unit]}" if unit == 0 or value >= 100 else f"{value:.1f} {_SIZES[unit]}"  # noqa: PLR2004


def visible(text: str) -> str:
    r"""Return text with its lines, and with what an eye would miss or misread made visible: ``\x1b``, ``\u202e``."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_shown(character) for character in text)


def _shown(character: str) -> str:
    if character in "\n\t" or character.isprintable():
        return character
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")


def tone(label: str) -> str:
    """Return how an outcome reads: good, bad, warn or mute. One that a later release has added is mute."""
    outcome = next((each for each in Outcome if each.label == label), None)
    if outcome is None:
        return "mute"
    if outcome.counter is Counter.SUCCEEDED:
        return "good"
    if outcome.level >= logging.ERROR:
        return "bad"
    return "warn" if outcome.level >= logging.WARNING else "mute"
