"""Measures what goes through the HTTP door, and writes the access log."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias

from fairlead_gateway.edge.http_request import Receive, Scope
from fairlead_gateway.edge.http_response import Send
from fairlead_gateway.metrics.doors import DoorMeasures

App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

ROUTE = "fairlead.route"
"""The key in an ASGI scope under which the application leaves ``(application, route)`` of a request that it took."""
REQUEST_ID = "fairlead.request_id"
"""And the request's id, once it has one."""

OWN_PAGES = frozenset({"/-/healthz", "/-/routes", "/-/metrics", "/-/openapi.json", "/-/docs"})
"""The gateway's own pages, which are neither counted nor logged."""

access_log = logging.getLogger("fairlead.access")

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_NOWHERE = ("", "")


class HttpMeter:
    """Around the door's application. ``logs``: whether each request is written to the access log."""

    def __init__(self, app: App, measures: DoorMeasures, *, logs: bool = False) -> None:
        self._app = app
        self._measures = measures
        self._logs = logs

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one ASGI scope."""
        if scope["type"] != "http" or scope["path"] in OWN_PAGES:
            return await self._app(scope, receive, send)
        measures = self._measures
        began = time.perf_counter()
        status = 499  # nginx' status for a client that did not wait for one

        def watched(message: MutableMapping[str, Any]) -> Awaitable[None]:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            return send(message)

        measures.ongoing += 1
        try:
            await self._app(scope, receive, watched)
        finally:
            measures.ongoing -= 1
            seconds = time.perf_counter() - began
            application, route = scope.get(ROUTE, _NOWHERE)
            method = scope["method"] if scope["method"] in _METHODS else "OTHER"
            measures.ended(route, method, application, str(status), seconds, failed=status >= 400)
            if self._logs:
                access_log.info(
                    "%s %s %d %.1fms",
                    *(method, route or "(no route)", status, seconds * 1e3),
                    extra={"request_id": scope.get(REQUEST_ID, ""), "application": application, "route": route},
                )
        return None
