"""The facts of a run as attributes of its claim's row. They ride on writes that are made anyway.

A write unit is 1,024 bytes (Amazon DynamoDB Developer Guide, "Read and write operations"), so all of them together stay
below that, whatever a producer sends; only the output of a failure may go beyond it.
"""

from __future__ import annotations

import base64
import contextlib
import json
import zlib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from sqsjkr.backends.dynamodb.rows import binary, decimal, number, number_of, text, text_of
from sqsjkr.runs import CUT, MOST_EARLIER, Earlier, Run

_LONGEST = {
    "EventId": 100,
    "LockId": 100,
    "Host": 50,
    "Queue": 70,
    "Sender": 50,
    "Detail": 160,
    "Message": 50,
    "Job": 64,
}
"""Bytes of a text that are kept."""
_TEXTS = 680
"""Bytes that all texts of a row may have together, the names of their attributes included; the command gets what the
others leave, and the earlier attempts what the command leaves. The rest of a row has about 300."""
LONGEST_TAIL = 2_900
"""Bytes of the end of a failed job's output, compressed: with the rest of its row at most four write units."""
SPARE_TAIL = 20
"""Bytes below which what a row has left is not worth an output."""
_PAST = 300
_ROW = 1_024
_Z = 200_000
"""The most that a compressed output may unpack to."""


def begun(run: Run) -> dict[str, Any]:
    """Return the attributes of a run that begins; {} of one of which nothing is to be noted."""
    item: dict[str, Any] = {}
    left = _TEXTS - _LONGEST["Detail"] - len("Detail") - _named(item, run)
    if run.command and (command := _marked(run.command, left - 20)):
        left -= _fit(item, "Command", command, left - 20) + 13
    if run.sent_at:
        item["Sent"] = decimal(run.sent_at)
    if run.begun_at is not None:
        item["Begun"] = decimal(run.begun_at)
    if run.receive_count > 1:
        item["Try"] = number(run.receive_count)
    if run.fence:
        item["Fence"] = number(run.fence)
    if attempts := past(run.earlier, left):
        item["Past"] = text(attempts)
    return item


def ended(run: Run) -> dict[str, Any]:
    """Return the attributes of a run that has ended."""
    item = begun(run)
    if not run.outcome:
        return item
    item["Outcome"] = text(run.outcome)
    if run.detail:
        item["Detail"] = text(cut(run.detail, _LONGEST["Detail"]))
    numbers = {
        "Exit": run.exit_status if run.signal is None else -run.signal,
        "Cpu": None if run.cpu_seconds is None else 1000 * run.cpu_seconds,
        "Rss": run.max_rss_bytes and run.max_rss_bytes / 1024,
        "Printed": run.printed_bytes,
        "Failures": run.failures or None,
        "Crashes": run.crashes or None,
    }
    item |= {name: number(value) for name, value in numbers.items() if value is not None}
    if run.ended_at is not None:
        item["Ended"] = decimal(run.ended_at)
    return item


def with_output(item: dict[str, Any], output: str, *, failed: bool) -> dict[str, Any]:
    """Return the row with the end of an output: all that may be of a failure, else what the row's write unit leaves."""
    if output:
        room = LONGEST_TAIL if failed else _ROW - size_of(item) - SPARE_TAIL
        if room >= SPARE_TAIL and (tail := packed(output, room)):
            item["Tail"] = binary(tail)
    return item


def run_of(item: Mapping[str, Any]) -> Run:
    """Read the facts of a run from its claim's row."""
    key = item["Id"]["S"]
    message_id = text_of(item, "Message") or key
    status = _maybe(item, "Exit")
    begun_at, ended_at = _maybe(item, "Begun"), _maybe(item, "Ended")
    cpu, rss, printed = _maybe(item, "Cpu"), _maybe(item, "Rss"), _maybe(item, "Printed")
    return Run(
        message_id=message_id,
        claim_key=key if key != message_id else "",
        attempt=text_of(item, "Owner").partition("/")[2],
        event_id=text_of(item, "EventId"),
        lock_id=text_of(item, "LockId"),
        command=text_of(item, "Command"),
        job=text_of(item, "Job"),
        host=text_of(item, "Host"),
        queue=text_of(item, "Queue"),
        sender=text_of(item, "Sender"),
        sent_at=number_of(item, "Sent"),
        receive_count=int(number_of(item, "Try")) or 1,
        fence=int(number_of(item, "Fence")),
        begun_at=begun_at,
        ended_at=ended_at,
        outcome=text_of(item, "Outcome"),
        detail=text_of(item, "Detail"),
        exit_status=None if status is None or status < 0 else int(status),
        signal=None if status is None or status >= 0 else -int(status),
        seconds=None if begun_at is None or ended_at is None else ended_at - begun_at,
        cpu_seconds=None if cpu is None else cpu / 1000,
        max_rss_bytes=None if rss is None else int(rss * 1024),
        printed_bytes=None if printed is None else int(printed),
        output=unpacked(item.get("Tail", {}).get("B", "")),
        failures=int(number_of(item, "Failures")),
        crashes=int(number_of(item, "Crashes")),
        earlier=earlier_of(text_of(item, "Past")),
        cancelled_by=text_of(item, "By"),
    )


def past(earlier: Sequence[Earlier], room: int = _PAST) -> str:
    """Write the newest of earlier attempts, as many as there is room for in bytes; "" for none."""
    newest = [one.packed for one in earlier[-MOST_EARLIER:]]
    while newest:
        text = json.dumps(newest, separators=(",", ":"))
        if len(text) + len("Past") <= room:
            return text
        newest = newest[1:]
    return ""


def earlier_of(packed: str) -> tuple[Earlier, ...]:
    """Read earlier attempts from ``Past``."""
    with contextlib.suppress(ValueError, TypeError):
        return tuple(found for each in json.loads(packed or "[]") if (found := Earlier.unpacked(each)) is not None)
    return ()


def packed(output: str, most: int) -> bytes:
    """Compress the end of an output to at most so many bytes."""
    content = output.encode(errors="replace")
    keep = len(content)
    while keep:
        packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        tail = packer.compress(content[-keep:]) + packer.flush()
        if len(tail) <= most:
            return tail
        keep = min(keep - 1, int(keep * most / len(tail)))
    return b""


def unpacked(tail: str) -> str:
    """Read an output from the base64 of ``Tail``."""
    with contextlib.suppress(ValueError, zlib.error):
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(base64.b64decode(tail), _Z).decode(errors="replace")
    return ""


def bytes_of(item: Mapping[str, Any], name: str) -> bytes:
    """Return a row's bytes; b"" if it has none of this name. Raises ``ValueError`` if they are not base64."""
    return base64.b64decode(item.get(name, {}).get("B", ""))


def size_of(item: Mapping[str, Any]) -> int:
    """Return how large DynamoDB takes a row to be, in bytes, or a little less (Developer Guide, "Item sizes")."""
    return sum(len(name) + _size(value) for name, value in item.items())


def cut(value: str, most: int) -> str:
    """Return so many bytes of a text at most."""
    if len(value) <= most and value.isascii():
        return value
    return value.encode(errors="replace")[: max(0, most)].decode(errors="ignore")


def _marked(command: str, most: int) -> str:
    """Return so many bytes of a command at most; if that is not all of it, with the mark at its end."""
    kept = cut(command, most)
    room = most - len(CUT.encode())
    return kept if kept == command else cut(command, room) + CUT if room > 0 else ""


def _named(item: dict[str, Any], run: Run) -> int:
    """Put what a run is known by into the row; return its bytes, with those of the names."""
    size = 0
    if run.claim_key not in {"", run.message_id}:
        size += _fit(item, "Message", run.message_id)
    if run.event_id not in {"", run.message_id}:
        size += _fit(item, "EventId", run.event_id)
    if run.lock_id:
        size += _fit(item, "LockId", run.lock_id)
    if run.job:
        size += _fit(item, "Job", run.job)
    for name, value in ("Host", run.host), ("Queue", run.queue), ("Sender", run.sender):
        if value:
            item[name], more = _usual(name, value)
            size += more
    return size


def _fit(item: dict[str, Any], name: str, value: str, most: int = 0) -> int:
    """Put a text into the row, as much of it as may be kept; return its bytes with its name's."""
    kept = cut(value, most or _LONGEST[name])
    item[name] = text(kept)
    return len(name) + (len(kept) if kept.isascii() else len(kept.encode()))


@lru_cache
def _usual(name: str, value: str) -> tuple[dict[str, str], int]:
    """Return a text that nearly every row has, as much of it as is kept, and its bytes with its name's."""
    item: dict[str, Any] = {}
    size = _fit(item, name, value)
    return item[name], size


def _maybe(item: Mapping[str, Any], name: str) -> float | None:
    return float(item[name]["N"]) if name in item else None


def _size(value: Mapping[str, Any]) -> int:
    if "S" in value:
        return len(value["S"].encode(errors="replace"))
    if "N" in value:
        return len(value["N"].strip("-0.").replace(".", "")) // 2 + 2
    return len(value.get("B", "")) * 3 // 4
