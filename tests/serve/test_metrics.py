"""Users' own metrics, as Ray Serve's."""

from __future__ import annotations

import threading

import cloudpickle
import pytest

from fairlead.serve import metrics
from fairlead.serve.measures import Registry
from fairlead.serve.metrics import Counter, Gauge, Histogram


@pytest.fixture(autouse=True)
def registry(monkeypatch: pytest.MonkeyPatch) -> Registry:
    made = Registry()
    monkeypatch.setattr(metrics, "registry", made)
    return made


def reported(registry: Registry) -> dict[str, dict[tuple[str, ...], float]]:
    return {
        family.name: {tuple(sample.labels.values()): sample.value for sample in family.samples}
        for family in registry.report().families
    }


def test_a_counter(registry: Registry):
    counter = Counter("calls", description="Calls.", tag_keys=("model", "kind"))
    counter.set_default_tags({"kind": "plain"})
    counter.inc(tags={"model": "a"})
    counter.inc(2.5, tags={"model": "a"})
    counter.inc(tags={"model": "a", "kind": "odd"})
    found = {frozenset(labels): value for labels, value in reported(registry)["calls"].items()}
    assert found == {frozenset({"a", "plain"}): 3.5, frozenset({"a", "odd"}): 1.0}
    assert counter.info == {
        "name": "calls",
        "description": "Calls.",
        "tag_keys": ("model", "kind"),
        "default_tags": {"kind": "plain"},
    }


def test_a_gauge_and_a_histogram(registry: Registry):
    gauge = Gauge("depth")
    gauge.set(3)
    gauge.set(1)
    histogram = Histogram("size", boundaries=[1, 10])
    for value in (0.5, 5, 50):
        histogram.observe(value)
    assert reported(registry) == {"depth": {(): 1.0}, "size": {(): 55.5}}


def test_the_same_again_is_the_same(registry: Registry):
    for _ in range(2):
        Counter("constructed").inc()
    assert reported(registry) == {"constructed": {(): 2.0}}
    with pytest.raises(ValueError, match="another kind"):
        Gauge("constructed")


def test_total_is_not_said_twice(registry: Registry):
    Counter("requests_total").inc()
    assert list(reported(registry)) == ["requests"]


def test_they_travel_with_the_objects_that_hold_them(registry: Registry):
    histogram = Histogram("size", boundaries=[1, 10], tag_keys=("x",))
    histogram.set_default_tags({"x": "1"})
    again = cloudpickle.loads(cloudpickle.dumps(histogram))
    again.observe(2)
    counter = cloudpickle.loads(cloudpickle.dumps(Counter("calls")))
    counter.inc()
    assert reported(registry) == {"size": {("1",): 2.0}, "calls": {(): 1.0}}


@pytest.mark.parametrize("name", ["", "9a", "a b", "ä", None])
def test_names_that_prometheus_would_not_take(name):
    with pytest.raises(ValueError, match="name is made of"):
        Counter(name)


@pytest.mark.parametrize("tag", ["deployment", "replica", "application", "le", "a-b", ""])
def test_tags_that_cannot_be(tag):
    with pytest.raises(ValueError, match="cannot be a tag"):
        Counter("calls", tag_keys=(tag,))


@pytest.mark.parametrize("boundaries", [None, [], [0], [-1, 1], [2, 1], [1, 1]])
def test_boundaries_that_cannot_be(boundaries):
    with pytest.raises(ValueError, match="boundaries must be"):
        Histogram("size", boundaries=boundaries)


def test_wrong_use_is_told():
    counter = Counter("calls", tag_keys=("model",))
    with pytest.raises(ValueError, match=r"Missing value for tag key\(s\): model\."):
        counter.inc()
    with pytest.raises(ValueError, match=r"no tags \['modle'\]; its tag_keys are \['model'\]"):
        counter.inc(tags={"modle": "a"})
    with pytest.raises(ValueError, match="no tags"):
        counter.set_default_tags({"modle": "a"})
    for value in (0, -1):
        with pytest.raises(ValueError, match="value must be >0"):
            counter.inc(value, tags={"model": "a"})


def test_threads_lose_nothing(registry: Registry):
    counter = Counter("calls")

    def work() -> None:
        for _ in range(2000):
            counter.inc()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert reported(registry) == {"calls": {(): 8000.0}}
