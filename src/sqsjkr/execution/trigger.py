"""What the life_time trigger is told of a job that came too late."""

from __future__ import annotations

import bisect
import json
from datetime import UTC, datetime

from sqsjkr import durations
from sqsjkr.job import Job

FACTS_LIMIT = 100 * 1024
"""Bytes: ``facts`` stays below, because Linux takes no environment string above 128 KiB."""
_ID_ROOM = 8 * 1024


def text(job: Job, sent_at: float) -> str:
    """What the life_time trigger reads on its stdin: the Go original's text, byte for byte (go-semantics section 6).

    ``sent_at`` is epoch seconds; the text shows it to the millisecond in this host's time zone.
    """
    local = datetime.fromtimestamp(round(sent_at, 3), UTC).astimezone()
    fraction = f".{local:%f}".rstrip("0").rstrip(".")
    sent = f"{local:%Y-%m-%d %H:%M:%S}{fraction} {local:%z %Z}"
    return (
        f"job_id:{job.id}, event_id:{job.event_id}, command:{job.command}, "
        f"life_time:{durations.format(job.life_time)}, sent_timestamp:{sent}"
    )


def facts(job: Job, sent_at: float) -> str:
    """The facts of ``text`` as a JSON object in ASCII, always shorter than ``FACTS_LIMIT``.

    ``life_time`` is in seconds, ``sent_timestamp`` is RFC 3339 in UTC. What is too long is cut, and
    ``command_truncated`` (or ``event_id_truncated``, ``job_id_truncated``) is true then.
    """
    told: dict[str, object] = {
        "job_id": job.id,
        "event_id": job.event_id,
        "command": job.command,
        "life_time": int(job.life_time) if job.life_time.is_integer() else job.life_time,
        "sent_timestamp": datetime.fromtimestamp(round(sent_at, 3), UTC).isoformat(timespec="milliseconds"),
    }
    whole = json.dumps(told)
    if len(whole) < FACTS_LIMIT:
        return whole
    _cut(told, "job_id", _ID_ROOM)
    _cut(told, "event_id", _ID_ROOM)
    around = len(json.dumps(told | {"command": "", "command_truncated": True}))
    _cut(told, "command", FACTS_LIMIT - 1 - around)
    return json.dumps(told)


def _cut(told: dict[str, object], name: str, room: int) -> None:
    """Leave as much of a text as fits into ``room`` bytes of JSON (quotes not counted)."""
    text = str(told[name])
    start = text[:room]
    fitting = bisect.bisect_right(range(1, len(start) + 1), room, key=lambda n: len(json.dumps(start[:n])) - 2)
    if fitting < len(text):
        told[name] = start[:fitting]
        told[f"{name}_truncated"] = True
