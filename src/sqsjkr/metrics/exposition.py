"""``/metrics`` as Prometheus reads it. Imported at the first scrape, so that only scraped workers pay for it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import accumulate
from typing import Any, cast

from prometheus_client import CollectorRegistry, Metric, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from sqsjkr.metrics.families import FAMILIES, STARTING, Family, Kind, Values
from sqsjkr.metrics.parts import Parts
from sqsjkr.telemetry.histogram import Histogram

_KINDS = {Kind.COUNTER: CounterMetricFamily, Kind.GAUGE: GaugeMetricFamily, Kind.HISTOGRAM: HistogramMetricFamily}


def page(parts: Parts | None, accept: str) -> tuple[bytes, str]:
    """Write the page in the form that ``accept`` asks for: (body, content type). None: the worker is starting."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Worker(parts))
    ProcessCollector(registry=registry)
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type


class _Worker(Collector):
    """The families of a worker, read anew for each page."""

    def __init__(self, parts: Parts | None) -> None:
        self._parts = parts

    def describe(self) -> list[Metric]:
        """Say nothing: the registry would read every number twice."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Read every number."""
        if self._parts is None:
            for family, values in STARTING.items():
                yield _metric(family, values)
        else:
            for family in FAMILIES:
                yield _metric(family, family.read(self._parts))


def _metric(family: Family, values: Values) -> Metric:
    metric: Any = _KINDS[family.kind](family.name, family.meaning, labels=family.labels)
    for labels, value in values.items():
        if isinstance(value, Histogram):
            metric.add_metric(labels, _buckets(value), value.sum)
        else:
            metric.add_metric(labels, value)
    return cast("Metric", metric)


def _buckets(histogram: Histogram) -> list[tuple[str, float]]:
    """Each bound with the number of values up to it, as the format has it."""
    return [
        ("+Inf" if bound == math.inf else str(float(bound)), count)
        for bound, count in zip((*histogram.bounds, math.inf), accumulate(histogram.counts), strict=True)
    ]
