"""Reflection, v1 and v1alpha, over a real socket."""

import grpc.aio
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool
from grpc_reflection.v1alpha import reflection_pb2

from fairlead_gateway.edge.binding import TcpListener
from fairlead_gateway.edge.grpc_door import GrpcDoor
from tests.edge.fake_router import FakeRouter

SERVICES = [
    "fairlead.v1.ServingService",
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
    "ray.serve.RayServeAPIService",
]


@pytest.fixture(params=["v1", "v1alpha"])
async def ask(request):
    door = GrpcDoor(FakeRouter())
    address = await door.listen(TcpListener())

    async def ask(**question):
        call = channel.stream_stream(
            f"/grpc.reflection.{request.param}.ServerReflection/ServerReflectionInfo",
            request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
            response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
        )()
        await call.write(reflection_pb2.ServerReflectionRequest(**question))
        answer = await call.read()
        await call.done_writing()
        return answer

    async with grpc.aio.insecure_channel(address) as channel:
        yield ask
    await door.stop(0)


async def test_lists_all_services(ask):
    answer = await ask(list_services="")
    assert [service.name for service in answer.list_services_response.service] == SERVICES


@pytest.mark.parametrize("service", SERVICES)
async def test_every_service_can_be_rebuilt_from_what_is_told(ask, service):
    answer = await ask(file_containing_symbol=service)
    files = {}
    for data in answer.file_descriptor_response.file_descriptor_proto:
        file = descriptor_pb2.FileDescriptorProto.FromString(data)
        files[file.name] = file
    pool = descriptor_pool.DescriptorPool()

    def add(name):
        if (file := files.pop(name, None)) is not None:
            for dependency in file.dependency:
                add(dependency)
            pool.Add(file)

    for name in list(files):
        add(name)
    found = pool.FindServiceByName(service)
    assert all(method.input_type.full_name for method in found.methods)


async def test_unknown_symbol(ask):
    answer = await ask(file_containing_symbol="no.Such")
    assert answer.error_response.error_code == 5
