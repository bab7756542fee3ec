"""What a worker measures, and the page on which others read it."""

from __future__ import annotations

from sqsjkr.metrics.parts import Parts
from sqsjkr.telemetry.measures import Measures


class Board:
    """Holds the measures from the start, and the parts once there is a worker."""

    def __init__(self) -> None:
        self.measures = Measures()
        self.parts: Parts | None = None

    def page(self, accept: str) -> tuple[bytes, str]:
        """Return the body of ``/metrics`` and its content type, in the form that a scraper accepts."""
        # prometheus_client costs some megabytes: only a worker that is scraped has it in its memory.
        from sqsjkr.metrics.exposition import page  # noqa: PLC0415

        return page(self.parts, accept)
