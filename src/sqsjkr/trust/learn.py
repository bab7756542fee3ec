"""Drafts a trust file from what ran: who asked for what, as history or JSON log have it.

A draft is for people to correct.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from sqsjkr.trust.words import split

LONGEST_COMMAND = 1000
"""Characters of a command in the log's facts, before it is cut."""
_MOST_EXAMPLES = 3
_CLASSES = (
    ("[0-9]{{1,{most}}}", re.compile("[0-9]+")),
    ("[A-Za-z0-9_.][A-Za-z0-9_.-]{{0,{most}}}", re.compile(r"[A-Za-z0-9_.][A-Za-z0-9_.-]*")),
    ("[A-Za-z0-9_./:=@,+][A-Za-z0-9_./:=@,+-]{{0,{most}}}", re.compile(r"[A-Za-z0-9_./:=@,+][A-Za-z0-9_./:=@,+-]*")),
)
"""What a word that changes from job to job may be made of: the first of these that all of its values are. None of them
begins with a dash: it would be an option."""
_QUOTES = frozenset("'\"\\")


@dataclass(slots=True)
class Asked:
    """What one sender has asked for."""

    jobs: set[str] = field(default_factory=set)
    """Jobs by name."""
    plain: set[str] = field(default_factory=set)
    """Commands that need no shell."""
    shell: set[str] = field(default_factory=set)
    """Commands that do."""


class Findings:
    """Collects what was asked for; ``by_sender`` has it, the sessions of a role as one sender."""

    def __init__(self) -> None:
        self.by_sender: dict[str, Asked] = {}

    def add(self, sender: str, command: str, *, job: str, whole: bool) -> None:
        """Add a run: of a job by name, or of a command, which may be known in part only. "" is what is unknown."""
        if not (job or command):
            return
        asked = self.by_sender.setdefault(_group(sender), Asked())
        if job:
            asked.jobs.add(job)
        else:
            (asked.plain if whole and not split(command)[1] else asked.shell).add(command)


def read(lines: Iterable[str]) -> dict[str, Asked]:
    """Collect what each sender has asked for, from the ``job.started`` lines of a JSON log. Other lines are skipped."""
    found = Findings()
    for line in lines:
        try:
            facts = json.loads(line)
        except ValueError:
            continue
        if not isinstance(facts, dict) or facts.get("event") != "job.started":
            continue
        sender, job, command = (_text(facts.get(name)) for name in ("sender", "job", "command"))
        found.add(sender, command, job=job, whole=len(command) <= LONGEST_COMMAND)  # the log cuts what is longer
    return found.by_sender


def draft(found: dict[str, Asked]) -> str:
    """Write a trust file, in mode warn, under which all of this may run."""
    jobs = _Jobs()
    producers = [
        _producer(number, sender, asked, jobs) for number, (sender, asked) in enumerate(sorted(found.items()), 1)
    ]
    return "\n".join(
        [
            "# A draft of a trust file, made of what ran. Correct it: names, patterns, and who may do what.",
            '# With mode = "warn" everything still runs, and job.untrusted says what this file would refuse.',
            'mode = "warn"',
            *producers,
            *jobs.written(),
            "",
        ]
    )


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _group(sender: str) -> str:
    """A role's sessions are one producer: "AROA...:i-0123" and "AROA...:i-4567" are "AROA...:*"."""
    role, colon, _ = sender.partition(":")
    return f"{role}:*" if colon else sender


def _producer(number: int, sender: str, asked: Asked, jobs: _Jobs) -> str:
    may = sorted(asked.jobs | jobs.names_of(asked.plain))
    lines = ["", f"[producer.producer-{number}]  # give it a better name", f"sender = {_quoted(sender or '*')}"]
    if not sender:
        lines.insert(2, "# it is not known who sent these")
    if asked.shell:
        may.append("command")
        examples = sorted(asked.shell)[:_MOST_EXAMPLES]
        more = len(asked.shell) - len(examples)
        lines.append('# These need a shell. Make them jobs by name, then take "command" out:')
        lines += [f"#   {_one_line(command)}" for command in examples]
        lines += [f"#   and {more} more"] if more else []
    return "\n".join([*lines, f"may = [{', '.join(map(_quoted, may))}]"])


class _Jobs:
    """Jobs that describe commands, one for each program and number of words."""

    def __init__(self) -> None:
        self._commands: dict[tuple[str, int], list[str]] = {}
        self._names: dict[tuple[str, int], str] = {}

    def names_of(self, commands: Iterable[str]) -> set[str]:
        """Return the names of the jobs that describe these commands; new ones are made."""
        return {self._add(command) for command in sorted(commands)}

    def written(self) -> Iterator[str]:
        for key, commands in self._commands.items():
            yield f"\n[job.{self._names[key]}]\nmatch = {_quoted(pattern_of(commands))}"

    def _add(self, command: str) -> str:
        words, _ = split(command)
        key = words[0], -1 if _QUOTES & set(command) else len(command.split(" "))
        if key not in self._names:
            stem = re.sub(r"[^A-Za-z0-9_-]", "-", PurePosixPath(words[0]).stem).strip("-_") or "job"
            taken, number, name = set(self._names.values()), 2, stem[:50]
            while name in taken or name == "command":
                name, number = f"{stem[:50]}-{number}", number + 1
            self._names[key] = name
        self._commands.setdefault(key, []).append(command)
        return self._names[key]


def pattern_of(commands: Sequence[str]) -> str:
    """Return a pattern for these commands: words that never change as they are, others by what they are made of."""
    if any(_QUOTES & set(command) for command in commands):
        return "|".join(re.escape(command).replace("\\ ", " ") for command in dict.fromkeys(commands))
    columns = zip(*(command.split(" ") for command in commands), strict=True)
    return " ".join(_column(list(dict.fromkeys(column))) for column in columns)


def _column(values: Sequence[str]) -> str:
    escaped = [re.escape(value).replace("\\-", "-") for value in values]
    if len(values) == 1:
        return escaped[0]
    for pattern, whole in _CLASSES:
        if all(whole.fullmatch(value) for value in values):
            return pattern.format(most=max(80, *map(len, values)))
    return f"({'|'.join(escaped)})"


def _quoted(text: str) -> str:
    """Write a TOML string."""
    if "'" not in text and text.isprintable():
        return f"'{text}'" if "\\" in text else f'"{text}"' if '"' not in text else f"'{text}'"
    return json.dumps(text)


def _one_line(text: str) -> str:
    return text.encode("unicode_escape").decode()
