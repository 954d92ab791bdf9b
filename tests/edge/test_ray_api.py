"""What Ray Serve's gRPC port tells of itself."""

import grpc
import grpc.aio
import pytest
from google.protobuf import message_factory

from fairlead_gateway.edge.binding import TcpListener
from fairlead_gateway.edge.grpc_door import GrpcDoor
from fairlead_gateway.edge.ray_api import RayServeApi
from tests.edge.fake_router import FakeRouter, application


@pytest.fixture
async def door():
    door = GrpcDoor(FakeRouter())
    yield door
    await door.stop(0)


async def test_applications_and_health(door):
    api = RayServeApi(door._router.table, door.health)

    def response(name):
        return message_factory.GetMessageClass(api.file.message_types_by_name[f"{name}Response"]).FromString

    async with grpc.aio.insecure_channel(await door.listen(TcpListener())) as channel:
        listed = channel.unary_unary(
            "/ray.serve.RayServeAPIService/ListApplications", None, response("ListApplications")
        )
        healthz = channel.unary_unary("/ray.serve.RayServeAPIService/Healthz", None, response("Healthz"))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await healthz(b"")
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert list((await listed(b"")).application_names) == []
        door._router.deploy(application("b"), application("a"))
        assert list((await listed(b"")).application_names) == ["a", "b"]
        assert (await healthz(b"")).message == "success"
        door.drain()
        with pytest.raises(grpc.aio.AioRpcError):
            await healthz(b"")
