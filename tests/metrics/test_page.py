"""Reports of several processes as one page, read by prometheus_client's own parser."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from fairlead.serve.measures import Registry
from fairlead.v1 import metrics_pb2
from fairlead_gateway.metrics.page import render


def samples(page: bytes) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    found: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
    for family in text_string_to_metric_families(page.decode()):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
    return found


def replica(name: str, calls: int, *latencies: float) -> metrics_pb2.MetricsReport:
    registry = Registry({"replica": name})
    registry.counter("calls", "Calls.").set(calls)
    latency = registry.latency("latency_ms", "Latency.")
    for value in latencies:
        latency.cell().observe(value)
    return registry.report()


def test_a_family_of_several_processes_stands_there_once():
    page = render([replica("a", 1, 0.5, 3.0), replica("b", 2)], "fairlead_")
    text = page.decode()
    assert text.count("# TYPE fairlead_calls_total counter") == 1
    found = samples(page)
    assert found["fairlead_calls_total"] == {(("replica", "a"),): 1.0, (("replica", "b"),): 2.0}
    buckets = found["fairlead_latency_ms_bucket"]
    assert buckets[("le", "1.0"), ("replica", "a")] == 1
    assert buckets[("le", "5.0"), ("replica", "a")] == 2
    assert buckets[("le", "+Inf"), ("replica", "a")] == 2
    assert found["fairlead_latency_ms_sum"][("replica", "a"),] == 3.5
    assert found["fairlead_latency_ms_count"][("replica", "a"),] == 2


def test_the_prefix_is_the_readers():
    assert "ray_calls_total" in samples(render([replica("a", 1)], "ray_"))
    assert "calls_total" in samples(render([replica("a", 1)], ""))


def test_values_of_labels_are_escaped():
    page = render([replica('a"\\\nb', 1)], "x_")
    assert samples(page)["x_calls_total"] == {(("replica", 'a"\\\nb'),): 1.0}


def test_what_does_not_fit_is_left_out():
    other = Registry({"replica": "b"})
    other.gauge("calls", "Something else.").set(7)
    strange = metrics_pb2.MetricsReport(families=[metrics_pb2.MetricFamily(name="strange")])
    found = samples(render([replica("a", 1), other.report(), strange], "x_"))
    assert found == {"x_calls_total": {(("replica", "a"),): 1.0}}


def test_nothing_is_an_empty_page():
    assert render([], "x_") == b""
