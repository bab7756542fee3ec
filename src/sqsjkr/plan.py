"""What the operator decides about a job: the plan of its execution, and the sections that say it by name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import translate
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is executed for one attempt, and how. Its printed form leaves the variables out."""

    argv: tuple[str, ...] = ()
    """The program and its arguments; () runs the job's command with ``sh -c``."""
    wrapper: tuple[str, ...] = ()
    """A program and its arguments that are put in front, such as ``("nice", "-n", "10")``."""
    arguments: Mapping[str, str] = field(default_factory=dict, repr=False)
    """The arguments of a job by name, as environment variables: no secrets, unlike those of the operator."""
    variables: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Environment variables on top of the job's own."""
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Variables whose values are looked up before the start: their names, and where each value is kept."""
    hook: str = ""
    """Shell command that is run when the delivery has ended; "" for none."""
    hook_on: frozenset[str] = frozenset()
    """The endings that run it."""

    @property
    def has_own_program(self) -> bool:
        """Whether the job's own program comes first: if that is missing, it is the job's trouble and not the host's."""
        return bool(self.argv) and not self.wrapper and self.argv[0] != "sh"

    def tells(self, news: Iterable[str]) -> bool:
        """Return whether the hook is to be told of an ending that goes by these words."""
        return bool(self.hook) and not self.hook_on.isdisjoint(news)

    def command_line(self, command: str) -> tuple[bytes, ...]:
        """Return the arguments to execute for a job with this shell command."""
        argv = self.argv or ("sh", "-c", command)
        return tuple(argument.encode() for argument in (*self.wrapper, *argv))


AS_ASKED = Plan()
"""The job's own command and nothing else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """What an operator says about the jobs whose names match a pattern: ``*``, ``?``, ``[a-z]``; case counts."""

    pattern: str
    job: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """Fields of ``Job``, for messages that leave them out."""
    plan: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """Fields of ``Plan``."""
    _regex: re.Pattern[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Translate the pattern once."""
        object.__setattr__(self, "_regex", re.compile(translate(self.pattern)))

    def matches(self, name: str) -> bool:
        """Return whether a name matches, as ``fnmatch.fnmatchcase`` has it."""
        return self._regex.match(name) is not None
