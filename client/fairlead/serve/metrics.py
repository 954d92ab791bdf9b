"""Metrics of the user's own: ``from fairlead.serve import metrics``, as in Ray Serve.

They are part of the page at ``/-/metrics``. In a replica each carries the tags ``application``, ``deployment`` and
``replica``. Metrics may be made and used from any thread; making one again under the same name gives the same one.
"""

from __future__ import annotations

import itertools
import re
import threading
from collections.abc import Mapping, Sequence

from fairlead.serve.measures import COUNTER, GAUGE, HISTOGRAM, Cell, Family, Registry
from fairlead.v1 import metrics_pb2

__all__ = ["Counter", "Gauge", "Histogram"]

registry = Registry()
"""The user's metrics in this process."""

_lock = threading.Lock()
_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_TAG = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_RESERVED = frozenset({"application", "deployment", "replica", "le"})


class _Metric:
    """What the three have in common."""

    _KIND: metrics_pb2.MetricKind.ValueType

    def __init__(
        self, name: str, description: str = "", tag_keys: Sequence[str] | None = None, bounds: Sequence[float] = ()
    ) -> None:
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise ValueError(f"a metric's name is made of letters, digits and underscores, not {name!r}")
        tags = tuple(tag_keys or ())
        for tag in tags:
            if not isinstance(tag, str) or not _TAG.fullmatch(tag) or tag in _RESERVED:
                raise ValueError(f"{tag!r} cannot be a tag of {name}; {', '.join(sorted(_RESERVED))} are taken")
        self._defaults: dict[str, str] = {}
        with _lock:
            self._family = registry.add(Family(name, description, self._KIND, tags, bounds))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._family.name!r})"

    def __reduce__(self) -> tuple[object, ...]:
        family = self._family
        return _restore, (type(self), family.name, family.description, family.labels, family.bounds, self._defaults)

    @property
    def info(self) -> dict[str, object]:
        """Name, description, tag keys and default tags."""
        family = self._family
        return {
            "name": family.name,
            "description": family.description,
            "tag_keys": family.labels,
            "default_tags": dict(self._defaults),
        }

    def set_default_tags(self, default_tags: Mapping[str, str]) -> None:
        """Gives tags the values that they have where a call gives them none. Raises ValueError for unknown tags."""
        self._check(default_tags)
        self._defaults = dict(default_tags)

    def _check(self, tags: Mapping[str, str]) -> None:
        unknown = [tag for tag in tags if tag not in self._family.labels]
        if unknown:
            raise ValueError(f"{self._family.name} has no tags {unknown}; its tag_keys are {list(self._family.labels)}")

    def _cell(self, tags: Mapping[str, str] | None) -> Cell:
        """The metric for tags; the lock must be held."""
        given = {**self._defaults, **(tags or {})}
        if tags:
            self._check(tags)
        missing = [tag for tag in self._family.labels if tag not in given]
        if missing:
            raise ValueError(f"Missing value for tag key(s): {','.join(missing)}.")
        return self._family.cell(*(str(given[tag]) for tag in self._family.labels))


def _restore(
    kind: type[_Metric],
    name: str,
    description: str,
    tags: Sequence[str],
    bounds: Sequence[float],
    defaults: Mapping[str, str],
) -> _Metric:
    metric = Histogram(name, description, bounds, tags) if kind is Histogram else kind(name, description, tags)
    metric.set_default_tags(defaults)
    return metric


class Counter(_Metric):
    """Counts; never goes down."""

    _KIND = COUNTER

    def __init__(self, name: str, description: str = "", tag_keys: Sequence[str] | None = None) -> None:
        """Raises ValueError for a name or tag that Prometheus would not take, or another metric of the name."""
        super().__init__(name.removesuffix("_total") if isinstance(name, str) else name, description, tag_keys)

    def inc(self, value: float = 1.0, tags: Mapping[str, str] | None = None) -> None:
        """Adds ``value``, which must be positive. Raises ValueError for another one, or missing or unknown tags."""
        if value <= 0:
            raise ValueError(f"value must be >0, got {value}")
        with _lock:
            self._cell(tags).value += value


class Gauge(_Metric):
    """A value that goes up and down."""

    _KIND = GAUGE

    def set(self, value: float, tags: Mapping[str, str] | None = None) -> None:
        """Sets the value. Raises ValueError for missing or unknown tags."""
        with _lock:
            self._cell(tags).value = float(value)


class Histogram(_Metric):
    """Counts observations by size."""

    _KIND = HISTOGRAM

    def __init__(
        self,
        name: str,
        description: str = "",
        boundaries: Sequence[float] | None = None,
        tag_keys: Sequence[str] | None = None,
    ) -> None:
        """``boundaries``: the upper bounds of the buckets, positive and growing. Raises ValueError otherwise."""
        bounds = tuple(float(bound) for bound in boundaries or ())
        if not bounds or bounds[0] <= 0 or any(low >= high for low, high in itertools.pairwise(bounds)):
            raise ValueError(f"boundaries must be positive and growing numbers, got {boundaries!r}")
        super().__init__(name, description, tag_keys, bounds)

    def observe(self, value: float, tags: Mapping[str, str] | None = None) -> None:
        """Takes an observation. Raises ValueError for missing or unknown tags."""
        with _lock:
            self._cell(tags).observe(value)
