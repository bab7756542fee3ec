"""What a benchmark wants to know: requests by operation, entries in batches, errors by code, CPU time."""

import resource
import time
from collections import Counter

from benchmarks.standin.errors import Json


class Meter:
    """Counts since the start or the last reset."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Begin anew."""
        self._requests: Counter[tuple[str, str]] = Counter()
        self._errors: Counter[str] = Counter()
        self._entries: Counter[str] = Counter()
        self._first: dict[str, float] = {}
        self._cpu = _cpu_seconds()

    def count(self, service: str, operation: str) -> None:
        """Count a request."""
        self._requests[service, operation] += 1
        if self._requests[service, operation] == 1:
            self._first[f"{service}.{operation}"] = time.monotonic()

    def count_error(self, code: str) -> None:
        """Count an error answer."""
        self._errors[code] += 1

    def count_entries(self, service: str, operation: str, number: int) -> None:
        """Count what a batch holds."""
        self._entries[f"{service}.{operation}"] += number

    def report(self) -> Json:
        """Everything counted. `cpu_seconds` is user and system time, `cpu_ms_per_request` its share of a request.

        `first` is when each operation was first called, on the host's monotonic clock.
        """
        total = self._requests.total()
        cpu = _cpu_seconds() - self._cpu
        return {
            "requests": {f"{service}.{operation}": n for (service, operation), n in sorted(self._requests.items())},
            "first": self._first,
            "total": total,
            "entries": dict(sorted(self._entries.items())),
            "errors": dict(sorted(self._errors.items())),
            "cpu_seconds": round(cpu, 6),
            "cpu_ms_per_request": round(1000 * cpu / total, 4) if total else None,
        }


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
