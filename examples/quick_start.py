"""Send five jobs to the embedded store, run them, and say what became of each. README.md, "Quick start".

    python examples/quick_start.py [DIRECTORY]

It needs no AWS and no server, and ends by itself. The directory of the store is ``demo`` unless one is named.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

JOBS = os.path.relpath(Path(__file__).with_name("jobs.jsonl"))
BROKEN = '{"command": ["not", "a", "string"]}'
WHY = {
    "hello": "a plain job: it runs, and its message leaves the queue",
    "report": "it takes the lock `report`, runs, and gives the lock back",
    "report-again": "it waits for the same lock, without holding a slot, until its life_time of 2s is over",
    "fails": "it runs and exits with 3; a failed job is not run again, its message leaves the queue",
}
ENDED = re.compile(r" job\.ended +([^\s\[]+)\S*: (\S+)")


def main() -> int:
    directory = sys.argv[1] if len(sys.argv) > 1 else "demo"
    say("Four jobs go onto the queue. Queue, locks and claims are in one SQLite file here.")
    sent = subprocess.run(shown("send", "--local", directory, "--json", JOBS), check=False)
    if sent.returncode:
        return sent.returncode
    say("A fifth job is invalid, and refused. Sent by another producer, it would go to the dead-letter queue.")
    refused = send_broken(directory)
    say("The worker runs what is on the queue. Without --until-empty it would go on until a signal stops it.")
    outcomes = run(directory)
    say("What became of each job:")
    for name, why in WHY.items():
        print(f"  {name:13} {outcomes.get(name, 'lost'):10} {why}")
    print(f"  {'the fifth':13} {'refused' if refused else 'sent':10} it is an invalid job: `sqsjkr send` exits with 1")
    say(f"All of it is in {directory}/. Next: docs/tutorial.md, or `sqsjkr --help`.")
    return 0 if outcomes.keys() >= WHY.keys() and refused else 1


def send_broken(directory: str) -> bool:
    """Try to send a line that is an invalid job: whether it was refused."""
    print(f"$ echo {shlex.quote(BROKEN)} |", end=" ")
    command = shown("send", "--local", directory, "--json", "-", prompt="")
    return subprocess.run(command, input=BROKEN, text=True, check=False).returncode == 1


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


def shown(*arguments: str, prompt: str = "$ ") -> list[str]:
    """A command of sqsjkr, printed as one would type it."""
    print(f"{prompt}sqsjkr {shlex.join(arguments)}", flush=True)
    return [sys.executable, "-m", "sqsjkr", *arguments]


def say(text: str) -> None:
    print(f"\n# {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
