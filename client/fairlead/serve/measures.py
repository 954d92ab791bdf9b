"""What a process measures of itself: counters, gauges and histograms, cheap enough for every call.

A :class:`Registry` makes a report of them when somebody asks. Names follow Prometheus; the prefix that all of them get
is the gateway's, which writes what all processes have reported as one page.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence

from fairlead.v1 import metrics_pb2

LATENCY_BOUNDS_MS = (
    *(1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 300.0, 400.0, 500.0),
    *(1000.0, 2000.0, 5000.0, 10_000.0, 60_000.0, 120_000.0, 300_000.0, 600_000.0),
)
"""Upper bounds of the buckets of latencies, in milliseconds: Ray Serve's."""

MAX_CELLS = 2000
"""Metrics of one family; what would be more is counted under labels that say ``OTHER``."""
OTHER = "other"

COUNTER = metrics_pb2.METRIC_KIND_COUNTER
GAUGE = metrics_pb2.METRIC_KIND_GAUGE
HISTOGRAM = metrics_pb2.METRIC_KIND_HISTOGRAM


class Cell:
    """One metric of a family. Not thread-safe: it belongs to one event loop, or its users hold a lock."""

    __slots__ = ("bounds", "counts", "value")

    def __init__(self, bounds: Sequence[float] = ()) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1) if bounds else []
        self.value = 0.0

    def observe(self, value: float) -> None:
        """Takes an observation into a histogram."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.value += value


class Family:
    """The metrics of one name, by the values of their labels."""

    def __init__(
        self,
        name: str,
        description: str,
        kind: metrics_pb2.MetricKind.ValueType,
        labels: Sequence[str] = (),
        bounds: Sequence[float] = (),
    ) -> None:
        self.name = name
        self.description = description
        self.kind = kind
        self.labels = tuple(labels)
        self.bounds = tuple(bounds)
        self.cells: dict[tuple[str, ...], Cell] = {}

    def __repr__(self) -> str:
        return f"<Family {self.name} cells={len(self.cells)}>"

    def cell(self, *values: str) -> Cell:
        """The metric with these values of the labels, in their order; made if need be."""
        found = self.cells.get(values)
        if found is None:
            if len(self.cells) >= MAX_CELLS:
                values = (OTHER,) * len(self.labels)
            found = self.cells.setdefault(values, Cell(self.bounds))
        return found

    def set(self, value: float, *values: str) -> None:
        """Sets a gauge, or a counter that somebody else has counted."""
        self.cell(*values).value = value

    def report(self, extra: Mapping[str, str]) -> metrics_pb2.MetricFamily:
        """All of it, each metric with ``extra`` labels where it has none of that name."""
        message = metrics_pb2.MetricFamily(name=self.name, help=self.description, kind=self.kind, bounds=self.bounds)
        for values, cell in list(self.cells.items()):
            labels = {**extra, **dict(zip(self.labels, values, strict=True))}
            message.samples.add(labels=labels, value=cell.value, counts=cell.counts)
        return message


class Registry:
    """The families of a process, or of a part of it. ``labels``: what all its metrics are labelled with."""

    def __init__(self, labels: Mapping[str, str] | None = None) -> None:
        self.labels: dict[str, str] = dict(labels or {})
        self.collectors: list[Callable[[], Iterable[Family]]] = []
        """Asked at each report for families that are made on the spot: gauges of what is there anyway."""
        self._families: dict[str, Family] = {}

    def add(self, family: Family) -> Family:
        """Keeps a family; the one of the same name if there is one already. Raises ValueError if the two differ."""
        known = self._families.setdefault(family.name, family)
        if (known.kind, known.labels, known.bounds) != (family.kind, family.labels, family.bounds):
            raise ValueError(f"there is a metric {family.name!r} already, of another kind or with other tags")
        return known

    def counter(self, name: str, description: str, *labels: str) -> Family:
        """A family of counters."""
        return self.add(Family(name, description, COUNTER, labels))

    def gauge(self, name: str, description: str, *labels: str) -> Family:
        """A family of gauges."""
        return self.add(Family(name, description, GAUGE, labels))

    def latency(self, name: str, description: str, *labels: str) -> Family:
        """A family of histograms of milliseconds."""
        return self.add(Family(name, description, HISTOGRAM, labels, LATENCY_BOUNDS_MS))

    def report(self) -> metrics_pb2.MetricsReport:
        """What has been measured until now."""
        families = [*self._families.values(), *(family for collect in self.collectors for family in collect())]
        return metrics_pb2.MetricsReport(families=[family.report(self.labels) for family in families if family.cells])


PROCESS = Registry()
"""What batches and models measure in this process, wherever they are used."""
