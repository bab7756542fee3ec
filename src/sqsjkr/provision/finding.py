"""What ``sqsjkr check`` says of one thing."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Level(Enum):
    """How bad it is."""

    OK = "ok"
    NOTE = "note"
    """Worth knowing: a limit, or a right that cannot be tried without effects."""
    WARN = "warn"
    """``run`` works, and something will be missed one day."""
    FAIL = "FAIL"
    """``run`` will not work."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the check."""

    level: Level
    what: str
    found: str
    next: str = ""
    """What to do, "" if there is nothing to do."""

    @property
    def text(self) -> str:
        """The line."""
        advice = f"; next: {self.next}" if self.next else ""
        return f"{self.level.value:<4}  {self.what:<12}  {' '.join(f'{self.found}{advice}'.split())}\n"
