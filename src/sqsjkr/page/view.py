"""What a view of the page is, and what it is made from."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from sqsjkr import durations
from sqsjkr.page.desk import Desk
from sqsjkr.page.following import Following


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

    def flag(self, name: str) -> bool:
        """Whether something is wanted: it is given, and not as "no"."""
        return self.text(name) not in {"", "no", "0", "false"}

    def number(self, name: str, default: int, *, most: int) -> int:
        """Return a whole number from 1 to ``most``. Raises ``BadQuery``."""
        text = self.text(name)
        if not text:
            return default
        if text.isascii() and text.isdigit() and 1 <= int(text) <= most:
            return int(text)
        raise BadQuery(f"{name} = {text[:60]!r}: expected a whole number from 1 to {most}")

    def moment(self, name: str, default: str, now: float) -> float:
        """Return a time: so long before ``now``, or a date. Raises ``BadQuery``."""
        text = self.text(name) or default
        try:
            return durations.since(text, now)
        except ValueError as why:
            raise BadQuery(f"{name} = {text[:60]!r}: {why}") from None

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


@dataclass(frozen=True, slots=True)
class Command:
    """A command of ``sqsjkr``: its verb with options, and the name that it is asked for."""

    words: tuple[str, ...]
    name: str = ""

    def line(self, where: Sequence[str]) -> str:
        """Return it for a shell. A name that looks like an option stays a name: whoever chose it is not trusted."""
        name = ["--", self.name] if self.name.startswith("-") else [self.name] if self.name else []
        return shlex.join(["sqsjkr", *self.words, *where, *name])


def command(*words: str, name: str = "", **options: str) -> Command:
    """Return a command; options without a value are left out."""
    given = [f"--{option}={value}" for option, value in options.items() if value]
    return Command((*words, *given), name)


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """One view with its filters."""

    template: str
    section: str
    """The item of the menu to which it belongs."""
    title: str
    values: Any
    """What its JSON holds."""
    commands: tuple[Command, ...]
    """What shows the same in a terminal."""
    context: Mapping[str, Any] = field(default_factory=dict)
    live: bool = True
    """Whether it refreshes itself."""
    status: int = 200


@dataclass(frozen=True, slots=True)
class Room:
    """What the views are made from."""

    desk: Desk
    following: Following
