"""The pages that every HTTP port has, whatever is deployed: by their paths, and as long as they can be made."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import grpc

from fairlead_gateway.edge import http_reply, http_status
from fairlead_gateway.edge.http_pages import Pages, docs
from fairlead_gateway.edge.http_reply import Reply
from fairlead_gateway.edge.upstream import CallRouter

METRICS = "/-/metrics"
PUBLIC = ("/-/healthz", "/-/docs")
"""Pages without secrets, for those who have no token: probes, and browsers that ask for the page to enter one in."""


class Builtins:
    """The pages of one port. ``pages``: what they say of the route table; to be replaced when that changes."""

    def __init__(self, router: CallRouter, pages: Pages) -> None:
        self.pages = pages
        self.draining = False
        """Whether ``/-/healthz`` says that no more requests should come."""
        self.metrics: Callable[[bytes], Awaitable[Reply]] | None = None
        """Makes the page ``/-/metrics``, of a query string; None: there is none."""
        self._router = router
        self.by_path: dict[str, Callable[[], Reply]] = {
            "/-/healthz": self._healthz,
            "/-/routes": lambda: self._once_populated(self.pages.routes),
            "/-/openapi.json": lambda: self._once_populated(self.pages.openapi),
            "/-/docs": docs,
        }
        """All but the metrics, which take their time."""

    def _healthz(self) -> Reply:
        table = self._router.table
        if self.draining or self._router.draining:
            return _unavailable("This node is being drained.")
        if not table.populated:
            return _not_populated()
        # What sleeps can be called: it wakes then.
        callable_ones = [
            bool(deployment.replicas) or (deployment.autoscaled and app.serving)
            for app in table.applications.values()
            for deployment in app.deployments.values()
        ]
        if callable_ones and not any(callable_ones):
            return _unavailable("No replicas are available yet.")
        return http_reply.text(200, "success")

    def _once_populated(self, page: Callable[[], Reply]) -> Reply:
        return page() if self._router.table.populated else _not_populated()


def _not_populated() -> Reply:
    return _unavailable("Route table is not populated yet.")


def _unavailable(message: str) -> Reply:
    return http_status.reply(503, grpc.StatusCode.UNAVAILABLE, message)
