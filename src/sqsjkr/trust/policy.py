"""The trust file as values, and what it says of one job. Pure: nothing here reads a clock, a file or the network."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import translate
from typing import Any

from sqsjkr.job import LONGEST_LOCK_ID, Job
from sqsjkr.plan import Plan
from sqsjkr.trust.words import Word, displayed, split

COMMAND = "command"
"""What a producer may ask for, beside jobs by name: any shell command."""
LONGEST_NAME = 64
"""The most characters in the name of a job or a producer."""
LONGEST_VALUE = 1024
"""The most characters of an argument, unless it says otherwise."""
SIGNATURE_LIFE = 900.0
"""The longest time between ``iat`` and ``exp`` of a signature, unless the file says otherwise: 15 minutes."""
SECRETS_AGE = 300.0
"""Seconds that the value of a secret is used again, unless the file says otherwise."""

_SHOWN = 40
_MOST_SHOWN = 3
_HARMFUL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Argument:
    """What the value of one argument may be."""

    name: str
    pattern: re.Pattern[str] | None = None
    """What the whole value must match."""
    choices: tuple[str, ...] = ()
    """Or the values that it may be."""
    most: int = LONGEST_VALUE
    """The most characters."""
    dash: bool = False
    """It may begin with a dash although it is a word of its own, where a program takes it for an option."""
    default: str | None = None
    """None: the argument is required."""

    def complaint(self, value: str) -> str:
        """Return the rule that a value breaks, without the value; "" if it fits."""
        if len(value) > self.most:
            return f"args.{self.name} has more than {self.most} characters"
        if _HARMFUL.search(value):
            return f"args.{self.name} holds a control character"
        if self.choices and value not in self.choices:
            return f"args.{self.name} is none of {', '.join(self.choices)}"
        if self.pattern and not self.pattern.fullmatch(value):
            return f"args.{self.name} does not match {self.pattern.pattern}"
        return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedJob:
    """A job that the operator has published under a name. One of ``run``, ``command`` and ``match`` is set."""

    name: str
    run: tuple[Word, ...] = ()
    """The program and its arguments, executed without a shell."""
    command: str = ""
    """The operator's own shell text, which finds the arguments in variables."""
    match: re.Pattern[str] | None = None
    """The whole shell command of messages without a job's name, which is then executed without a shell."""
    args: tuple[Argument, ...] = ()
    env: frozenset[str] = frozenset()
    """The variables that a message may set."""
    variables: Mapping[str, str] = field(default_factory=dict)
    """The variables that the operator sets."""
    secrets: Mapping[str, str] = field(default_factory=dict)
    """Variables whose values are looked up when a job starts: their names, and where each value is kept."""
    lock_id: Word | None = None
    """The lock, with the arguments filled in; None if the message may choose."""
    fields: Mapping[str, Any] = field(default_factory=dict)
    """The other fields of ``Job`` that the operator sets."""
    plan: Mapping[str, Any] = field(default_factory=dict)
    """Further fields of ``Plan``."""

    def planned(self, asked: Job, plan: Plan) -> tuple[Job | None, Plan, str]:
        """Return the job as it counts, its plan, and what is wrong with what was asked for ("" if nothing is).

        The job is None if what is wrong leaves nothing that could be run.
        """
        words: tuple[str, ...] = ()
        values, complaint = self._bound(asked.args)
        job_values, more = self._of_the_job(asked, values or {})
        complaint = complaint or more
        if values is None:
            return None, plan, complaint
        if self.match:
            words, more = split(asked.command)
            more = more and f"job {self.name} runs without a shell, and {more}"
        elif self.run:
            words, more = self._filled(values)
        else:
            words = "sh", "-c", self.command
            more = _dash(argument for argument in self.args if values[argument.name][:1] == "-")
        arguments = {f"ARG_{name.upper()}": value for name, value in values.items()} if self.command else {}
        shown = self.command or (asked.command if self.match else displayed(words))
        job = replace(asked, command=shown, **job_values)
        given: dict[str, Any] = {
            "argv": words,
            "arguments": arguments,
            "variables": self.variables,
            "secrets": self.secrets,
        }
        return job, replace(plan, **given, **self.plan), complaint or more

    def _bound(self, given: Mapping[str, str]) -> tuple[dict[str, str] | None, str]:
        """Return each argument's value (None if one is missing), and the first complaint."""
        complaint = ""
        values = {}
        for argument in self.args:
            value = given.get(argument.name, argument.default)
            if value is None:
                return None, f"args.{argument.name} is missing"
            if argument.name in given:
                complaint = complaint or argument.complaint(value)
            values[argument.name] = value
        if not complaint and not given.keys() <= values.keys():
            complaint = f"job {self.name} takes no argument {_listed(given.keys() - values.keys())}"
        return values, complaint

    def _filled(self, values: Mapping[str, str]) -> tuple[tuple[str, ...], str]:
        """Return the argv. A word that begins with a value must not become an option."""
        words, complaint = [], ""
        for word in self.run:
            text = word.filled(values)
            if text[:1] == "-" and not word.literal_start:
                complaint = complaint or _dash(argument for argument in self.args if argument.name in word.names)
            words.append(text)
        return tuple(words), complaint

    def _of_the_job(self, asked: Job, values: Mapping[str, str]) -> tuple[dict[str, Any], str]:
        """Return the fields of the job that the operator decides, and the first one that the message contradicts."""
        mine = dict(self.fields)
        complaint = ""
        if self.lock_id is not None and set(self.lock_id.names) <= values.keys():
            mine["lock_id"] = self.lock_id.filled(values)
            if len(mine["lock_id"].encode()) > LONGEST_LOCK_ID:
                complaint = f"its lock_id would have more than {LONGEST_LOCK_ID} bytes"
        for name, value in mine.items():
            if name in asked.given and getattr(asked, name) != value:
                complaint = complaint or f"{name} of job {self.name} is the trust file's to say"
        if not asked.env.keys() <= self.env:
            complaint = complaint or f"job {self.name} takes no variable {_listed(asked.env.keys() - self.env)}"
        return mine, complaint


@dataclass(frozen=True, slots=True, kw_only=True)
class Producer:
    """Who sends, by what SQS and signatures prove, and what it may ask for."""

    name: str
    senders: re.Pattern[str] | None = None
    """What the sender's identity must match; None if any will do."""
    keys: frozenset[str] = frozenset()
    """The keys of which one must have signed; empty if none has to."""
    jobs: re.Pattern[str] | None = None
    """The names of jobs that it may ask for; None for none."""
    command: bool = False
    """It may ask for any shell command."""

    def sends(self, sender: str, key: str) -> bool:
        """Return whether a message is this producer's: all of its conditions hold."""
        if self.senders and not self.senders.match(sender):
            return False
        return not self.keys or key in self.keys

    def may(self, job: str) -> bool:
        """Return whether it may ask for the job of this name."""
        return self.jobs is not None and self.jobs.match(job) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What the signature of a message proves."""

    key: str = ""
    """The id of the key that signed it; "" if it has no signature, or a wrong one."""
    token: str = ""
    """The signature's own id, ``jti``, by which a copy of the message is known."""
    complaint: str = ""
    """What is wrong with it."""


UNSIGNED = Proof()


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the policy says of one job."""

    job: Job | None
    """The job as it counts; None if there is nothing that could be run."""
    plan: Plan
    producer: str = ""
    """Whose it is; "" if it is no producer's."""
    name: str = ""
    """The name of the job; "" for a shell command."""
    complaint: str = ""
    """Why it is refused; "" if it may run."""
    unknown: bool = False
    """There is no job of this name here, yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """A trust file."""

    enforce: bool = True
    """False: what would be refused runs all the same."""
    producers: tuple[Producer, ...] = ()
    jobs: Mapping[str, NamedJob] = field(default_factory=dict)
    signature_life: float = SIGNATURE_LIFE
    secrets_age: float = SECRETS_AGE

    def judge(self, asked: Job, plan: Plan, sender: str, proof: Proof) -> Verdict:
        """Return what becomes of a job that this sender asks for. ``plan`` is what the configuration says of it."""
        producers = [producer for producer in self.producers if producer.sends(sender, proof.key)]
        complaint = proof.complaint
        if not complaint and not producers:
            complaint = f"sender {sender or 'unknown'} is no producer's"
            if proof.key:
                complaint += f" with key {proof.key}"
        if asked.command:
            return self._of_a_command(asked, plan, producers, complaint)
        job = self.jobs.get(asked.name)
        if job is not None and not job.match:
            return _of_a_named_job(job, asked, plan, producers, complaint)
        unknown = not complaint and job is None
        complaint = complaint or (
            f"job {asked.name} is for shell commands, it has no program of its own"
            if job
            else f"the trust file has no job {_listed([asked.name])}"
        )
        return Verdict(job=None, plan=plan, name=asked.name[:LONGEST_NAME], complaint=complaint, unknown=unknown)

    def _of_a_command(self, asked: Job, plan: Plan, producers: Sequence[Producer], complaint: str) -> Verdict:
        """Judge a job that brings its command: it may be one that a ``match`` describes."""
        if "name" in asked.given:
            complaint = complaint or "it has a job and a command, expected one of them"
        for job in self.jobs.values():
            if job.match and job.match.fullmatch(asked.command):
                verdict = _of_a_named_job(job, asked, plan, producers, complaint)
                if not verdict.complaint:
                    return verdict
                complaint = complaint or verdict.complaint
        producer = next((producer for producer in producers if producer.command), None)
        if producer and "name" not in asked.given:
            return Verdict(job=asked, plan=plan, producer=producer.name)
        first = producers[0].name if producers else ""
        complaint = complaint or f'producer {first} may not ask for "{COMMAND}"'
        return Verdict(job=asked, plan=plan, producer=first, complaint=complaint)


def _of_a_named_job(job: NamedJob, asked: Job, plan: Plan, producers: Sequence[Producer], complaint: str) -> Verdict:
    producer = next((producer for producer in producers if producer.may(job.name)), None)
    first = producers[0].name if producers else ""
    if producer is None:
        complaint = complaint or f"producer {first} may not ask for job {job.name}"
    counts, planned, more = job.planned(asked, plan)
    return Verdict(
        job=counts,
        plan=planned,
        producer=producer.name if producer else first,
        name=job.name,
        complaint=complaint or more,
    )


def _dash(arguments: Iterable[Argument]) -> str:
    """Name the first of these arguments, whose values make a word begin with a dash, that may not."""
    names = [argument.name for argument in arguments if not argument.dash]
    return f"args.{names[0]} begins with a dash, which a program takes for an option" if names else ""


def any_of(globs: Iterable[str]) -> re.Pattern[str] | None:
    """Return what matches a text that one of these patterns matches, as ``fnmatch`` has it; None without patterns."""
    found = "|".join(translate(glob) for glob in globs)
    return re.compile(found) if found else None


def _listed(names: Iterable[str]) -> str:
    """Name what a message brings too much, shortened: the names are the message's own."""
    every = sorted(names)
    shown = ", ".join(name[:_SHOWN].encode("unicode_escape").decode() for name in every[:_MOST_SHOWN])
    return shown if len(every) <= _MOST_SHOWN else f"{shown}, ..."
