"""``ray.serve.RayServeAPIService``: what Ray Serve's gRPC port tells of itself, for probes that ask for it."""

from __future__ import annotations

from typing import Any, TypeAlias

import grpc
import grpc.aio
from google.protobuf import descriptor_pb2, message_factory
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2

from fairlead_gateway.edge.health import Health
from fairlead_gateway.routing.table import RouteTable

SERVICE = "ray.serve.RayServeAPIService"
_SERVING: int = health_pb2.HealthCheckResponse.SERVING

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


def _file() -> FileDescriptor:
    """The part of Ray's ``serve.proto`` that describes the service, in a pool of its own."""
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="fairlead/ray_serve_api.proto", package="ray.serve", syntax="proto3")
    service = file.service.add(name="RayServeAPIService")
    for method, name, label in (
        ("ListApplications", "application_names", field.LABEL_REPEATED),
        ("Healthz", "message", field.LABEL_OPTIONAL),
    ):
        file.message_type.add(name=f"{method}Request")
        response = file.message_type.add(name=f"{method}Response")
        response.field.add(name=name, number=1, label=label, type=field.TYPE_STRING)
        service.method.add(
            name=method, input_type=f".ray.serve.{method}Request", output_type=f".ray.serve.{method}Response"
        )
    pool = DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return pool.FindFileByName(file.name)


class RayServeApi:
    """The service. Belongs to one event loop."""

    def __init__(self, table: RouteTable, health: Health) -> None:
        self.file = _file()
        self._table = table
        self._health = health
        self._responses: dict[str, Any] = {
            name: message_factory.GetMessageClass(self.file.message_types_by_name[f"{name}Response"])
            for name in ("ListApplications", "Healthz")
        }

    def by_method(self) -> dict[str, grpc.RpcMethodHandler[Any, Any]]:
        """The handlers by full method name."""
        return {
            f"/{SERVICE}/ListApplications": grpc.unary_unary_rpc_method_handler(self.list_applications),
            f"/{SERVICE}/Healthz": grpc.unary_unary_rpc_method_handler(self.healthz),
        }

    async def list_applications(self, request: bytes, context: Context) -> bytes:
        """The names of the applications."""
        response = self._responses["ListApplications"](application_names=sorted(self._table.applications))
        return bytes(response.SerializeToString())

    async def healthz(self, request: bytes, context: Context) -> bytes:
        """``success``; UNAVAILABLE where ``/-/healthz`` of the HTTP port is not 200."""
        if self._health.status("") != _SERVING:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "This gateway is not ready, or is being drained.")
        return bytes(self._responses["Healthz"](message="success").SerializeToString())
