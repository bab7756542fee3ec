"""What an end means: pure decisions from how a command ended to what becomes of its message."""

from __future__ import annotations

from sqsjkr.outcome import Ending, Exit, NotStarted, Outcome

_WITHOUT_RETURN = {Outcome.INTERRUPTED: Outcome.ERRORED, Outcome.STARVED: Outcome.UNSTARTABLE}


def decide(exit: Exit | NotStarted, *, deleted: bool, pause: float) -> Ending:  # noqa: A002 - the field's word
    """Return the ending of a command.

    ``deleted``: its message has left the queue already (``ack = "start"``), so a job that did not end by itself is
    lost, and counts as such. ``pause``: seconds until a job may be delivered again that the host could not start.
    """
    ending = _not_started(exit, pause) if isinstance(exit, NotStarted) else _ended(exit)
    if deleted and ending.outcome in _WITHOUT_RETURN:
        return Ending(_WITHOUT_RETURN[ending.outcome], ending.detail, tail=ending.tail)
    return ending


def settle_elsewhere(ending: Ending, *, closing: bool) -> Ending:
    """Return what a job that should wait here ends as when it can't: back to the queue, at once if the worker stops."""
    return Ending(Outcome.CROWDED, ending.detail, 0.0 if closing else ending.delay)


def _not_started(failure: NotStarted, pause: float) -> Ending:
    if failure.again:
        return Ending(Outcome.STARVED, failure.detail, pause)
    return Ending(Outcome.UNSTARTABLE, failure.detail)


def _ended(exit: Exit) -> Ending:  # noqa: A002 - as above
    took = f"in {exit.seconds:.2f}s, cpu {exit.cpu:.2f}s"
    if exit.reason is not None:
        return Ending(exit.reason.outcome, f"{exit.reason.text}, {took}", exit=exit)
    if exit.status == 0:
        return Ending(Outcome.SUCCEEDED, took, exit=exit)
    how = f"exit status {exit.status}" if exit.status > 0 else f"signal {-exit.status}"
    return Ending(Outcome.ERRORED, f"{how} {took}", tail=exit.tail, exit=exit)
