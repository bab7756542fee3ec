"""What the trust file costs and saves: a command through `sh`, the same as a named job, and the same signed."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import time
from base64 import b32encode
from collections.abc import Sequence
from io import StringIO
from pathlib import Path

from benchmarks.experiments import SLOTS, Bench, Sample
from benchmarks.standing import ACCOUNT, QUEUE, Standin
from benchmarks.subject import Daemon, Subject
from sqsjkr.attempt import Attempt
from sqsjkr.cli.main import main
from sqsjkr.job import decode
from sqsjkr.message import SIGNATURE, Message
from sqsjkr.trust.authority import Judge, TrustFile
from sqsjkr.trust.signer import FileSigner
from sqsjkr.trust.vault import Vault

KEY = "bench"
COMMAND, PROGRAM = "/bin/true --index=users delta", "/bin/true"
TRUST = """
{keys}
[producer.benchmark]
{proof}
may = ["index", "nightly-*"]
[job.index]
run = ["{program}", "--index={{index}}", "{{mode}}"]
args.index = '[a-z0-9_-]{{1,64}}'
args.mode = ["full", "delta"]
default = {{ mode = "delta" }}
env = ["TZ"]
"""
NAMED = json.dumps({"job": "index", "args": {"index": "users"}})
_JUDGED = 5_000


def named(bench: Bench, subject: Subject) -> Sample:
    """1,000 jobs of one program: as a command, by name, by name and signed; and what judging one message takes."""
    by_sender, by_key = _trust_files(bench.folder)
    jobs = bench.jobs(1000)
    command = json.dumps({"command": COMMAND})
    return {
        "named_raw": _cpu(bench, subject, [command] * jobs),
        "named_cpu": _cpu(bench, subject, [NAMED] * jobs, trust=by_sender),
        "named_signed": _cpu(bench, subject, [NAMED] * jobs, trust=by_key, signed=True),
        "named_judging": _judging(by_sender, ""),
        "named_verifying": _judging(by_key, _signatures(bench.folder, [NAMED])[0]),
    }


def _cpu(
    bench: Bench, subject: Subject, bodies: Sequence[str], *, trust: Path | None = None, signed: bool = False
) -> float:
    """Milliseconds of CPU a job."""
    settings = f'trust = "{trust}"\n' if trust else ""
    with (
        Standin(bench.tls) as standin,
        Daemon(subject, standin, bench.folder, slots=SLOTS, settings=settings) as daemon,
    ):
        signatures = _signatures(bench.folder, [*bodies, bodies[0]]) if signed else []
        _send(standin, bodies[:1], signatures[-1:])  # so that what a first job costs is not counted
        daemon.wait(1)
        before = daemon.cpu()
        _send(standin, bodies, signatures[:-1])
        daemon.wait(1 + len(bodies))
        time.sleep(0.2)
        return 1000 * (daemon.cpu() - before) / len(bodies)


def _send(standin: Standin, bodies: Sequence[str], signatures: Sequence[str] = ()) -> None:
    url = f"{standin.url}/{ACCOUNT}/{QUEUE}"
    entries = [{"Id": str(number % 10), "MessageBody": body} for number, body in enumerate(bodies)]
    for entry, token in zip(entries, signatures, strict=False):
        entry["MessageAttributes"] = {SIGNATURE: {"DataType": "String", "StringValue": token}}
    for start in range(0, len(entries), 10):
        standin.call("AmazonSQS.SendMessageBatch", {"QueueUrl": url, "Entries": entries[start : start + 10]})


def _judging(trust: Path, token: str) -> float:
    """Microseconds for one message, its decoding not counted."""
    judge = Judge(TrustFile(str(trust), audience=QUEUE), Vault({}))
    attributes = {SIGNATURE: token} if token else {}
    message = Message(
        id="m",
        body=NAMED,
        sent_at=time.time(),
        age=0.0,
        received_at=0.0,
        sender=_sender(),
        attributes=attributes,
    )
    attempts = [Attempt(message, "a") for _ in range(_JUDGED)]
    for attempt in attempts:
        attempt.job = decode(NAMED, "m")
    begun = time.thread_time()  # CPU: other programs do not count
    for attempt in attempts:
        judge.judge(attempt)
    took = time.thread_time() - begun
    if refusal := attempts[0].refusal:
        raise RuntimeError(f"the benchmark's own message is refused: {refusal.detail}")
    return 1e6 * took / _JUDGED


def _sender() -> str:
    """The identity that the stand-in gives to a call that is not signed."""
    return "AIDA" + b32encode(hashlib.sha256(b"").digest()).decode()[:17]


def _trust_files(folder: Path) -> tuple[Path, Path]:
    """A file that knows the producer by its identity, and one that knows it by its key, which is made here."""
    if not (folder / f"{KEY}.private.json").exists():
        with contextlib.redirect_stdout(StringIO()):
            main(["keygen", "--id", KEY, "--out", str(folder)])
    by_sender, by_key = folder / "sender.toml", folder / "key.toml"
    by_sender.write_text(TRUST.format(keys="", proof=f'sender = "{_sender()}"', program=PROGRAM))
    by_key.write_text(TRUST.format(keys=f'keys = "{KEY}.jwks.json"', proof=f'key = "{KEY}"', program=PROGRAM))
    return by_sender, by_key


def _signatures(folder: Path, bodies: Sequence[str]) -> list[str]:
    """One signature for each body, all with ids of their own."""

    async def sign() -> list[str]:
        signer = FileSigner(str(folder / f"{KEY}.private.json"), audience=QUEUE, life=900.0)
        await signer.open()
        return [await signer.sign(body, time.time()) for body in bodies]

    return asyncio.run(sign())
