"""What an observer of attempts may hear. Observers fail open: the journal catches what they raise."""

from __future__ import annotations

from sqsjkr.attempt import Attempt
from sqsjkr.outcome import Ending


class Observer:
    """Hears of each attempt; hears nothing by default. Every method is called in the event loop and must not wait."""

    def started(self, attempt: Attempt, command: str) -> None:
        """Hear that a command is about to start."""

    def printed(self, attempt: Attempt, line: str) -> None:
        """Hear one line that a command printed."""

    def cut(self, attempt: Attempt, size: int) -> None:
        """Hear of bytes that a command printed too fast to be passed on as lines."""

    def ended(self, attempt: Attempt, ending: Ending) -> None:
        """Hear how a delivery ended, before its message is settled."""

    def settled(self, attempt: Attempt, ending: Ending) -> None:
        """Hear what became of the message, once the queue knows it."""
