"""What a replica measures of its calls. The names are Ray Serve's."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from fairlead.serve import measures, metrics
from fairlead.serve.logs import ACCESS_LOG
from fairlead.serve.measures import GAUGE, Cell, Family, Registry
from fairlead.v1 import metrics_pb2, session_pb2

access_log = logging.getLogger(ACCESS_LOG)
access_log.disabled = True  # until the logs are set up

_CANCELLED = frozenset({"RequestCancelledError", "CancelledError"})


class _Cells(NamedTuple):
    requests: Cell
    latency: Cell


class ReplicaMeasures:
    """The measurements of one replica. Belongs to its loop.

    ``labels``: application, deployment and replica. ``ongoing`` says how many calls run now and how many may.
    """

    def __init__(self, labels: Mapping[str, str], ongoing: Callable[[], tuple[int, int]]) -> None:
        self._registry = registry = Registry(labels)
        self._labels = labels
        self._ongoing = ongoing
        self._requests = registry.counter("serve_deployment_request_counter", "Calls that have ended.", "route")
        self._errors = registry.counter(
            "serve_deployment_error_counter", "Calls that have failed.", "route", "exception_type"
        )
        self._latency = registry.latency(
            "serve_deployment_processing_latency_ms", "Time from a call's arrival at the replica to its end.", "route"
        )
        registry.counter("serve_deployment_replica_starts", "Starts of this replica.").set(1)
        registry.collectors.append(self._now)
        self._cells: dict[str, _Cells] = {}

    def ended(self, header: session_pb2.CallHeader, seconds: float, failure: str) -> None:
        """Counts a call. ``failure``: the name of the error's type; empty: it succeeded."""
        route = header.route or header.method
        cells = self._cells.get(route)
        if cells is None:
            cells = _Cells(self._requests.cell(route), self._latency.cell(route))
            if len(self._cells) < measures.MAX_CELLS:
                self._cells[route] = cells
        cells.requests.value += 1
        cells.latency.observe(seconds * 1e3)
        if failure:
            self._errors.cell(route, failure).value += 1
        if not access_log.disabled:
            status = "OK" if not failure else "CANCELLED" if failure in _CANCELLED else "ERROR"
            told = {"request_id": header.request_id, "route": header.route, "method": header.method}
            access_log.info("CALL %s %s %.1fms", header.method or "__call__", status, seconds * 1e3, extra=told)

    def started(self, seconds: float) -> None:
        """The replica is ready, so many seconds after its constructor began."""
        self._registry.latency(
            "serve_replica_initialization_latency_ms", "Time that construction took."
        ).cell().observe(seconds * 1e3)
        self._healthy(True)

    def checked(self, seconds: float, *, healthy: bool) -> None:
        """A health check has ended."""
        registry = self._registry
        registry.latency("serve_health_check_latency_ms", "Time that a health check took.").cell().observe(
            seconds * 1e3
        )
        if not healthy:
            registry.counter("serve_health_check_failures", "Health checks that have failed.").cell().value += 1
        self._healthy(healthy)

    def _healthy(self, healthy: bool) -> None:
        self._registry.gauge(
            "serve_deployment_replica_healthy",
            "1 when the replica is ready and its last health check was good, else 0.",
        ).set(float(healthy))

    def report(self) -> metrics_pb2.MetricsReport:
        """All of it, with what batches, models and the user have measured in this process."""
        report = self._registry.report()
        for registry in (measures.PROCESS, metrics.registry):
            registry.labels = dict(self._labels)
            report.MergeFrom(registry.report())
        return report

    def _now(self) -> Iterable[Family]:
        ongoing, limit = self._ongoing()
        running = Family("serve_replica_processing_queries", "Calls that the replica runs now.", GAUGE)
        running.set(ongoing)
        used = Family("serve_replica_utilization_percent", "Slots that are taken, in percent.", GAUGE)
        used.set(100.0 * ongoing / max(1, limit))
        return running, used
