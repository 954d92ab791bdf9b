"""Server reflection, v1 and v1alpha, from a descriptor pool of the gateway's own.

grpcio-reflection has v1alpha only. The two versions differ in the package name and in nothing else, so v1 is served by
the same code, and its own descriptor is derived from v1alpha's for those who reflect on the reflection service.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterable
from typing import Any

import grpc
from google.protobuf import descriptor_pb2
from google.protobuf.descriptor import FileDescriptor, ServiceDescriptor
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_reflection.v1alpha import reflection, reflection_pb2

logger = logging.getLogger(__name__)

_ALPHA = "grpc.reflection.v1alpha"
_STABLE = "grpc.reflection.v1"
V1ALPHA_SERVICE = f"{_ALPHA}.ServerReflection"
V1_SERVICE = f"{_STABLE}.ServerReflection"


class Reflection:
    """The reflection service over the services of the given files; the reflection services are added.

    Belongs to one event loop. Further services come and go with :meth:`update`; a caller that is in the middle of its
    questions is answered by what was there when it began.
    """

    def __init__(self, files: Iterable[FileDescriptor]) -> None:
        self._files = (*files, reflection_pb2.DESCRIPTOR)
        self._own = [
            V1_SERVICE,
            *(service.full_name for file in self._files for service in file.services_by_name.values()),
        ]
        self._servicer = self._made(())

    def update(self, services: Iterable[ServiceDescriptor]) -> None:
        """Describes these services besides its own, whatever pools they are from.

        Of two files of one name the first counts; what does not fit it is logged and not described.
        """
        self._servicer = self._made(services)

    def _made(self, services: Iterable[ServiceDescriptor]) -> Any:
        pool, names, known = DescriptorPool(), list(self._own), set[str]()
        for file in self._files:
            _add(pool, file, known)
        pool.Add(stable_file())
        for service in services:
            if service.full_name in names:
                continue
            try:
                _add(pool, service.file, known)
                pool.FindServiceByName(service.full_name)
            except (TypeError, KeyError) as error:
                logger.warning("reflection cannot describe %s: %s", service.full_name, error)
            else:
                names.append(service.full_name)
        return reflection.aio.ReflectionServicer(names, pool=pool)

    async def _serve(self, requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        async for response in self._servicer.ServerReflectionInfo(requests, context):
            yield response

    def by_method(self) -> dict[str, grpc.RpcMethodHandler[Any, Any]]:
        """The handlers by full method name."""
        handler = grpc.stream_stream_rpc_method_handler(
            self._serve,
            reflection_pb2.ServerReflectionRequest.FromString,
            reflection_pb2.ServerReflectionResponse.SerializeToString,
        )
        return {f"/{service}/ServerReflectionInfo": handler for service in (V1_SERVICE, V1ALPHA_SERVICE)}


def _add(pool: DescriptorPool, file: FileDescriptor, known: set[str]) -> None:
    if file.name in known:
        return
    for dependency in file.dependencies:
        _add(pool, dependency, known)
    pool.AddSerializedFile(file.serialized_pb)
    known.add(file.name)


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
