"""AWS's clock, estimated from the Date headers of its answers."""

from __future__ import annotations

import math

_SECOND = 1.0  # the resolution of a Date header
_DRIFT = 1e-4  # seconds per second that two clocks may drift apart: twice that of an ordinary crystal
_STEP = 1.0  # seconds: AWS's hosts agree far better than this, so a wider gap is a step of a clock


class ServerClock:
    """The narrowest interval that holds the server's clock minus this host's monotonic clock.

    A Date header says which second it was on the server at some moment between sending and receiving:
    ``date <= server time < date + 1``. Each answer therefore bounds the offset from both sides, and answers on both
    sides of a tick narrow it to about a round trip. Bounds widen with age, since clocks drift. An answer outside them
    replaces them if it is more than a second away, and shifts them to its nearest end otherwise.

    All times are seconds. The monotonic clock serves because it does not step when the wall clock is set.
    """

    def __init__(self) -> None:
        self._low = -math.inf
        self._high = math.inf
        self._at = 0.0

    def observe(self, date: float, *, sent: float, received: float) -> None:
        """Learn from one answer.

        ``date`` is its Date header in seconds since 1970; ``sent`` and ``received`` are this host's monotonic clock.
        """
        low, high = date - received, date + _SECOND - sent
        drift = max(0.0, received - self._at) * _DRIFT
        self._at = received
        self._low = max(self._low - drift, low)
        self._high = min(self._high + drift, high)
        gap = self._low - self._high
        if gap > _STEP:
            self._low, self._high = low, high
        elif gap > 0:
            self._low = self._high = low if self._low == low else high

    def offset(self, *, monotonic: float, wall: float) -> float:
        """The server's clock minus the wall clock, given this host's two clocks now; 0.0 before the first answer."""
        if math.isinf(self._low):
            return 0.0
        # The upper bound of a long poll is loose by the whole wait: its Date header is set when it answers.
        middle = self._low + min(self._high - self._low, _SECOND) / 2
        return middle + monotonic - wall
