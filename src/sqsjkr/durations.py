"""Durations as Go writes and reads them ("1h30m", "1.5s"): jobs and configurations of the Go original hold them."""

from __future__ import annotations

import contextlib
import json
import re

LONGEST = 9_223_372_036.0
"""Seconds: the longest whole-second duration that Go can hold, 292 years."""

_NANOSECONDS = {
    "ns": 1,
    "us": 10**3,
    "\u00b5s": 10**3,  # micro sign
    "\u03bcs": 10**3,  # Greek letter mu
    "ms": 10**6,
    "s": 10**9,
    "m": 60 * 10**9,
    "h": 3600 * 10**9,
}
_TERM = re.compile(r"([0-9]*)(?:\.([0-9]*))?([^.0-9]*)")
_MOST = 2**63  # nanoseconds: Go counts them in a signed 64-bit integer
_DIGITS_OF_MOST = 19
_MOST_DAYS = 100_000
_FRACTION_DIGITS = 400  # after 308 zeros Go's divisor is infinite: digits further on count for nothing


def parse(text: str) -> float:
    """Seconds in a duration such as "1h30m", "-1.5s", "500ms" or "0": what Go's ``time.ParseDuration`` takes.

    Cut to whole nanoseconds, as Go does. Raises ValueError with the reason in a few words, the text itself left out.
    """
    digits = text[1:] if text.startswith(("-", "+")) else text
    if digits == "0":
        return 0.0
    if not digits:
        raise ValueError("no number")
    negative = text.startswith("-")
    total, position = 0, 0
    while position < len(digits):
        term = _TERM.match(digits, position)
        assert term is not None  # noqa: S101 - the pattern matches nothing at all, too
        total += _term_ns(term[1], term[2] or "", term[3])
        if total > _MOST - (not negative):
            raise ValueError("longer than 292 years")
        position = term.end()
    return (-total if negative else total) / 10**9


def _term_ns(whole: str, fraction: str, unit: str) -> int:
    """Nanoseconds of one number with its unit."""
    if not whole and not fraction:
        raise ValueError("no number")
    if not unit:
        raise ValueError("missing unit")
    if unit not in _NANOSECONDS:
        raise ValueError(f"unknown unit {json.dumps(unit[:12])}")
    whole = whole.lstrip("0")
    if len(whole) > _DIGITS_OF_MOST:
        raise ValueError("longer than 292 years")
    return int(whole or "0") * _NANOSECONDS[unit] + _fraction_ns(fraction, _NANOSECONDS[unit])


def _fraction_ns(fraction: str, unit: int) -> int:
    """Nanoseconds of the digits after the point, in Go's floating-point steps so that the last one agrees."""
    value, scale = 0, 1.0
    for digit in fraction[:_FRACTION_DIGITS]:
        longer = value * 10 + int(digit)
        if value > (_MOST - 1) // 10 or longer > _MOST:
            break
        value, scale = longer, scale * 10
    return int(value * (unit / scale))


def format(seconds: float) -> str:  # noqa: A001 - always read as durations.format
    """The duration as Go's ``Duration.String`` prints it: "1m0s", "1.5s", "500ms", "0s", "-5m0s".

    Rounded to whole nanoseconds; what is beyond Go's 292 years is printed as 292 years.
    """
    seconds = max(-2 * LONGEST, min(2 * LONGEST, seconds))
    whole = int(seconds)
    ns = abs(whole * 10**9 + round((seconds - whole) * 10**9))
    if ns == 0:
        return "0s"
    sign = "-" if seconds < 0 else ""
    ns = min(ns, _MOST - 1)
    if ns < 10**9:
        unit = "ns" if ns < 10**3 else "\u00b5s" if ns < 10**6 else "ms"
        return f"{sign}{_decimal(ns, _NANOSECONDS[unit])}{unit}"
    minutes, ns = divmod(ns, 60 * 10**9)
    hours, minutes = divmod(minutes, 60)
    leading = f"{hours}h{minutes}m" if hours else f"{minutes}m" if minutes else ""
    return f"{sign}{leading}{_decimal(ns, 10**9)}s"


def _decimal(count: int, unit: int) -> str:
    """``count / unit`` with exactly the decimals it needs. ``unit`` is a power of ten."""
    whole, rest = divmod(count, unit)
    decimals = str(unit + rest)[1:].rstrip("0")
    return f"{whole}.{decimals}" if decimals else str(whole)


def since(text: str, now: float) -> float:
    """Return the moment that "2h", "7d" or "2026-11-21T03:00" means, as ``now`` counts: seconds since 1970.

    A time without an offset is one of this host's time zone. Raises ValueError with what was expected.
    """
    from datetime import datetime  # noqa: PLC0415 - for viewers only: a worker keeps in memory what it imports

    days = text[:-1] if text.endswith("d") else ""
    try:
        if days.isascii() and days.isdigit():
            return now - 86_400.0 * min(int(days), _MOST_DAYS)
        with contextlib.suppress(ValueError):
            return now - parse(text)
        return datetime.fromisoformat(text).astimezone().timestamp()
    except (ValueError, OverflowError):
        raise ValueError("expected a duration such as 2h or 7d, or a time such as 2026-11-21T03:00") from None
