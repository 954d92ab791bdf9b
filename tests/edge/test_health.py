"""Health over a real socket."""

import asyncio
import contextlib

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from fairlead_gateway.edge.binding import TcpListener
from fairlead_gateway.edge.grpc_door import GrpcDoor
from tests.edge.fake_router import FakeRouter, application

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


@contextlib.asynccontextmanager
async def health(router):
    door = GrpcDoor(router)
    address = await door.listen(TcpListener())
    async with grpc.aio.insecure_channel(address) as channel:
        try:
            yield health_pb2_grpc.HealthStub(channel), door
        finally:
            await door.stop(5)


def named(service=""):
    return health_pb2.HealthCheckRequest(service=service)


async def check(stub, service=""):
    return (await stub.Check(named(service))).status


async def next_status(watch):
    return (await asyncio.wait_for(watch.read(), 60)).status


async def test_serves_once_there_is_a_table_and_until_it_drains():
    router = FakeRouter()
    async with health(router) as (stub, door):
        assert await check(stub) == NOT_SERVING
        router.deploy()
        assert await check(stub) == SERVING
        assert await check(stub, "fairlead.v1.ServingService") == SERVING
        door.drain()
        assert await check(stub) == NOT_SERVING
        router.deploy(application("late"))
        assert await check(stub, "late") == NOT_SERVING


async def test_applications_have_a_status_of_their_own():
    router = FakeRouter()
    router.deploy(application("up"), application("down", route_prefix=None, serving=False))
    async with health(router) as (stub, _):
        assert await check(stub, "up") == SERVING
        assert await check(stub, "down") == NOT_SERVING
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await check(stub, "nobody")
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_applications_of_which_none_serves():
    router = FakeRouter()
    router.deploy(application("down", serving=False))
    async with health(router) as (stub, _):
        assert await check(stub) == NOT_SERVING
        router.deploy(application("down", serving=False), application("up", route_prefix=None))
        assert await check(stub) == SERVING


async def test_a_watcher_that_leaves_does_not_disturb_the_other():
    router = FakeRouter()
    router.deploy(application("app"))
    async with health(router) as (stub, door):
        leaving, staying = stub.Watch(named("app")), stub.Watch(named("app"))
        assert await next_status(leaving) == SERVING
        assert await next_status(staying) == SERVING
        leaving.cancel()
        router.deploy(application("app", serving=False))
        assert await next_status(staying) == NOT_SERVING
        router.deploy(application("app"))
        assert await next_status(staying) == SERVING
        door.drain()
        assert await next_status(staying) == NOT_SERVING


async def test_watching_what_is_not_there_yet():
    router = FakeRouter()
    router.deploy()
    async with health(router) as (stub, _):
        watch = stub.Watch(named("app"))
        assert await next_status(watch) == UNKNOWN
        router.deploy(application("app"))
        assert await next_status(watch) == SERVING
        router.deploy()
        assert await next_status(watch) == UNKNOWN


async def test_stopping_tells_watchers_and_does_not_wait_for_them():
    router = FakeRouter()
    router.deploy()
    async with health(router) as (stub, door):
        watch = stub.Watch(named())
        assert await next_status(watch) == SERVING
        stopping = asyncio.ensure_future(door.stop(60))
        assert await next_status(watch) == NOT_SERVING
        assert await watch.read() is grpc.aio.EOF
        await asyncio.wait_for(stopping, 60)


async def test_list():
    router = FakeRouter()
    router.deploy(application("app", serving=False), application("other", route_prefix=None))
    async with health(router) as (stub, _):
        statuses = (await stub.List(health_pb2.HealthListRequest())).statuses
        assert {name: answer.status for name, answer in statuses.items()} == {
            "": SERVING,
            "fairlead.v1.ServingService": SERVING,
            "app": NOT_SERVING,
            "other": SERVING,
        }
        router.deploy(*(application(f"app{n}", route_prefix=None) for n in range(99)))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.List(health_pb2.HealthListRequest())
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
