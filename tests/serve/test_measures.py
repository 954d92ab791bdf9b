"""Counters, gauges and histograms, and the reports of them."""

from __future__ import annotations

import pytest

from fairlead.serve import measures
from fairlead.serve.measures import COUNTER, GAUGE, HISTOGRAM, LATENCY_BOUNDS_MS, Family, Registry


def samples(family):
    return {tuple(sorted(sample.labels.items())): sample for sample in family.samples}


def test_a_report_has_what_was_measured_with_the_registrys_labels():
    registry = Registry({"gateway": "g"})
    requests = registry.counter("requests", "Requests.", "route")
    requests.cell("/a").value += 2
    requests.cell("/b").value += 1
    registry.gauge("never_set", "Nothing.")
    (family,) = registry.report().families
    assert (family.name, family.help, family.kind) == ("requests", "Requests.", COUNTER)
    found = samples(family)
    assert found[("gateway", "g"), ("route", "/a")].value == 2
    assert found[("gateway", "g"), ("route", "/b")].value == 1


def test_observations_fall_into_the_first_bucket_that_holds_them():
    family = Family("latency", "", HISTOGRAM, (), (1.0, 5.0))
    for value in (0.5, 1.0, 1.1, 5.0, 6.0, 7.0):
        family.cell().observe(value)
    (sample,) = family.report({}).samples
    assert list(sample.counts) == [2, 2, 2]
    assert sample.value == pytest.approx(20.6)


def test_latencies_have_the_buckets_of_ray_serve():
    assert len(LATENCY_BOUNDS_MS) == 19
    assert list(LATENCY_BOUNDS_MS) == sorted(LATENCY_BOUNDS_MS)


def test_one_family_a_name():
    registry = Registry()
    assert registry.counter("a", "A.", "x") is registry.counter("a", "A again.", "x")
    for conflicting in (lambda: registry.gauge("a", "A.", "x"), lambda: registry.counter("a", "A.", "y")):
        with pytest.raises(ValueError, match="a metric 'a' already"):
            conflicting()


def test_labels_that_callers_choose_do_not_grow_without_bound(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(measures, "MAX_CELLS", 3)
    family = Family("a", "", COUNTER, ("x", "y"))
    for number in range(10):
        family.cell(str(number), "z").value += 1
    assert len(family.cells) == 4
    assert family.cells["other", "other"].value == 7
    family.cell("1", "z").value += 1
    assert family.cells["1", "z"].value == 2


def test_collectors_are_asked_at_each_report():
    registry = Registry()
    asked = []

    def collect():
        asked.append(1)
        family = Family("now", "", GAUGE)
        family.set(len(asked))
        return [family]

    registry.collectors.append(collect)
    assert [registry.report().families[0].samples[0].value for _ in range(2)] == [1, 2]


def test_a_family_may_have_its_own_value_for_a_label_of_the_registry():
    registry = Registry({"application": "mine"})
    registry.gauge("a", "", "application").set(1, "theirs")
    assert dict(registry.report().families[0].samples[0].labels) == {"application": "theirs"}
