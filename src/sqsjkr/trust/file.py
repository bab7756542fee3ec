"""Reads a trust file: each mistake is one line with file, line, key, value, and what was expected."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any

from sqsjkr.config import rules, sections
from sqsjkr.config.file import plain
from sqsjkr.errors import ConfigError, InvalidJob
from sqsjkr.job import field_value
from sqsjkr.message import LONGEST_SIGNATURE_LIFE
from sqsjkr.trust import patterns
from sqsjkr.trust.modes import guarded
from sqsjkr.trust.policy import (
    COMMAND,
    LONGEST_VALUE,
    SECRETS_AGE,
    SIGNATURE_LIFE,
    Argument,
    NamedJob,
    Policy,
    Producer,
    any_of,
)
from sqsjkr.trust.words import Word

SCHEMES = ("file", "ssm", "secretsmanager")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_ARGUMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_REFERENCE = re.compile(rf"({'|'.join(SCHEMES)}):\S.*")
_MOST_VALUE = 65_536
_Where = tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustFile:
    """A trust file as it was read."""

    policy: Policy
    keys: tuple[str, ...] = ()
    """The paths of the JWK sets."""
    listed: frozenset[str] = frozenset()
    """The ids of keys that producers name."""


def read(path: str) -> tuple[bytes, TrustFile]:
    """Read the trust file, and return its content, too.

    Raises:
        ConfigError: it cannot be read, others may change it, or something in it is wrong: one line for each mistake.
    """
    content = guarded(path)
    document, lines = plain(content, path)
    parser = _Parser(path, lines)
    found = parser.trust_file(document)
    if parser.mistakes:
        raise ConfigError("\n".join(text for _, text in sorted(parser.mistakes, key=itemgetter(0))))
    return content, found


class _Parser:
    """One file, and what is wrong with it."""

    def __init__(self, path: str, lines: Mapping[_Where, int]) -> None:
        self.mistakes: list[tuple[int, str]] = []
        self._path = path
        self._lines = lines

    def trust_file(self, document: Mapping[str, Any]) -> TrustFile:
        tables = {"producer": document.get("producer", {}), "job": document.get("job", {})}
        top = {key: value for key, value in document.items() if key not in tables}
        given = self._keys((), top, _TOP, also=tuple(tables))
        jobs = {name: self._job(name, table) for name, table in self._tables("job", tables["job"])}
        producers = [self._producer(name, table, jobs) for name, table in self._tables("producer", tables["producer"])]
        policy = Policy(
            enforce=given.get("mode", "enforce") == "enforce",
            producers=tuple(producer for producer, _ in producers),
            jobs=jobs,
            signature_life=given.get("signature_life", SIGNATURE_LIFE),
            secrets_age=given.get("secrets_age", SECRETS_AGE),
        )
        keys = tuple(str(Path(self._path).parent / keys) for keys in given.get("keys", ()))
        if not keys:
            for producer, table in producers:
                if producer.keys:
                    self._mistake(("producer", producer.name, "key"), table["key"], 'keys = "FILE" at the top, too')
        listed = frozenset(key for producer, _ in producers for key in producer.keys)
        return TrustFile(policy=policy, keys=keys, listed=listed)

    def _tables(self, section: str, tables: object) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Each table of a section, by the name that the operator gave it."""
        if not isinstance(tables, Mapping):
            self._mistake((section,), tables, f"a section such as [{section}.NAME]")
            return
        for name, table in tables.items():
            if not isinstance(table, Mapping):
                self._mistake((section, name), table, f"a section such as [{section}.NAME]")
            elif not _NAME.fullmatch(name) or name == COMMAND:
                expected = "a name of at most 64 letters, digits, '_', '.' and '-'"
                self._say((section, name), f": expected {expected}" + (f", not {COMMAND}" if name == COMMAND else ""))
            else:
                yield name, table

    def _producer(
        self, name: str, table: Mapping[str, Any], jobs: Mapping[str, NamedJob]
    ) -> tuple[Producer, Mapping[str, Any]]:
        where = ("producer", name)
        given = self._keys(where, table, _PRODUCER)
        if not (table.get("sender") or table.get("key")):
            self._say(where, ': has neither sender nor key; write sender = ["*"] for everybody')
        if "may" not in table:
            self._say(where, f': may is missing, expected names of jobs, or "{COMMAND}"')
        may = [job for job in given.get("may", ()) if job != COMMAND]
        known = any_of(may)
        for job in may:
            if not set(job) & set("*?[") and job not in jobs:
                near = rules.nearest(job, jobs)
                expected = f"did you mean {near}?" if near else f"expected [job.{job}] in this file"
                self._say((*where, "may"), f": there is no job {rules.shown(job)}; {expected}")
        return Producer(
            name=name,
            senders=any_of(given.get("sender", ())),
            keys=frozenset(given.get("key", ())),
            jobs=known,
            command=COMMAND in given.get("may", ()),
        ), table

    def _job(self, name: str, table: Mapping[str, Any]) -> NamedJob:
        where = ("job", name)
        given = self._keys(where, table, _JOB)
        ways = [way for way in ("run", "command", "match") if way in table]
        if len(ways) != 1:
            found = " and ".join(ways) if ways else "nothing to run"
            self._say(where, f": has {found}, expected one of run, command and match")
        args = self._arguments(where, given.get("args", {}), given.get("default", {}))
        run = tuple(Word.parse(word) for word in given.get("run", ()))
        lock_id = Word.parse(given["lock_id"]) if "lock_id" in given else None
        if "match" in given and args:
            self._say((*where, "args"), ": a job with match takes no arguments")
        self._check_words(where, "run", run, args)
        self._check_words(where, "lock_id", (lock_id,) if lock_id else (), args)
        if run and run[0].names:
            self._mistake((*where, "run"), table["run"], "a program that no argument chooses as its first word")
        self._check_variables(where, given)
        return NamedJob(
            name=name,
            run=run,
            command=given.get("command", ""),
            match=given.get("match"),
            args=args,
            env=frozenset(given.get("env", ())),
            variables=given.get("set", {}),
            secrets=given.get("secrets", {}),
            lock_id=lock_id,
            fields={key: value for key, value in given.items() if key in sections.JOB and key != "lock_id"},
            plan={key: value for key, value in given.items() if key in sections.PLAN},
        )

    def _arguments(self, where: _Where, tables: Mapping[str, Any], defaults: Mapping[str, Any]) -> tuple[Argument, ...]:
        arguments: list[Argument] = []
        for name, given in tables.items():
            place = (*where, "args", name)
            if not _ARGUMENT.fullmatch(name):
                self._say(place, ": expected a name of at most 64 letters, digits and '_', that begins with no digit")
                continue
            if name.upper() in {other.name.upper() for other in arguments}:
                self._say(place, ": another argument has this name in other letters")
            keys = given if isinstance(given, Mapping) else {"values" if isinstance(given, list) else "pattern": given}
            values = self._keys(place, keys, _VALUE)
            if ("pattern" in keys) == ("values" in keys):
                self._say(place, ": expected a pattern, or a list of values")
            argument = Argument(
                name=name,
                pattern=values.get("pattern"),
                choices=values.get("values", ()),
                most=values.get("max", LONGEST_VALUE),
                dash=values.get("dash", False),
                default=self._default(where, name, defaults),
            )
            if argument.default is not None and (complaint := argument.complaint(argument.default)):
                self._say((*where, "default", name), f": {complaint}")
            arguments.append(argument)
        for name in defaults.keys() - tables.keys():
            self._say((*where, "default", name), ": there is no such argument in args")
        return tuple(arguments)

    def _default(self, where: _Where, name: str, defaults: Mapping[str, Any]) -> str | None:
        if name not in defaults:
            return None
        try:
            read = field_value("args", {name: defaults[name]})
        except InvalidJob:
            self._mistake((*where, "default", name), defaults[name], "a string, a number or a boolean")
            return None
        return str(dict(read)[name]) if isinstance(read, Mapping) else None

    def _check_words(self, where: _Where, key: str, words: Sequence[Word], args: Sequence[Argument]) -> None:
        known = [argument.name for argument in args]
        for name in (name for word in words for name in word.names if name not in known):
            near = rules.nearest(name, known)
            hint = f"did you mean {{{near}}}?" if near else f"declare it in args, or write {{{{{name}}}}} for braces"
            self._say((*where, key), f": there is no argument {{{name}}}; {hint}")

    def _check_variables(self, where: _Where, given: Mapping[str, Any]) -> None:
        """No variable may come from two places: which one would count?"""
        places: dict[str, str] = {}
        for key in ("env", "set", "secrets"):
            for name in given.get(key, ()):
                if not _VARIABLE.fullmatch(name):
                    self._say((*where, key), f": {rules.shown(name)} is no name of a variable")
                if name in places:
                    self._say((*where, key), f": {name} stands in {places[name]}, too; keep one of them")
                places[name] = key

    def _keys(
        self,
        where: _Where,
        table: Mapping[str, Any],
        known: Mapping[str, Callable[[Any], Any]],
        *,
        also: Sequence[str] = (),
    ) -> dict[str, Any]:
        """Return the values of a table that are right; note the others, and keys that are unknown."""
        values: dict[str, Any] = {}
        for key, value in table.items():
            place = (*where, key)
            if key not in known:
                near = rules.nearest(key, [*known, *also])
                hint = f"did you mean {near}?" if near else f"known keys: {', '.join([*known, *also])}"
                self._say(place, f": unknown key; {hint}")
                continue
            try:
                values[key] = known[key](value)
            except InvalidJob as mistake:
                self._say(place, str(mistake).removeprefix(key))
            except ValueError as expected:
                self._mistake(place, value, str(expected))
        return values

    def _mistake(self, where: _Where, value: object, expected: str) -> None:
        self._say(where, f" = {rules.shown(value)}: expected {expected}")

    def _say(self, where: _Where, text: str) -> None:
        """Note a mistake; what is not in the file stands where its section begins."""
        known = next((where[:length] for length in range(len(where), 0, -1) if where[:length] in self._lines), ())
        line = self._lines.get(known, 0)
        section, key = ("", where) if len(where) == 1 or where[0] not in {"producer", "job"} else (where[:2], where[2:])
        label = f"[{'.'.join(section)}]{' ' if key else ''}" if section else ""
        place = f"{self._path}:{line}" if line else self._path
        self.mistakes.append((line, f"{place}: {label}{'.'.join(key)}{text}"))


def _strings(value: object) -> tuple[str, ...]:
    """One string, or a list of them."""
    words = (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) else ()
    if not words or not all(isinstance(word, str) and word and "\0" not in word for word in words):
        raise ValueError("a string or a list of strings, none of them empty")
    return words


def _program(value: object) -> tuple[str, ...]:
    words = rules.argv(value)
    if not words:
        raise ValueError('a program and its arguments such as ["/bin/true"]')
    return words


def _pattern(value: object) -> re.Pattern[str]:
    return patterns.compiled(rules.text(value))


def _choices(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not value or not all(isinstance(one, str) for one in value):
        raise ValueError("a list of strings")
    return tuple(value)


def _table(value: object) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError("a table such as { NAME = ... }")  # noqa: TRY004 - a rule's one way to say no
    return value


def _texts(value: object) -> Mapping[str, str]:
    return {name: rules.text(text) for name, text in _table(value).items()}


def _references(value: object) -> Mapping[str, str]:
    for reference in _table(value).values():
        if not isinstance(reference, str) or not _REFERENCE.fullmatch(reference):
            raise ValueError('references such as "file:/run/secrets/x", "ssm:/path" or "secretsmanager:name#key"')
    return _table(value)


def _truth(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError("true or false")  # noqa: TRY004 - as above
    return value


def _field(name: str) -> Callable[[object], object]:
    return lambda value: field_value(name, value)


_TOP: Mapping[str, Callable[[Any], Any]] = {
    "mode": rules.choice("enforce", "warn"),
    "keys": _strings,
    "signature_life": rules.seconds(LONGEST_SIGNATURE_LIFE, above_zero=True),
    "secrets_age": rules.seconds(86_400),
}
_PRODUCER: Mapping[str, Callable[[Any], Any]] = {"sender": _strings, "key": _strings, "may": _strings}
_VALUE: Mapping[str, Callable[[Any], Any]] = {
    "pattern": _pattern,
    "values": _choices,
    "max": rules.whole(1, _MOST_VALUE),
    "dash": _truth,
}
_JOB: Mapping[str, Callable[[Any], Any]] = {
    "run": _program,
    "command": rules.filled,
    "match": _pattern,
    "args": _table,
    "default": _table,
    "env": _strings,
    "set": _texts,
    "secrets": _references,
    **{name: _field(name) for name in sections.JOB},
    **sections.PLAN,
}
