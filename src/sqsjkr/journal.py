"""The journal: tells every observer what becomes of each attempt. No observer can stop a job."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sqsjkr.attempt import Attempt
from sqsjkr.outcome import Ending
from sqsjkr.telemetry.events import Event, emit
from sqsjkr.telemetry.observer import Observer


class Journal:
    """Passes each moment of an attempt on to the observers, in their order; an observer's bug is logged, not raised."""

    def __init__(self, *observers: Observer) -> None:
        self._started = _hearing("started", observers)
        self._printed = _hearing("printed", observers)
        self._cut = _hearing("cut", observers)
        self._ended = _hearing("ended", observers)
        self._settled = _hearing("settled", observers)

    def started(self, attempt: Attempt, command: str) -> None:
        """Note that a command is about to start."""
        _tell(self._started, attempt, command)

    def printed(self, attempt: Attempt, line: str) -> None:
        """Note one line that a command printed."""
        _tell(self._printed, attempt, line)

    def cut(self, attempt: Attempt, size: int) -> None:
        """Note bytes that a command printed too fast to be noted as lines."""
        _tell(self._cut, attempt, size)

    def ended(self, attempt: Attempt, ending: Ending) -> None:
        """Note how a delivery ended; its message is not settled yet."""
        _tell(self._ended, attempt, ending)

    def settled(self, attempt: Attempt, ending: Ending) -> None:
        """Note what became of the message; for what goes back unstarted, this is the only entry."""
        _tell(self._settled, attempt, ending)


def _hearing(moment: str, observers: Sequence[Observer]) -> Sequence[Callable[..., None]]:
    """Return the method of each observer that has one of its own for this moment: a flood of lines must stay cheap."""
    return [
        getattr(observer, moment)
        for observer in observers
        if getattr(type(observer), moment) is not getattr(Observer, moment)
    ]


def _tell(hearing: Sequence[Callable[..., None]], attempt: Attempt, what: object) -> None:
    for hear in hearing:
        try:
            hear(attempt, what)
        except Exception as bug:  # noqa: BLE001 - an observer fails open
            emit(Event.LOG, f"{hear!r} failed, please report this bug: {bug!r}")
