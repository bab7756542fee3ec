"""What a worker with this configuration would do with one message, for ``sqsjkr check --message``."""

from __future__ import annotations

import logging
import shlex
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from sqsjkr.attempt import Attempt
from sqsjkr.cli.exit_codes import FAILED, OK
from sqsjkr.cli.showing import safe, write
from sqsjkr.config import Config
from sqsjkr.errors import ConfigError
from sqsjkr.message import SIGNATURE, Message
from sqsjkr.outcome import Outcome
from sqsjkr.plan import Plan
from sqsjkr.reader import Reader
from sqsjkr.sender import LONGEST
from sqsjkr.telemetry.events import LOGGER


def attempt_at(path: str, *, sender: str, signature: str) -> Attempt:
    """Return an attempt at the message in a file, as if it had been sent a moment ago. Raises ``ConfigError``."""
    try:
        content = sys.stdin.buffer.read(LONGEST + 3) if path == "-" else Path(path).read_bytes()
        body = content.decode().removesuffix("\n").removesuffix("\r")
    except OSError as why:
        raise ConfigError(f"--message {path}: cannot be read: {(why.strerror or str(why)).lower()}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"--message {path}: not UTF-8") from None
    attributes = {SIGNATURE: signature} if signature else {}
    now = time.time()
    message = Message(
        id="check", body=body, sent_at=now, age=0.0, received_at=0.0, sender=sender, attributes=attributes
    )
    return Attempt(message, "check")


def execute(config: Config, attempt: Attempt) -> int:
    """Print what would become of the attempt: 0 if it would run. Raises ``ConfigError`` for a bad trust file."""
    LOGGER.setLevel(logging.CRITICAL)  # what is said here is said once
    trust = None
    if config.trust:
        # Imported where needed: without a trust file nobody needs it.
        from sqsjkr.trust.authority import Judge, TrustFile  # noqa: PLC0415
        from sqsjkr.trust.vault import Vault  # noqa: PLC0415

        trust = TrustFile(config.trust, audience=config.audience, claims=config.throttler != "none")
        judge = Judge(trust, Vault({}))
    reader = Reader(
        config.jobs,
        plan=Plan(wrapper=config.wrapper),
        max_timeout=config.max_timeout,
        authority=judge if trust else None,
    )
    ending = reader.read(attempt) or attempt.refusal
    complaint = judge.complaint(attempt) if trust and ending is None else ""
    if ending is not None:
        what = "would be given back" if ending.outcome is Outcome.UNKNOWN else "would go to the dead-letter queue"
        verdict = f"{ending.outcome.label}: {ending.detail} ({what})"
    elif complaint:
        verdict = f'it would run, since mode is "warn"; with "enforce" it would be refused: {complaint}'
    else:
        verdict = "it would run" if trust else "it would run: without a trust file everybody may ask for everything"
    rows = [("verdict", verdict), *(_plan(attempt) if ending is None else _asked(attempt))]
    write(*(f"{name:<10} {safe(value)}" for name, value in rows if value))
    return FAILED if ending is not None else OK


def _asked(attempt: Attempt) -> Iterator[tuple[str, str]]:
    """Say whose the message is."""
    yield "sender", attempt.message.sender or "not given; --sender ID says who"
    for name in ("producer", "key", "job"):
        yield name, attempt.audit.get(name) or ""


def _plan(attempt: Attempt) -> Iterator[tuple[str, str]]:
    """Say what would be executed, and how. No value of a variable is shown."""
    yield from _asked(attempt)
    job, plan = attempt.job, attempt.plan
    if job is None:
        return
    yield "executes", shlex.join((*plan.wrapper, *(plan.argv or ("sh", "-c", job.command))))
    yield "variables", ", ".join(sorted({*job.env, *plan.arguments, *plan.variables}))
    yield "secrets", ", ".join(f"{name} ({reference})" for name, reference in sorted(plan.secrets.items()))
    yield "lock_id", job.lock_id
    yield "claimed as", attempt.claim_key if attempt.claim_key != attempt.message.id else ""
