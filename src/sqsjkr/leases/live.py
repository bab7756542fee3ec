"""What a worker shows beside its heartbeat, and the orders that wait for it there.

``Live`` rides on each heartbeat that is written anyway, so it costs no request; it stays so small that the row costs
one write unit (AWS: DynamoDB read and write unit consumption). Times in it are ages in seconds, counted back from the
heartbeat, so that no clock of a host is read.
"""

from __future__ import annotations

import json
import zlib
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

MOST_BYTES = 860
"""Bytes of ``Live`` as it is written: with the row's other attributes less than 1,024, one write unit."""
MOST_RUNNING = 24
"""Running jobs that are named; the oldest."""
MOST_WAITS = 5
"""Waiting lines that are named; the longest."""
LONGEST_KEY = 100
"""Characters of what is waited for that are kept."""
LONGEST_EVENT = 60
"""Characters of the event id of the oldest that waits."""
LONGEST_WHY = 120
ROSTER_KEPT = 86_400.0
"""Seconds that a worker's entry is kept after it was written; it is written again twice in that time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveRun:
    """A job that runs."""

    message_id: str
    seconds: float
    """Since it began."""
    key: str = ""
    """What its claim is known by, if not by its message's id (``Attempt.claim_key``)."""

    @property
    def claim(self) -> str:
        """The id of its claim's row."""
        return self.key or self.message_id


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveWait:
    """Jobs that wait for one thing."""

    key: str
    """``lock LOCK_ID``, or ``message ID``: a verdict about another worker's claim."""
    number: int
    oldest: str
    """The message id of the one that was sent first."""
    seconds: float
    """How long it has been waiting here."""
    event: str = ""
    """The event id of that one, if it has a name of its own; as much of it as is kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Live:
    """A worker at the moment of one heartbeat."""

    worker: str
    slots: int
    busy: int
    ready: int
    """Received, and waiting for a slot."""
    parked: int
    """Received, and waiting for locks or verdicts."""
    why: str = ""
    """Why it takes no new jobs; "" if it does."""
    running: tuple[LiveRun, ...] = ()
    waits: tuple[LiveWait, ...] = ()
    endings: Mapping[str, int] = field(default_factory=dict, hash=False)
    """How many deliveries have ended in each outcome."""

    def encode(self) -> bytes:
        """Return it in at most ``MOST_BYTES``; the youngest running jobs are left out first, then the waits."""
        oldest = sorted(self.running, key=lambda run: -run.seconds)[:MOST_RUNNING]
        longest = sorted(self.waits, key=lambda wait: -wait.number)[:MOST_WAITS]
        live = replace(self, running=tuple(oldest), waits=tuple(longest))
        while len(packed := live._packed()) > MOST_BYTES and (live.running or live.waits):  # noqa: SLF001 - its own
            cut = max(0, len(live.running) - 1 - (len(packed) - MOST_BYTES) // 25)
            live = replace(live, running=live.running[:cut], waits=live.waits if cut else ())
        return packed

    @classmethod
    def decode(cls, packed: bytes) -> Self | None:
        """Read what ``encode`` has written; None for anything else, such as a later release may write."""
        try:
            given: dict[str, Any] = json.loads(zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed, 100_000))
            return cls(
                worker=str(given["w"]),
                slots=int(given["s"]),
                busy=int(given["b"]),
                ready=int(given.get("r", 0)),
                parked=int(given.get("p", 0)),
                why=str(given.get("y", "")),
                running=tuple(
                    LiveRun(message_id=str(name), seconds=float(age), key="".join(map(str, key)))
                    for name, age, *key in given.get("run", ())
                ),
                waits=tuple(
                    LiveWait(
                        key=str(key),
                        number=int(number),
                        oldest=str(oldest),
                        seconds=float(age),
                        event="".join(map(str, event)),
                    )
                    for key, number, oldest, age, *event in given.get("wait", ())
                ),
                endings={str(name): int(number) for name, number in given.get("e", {}).items()},
            )
        except (ValueError, TypeError, KeyError, AttributeError, zlib.error):
            return None

    def _packed(self) -> bytes:
        facts = {
            "w": self.worker,
            "s": self.slots,
            "b": self.busy,
            "r": self.ready,
            "p": self.parked,
            "y": self.why[:LONGEST_WHY],
            "run": [[run.message_id, round(run.seconds, 1), *filter(None, [run.key])] for run in self.running],
            "wait": [
                [
                    wait.key[:LONGEST_KEY],
                    wait.number,
                    wait.oldest,
                    round(wait.seconds, 1),
                    *filter(None, [wait.event[:LONGEST_EVENT]]),
                ]
                for wait in self.waits
            ],
            "e": {name: number for name, number in self.endings.items() if number},
        }
        text = json.dumps(
            {name: value for name, value in facts.items() if value or name in "wsb"}, separators=(",", ":")
        )
        packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        return packer.compress(text.encode()) + packer.flush()


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What an operator wants of a running attempt. It stands on the session's row until the worker has seen it."""

    verb: str
    """``cancel`` or ``requeue``."""
    attempt: str
    by: str

    @property
    def text(self) -> str:
        """The order as it is written."""
        return f"{self.verb} {self.attempt} {self.by}"

    @classmethod
    def read(cls, text: str) -> Self | None:
        """Read an order; None for one that this release does not know."""
        verb, _, rest = text.partition(" ")
        attempt, _, by = rest.partition(" ")
        return cls(verb=verb, attempt=attempt, by=by) if verb in {"cancel", "requeue"} and attempt else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """What stands on the board: by whom, and since when in epoch seconds on the table's clock."""

    by: str
    at: float
    why: str = ""

    @classmethod
    def read(cls, text: str) -> tuple[str, Self] | None:
        """Read what ``text_for`` has written: the target and the notice; None for anything else."""
        try:
            given = json.loads(text)
            return str(given.get("for", "")), cls(by=str(given["by"]), at=float(given["at"]), why=str(given["why"]))
        except (ValueError, TypeError, KeyError, AttributeError):
            return None

    def text_for(self, target: str = "") -> str:
        """Return the notice as it is written. ``target``: a host or a worker; "" for all."""
        return json.dumps({"for": target, "by": self.by, "at": round(self.at, 3), "why": self.why})


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """What operators have ordered for the whole queue, or for hosts, and stands."""

    paused: Notice | None = None
    drained: Mapping[str, Notice] = field(default_factory=dict, hash=False)
    """By host, or by worker."""
    call: int = 0
    """The number of the last roll call."""
    called_at: float = 0.0
    """When it was called: epoch seconds on the table's clock."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A worker's entry in the roster."""

    worker: str
    host: str
    pid: int
    version: str
    slots: int
    session: str = ""
    """Its newest session that has beaten."""
    call: int = 0
    """The last roll call that it has answered."""
    started: float = 0.0
    """Epoch seconds on the table's clock. 0 when it is written for the first time: the table puts in its time."""


class Roster(ABC):
    """Where workers enter themselves and read the board. Every verb may raise ``BackendUnavailable``."""

    @abstractmethod
    async def enter(self, fleet: str, entry: Entry) -> float:
        """Write a worker's entry, or write it anew. Returns its ``started``."""

    @abstractmethod
    async def leave(self, fleet: str, worker: str) -> None:
        """Remove a worker's entry: it has stopped in order."""

    @abstractmethod
    async def read_board(self, fleet: str) -> Board:
        """Read the board; it may be a second old."""


class Presence(ABC):
    """A worker, as its session and the board know it."""

    name = ""
    """Its id in the roster, new with each start: all its sessions' names begin with it."""
    session = ""
    """The newest session that has beaten; "" before the first."""

    @property
    @abstractmethod
    def held(self) -> str:
        """By which order it takes no new jobs; "" if by none."""

    @abstractmethod
    def hold(self, why: str) -> None:
        """Take no new jobs until ``go_on``; running ones go on, and what waits here goes back to the queue."""

    @abstractmethod
    def go_on(self) -> None:
        """Take new jobs again."""

    @abstractmethod
    def stop(self, why: str) -> bool:
        """Stop in order, as at a signal. False if it is stopping already."""

    @abstractmethod
    def is_wanted(self) -> bool:
        """Whether to beat although nothing is held."""

    @abstractmethod
    def report(self, session: str) -> bytes:
        """Return what to write with the heartbeat of this session: ``Live``, encoded."""

    @abstractmethod
    def obey(self, orders: Collection[str]) -> None:
        """Carry out orders that were not seen before. Must not raise, and must not wait."""


class Absent(Presence):
    """For a session without a worker: in tests, and before the worker is built."""

    held = ""

    def hold(self, why: str) -> None:
        """Take none anyway."""

    def go_on(self) -> None:
        """Take none anyway."""

    def stop(self, why: str) -> bool:  # noqa: ARG002 - a null twin
        """There is nothing to stop."""
        return False

    def is_wanted(self) -> bool:
        """Nothing is shown."""
        return False

    def report(self, session: str) -> bytes:  # noqa: ARG002 - a null twin
        """Show nothing."""
        return b""

    def obey(self, orders: Collection[str]) -> None:
        """Leave them: there is nothing to end."""
