"""HTML from templates. Everything that is put into them is escaped, and made visible where an eye would miss it."""

from __future__ import annotations

from functools import cache
from typing import Any
from urllib.parse import urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from sqsjkr.page import words
from sqsjkr.views.model import Level, Life, Verdict

_LEVELS = {Level.FAIL: ("fail", "bad"), Level.WARN: ("attention", "warn"), Level.OK: ("well", "good")}
_LIVES = {Life.BUSY: "good", Life.IDLE: "mute", Life.SILENT: "warn", Life.LOST: "bad"}
_VIEWS = {"queue": "/fleet", "fleet": "/fleet", "worker": "/fleet", "host": "/fleet", "dead letters": "/dead"}


def html(template: str, **values: Any) -> str:
    """Return the page that a template makes of values."""
    return _environment().get_template(template).render(**values)


def verdict_link(verdict: Verdict) -> str:
    """Return the view in which the next step can be taken; "" if there is none."""
    if verdict.subject == "lock":
        return f"/locks?{urlencode({'lock': verdict.name})}"
    if verdict.subject == "event":
        return f"/event?{urlencode({'name': verdict.name})}"
    return _VIEWS.get(verdict.subject, "")


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("sqsjkr.page"),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "lasting": words.lasting,
        "age": words.age,
        "exactly": words.exactly,
        "stamp": words.stamp,
        "clock_time": words.clock_time,
        "size": words.size,
        "visible": words.visible,
        "tone": words.tone,
        "verdict_link": verdict_link,
        "level_class": lambda level: _LEVELS[level][0],
        "level_tone": lambda level: _LEVELS[level][1],
        "life_tone": lambda life: _LIVES[life],
    }
    return environment
