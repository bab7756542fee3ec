"""``sqsjkr sign``: the signature of one body, for producers in other languages and for carriers without attributes."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time

from sqsjkr import durations
from sqsjkr.cli.exit_codes import OK
from sqsjkr.cli.options import add_where
from sqsjkr.cli.settings import configured
from sqsjkr.errors import ConfigError, InvalidJob
from sqsjkr.job import decode
from sqsjkr.message import LONGEST_SIGNATURE_LIFE
from sqsjkr.sender import LONGEST
from sqsjkr.trust.policy import SIGNATURE_LIFE
from sqsjkr.trust.signer import signer

EPILOG = """\
examples:
  sqsjkr sign --key deploy-2026-11.private.json --queue sqsjkr_queue <job.json
  sqsjkr sign --key kms:alias/deploy --queue sqsjkr_queue --envelope <job.json >body.json

exit codes: 0 if it was signed, 1 if KMS refused, 2 if the command line, the key or the job is wrong
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the key, the queue, and the form of what is written."""
    add_where(parser, table=False)
    parser.add_argument("--key", metavar="KEY", required=True, help="a private key's file, or kms:ALIAS, kms:ALIAS#ID")
    parser.add_argument("--queue", metavar="NAME", default="", help="the queue's name (default: as configured)")
    parser.add_argument("--life", metavar="TIME", default="15m", help="how long it may be sent (default: 15m)")
    parser.add_argument(
        "--envelope", action="store_true", help='write {"signed": BODY, "signature": TOKEN}, the whole body to send'
    )


def execute(arguments: argparse.Namespace) -> int:
    """Sign what stdin holds; a line end at its end is no part of it."""
    content = sys.stdin.buffer.read(LONGEST + 2)
    try:
        body = content.decode().removesuffix("\n").removesuffix("\r")
        decode(body, "")
    except UnicodeDecodeError:
        raise ConfigError("stdin: not UTF-8") from None
    except InvalidJob as why:
        raise ConfigError(f"invalid job: {why}") from None
    audience = arguments.queue or configured(arguments)[1].audience
    token = asyncio.run(_sign(arguments, body, audience, _life(arguments.life)))
    out = json.dumps({"signed": body, "signature": token}) if arguments.envelope else token
    sys.stdout.write(f"{out}\n")
    return OK


async def _sign(arguments: argparse.Namespace, body: str, audience: str, life: float) -> str:
    where = {"profile": arguments.profile or "", "region": arguments.region or ""}
    key = signer(arguments.key, audience=audience, life=life, **where)
    await key.open()
    try:
        return await key.sign(body, time.time())
    finally:
        await key.close()


def _life(text: str) -> float:
    try:
        life = durations.parse(text)
    except ValueError:
        life = 0.0
    if not 1 <= life <= LONGEST_SIGNATURE_LIFE:
        expected = f"between 1s and 1h, and at most the workers' signature_life ({durations.format(SIGNATURE_LIFE)})"
        raise ConfigError(f"--life {text}: expected a time {expected}")
    return life
