"""Runs `sqsjkr` with every lease, pause and timeout shortened by one factor, so that a test need not wait for minutes.

`python -P launcher.py 0.2 run --conf ...`: all that is listed in SCALED lasts a fifth. Everything that depends on each
other is scaled together, so the order of events is the product's own. What an operator sets (grace_period, kill_after,
life_time) is left as it is given. A factor of 1 runs the product untouched.
"""

from __future__ import annotations

import importlib
import pkgutil
import resource
import sys
from types import ModuleType
from typing import Any

#: Seconds, by the module that defines them; modules that import one of these get the same new value.
SCALED = {
    "leases.session": ("LEASE", "BEAT_EVERY"),
    "supervision.guard": ("SILENCE", "LOOK_EVERY"),
    "supervision.backstop": ("PATIENCE", "GLANCE_EVERY"),
    "queue": ("FIRST_HIDING", "EXTEND_AFTER", "EXTEND_EVERY", "HIDING", "LOOK_EVERY"),
    "worker": ("LONG_POLL", "TICK", "READY_FOR", "FULL_FOR", "FENCE_MARGIN", "LAST_WORDS"),
    "kicker": ("FENCE_PATIENCE", "LONGEST_RETRY"),
    "gate": ("PAUSE", "LONG_PAUSE", "SHORT_PAUSE"),
    "intake.waiting_room": ("RETRY", "LONGEST_STAY"),
    "leases.leased": ("ECHOES", "SLOW"),
    "telemetry.outage": ("LONGEST_PAUSE",),
}
#: Seconds that stay as they are: shares, what is short already, and the hour that poison is hidden for.
KEPT = {"FENCE", "NO_GRAVE", "PREFETCH", "CONFIRM_LINGER", "FIRST_RETRY", "FIRST_PAUSE"}
_WHOLE = {"FIRST_HIDING", "HIDING", "LONG_POLL"}  # SQS takes whole seconds
_ANSWER = 5.0  # seconds: the longest that one request may take, a long poll's waiting not counted


def modules() -> dict[str, ModuleType]:
    """Every module of the product, by its name without the package."""
    package = importlib.import_module("sqsjkr")
    for found in pkgutil.walk_packages(package.__path__, "sqsjkr."):
        if not found.name.endswith("__main__"):
            importlib.import_module(found.name)
    return {name.removeprefix("sqsjkr."): module for name, module in sys.modules.items() if name.startswith("sqsjkr")}


def scale(factor: float) -> None:
    """Shorten everything in SCALED, and the requests' timeouts.

    Raises:
        SystemExit: the product has no such constant any more; SCALED must be brought up to date.
    """
    loaded = modules()
    for home, names in SCALED.items():
        for name in names:
            if not hasattr(loaded[home], name):
                raise SystemExit(f"launcher: sqsjkr.{home} has no {name} any more; bring SCALED up to date")
            old = getattr(loaded[home], name)
            for module in loaded.values():
                if name in vars(module) and vars(module)[name] == old:
                    setattr(module, name, _shorter(name, old, factor))
    _scale_defaults(loaded, factor)
    _scale_timeouts(loaded["backends.aws.client"], factor)


def _shorter(name: str, old: Any, factor: float) -> Any:
    if isinstance(old, tuple):
        return tuple(each * factor for each in old)
    return float(max(1, round(old * factor))) if name in _WHOLE else old * factor


def _scale_defaults(loaded: dict[str, ModuleType], factor: float) -> None:
    """The lease is also a parameter's default, bound when its module was loaded."""
    defaults: dict[str, Any] = loaded["leases.session"].Session.__init__.__kwdefaults__
    defaults["lease"] *= factor


def _scale_timeouts(aws: ModuleType, factor: float) -> None:
    real = aws._timeouts

    def shorter(seconds: float, connecting: float) -> Any:
        waiting = max(0.0, seconds - _ANSWER)  # a long poll's own seconds are LONG_POLL's, and scaled with it
        return real(waiting + min(seconds, _ANSWER) * factor, connecting * factor)

    aws._timeouts = shorter


def main() -> int:
    """Scale, then be `sqsjkr`."""
    factor, *arguments = sys.argv[1:]
    if arguments[0].startswith("--nofile="):  # how many descriptors it may have
        most = int(arguments.pop(0).partition("=")[2])
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    if float(factor) != 1:
        scale(float(factor))
    return int(importlib.import_module("sqsjkr.cli.main").main(arguments))


if __name__ == "__main__":
    sys.exit(main())
