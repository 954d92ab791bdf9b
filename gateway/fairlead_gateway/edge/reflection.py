"""Server reflection, v1 and v1alpha, from a descriptor pool of the gateway's own.

grpcio-reflection has v1alpha only. The two versions differ in the package name and in nothing else, so v1 is served by
the same code, and its own descriptor is derived from v1alpha's for those who reflect on the reflection service.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import grpc
from google.protobuf import descriptor_pb2
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_reflection.v1alpha import reflection, reflection_pb2

_ALPHA = "grpc.reflection.v1alpha"
_STABLE = "grpc.reflection.v1"
V1ALPHA_SERVICE = f"{_ALPHA}.ServerReflection"
V1_SERVICE = f"{_STABLE}.ServerReflection"


class Reflection:
    """The reflection service over the services of the given files; the reflection services are added."""

    def __init__(self, files: Iterable[FileDescriptor]) -> None:
        self._pool = DescriptorPool()
        self._known: set[str] = set()
        names = [V1_SERVICE, V1ALPHA_SERVICE]
        for file in files:
            self._add(file)
            names.extend(service.full_name for service in file.services_by_name.values())
        self._add(reflection_pb2.DESCRIPTOR)
        self._pool.Add(stable_file())
        self._servicer = reflection.aio.ReflectionServicer(names, pool=self._pool)

    def _add(self, file: FileDescriptor) -> None:
        if file.name in self._known:
            return
        self._known.add(file.name)
        for dependency in file.dependencies:
            self._add(dependency)
        self._pool.AddSerializedFile(file.serialized_pb)

    def by_method(self) -> dict[str, grpc.RpcMethodHandler[Any, Any]]:
        """The handlers by full method name."""
        handler = grpc.stream_stream_rpc_method_handler(
            self._servicer.ServerReflectionInfo,
            reflection_pb2.ServerReflectionRequest.FromString,
            reflection_pb2.ServerReflectionResponse.SerializeToString,
        )
        return {f"/{service}/ServerReflectionInfo": handler for service in (V1_SERVICE, V1ALPHA_SERVICE)}


def stable_file() -> descriptor_pb2.FileDescriptorProto:
    """The file of the v1 service, made from v1alpha's."""
    file = descriptor_pb2.FileDescriptorProto()
    reflection_pb2.DESCRIPTOR.CopyToProto(file)
    file.name = "grpc/reflection/v1/reflection.proto"
    file.package = _STABLE
    file.ClearField("options")
    for message in file.message_type:
        for field in message.field:
            if field.type_name:
                field.type_name = field.type_name.replace(f".{_ALPHA}.", f".{_STABLE}.")
    for service in file.service:
        for method in service.method:
            method.input_type = method.input_type.replace(f".{_ALPHA}.", f".{_STABLE}.")
            method.output_type = method.output_type.replace(f".{_ALPHA}.", f".{_STABLE}.")
    return file
