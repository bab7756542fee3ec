"""The one clock that leases, ages and deadlines are measured on."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

# A job asks for the time some thirty times, so there is no function of Python's own in between.
if hasattr(time, "CLOCK_BOOTTIME"):
    now: Callable[[], float] = partial(time.clock_gettime, time.CLOCK_BOOTTIME)
    """Seconds since boot, a suspended machine's sleep included: a lease ends while the lid is shut.

    Never set by an operator or by NTP; means nothing on another host. See clock_gettime(2), CLOCK_BOOTTIME.
    """
else:  # macOS: its monotonic clock stops while the machine sleeps (docs/explanation/platforms.md)
    now = time.monotonic
