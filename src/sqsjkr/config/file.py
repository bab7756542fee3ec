"""A configuration file: its templates filled in, its TOML read, every key known, and the line of each."""

from __future__ import annotations

import codecs
import os
import re
import tomllib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqsjkr.config import rules, template
from sqsjkr.errors import ConfigError

_PART = r"""(?:[A-Za-z0-9_-]+|"(?:\\.|[^"\\\n])*"|'[^'\n]*')"""
_KEY = re.compile(rf"\s*(?P<header>\[\[?[ \t]*)?(?P<key>{_PART}(?:[ \t]*\.[ \t]*{_PART})*)")
_VALUE = re.compile(
    r'''"""(?:\\.|[^\\])*?"{3,5}|\'{3}.*?\'{3,5}|"(?:\\.|[^"\\\n])*"|'[^'\n]*'|\#[^\n]*|[\[{]|[\]}]|\n|[^"'#\[\]{}\n]+''',
    re.DOTALL,
)
_WHERE = re.compile(r" \(at (?:line (\d+), column \d+|end of document)\)$")


_BARE = re.compile(r"[A-Za-z0-9_-]{1,60}")
_Path = tuple[str, ...]
"""The way to a key: ("kicker", "ack")."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """A key of the file."""

    section: str
    """The section it stands in: "kicker"."""
    name: str
    """Its name there: "id"."""
    field: str
    """Its name as a setting: "account_id"."""


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """What a file says, by the fields of its keys."""

    path: str
    values: dict[str, object] = field(default_factory=dict)
    """What the file says, unchecked. What stands under a misspelled key is here, too, if it is clear what was meant."""
    lines: dict[str, int] = field(default_factory=dict)
    """Where each field stands; for one that is missing, where its section begins."""
    problems: list[tuple[int, str]] = field(default_factory=list)
    """What is wrong so far: the line (0 if there is none) and a line of text that begins with the place."""

    def add(self, line: int, text: str) -> None:
        """Note a problem; the place is put in front."""
        place = f"{self.path}:{line}: " if line else f"{self.path}: " if self.path else ""
        self.problems.append((line, f"{place}{text}"))


def label(section: str, name: str = "", key: str = "") -> str:
    """The way to a key as messages and ``File.lines`` have it: ``[kicker] ack``, ``[jobs."nightly-*"] timeout``."""
    inner = f".{rules.shown(name)}" if name else ""
    return f"[{section}{inner}]{f' {_word(key)}' if key else ''}"


def read(path: str, env: Mapping[str, str], keys: Collection[Key], named: Collection[str] = ()) -> File:
    """The file at ``path``, its templates filled in from ``env``; unknown keys are problems of the file.

    A section in ``named`` holds sections with names that the operator chooses, such as ``[jobs."nightly-*"]``: it
    becomes one value as it stands, and ``lines`` has each of its places by its ``label``.

    Line numbers are those of the file, however many lines its templates came to.

    Raises:
        ConfigError: the file cannot be read, or is no template or no TOML. One line.
    """
    rendered = template.expand(_text(path), env, path)
    document = _parsed(rendered, path)
    lines = {where: rendered.line(line) for where, line in _lines(rendered.text).items()}
    file = File(path=path)
    _take(file, document, lines, named)
    guesses: list[tuple[Key, object, int]] = []
    for section, name, value, line in _entries(file, document, lines, keys, named):
        key, problem = _meant(keys, section, name)
        if key and not problem and key.field in file.values:
            problem = f"given twice, also on line {file.lines[key.field]}"
        if problem:
            file.add(line, f"{f'[{section}] ' if section else ''}{_word(name)}: {problem}")
            guesses += [(key, value, line)] if key else []
        elif key:
            file.values[key.field], file.lines[key.field] = value, line
    for key, value, line in guesses:  # so that what is misspelled is not missed as well
        if key.field not in file.values:
            file.values[key.field], file.lines[key.field] = value, line
    return file


def plain(content: bytes, path: str) -> tuple[dict[str, Any], Mapping[_Path, int]]:
    """Return the document in a TOML file that is no template, and the line of each section and key.

    Raises:
        ConfigError: the content is no TOML. One line, which begins with ``path``.
    """
    text = _decoded(content, path)
    lines = tuple(range(1, text.count("\n") + 2))
    return _parsed(template.Rendered(text=text, lines=lines), path), _lines(text)


def _take(file: File, document: dict[str, Any], lines: Mapping[_Path, int], named: Collection[str]) -> None:
    """Move the sections in ``named`` from the document to the file."""
    for written in [name for name in document if name.lower() in named]:
        section = written.lower()
        file.values[section] = document.pop(written)
        for path, line in lines.items():
            if path[0] == written:
                inner, key = (*path[1:3], "", "")[:2]
                file.lines.setdefault(label(section, inner, key), line)
                file.lines.setdefault(label(section, "", inner), line)


def _entries(
    file: File,
    document: Mapping[str, object],
    lines: Mapping[_Path, int],
    keys: Collection[Key],
    named: Collection[str],
) -> Iterator[tuple[str, str, object, int]]:
    """Section, name, value and line of every entry; a section that is none is a problem of the file."""
    sections = [*dict.fromkeys(key.section for key in keys)]
    for name, content in document.items():
        line = lines.get((name,), 0)
        section = name.lower()  # Go's TOML reader takes names in any case
        if not isinstance(content, dict):
            if section in sections:
                file.add(line, f"{name} = {rules.shown(content)}: expected a section, [{section}] on a line of its own")
            else:
                yield "", name, content, line
            continue
        if section not in sections:
            section = rules.nearest(name, [*sections, *named])
            hint = f"did you mean [{section}]?" if section else f"known sections: [{'], ['.join([*sections, *named])}]"
            file.add(line, f"[{_word(name)}]: unknown section; {hint}")
        for key in keys:
            if key.section == section:
                file.lines.setdefault(key.field, line)
        for key_name, value in content.items() if section in sections else ():
            yield section, key_name, value, lines.get((name, key_name), line)


def _meant(keys: Collection[Key], section: str, name: str) -> tuple[Key | None, str]:
    """The key that is meant, and what is wrong with how it is written ("" if nothing is)."""
    here = {key.name: key for key in keys if key.section == section}
    everywhere = {key.name: key for key in keys}
    if key := here.get(name.lower()):
        return key, ""
    if key := everywhere.get(name.lower()):
        return key, f"belongs in the section [{key.section}]"
    if near := rules.nearest(name, here):
        return here[near], f"unknown key; did you mean {near}?"
    if near := rules.nearest(name, everywhere, 0.75):
        return everywhere[near], f"unknown key; did you mean {near} in [{everywhere[near].section}]?"
    return None, f"unknown key; known keys: {', '.join(here or everywhere)}"


def _word(name: str) -> str:
    return name if _BARE.fullmatch(name) else rules.shown(name)


def _parsed(rendered: template.Rendered, path: str) -> dict[str, Any]:
    try:
        return tomllib.loads(rendered.text)
    except RecursionError:
        raise ConfigError(f"{path}: not TOML: nested too deep") from None
    except ValueError as error:
        where = _WHERE.search(str(error))
        line = int(where[1]) if where and where[1] else rendered.text.rstrip().count("\n") + 1
        reason = _WHERE.sub("", str(error)).replace("Invalid value", "Invalid value (a string needs quotes)")
        raise ConfigError(f"{path}:{rendered.line(line)}: not TOML: {reason}") from None


def _text(path: str) -> str:
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - pathlib would turn "" into "."
            content = file.read()
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; write it, or name another one with --conf") from None
    except IsADirectoryError:
        raise ConfigError(f"{path}: is a directory; expected a TOML file") from None
    except PermissionError:
        raise ConfigError(f"{path}: permission denied for user id {os.geteuid()}") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    return _decoded(content, path)


def _decoded(content: bytes, path: str) -> str:
    try:
        return content.removeprefix(codecs.BOM_UTF8).decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}:{line}: not UTF-8: byte 0x{content[error.start]:02x}") from None


def _lines(text: str) -> dict[_Path, int]:
    """The line of each section and key in valid TOML: tomllib, which has checked it, keeps no positions."""
    lines: dict[_Path, int] = {}
    section: _Path = ()
    position = 0
    while position < len(text):
        if statement := _KEY.match(text, position):
            parts = re.findall(_PART, statement["key"])
            key = tuple(tomllib.loads(f"name = {part}")["name"] if part[0] in "\"'" else part for part in parts)
            if statement["header"]:
                section = key
            else:
                key = section + key
            line = text.count("\n", 0, statement.start("key")) + 1
            for depth in range(len(key)):
                lines.setdefault(key[: depth + 1], line)
            position = statement.end()
        position = _end_of_statement(text, position)
    return lines


def _end_of_statement(text: str, position: int) -> int:
    """Where the next line begins that is not inside a string, an array or a table."""
    depth = 0
    for token in _VALUE.finditer(text, position):
        if token[0] in {"[", "{"}:
            depth += 1
        elif token[0] in {"]", "}"}:
            depth -= 1
        elif token[0] == "\n" and depth <= 0:
            return token.end()
    return len(text)
