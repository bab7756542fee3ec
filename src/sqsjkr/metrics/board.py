"""What a worker measures, and the page on which others read it."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

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

    def logging(self) -> AbstractAsyncContextManager[None]:
        """Log the metrics once a minute for as long as the block lasts. Needs the parts."""
        from sqsjkr.metrics.emf import logging_metrics  # noqa: PLC0415 - as above: only where it is wanted

        if self.parts is None:
            raise RuntimeError("there is nothing to log before the worker is built")
        return logging_metrics(self.parts)
