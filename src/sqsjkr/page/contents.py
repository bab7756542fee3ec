"""What each view of the page shows: its values, which are also its JSON, and the command that shows the same."""

from __future__ import annotations

import glob
import shlex
import uuid
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import urlencode

from sqsjkr.leases.budget import STANDARD
from sqsjkr.page import figures, telling
from sqsjkr.page.desk import NoDeadLetters
from sqsjkr.page.view import Missing, Query, Room, View, command
from sqsjkr.telemetry.history import has_failed
from sqsjkr.views import endings, story
from sqsjkr.views.dead_letters import masked
from sqsjkr.views.endings import Filter, Found
from sqsjkr.views.model import as_json
from sqsjkr.views.story import line_of

LONGEST_BODY = 4000
"""Characters of a body that are shown."""
MOST_LINES = 1000
"""Lines of a list that one page shows."""
LETTERS, RUNS, LAST = 100, 50, 20
"""Lines that are shown if the address says nothing of it: dead letters, runs, runs of one event."""
DAY = "24h"
LONGEST = 366 * 86_400.0
"""Seconds: history is kept for a year at most."""
QUICK = 25 * 3600.0
"""Seconds: a list that looks back further costs too much to be looked at every few seconds."""


async def now(room: Room, query: Query) -> View:  # noqa: ARG001 - a view's arguments
    """Show what is wrong, what runs, and what waits."""
    picture, verdicts = await room.desk.picture(), await room.desk.verdicts()
    return View(
        template="now.html",
        section="/",
        title="Now",
        values={
            "verdicts": as_json(verdicts),
            "queue": as_json(picture.queue),
            "scale": as_json(picture.scale),
            "running": as_json(picture.running),
            "waiting": as_json(picture.waiting),
        },
        commands=(command("status"), command("ps")),
        context={
            "picture": picture,
            "verdicts": verdicts,
            "plots": [
                figures.slots(room.desk.recorder.points, picture.at),
                figures.endings(await room.desk.hour(), picture.at),
            ],
        },
    )


async def failures(room: Room, query: Query) -> View:
    """Show the jobs that failed; and how many dead letters there are."""
    asked = _asked(room, query, failed=True)
    found = await _find(room, asked)
    hour = [run for run in await room.desk.hour() if has_failed(run) and asked.wanted.lets_through(run)]
    at = room.desk.viewer.source.now()
    more = {"dead": (await room.desk.picture()).queue.dead, "plots": [figures.endings(hour, at)]}
    return _list("/failures", "Failures", asked, found, more)


async def runs(room: Room, query: Query) -> View:
    """Show how jobs ended."""
    asked = _asked(room, query, failed=query.flag("failed"))
    found = await _find(room, asked)
    hour = [
        run
        for run in await room.desk.hour()
        if asked.wanted.lets_through(run) and (has_failed(run) or not asked.wanted.failed)
    ]
    at = room.desk.viewer.source.now()
    return _list("/runs", "Runs", asked, found, {"plots": [figures.endings(hour, at), figures.times(hour, at)]})


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Which endings an address asks for."""

    wanted: Filter
    since: str
    from_at: float
    until: float
    limit: int

    @property
    def words(self) -> dict[str, str]:
        """Return the filters that are set, as an address and as a command name them."""
        given = {"event": self.wanted.event, "lock": self.wanted.lock, "host": self.wanted.host}
        given |= {
            "since": self.since if self.since != DAY else "",
            "limit": str(self.limit) if self.limit != RUNS else "",
        }
        return {name: value for name, value in given.items() if value}


def _asked(room: Room, query: Query, *, failed: bool) -> Asked:
    until = room.desk.viewer.source.now()
    return Asked(
        wanted=Filter(failed=failed, event=query.text("event"), lock=query.text("lock"), host=query.text("host")),
        since=query.text("since") or DAY,
        from_at=max(query.moment("since", DAY, until), until - LONGEST),
        until=until,
        limit=query.number("limit", RUNS, most=MOST_LINES),
    )


async def _find(room: Room, asked: Asked) -> Found:
    return await endings.find(room.desk.viewer, asked.wanted, since=asked.from_at, until=asked.until, limit=asked.limit)


def _list(path: str, title: str, asked: Asked, found: Found, more: Mapping[str, object]) -> View:
    failed = asked.wanted.failed
    wider = {**asked.words, "limit": str(min(MOST_LINES, asked.limit * 4))}
    if failed and path == "/runs":
        wider["failed"] = "yes"
    there_is_more = len(found.lines) == asked.limit < MOST_LINES
    commands = [command("runs", *(["--failed"] if failed else []), **asked.words)]
    if path == "/failures":
        commands.append(command("dead", "list"))
    return View(
        template="runs.html",
        section=path,
        title=title,
        values=as_json(found.lines),
        commands=tuple(commands),
        context={
            "asked": asked,
            "runs": found.lines,
            "more": f"{path}?{urlencode(wider)}" if there_is_more else "",
            "reached": found.reached,
            **more,
        },
        live=asked.until - asked.from_at <= QUICK,
    )


async def run(room: Room, query: Query) -> View:
    """Tell the story of one job."""
    name = query.text("id")
    if not name:
        raise Missing("id: which job? Give the id of its message, or an event id")
    told = await story.tell(room.desk.viewer, name)
    label, tone = telling.state(told)
    job = told.story
    return View(
        template="run.html",
        section="/runs",
        title=f"{job.event_id or name}: {label}",
        values=as_json(job),
        commands=(command("explain", name=name),),
        context={
            "job": job,
            "name": name,
            "label": label,
            "tone": tone,
            "story": telling.lines(told),
            "may_be_dead": telling.may_be_dead(told),
            "progress": room.following.said(f"message {job.message_id}") if job.message_id else None,
        },
    )


async def event(room: Room, query: Query) -> View:
    """Show the last runs of one event, and how long they waited and took."""
    name = query.text("name")
    if not name:
        raise Missing("name: which event?")
    limit = query.number("limit", LAST, most=MOST_LINES)
    told = await story.tell(room.desk.viewer, name)
    last = (await room.desk.viewer.source.endings_of(name, limit)).endings
    running = [each for each in (await room.desk.picture()).running if each.event_id == name]
    lines = [line_of(each) for each in last]
    listed = command("runs", event=glob.escape(name), since="90d", limit=str(limit))
    label, tone = telling.state(told)
    return View(
        template="event.html",
        section="/runs",
        title=f"Event {name}",
        values={"latest": as_json(told.story), "endings": as_json(lines)},
        commands=(command("explain", name=name), listed),
        context={
            "name": name,
            "latest": told.story,
            "label": label,
            "tone": tone,
            "summary": figures.summary(last),
            "running": running,
            "runs": lines,
            "plots": [figures.durations(last), figures.waits(last)],
        },
    )


async def locks(room: Room, query: Query) -> View:
    """Show the locks that are held or waited for, or the one that is asked for."""
    asked = query.text("lock")
    _, found = await room.desk.viewer.locks([asked] if asked else [])
    return View(
        template="locks.html",
        section="/locks",
        title=f"Lock {asked}" if asked else "Locks",
        values=as_json(list(found)),
        commands=(command("locks", "list", name=asked) if asked else command("locks"),),
        context={
            "locks": found,
            "asked": asked,
            "lease": STANDARD.lease,
            "progress": room.following.said(f"lock {asked}") if asked else None,
        },
    )


async def fleet(room: Room, query: Query) -> View:  # noqa: ARG001 - a view's arguments
    """Show the workers, and what was ordered for all of them."""
    picture = await room.desk.picture()
    return View(
        template="fleet.html",
        section="/fleet",
        title="Fleet",
        values=as_json(picture.workers),
        commands=(command("fleet"),),
        context={"picture": picture, "plots": [figures.slots(room.desk.recorder.points, picture.at)]},
    )


async def dead(room: Room, query: Query) -> View:
    """Show what lies on the dead-letter queue; or one letter, whole."""
    if letter_id := query.text("id"):
        return await _letter(room, letter_id)
    limit = query.number("limit", LETTERS, most=MOST_LINES)
    try:
        async with room.desk.letters() as look:
            letters = [letter.shown() for letter in await look.first(limit + 1)]
    except NoDeadLetters:
        letters = None
    return View(
        template="dead.html",
        section="/failures",
        title="Dead letters",
        values=as_json(letters[:limit] if letters else []),
        commands=(command("dead", "list", limit=str(limit) if limit != LETTERS else ""),),
        context={
            "letters": (letters or [])[:limit],
            "none": letters is None,
            "more": len(letters or []) > limit and limit < MOST_LINES,
            "wider": min(MOST_LINES, limit * 4),
        },
        live=False,
    )


async def _letter(room: Room, letter_id: str) -> View:
    async with room.desk.letters() as look:
        letter = (await look.find([letter_id])).get(letter_id)
    if letter is None:
        raise Missing(f"{letter_id}: not on the dead-letter queue, or hidden by another look for up to 30 seconds")
    return View(
        template="letter.html",
        section="/failures",
        title=f"Dead letter {letter.id}",
        values={**as_json(letter.shown()), "body": letter.body},
        commands=(command("dead", "show", name=letter.id),),
        context={
            "letter": letter.shown(),
            "body": masked(letter.body)[:LONGEST_BODY],
            "cut": len(letter.body) > LONGEST_BODY,
            "whole": shlex.join(["sqsjkr", "dead", "show", "--body", letter.id]),
        },
        live=False,
    )


VIEWS: Mapping[str, Callable[[Room, Query], Awaitable[View]]] = {
    "/": now,
    "/failures": failures,
    "/runs": runs,
    "/run": run,
    "/event": event,
    "/locks": locks,
    "/fleet": fleet,
    "/dead": dead,
}


def found(text: str) -> str:
    """Return the address of what somebody looks for: a run by the id of its message, else an event by its name."""
    text = text.strip()
    if not text:
        return "/"
    with suppress(ValueError):
        return f"/run?{urlencode({'id': str(uuid.UUID(text))})}"
    return f"/event?{urlencode({'name': text})}"
