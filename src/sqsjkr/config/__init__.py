"""The configuration: the original's TOML file unchanged, flags over it, a default for everything it did not know.

``Config`` is the one table: section, name, type, default and check of every setting stand at its field.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from operator import itemgetter
from types import MappingProxyType
from typing import Any, Self

from sqsjkr import backends
from sqsjkr.config import file as configfile
from sqsjkr.config import rules, sections
from sqsjkr.errors import ConfigError
from sqsjkr.plan import Section
from sqsjkr.policy import NEWS

_DEFAULT_PORT = 8061
_DEFAULT_SLOTS = 20
_LONGEST_RETENTION = 1_209_600
"""Seconds that SQS keeps a message at most (AWS: Amazon SQS message quotas)."""
_REGION = re.compile(
    r"https?://(?:[^/:]*\.)?sqs(?:-fips)?\.([a-z0-9-]+)\.(?:vpce\.)?(?:amazonaws\.com(?:\.cn)?|api\.aws)(?=[:/])"
)
_Mistake = tuple[str, str]
"""A field, and what to say after its name."""


def _in(section: str, rule: rules.Rule, *, name: str = "") -> dict[str, Any]:
    """A field's place in the file and its check, which returns the value or raises ValueError("what was expected")."""
    return {"section": section, "rule": rule, "name": name}


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Everything an operator can set. ``load`` makes one from a file, Python programs make one by keyword.

    The units are seconds and bytes. Raises ConfigError, with one line for each mistake.
    """

    account_id: str = field(default="", metadata=_in("account", rules.text, name="id"))
    """The AWS account that owns the queue. Required, unless ``queue_url`` or ``local`` is given."""
    profile: str = field(default="", metadata=_in("account", rules.text))
    """The profile in the AWS configuration files; "" is the default chain of credentials."""
    region: str = field(default="", metadata=_in("account", rules.text))
    """The AWS region. Not given: as ``queue_url`` says, else AWS_REGION, else AWS_DEFAULT_REGION."""
    queue_name: str = field(default="", metadata=_in("sqs", rules.queue_name))
    """The queue's name. Required, unless ``queue_url`` or ``local`` is given."""
    queue_url: str = field(default="", metadata=_in("sqs", rules.queue_url))
    """The queue's whole address, for a queue of another account, partition or endpoint. Wins over ``queue_name``."""
    max_concurrent_num: int = field(
        default=_DEFAULT_SLOTS, metadata=_in("kicker", rules.whole(1, 10_000, zero=_DEFAULT_SLOTS))
    )
    """How many jobs run at once. 0 means 20, as in the original."""
    life_time_trigger: str = field(default="", metadata=_in("kicker", rules.text))
    """Shell command to run when a job's life_time was over before the job could start; "" for none."""
    stats_port: int = field(default=0, metadata=_in("kicker", rules.whole(1, 65_535, zero=0)))
    """TCP port of the stats. 0 becomes 8061; with ``stats_socket`` or ``local`` it stays 0, which is no port."""
    stats_host: str = field(default="127.0.0.1", metadata=_in("kicker", rules.filled))
    """The address of the stats port. The original listened on all addresses (go-semantics D7)."""
    stats_socket: str = field(default="", metadata=_in("kicker", rules.socket_path))
    """Path of a Unix socket for the stats, instead of the port."""
    max_timeout: float = field(default=0.0, metadata=_in("kicker", rules.seconds(_LONGEST_RETENTION)))
    """The longest time limit in seconds that a message may give its job, and the one of jobs without; 0 for none."""
    max_crashes: int = field(default=5, metadata=_in("kicker", rules.whole(0, 1000)))
    """How many workers may die while they run one job before it is moved to the dead-letter queue."""
    wrapper: tuple[str, ...] = field(default=(), metadata=_in("kicker", rules.argv))
    """A program and its arguments to put in front of every job's command, such as ("nice", "-n", "10")."""
    trust: str = field(default="", metadata=_in("kicker", rules.text))
    """The trust file: who may make this worker do what. "": whoever can send may ask for any shell command."""
    hook: str = field(default="", metadata=_in("kicker", rules.text))
    """Shell command to run when a job has ended in one of the ways of ``hook_on``; "" for none."""
    hook_on: frozenset[str] = field(
        default=frozenset({"failure", "recovered"}), metadata=_in("kicker", rules.choices(*NEWS))
    )
    """The endings that run the hook: outcomes, or "failure", "recovered", "success" and "all"."""
    job_env: tuple[str, ...] = field(default=("*",), metadata=_in("kicker", rules.variables))
    """The variables of the daemon's environment that jobs inherit: names, ``PREFIX_*``, or ``*`` for all."""
    job_aws: str = field(default="inherit", metadata=_in("kicker", rules.choice("inherit", "none")))
    """Whether jobs inherit the daemon's AWS credentials: "inherit", or "none"."""
    lock_table: str = field(default="sqsjkr", metadata=_in("kicker", rules.filled))
    """DynamoDB table for locks and throttle rows."""
    ack: str = field(default="finish", metadata=_in("kicker", rules.choice("finish", "start")))
    """When the message leaves the queue: at the end of its job, or before its start (at most once, as in Go)."""
    grace_period: float = field(default=20.0, metadata=_in("kicker", rules.seconds(86_400)))
    """Seconds that running jobs may go on after a stop signal."""
    kill_after: float = field(default=5.0, metadata=_in("kicker", rules.seconds(8, above_zero=True)))
    """Seconds from TERM to KILL. At most 8: locked jobs must be gone before their lease can be taken over."""
    locker: str = field(default="", metadata=_in("kicker", rules.backend))
    """Keeps jobs with one lock_id apart: "dynamodb", "sqlite:/directory", "none" or "package.module:Class"."""
    throttler: str = field(default="", metadata=_in("kicker", rules.backend))
    """Keeps one message from running twice: as ``locker``. "" becomes "sqlite" with ``local``, else "dynamodb"."""
    log_level: str = field(default="info", metadata=_in("kicker", rules.choice("error", "warn", "info", "debug")))
    """The least important level that is logged."""
    log_format: str = field(default="text", metadata=_in("kicker", rules.choice("text", "json")))
    """Log lines for people ("text") or for machines ("json")."""
    metrics_log: str = field(default="none", metadata=_in("kicker", rules.choice("none", "emf")))
    """Metrics in the log: "emf" for one line a minute in CloudWatch's embedded metric format."""
    history: str = field(default="all", metadata=_in("kicker", rules.choice("all", "failures", "none")))
    """The jobs of which the table keeps what they were and how they ended: "all", "failures", "none"."""
    history_output: str = field(default="failures", metadata=_in("kicker", rules.choice("all", "failures", "none")))
    """The jobs of which it keeps the end of their output: "all", "failures", "none"."""
    history_days: int = field(default=14, metadata=_in("kicker", rules.whole(1, 365)))
    """Days for which it keeps them."""
    otlp_endpoint: str = field(default="", metadata=_in("kicker", rules.http_url))
    """The OpenTelemetry collector that gets a span for each run; "" for what OTEL_EXPORTER_OTLP_ENDPOINT says."""
    trace_parent: bool = field(default=False, metadata=_in("kicker", rules.flag))
    """Make the producer's span the parent of a run's, instead of linking it."""
    output_tail: int = field(default=65_536, metadata=_in("kicker", rules.whole(0, 16_777_216)))
    """Bytes kept of the end of a job's output."""
    output_rate: int = field(default=1_048_576, metadata=_in("kicker", rules.whole(0)))
    """Bytes a second of one job's output that are logged, sustained; 0 for no limit."""
    jobs: tuple[Section, ...] = field(default=(), metadata=_in("", rules.anything))
    """What is said about jobs by their names: patterns and their keys, as the ``[jobs."PATTERN"]`` sections have it."""
    local: str = field(default="", metadata=_in("", rules.text))
    """Directory of the embedded store, which then stands in for SQS and DynamoDB. In no file: it is ``--local``."""

    @property
    def audience(self) -> str:
        """The queue's name in signatures: its own, or "local" for the embedded store."""
        return "local" if self.local else self.queue_url.rpartition("/")[2] or self.queue_name

    def __new__(cls, **given: object) -> Self:
        """Refuse an unknown setting as the file's is refused, instead of with a TypeError."""
        known = [item.name for item in fields(cls)]
        for name in given:
            if name not in known:
                near = rules.nearest(name, known)
                hint = f"did you mean {near}?" if near else "docs/reference/configuration.md lists them all"
                raise ConfigError(f"{name}: unknown setting; {hint}")
        return object.__new__(cls)

    def __post_init__(self) -> None:
        """Check every value, and fill in the defaults that depend on other values."""
        given = {item.name: getattr(self, item.name) for item in fields(self)}
        values, mistakes = _checked(given, os.environ)
        if mistakes:
            raise ConfigError("\n".join(f"{_label(name)}{text}" for name, text in mistakes))
        for name, value in values.items():
            object.__setattr__(self, name, value)


KEYS = tuple(
    configfile.Key(section=item.metadata["section"], name=item.metadata["name"] or item.name, field=item.name)
    for item in fields(Config)
    if item.metadata["section"]
)
"""The keys of the file, in the order of the table above."""


def load(
    path: str | os.PathLike[str] | None,
    *,
    env: Mapping[str, str] = os.environ,
    overrides: Mapping[str, object] = MappingProxyType({}),
) -> Config:
    """Load the file at ``path`` (None for no file), with ``overrides`` in place before any check.

    ``overrides`` are flags, named as the fields of ``Config``; None is a flag that was not given. A flag for
    the stats port or socket takes the place of the other one in the file (go-semantics D1, D2).

    Raises:
        ConfigError: one line for each mistake, all of them: file, line, key, value and what was expected.
    """
    flags = {name: value for name, value in overrides.items() if value is not None}
    file = (
        configfile.read(os.fspath(path), env, KEYS, (sections.NAME,)) if path is not None else configfile.File(path="")
    )
    given = {**file.values, **flags}
    for flag, other in (("stats_port", "stats_socket"), ("stats_socket", "stats_port")):
        if flags.get(flag) and other not in flags:
            given.pop(other, None)
    values, mistakes = _checked(given, env)
    for name, text in mistakes:
        if name in flags:
            file.problems.append((0, f"--{name.replace('_', '-')}{text}"))
        else:
            file.add(file.lines.get(name, 0), f"{_label(name)}{text}")
    if file.problems:
        raise ConfigError("\n".join(text for _, text in sorted(file.problems, key=itemgetter(0))))
    return Config(**values)


def _checked(given: Mapping[str, object], env: Mapping[str, str]) -> tuple[dict[str, Any], list[_Mistake]]:
    """Return every setting with defaults filled in, and every mistake."""
    values: dict[str, Any] = dict(given)
    mistakes: list[_Mistake] = []
    for item in fields(Config):
        value = given.get(item.name, item.default)
        try:
            values[item.name] = item.metadata["rule"](value)
        except ValueError as expected:
            values[item.name] = item.default
            mistakes.append((item.name, f" = {rules.shown(value)}: expected {expected}"))
    wrong = {name for name, _ in mistakes}
    values["jobs"], wrong_sections = sections.checked(values["jobs"])
    mistakes += wrong_sections
    mistakes += [mistake for mistake in _completed(values, env) if mistake[0] not in wrong]
    return values, mistakes


def _completed(values: dict[str, Any], env: Mapping[str, str]) -> Iterator[_Mistake]:
    """Fill in the defaults that depend on other settings; yield the settings that exclude each other."""
    local = values["local"]
    yield from sections.unmet(values["jobs"], values["ack"])
    for role in ("locker", "throttler"):
        values[role] = values[role] or ("sqlite" if local else "dynamodb")
        if backends.parse(values[role]) == backends.Name(table="sqlite") and not local:
            yield role, ' = "sqlite": needs a directory; write "sqlite:/directory", or start with --local DIR'
    if values["stats_port"] and values["stats_socket"]:
        yield "stats_socket", f" = {rules.shown(values['stats_socket'])}: stats_port is given, too; keep one of them"
    elif not values["stats_socket"] and not local:
        values["stats_port"] = values["stats_port"] or _DEFAULT_PORT
    if backends.needs_aws(local, values["locker"], values["throttler"]):
        values["region"] = values["region"] or _region(values["queue_url"], env)
        if not values["region"]:
            yield "region", ": required; write it here, give --region, or set AWS_REGION"
    if not local and not values["queue_url"]:
        if not values["account_id"]:
            yield "account_id", ": required; the number of the AWS account that owns the queue, in quotes"
        if not values["queue_name"]:
            yield "queue_name", ": required; the name of the queue that jobs come from"


def _region(queue_url: str, env: Mapping[str, str]) -> str:
    found = _REGION.match(queue_url)
    return found[1] if found else env.get("AWS_REGION") or env.get("AWS_DEFAULT_REGION") or ""


def _label(field_name: str) -> str:
    if field_name.startswith("["):
        return field_name
    key = next((key for key in KEYS if key.field == field_name), None)
    return configfile.label(key.section, "", key.name) if key else f"--{field_name}"
