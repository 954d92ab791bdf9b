"""What a door measures of the requests that come through it. The names are Ray Serve's."""

from __future__ import annotations

from collections.abc import Iterable

from fairlead.serve import measures
from fairlead.serve.measures import GAUGE, Cell, Family, Registry

_LABELS = ("route", "method", "application", "status_code")


class DoorMeasures:
    """The measurements of one protocol's door. Belongs to the worker's loop. ``protocol``: "http" or "grpc"."""

    def __init__(self, registry: Registry, protocol: str) -> None:
        self.ongoing = 0
        """Requests under way."""
        self._protocol = protocol
        self._requests = registry.counter(f"serve_num_{protocol}_requests", "Requests that have ended.", *_LABELS)
        self._errors = registry.counter(
            f"serve_num_{protocol}_error_requests", "Requests that were answered with an error.", *_LABELS
        )
        self._latency = registry.latency(
            f"serve_{protocol}_request_latency_ms", "Time from a request to the end of its response.", *_LABELS
        )
        self._cells: dict[tuple[str, str, str, str], tuple[Cell, Cell]] = {}
        registry.collectors.append(self._now)

    def ended(self, route: str, method: str, application: str, status: str, seconds: float, *, failed: bool) -> None:
        """Counts a request. ``route`` is a pattern or a gRPC method, never a path as it came."""
        key = (route, method, application, status)
        cells = self._cells.get(key)
        if cells is None:
            cells = (self._requests.cell(*key), self._latency.cell(*key))
            if len(self._cells) < measures.MAX_CELLS:
                self._cells[key] = cells
        cells[0].value += 1
        cells[1].observe(seconds * 1e3)
        if failed:
            self._errors.cell(*key).value += 1

    def _now(self) -> Iterable[Family]:
        family = Family(f"serve_num_ongoing_{self._protocol}_requests", "Requests under way.", GAUGE)
        family.set(self.ongoing)
        return (family,)
