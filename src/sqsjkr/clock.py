"""The one clock that leases, ages and deadlines are measured on."""

from __future__ import annotations

import time

if hasattr(time, "CLOCK_BOOTTIME"):

    def now() -> float:
        """Seconds since boot, a suspended machine's sleep included: a lease ends while the lid is shut.

        Never set by an operator or by NTP; means nothing on another host. See clock_gettime(2), CLOCK_BOOTTIME.
        """
        return time.clock_gettime(time.CLOCK_BOOTTIME)

else:  # macOS: its monotonic clock stops while the machine sleeps (docs/explanation/platforms.md)

    def now() -> float:
        """Seconds on the monotonic clock."""
        return time.monotonic()
