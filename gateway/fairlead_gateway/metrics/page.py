"""The reports of many processes as one page in Prometheus' text format."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from fairlead.v1 import metrics_pb2

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"

_TYPES = {
    metrics_pb2.METRIC_KIND_COUNTER: "counter",
    metrics_pb2.METRIC_KIND_GAUGE: "gauge",
    metrics_pb2.METRIC_KIND_HISTOGRAM: "histogram",
}


def render(reports: Iterable[metrics_pb2.MetricsReport], prefix: str) -> bytes:
    """The page: each family once, with the samples of all reports. ``prefix`` stands before every name.

    Families that differ in kind or in their buckets are not mixed: the first one's kind counts, others are left out.
    """
    # Imported when the first scrape comes: it takes 80 ms and 14 MB, and not every gateway is scraped.
    from prometheus_client.core import Metric
    from prometheus_client.exposition import generate_latest

    families: dict[str, list[metrics_pb2.MetricFamily]] = {}
    for report in reports:
        for family in report.families:
            families.setdefault(family.name, []).append(family)

    class Page:
        """What prometheus_client takes for a registry."""

        def collect(self) -> Iterator[Metric]:
            for name, same in sorted(families.items()):
                kind, bounds = same[0].kind, list(same[0].bounds)
                if kind not in _TYPES:
                    continue
                metric = Metric(prefix + name, same[0].help or name, _TYPES[kind])
                for family in same:
                    if family.kind == kind and list(family.bounds) == bounds:
                        for sample in family.samples:
                            _add(metric, prefix + name, kind, bounds, sample)
                yield metric

    page: bytes = generate_latest(Page())
    return page


def _add(metric: object, name: str, kind: int, bounds: list[float], sample: metrics_pb2.MetricSample) -> None:
    add = metric.add_sample  # type: ignore[attr-defined]
    labels = dict(sample.labels)
    if kind == metrics_pb2.METRIC_KIND_COUNTER:
        add(f"{name}_total", labels, sample.value)
    elif kind == metrics_pb2.METRIC_KIND_GAUGE:
        add(name, labels, sample.value)
    else:
        total = 0
        for bound, count in zip([*bounds, float("inf")], sample.counts, strict=False):
            total += count
            text = "+Inf" if bound == float("inf") else repr(bound)
            add(f"{name}_bucket", {**labels, "le": text}, total)
        add(f"{name}_count", labels, total)
        add(f"{name}_sum", labels, sample.value)
