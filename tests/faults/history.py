"""What really ran: the script that jobs of the suite are, and the history that they write.

Every line is appended with one write to one file, so the file's order is the true order of events on this host, however
many processes write and whatever kills them. A line holds: seconds since boot, event, job, attempt, process, lock id,
fence, receive count, worker. `attempt` names one run of a job's command: the worker's name and the shell's pid.

A job says `begin`, then `beat` every tenth of a second, then `end`. Some leave their session and go on with `beat` from
there, so a process that outlives its killed shell shows up as an overlap.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

WORKER = "SQSJKR_TEST_WORKER"
"""The variable by which a daemon, and so every job it runs, knows its own name."""

SCRIPT = r"""# history job kind beats [attempt]
ulimit -f unlimited  # where the disk of its worker's log is full: see `workers.fill_disk`
history=$1 job=$2 kind=$3 beats=$4 attempt=${5:-$SQSJKR_TEST_WORKER.$$}
note() {
  read -r now rest </proc/uptime
  facts="${SQSJKR_LOCK_ID:--} ${SQSJKR_FENCE:-0} $SQSJKR_RECEIVE_COUNT $SQSJKR_TEST_WORKER"
  echo "$now $1 $job $attempt $$ $facts" >>"$history"
}
live() {
  if [ "$beats" = held ]; then
    until [ -e "$history.$job.released" ]; do sleep 0.1; note beat; done
    return
  fi
  while [ "$beats" -gt 0 ]; do
    sleep 0.1
    note beat
    beats=$((beats - 1))
  done
}
case $kind in
  apart) live; exit ;;  # what `family` starts in a session of its own
  stubborn) trap '' TERM ;;
esac
note begin
case $kind in
  family)
    setsid sh "$0" "$history" "$job" apart "$beats" "$attempt" &
    wait ;;
  *) live ;;
esac
note end
[ "$kind" != failing ]
"""
KINDS = ("plain", "failing", "stubborn", "family")


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """One line of the history."""

    number: int
    """Its place: what stands above it happened before it."""
    time: float
    """Seconds since boot, to a hundredth: on the scale of `sqsjkr.clock`."""
    event: str
    job: str
    attempt: str
    pid: int
    lock_id: str
    """ "" for none."""
    fence: int
    receive_count: int
    worker: str


class History:
    """One run's file, and the script beside it."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "history"
        self.path.touch()
        self.script = directory / "job.sh"
        self.script.write_text(SCRIPT)

    def command(self, job: str, kind: str = "plain", beats: int = 0) -> str:
        """The command of a job that lives for `beats` tenths of a second."""
        words = ["exec", "sh", str(self.script), str(self.path), job, kind, str(beats)]
        return shlex.join(words)

    def held(self, job: str, kind: str = "plain") -> str:
        """The command of a job that lives until the test releases it, so that its end waits for a fact, not a clock."""
        return shlex.join(["exec", "sh", str(self.script), str(self.path), job, kind, "held"])

    def release(self, *jobs: str) -> None:
        """Let held jobs come to their end, in this run and in any later one."""
        for job in jobs:
            Path(f"{self.path}.{job}.released").touch()

    def notes(self) -> list[Note]:
        """All that was written so far."""
        return read(self.path.read_text().splitlines())

    def has(self, event: str, job: str, times: int = 1) -> bool:
        """Was this event of this job written, so many times at least?"""
        return sum((note.event, note.job) == (event, job) for note in self.notes()) >= times

    def jobs(self, event: str) -> list[str]:
        """The jobs with this event, in its order, each as often as it had it."""
        return [note.job for note in self.notes() if note.event == event]


def read(lines: Iterable[str]) -> list[Note]:
    """The notes in these lines."""
    notes = []
    for number, line in enumerate(lines):
        now, event, job, attempt, pid, lock_id, fence, receive_count, worker = line.split(" ")
        notes.append(
            Note(
                number=number,
                time=float(now),
                event=event,
                job=job,
                attempt=attempt,
                pid=int(pid),
                lock_id="" if lock_id == "-" else lock_id,
                fence=int(fence),
                receive_count=int(receive_count or 0),
                worker=worker,
            )
        )
    return notes
