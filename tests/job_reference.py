"""Write what follows from the declaration of a job's fields: the JSON Schema and the table of the reference page.

    python tests/job_reference.py

Run it after a change to ``sqsjkr.job.Job``; a test compares the two files with what stands here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

from sqsjkr.job import DECLARED, VERBS_OF_CRASHES, Declared, Job, Kind, Verb

TOP = Path(__file__).resolve().parents[1]
SCHEMA = TOP / "src" / "sqsjkr" / "job.schema.json"
PAGE = TOP / "docs" / "reference" / "job.md"

NO_NUL = "^[^\\u0000]*$"
DURATION = [
    {"type": ["number", "null"]},
    {
        "description": "A Go duration.",
        "type": "string",
        "pattern": "^[-+]?(0|(([0-9]+(\\.[0-9]*)?|\\.[0-9]+)(ns|us|\u00b5s|\u03bcs|ms|s|m|h))+)$",
    },
    {"description": "Seconds as text.", "type": "string", "pattern": "^[-+]?[0-9]+(\\.[0-9]+)?([eE][-+]?[0-9]+)?$"},
]
SHAPES: dict[Kind, dict[str, Any]] = {
    Kind.TEXT: {"$ref": "#/$defs/text"},
    Kind.ENVIRONMENT: {"$ref": "#/$defs/environment"},
    Kind.ARGUMENTS: {"$ref": "#/$defs/arguments"},
    Kind.DURATION: {"anyOf": DURATION},
    Kind.FLAG: {"type": ["boolean", "null"]},
    Kind.COUNT: {"anyOf": [{"type": ["integer", "null"]}, {"type": "string", "pattern": "^[0-9]+$"}]},
    Kind.MOMENT: {
        "anyOf": [
            {"type": ["number", "null"], "minimum": 0},
            {
                "description": "RFC 3339.",
                "type": "string",
                "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(\\.[0-9]+)?"
                "([Zz]|[-+][0-9]{2}:[0-9]{2})$",
            },
            {"description": "Seconds since 1970 as text.", "type": "string", "pattern": "^[0-9]+(\\.[0-9]+)?$"},
        ]
    },
    Kind.VERBS: {
        "type": ["object", "null"],
        "properties": {"crash": {"enum": [verb.value for verb in VERBS_OF_CRASHES]}},
        "patternProperties": {
            "^([1-9][0-9]{0,2}(-[1-9][0-9]{0,2})?|signal|timeout|\\*)$": {"enum": [verb.value for verb in Verb]}
        },
        "additionalProperties": False,
    },
}
UNITS = ' Seconds, or a Go duration such as "90s" or "1h30m" (units ns, us, ms, s, m, h).'
OF_GO = {
    "life_time": " The Go daemon takes whole seconds and durations only.",
    **dict.fromkeys(
        ("job", "args", "timeout", "retries", "retry_delay", "on_exit", "not_before"),
        " The Go daemon ignores this field.",
    ),
}


def names() -> Iterator[tuple[str, str, str, Declared]]:
    """Every name in a body with its meaning, its attribute and its declaration."""
    for attribute, declared in DECLARED.items():
        yield declared.name or attribute, declared.meaning, attribute, declared
        if declared.alias:
            yield declared.alias, declared.alias_meaning, attribute, declared


def plain(text: str) -> str:
    """Markdown without its marks."""
    return re.sub(r"\[([^]]+)\]\([^)]+\)", r"\1", text).replace("`", "")


def schema() -> dict[str, Any]:
    """The JSON Schema of a body."""
    defaults = {item.name: item.default for item in fields(Job)}
    properties = {}
    for name, meaning, attribute, declared in names():
        shape = dict(SHAPES[declared.kind])
        if declared.kind in {Kind.FLAG, Kind.DURATION, Kind.COUNT}:
            shape["default"] = int(defaults[attribute]) if declared.kind is Kind.DURATION else defaults[attribute]
        if declared.least > float("-inf"):
            shape = limited(shape, declared)
        units = UNITS if declared.kind is Kind.DURATION else ""
        absent = "" if "default" in shape else f" Left out: {declared.absent}."
        properties[name] = {"description": plain(f"{meaning}{units}{OF_GO.get(name, '')}{absent}"), **shape}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "sqsjkr job",
        "description": "The body of a message that asks sqsjkr to run a command. In every field null means that the "
        "field is left out; the daemon ignores fields that are not listed here.",
        "type": "object",
        "anyOf": [
            {"required": [name], "properties": {name: {"type": "string", "minLength": 1}}}
            for name in ("command", "job")
        ],
        "properties": properties,
        "$defs": {
            "text": {"type": ["string", "null"], "pattern": NO_NUL},
            "environment": {
                "type": ["object", "null"],
                "propertyNames": {"pattern": NO_NUL},
                "additionalProperties": {
                    "description": "The variable's value. null: an empty one.",
                    "$ref": "#/$defs/text",
                },
            },
            "arguments": {
                "type": ["object", "null"],
                "additionalProperties": {
                    "description": "The argument's value. null: it is left out.",
                    "type": ["string", "number", "boolean", "null"],
                    "pattern": NO_NUL,
                },
            },
        },
    }


def limited(shape: dict[str, Any], declared: Declared) -> dict[str, Any]:
    """The shape of a number that may not be negative, and may have an upper limit."""
    limits = {"minimum": declared.least} | ({"maximum": declared.most} if declared.most < float("inf") else {})
    choices = [
        {key: value.replace("[-+]?", "[+]?", 1) if key == "pattern" else value for key, value in choice.items()}
        | (limits if "string" not in choice["type"] else {})
        for choice in shape["anyOf"]
    ]
    return {**shape, "anyOf": choices}


def schema_text() -> str:
    """The file that is shipped."""
    return json.dumps(schema(), indent=2) + "\n"


def table() -> str:
    """The table of fields in the reference."""
    rows = [
        f"| `{name}` | {declared.kind.value} | {declared.absent} | {meaning} |"
        for name, meaning, _, declared in names()
    ]
    return "\n".join(["| field | type | left out | meaning |", "|---|---|---|---|", *rows])


def page_text() -> str:
    """The reference page, its table replaced."""
    return re.sub(r"^\| field \|.*?(?=\n\n)", lambda _: table(), PAGE.read_text(), flags=re.MULTILINE | re.DOTALL)


if __name__ == "__main__":
    SCHEMA.write_text(schema_text())
    PAGE.write_text(page_text())
