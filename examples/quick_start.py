"""Send five messages to the embedded store, run them, and say what became of each. README.md, "Quick start".

    python examples/quick_start.py [DIRECTORY]

It needs no AWS and no server, and ends by itself. The directory of the store is ``demo`` unless one is named.
"""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

from sqsjkr.backends.sqlite.queue import SQLiteQueue
from sqsjkr.backends.sqlite.store import Store

JOBS = os.path.relpath(Path(__file__).with_name("jobs.jsonl"))
BROKEN = '{"command": ["this", "is", "no", "string"]}'
WHY = {
    "hello": "a plain job: it runs, and its message leaves the queue",
    "report": "it takes the lock `report`, runs, and gives the lock back",
    "report-again": "it waits for the same lock, without holding a slot, until its life_time of 2s is over",
    "fails": "it runs and exits with 3; a failed job is not run again, its message leaves the queue",
}
ENDED = re.compile(r" job\.ended +(\S+): (\S+)")


def main() -> int:
    directory = sys.argv[1] if len(sys.argv) > 1 else "demo"
    say("Four jobs go onto the queue. Queue, locks and claims are in one SQLite file here.")
    sent = subprocess.run(shown("send", "--local", directory, "--json", JOBS), check=False)
    if sent.returncode:
        return sent.returncode
    say("A fifth message is not a valid job. Another producer sent it; `sqsjkr send` would have refused it.")
    broken = asyncio.run(put(directory, BROKEN))
    print(f"  {BROKEN}", flush=True)
    say("The worker runs the jobs on the queue. Without --until-empty it would run until a signal stops it.")
    outcomes = run(directory)
    say("What became of each message:")
    for name, why in {**WHY, broken: "an invalid body: it is on the dead-letter queue, with the reason"}.items():
        print(f"  {'the fifth' if name == broken else name:13} {outcomes.get(name, 'lost'):10} {why}")
    say(f"All of it is in {directory}/. Next: docs/tutorial.md, or `sqsjkr --help`.")
    return 0 if outcomes.keys() >= {*WHY, broken} else 1


async def put(directory: str, body: str) -> str:
    """Put a body onto the queue as it is, unchecked."""
    queue = SQLiteQueue(Store(directory))
    await queue.open()
    try:
        return (await queue.send([body]))[0]
    finally:
        await queue.close()


def run(directory: str) -> dict[str, str]:
    """Run the worker until the queue is empty, show its log, and read from it how each job ended."""
    outcomes = {}
    command = shown("run", "--local", directory, "--until-empty")
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as worker:
        for line in worker.stderr or ():
            print(f"  {line}", end="", flush=True)
            if ended := ENDED.search(line):
                outcomes[ended[1]] = ended[2]
    return outcomes


def shown(*arguments: str) -> list[str]:
    """A command of sqsjkr, printed as one would type it."""
    print(f"$ sqsjkr {shlex.join(arguments)}", flush=True)
    return [sys.executable, "-m", "sqsjkr", *arguments]


def say(text: str) -> None:
    print(f"\n# {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
