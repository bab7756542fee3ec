"""What each view of the page shows: its values, which are also its JSON, and the command that shows the same."""

from __future__ import annotations

import shlex
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from sqsjkr.leases.budget import STANDARD
from sqsjkr.page import figures
from sqsjkr.page.desk import Desk, NoDeadLetters
from sqsjkr.page.following import Following
from sqsjkr.views.dead_letters import masked
from sqsjkr.views.model import as_json
from sqsjkr.views.verdicts import judge

LONGEST_BODY = 4000
"""Characters of a body that are shown."""
MOST_LETTERS = 1000


class BadQuery(Exception):
    """A parameter of the address is wrong."""


class Missing(Exception):
    """There is no such thing."""


@dataclass(frozen=True, slots=True)
class Query:
    """The filters in an address."""

    path: str
    given: Mapping[str, str]

    def text(self, name: str) -> str:
        """Return a text; "" if it is not given."""
        return self.given.get(name, "").strip()

    def number(self, name: str, default: int, *, most: int) -> int:
        """Return a whole number from 1 to ``most``. Raises ``BadQuery``."""
        text = self.text(name)
        if not text:
            return default
        if text.isascii() and text.isdigit() and 1 <= int(text) <= most:
            return int(text)
        raise BadQuery(f"{name} = {text[:60]!r}: expected a whole number from 1 to {most}")

    @property
    def address(self) -> str:
        """The address of the view, with the filters that it knows."""
        return self._with(self.path)

    @property
    def json_address(self) -> str:
        """The address of the same as JSON."""
        return self._with("/now.json" if self.path == "/" else f"{self.path}.json")

    def _with(self, path: str) -> str:
        given = {name: value for name, value in self.given.items() if name not in {"said", "token"} and value}
        return f"{path}?{urlencode(given)}" if given else path


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """One view with its filters."""

    template: str
    section: str
    """The item of the menu to which it belongs."""
    title: str
    values: Any
    """What its JSON holds."""
    commands: tuple[tuple[str, ...], ...]
    """The words after ``sqsjkr`` that show the same."""
    context: Mapping[str, Any] = field(default_factory=dict)
    live: bool = True
    """Whether it refreshes itself."""
    status: int = 200


@dataclass(frozen=True, slots=True)
class Room:
    """What the views are made from."""

    desk: Desk
    following: Following


async def now(room: Room, query: Query) -> View:  # noqa: ARG001 - a view's arguments
    """Show what is wrong, what runs, and what waits."""
    picture = await room.desk.picture()
    verdicts = judge(picture)
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
        commands=(("status",), ("ps",)),
        context={
            "picture": picture,
            "verdicts": verdicts,
            "plots": [figures.slots(room.desk.recorder.points, picture.at)],
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
        commands=(("locks", "list", asked) if asked else ("locks",),),
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
        commands=(("fleet",),),
        context={"picture": picture, "plots": [figures.slots(room.desk.recorder.points, picture.at)]},
    )


async def dead(room: Room, query: Query) -> View:
    """Show what lies on the dead-letter queue; or one letter, whole."""
    if letter_id := query.text("id"):
        return await _letter(room, letter_id)
    limit = query.number("limit", 100, most=MOST_LETTERS)
    try:
        async with room.desk.letters() as look:
            letters = [letter.shown() for letter in await look.first(limit + 1)]
    except NoDeadLetters:
        letters = None
    return View(
        template="dead.html",
        section="/dead",
        title="Dead letters",
        values=as_json(letters[:limit] if letters else []),
        commands=(("dead", "list", "--limit", str(limit)) if limit != 100 else ("dead", "list"),),  # noqa: PLR2004
        context={
            "letters": (letters or [])[:limit],
            "none": letters is None,
            "more": len(letters or []) > limit,
            "limit": limit,
        },
        live=False,
    )


async def _letter(room: Room, letter_id: str) -> View:
    async with room.desk.letters() as look:
        letter = (await look.find([letter_id])).get(letter_id)
    if letter is None:
        raise Missing(f"{letter_id}: not on the dead-letter queue, or hidden by another look for up to 30 seconds")
    command = ("dead", "show", letter.id)
    return View(
        template="letter.html",
        section="/dead",
        title=f"Dead letter {letter.id}",
        values={**as_json(letter.shown()), "body": letter.body},
        commands=(command,),
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
    "/locks": locks,
    "/fleet": fleet,
    "/dead": dead,
}
