"""``grpc.health.v1``: the gateway worker as a whole, and each application and typed service under its own name.

Our own, because the servicer of grpcio-health-checking has no List, and loses updates when one of several watchers of a
service leaves.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any, TypeAlias

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2

SERVICE = "grpc.health.v1.Health"
MAX_LISTED = 100
"""Services that List answers with; more are RESOURCE_EXHAUSTED (gRFC A90)."""

_UNKNOWN: int = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
_SERVING: int = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING: int = health_pb2.HealthCheckResponse.NOT_SERVING

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class Health:
    """The statuses, and the service that tells them. Belongs to one event loop.

    ``always``: the names that stand for the worker itself, besides "".
    """

    def __init__(self, always: tuple[str, ...] = ()) -> None:
        self._own = ("", *always)
        self._ready = False
        self._draining = False
        self._closed = False
        self._applications: dict[str, bool] = {}
        self._services: dict[str, bool] = {}
        self._changed: asyncio.Future[None] | None = None

    def __repr__(self) -> str:
        return f"<Health ready={self._ready} draining={self._draining} applications={self._applications}>"

    def update(self, applications: Mapping[str, bool], services: Mapping[str, bool] | None = None) -> None:
        """Sets which applications there are, and whether they serve; the same of their typed services, by full name.

        From the first time on the worker serves, unless there are applications and none of them does.
        """
        self._applications = dict(applications)
        self._services = dict(services or {})
        self._ready = True
        self._announce()

    def drain(self) -> None:
        """Everything reports NOT_SERVING from now on, whatever ``update`` says."""
        self._draining = True
        self._announce()

    def close(self) -> None:
        """Ends all watches once they have told the last status."""
        self._closed = True
        self._announce()

    def status(self, service: str) -> int:
        """What is known of a service."""
        if service in self._own:
            # As "/-/healthz": who has applications and none that serves is not ready, for example when all are deleted
            # because the instance ends.
            serving = self._ready and (not self._applications or any(self._applications.values()))
        elif service in self._applications:
            serving = self._applications[service]
        elif service in self._services:
            serving = self._services[service]
        else:
            return _UNKNOWN
        return _SERVING if serving and not self._draining else _NOT_SERVING

    def _announce(self) -> None:
        changed, self._changed = self._changed, None
        if changed is not None:
            changed.set_result(None)

    async def _change(self) -> None:
        """Waits for the next change. Any number of watchers share one future, and leaving disturbs nobody."""
        if self._changed is None:
            self._changed = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._changed)

    # -- the service

    def by_method(self) -> dict[str, grpc.RpcMethodHandler[Any, Any]]:
        """The handlers by full method name."""
        request = health_pb2.HealthCheckRequest.FromString
        response = health_pb2.HealthCheckResponse.SerializeToString
        return {
            f"/{SERVICE}/Check": grpc.unary_unary_rpc_method_handler(self.check, request, response),
            f"/{SERVICE}/Watch": grpc.unary_stream_rpc_method_handler(self.watch, request, response),
            f"/{SERVICE}/List": grpc.unary_unary_rpc_method_handler(
                self.list_all, health_pb2.HealthListRequest.FromString, health_pb2.HealthListResponse.SerializeToString
            ),
        }

    async def check(self, request: health_pb2.HealthCheckRequest, context: Context) -> health_pb2.HealthCheckResponse:
        """Check: NOT_FOUND for a service that is not known."""
        status = self.status(request.service)
        if status == _UNKNOWN:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"unknown service {request.service!r}")
        return health_pb2.HealthCheckResponse(status=status)

    async def watch(
        self, request: health_pb2.HealthCheckRequest, context: Context
    ) -> AsyncIterator[health_pb2.HealthCheckResponse]:
        """Watch: the status now and at each change; SERVICE_UNKNOWN is one, and ends nothing."""
        told: int | None = None
        while True:
            status = self.status(request.service)
            if status != told:
                told = status
                yield health_pb2.HealthCheckResponse(status=status)
            elif self._closed:
                return
            else:
                await self._change()

    async def list_all(self, request: health_pb2.HealthListRequest, context: Context) -> health_pb2.HealthListResponse:
        """List: all services and their statuses."""
        names = list(dict.fromkeys((*self._own, *self._applications, *self._services)))
        if len(names) > MAX_LISTED:
            await context.abort(
                grpc.StatusCode.RESOURCE_EXHAUSTED, f"{len(names)} services; List answers with at most {MAX_LISTED}"
            )
        return health_pb2.HealthListResponse(
            statuses={name: health_pb2.HealthCheckResponse(status=self.status(name)) for name in names}
        )
