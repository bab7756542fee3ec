"""The ``[jobs."PATTERN"]`` sections of a configuration: what the operator says about jobs by their names."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from sqsjkr.config import rules
from sqsjkr.config.file import label
from sqsjkr.errors import InvalidJob
from sqsjkr.job import DECLARED, field_value
from sqsjkr.plan import Section
from sqsjkr.policy import NEWS

NAME = "jobs"
JOB = tuple(name for name, declared in DECLARED.items() if declared.in_sections)
"""The keys that are fields of a job."""
PLAN: Mapping[str, rules.Rule] = {
    "wrapper": rules.argv,
    "hook": rules.text,
    "hook_on": rules.choices(*NEWS),
}
"""The keys that are the operator's alone, and their checks."""
KEYS = (*JOB, *PLAN)

Mistake = tuple[str, str]
"""A place in the file, and what to say after it."""


def checked(given: object) -> tuple[tuple[Section, ...], list[Mistake]]:
    """Return the sections in their order, and every mistake in them.

    ``given`` maps patterns to keys and values, or is what this function returned.
    """
    if isinstance(given, tuple) and all(isinstance(section, Section) for section in given):
        return given, []
    if not isinstance(given, Mapping):
        return (), [(label(NAME), f' = {rules.shown(given)}: expected sections such as [jobs."nightly-*"]')]
    sections: list[Section] = []
    mistakes: list[Mistake] = []
    for pattern, keys in given.items():
        if isinstance(keys, Mapping):
            values: dict[str, dict[str, object]] = {"job": {}, "plan": {}}
            mistakes += _read(pattern, keys, values)
            sections.append(Section(pattern=pattern, **values))
        else:
            place = label(NAME, "", pattern)
            mistakes.append((place, f' = {rules.shown(keys)}: expected a section such as [jobs."nightly-*"]'))
    return tuple(sections), mistakes


def unmet(sections: Iterable[Section], ack: str) -> Iterator[Mistake]:
    """Yield what sections ask for that can't be had with this ``ack``."""
    for section in sections:
        if ack == "start" and section.job.get("retries"):
            place = label(NAME, section.pattern, "retries")
            yield place, ': needs [kicker] ack = "finish"; with "start" a message is gone before its job fails'


def _read(pattern: str, keys: Mapping[str, object], values: dict[str, dict[str, object]]) -> Iterator[Mistake]:
    """Add the keys of one section to ``values``; yield what is wrong with them."""
    for key, value in keys.items():
        name, place = key.lower(), label(NAME, pattern, key)
        try:
            if name in values["job"] or name in values["plan"]:
                yield place, ": given twice in this section"
            elif name in PLAN:
                values["plan"][name] = PLAN[name](value)
            elif name in JOB:
                values["job"][name] = field_value(name, value)
            else:
                yield place, f": unknown key; {_hint(name)}"
        except InvalidJob as mistake:
            yield place, str(mistake).removeprefix(name)
        except ValueError as expected:
            yield place, f" = {rules.shown(value)}: expected {expected}"


def _hint(name: str) -> str:
    near = rules.nearest(name, KEYS)
    return f"did you mean {near}?" if near else f"known keys: {', '.join(KEYS)}"
