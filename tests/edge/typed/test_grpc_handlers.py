"""Typed services on a gRPC listener: bytes as they are, metadata, statuses, health, reflection, deadlines."""

import asyncio

import grpc
import grpc.aio
import pytest
from google.protobuf import descriptor_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2

from fairlead.v1 import session_pb2
from fairlead.wire.errors import ReplicaUnavailableError
from fairlead_gateway.edge.binding import TcpListener
from fairlead_gateway.edge.grpc_door import GrpcDoor, GrpcLimits
from tests.edge.fake_router import FakeRouter
from tests.edge.typed.schema import SERVICE, application, message

BOOK = message("Book", name="b", title="Emma").SerializeToString()
IDS = {"x-request-id": "mine", "request_id": "mine"}


class Served:
    """A door with a channel to it."""

    def __init__(self, **options):
        self.router = FakeRouter()
        self.door = GrpcDoor(self.router, **options)

    async def start(self, listener=None):
        self.address = await self.door.listen(listener or TcpListener())
        self.channel = grpc.aio.insecure_channel(self.address)
        return self

    def unary(self, name, service=SERVICE):
        return self.channel.unary_unary(f"/{service}/{name}")

    def stream(self, name):
        return self.channel.unary_stream(f"/{SERVICE}/{name}")

    async def close(self):
        await self.channel.close()
        await self.door.stop(0)


@pytest.fixture
async def served():
    made = []

    async def make(*applications, listener=None, **options):
        served = await Served(**options).start(listener)
        served.router.deploy(*(applications or (application(),)))
        made.append(served)
        return served

    yield make
    for served in made:
        await served.close()


def outcome(code=0, text="", trailing=(), *details):
    status = status_pb2.Status(code=code, message=text)
    for detail in details:
        status.details.add().Pack(detail)
    found = session_pb2.Outcome(status=status)
    for key, value in trailing:
        found.trailing_metadata.add(key=key, value=value)
    return found


async def failure(call):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


async def test_bytes_cross_as_they_are(served):
    here = await served()
    call = here.unary("GetBook")(BOOK, metadata=(("x-request-id", "mine"), ("k", "v"), ("b-bin", b"\x00")), timeout=30)
    assert await call == BOOK  # the fake router echoes
    [seen] = here.router.calls
    assert seen.payload == BOOK
    assert (seen.header.application, seen.header.deployment) == ("books", "Library")
    assert seen.header.method == f"/{SERVICE}/GetBook"
    assert seen.header.request_serialization == session_pb2.SERIALIZATION_PROTOBUF
    assert seen.header.request_id == "mine"
    assert 29e6 < seen.header.timeout_us <= 30e6
    assert seen.header.peer.startswith("ipv")
    metadata = {entry.key: entry.value for entry in seen.header.metadata}
    assert metadata["k"] == b"v"
    assert metadata["b-bin"] == b"\x00"
    assert dict(await call.trailing_metadata()) == IDS


async def test_ids_in_metadata(served):
    here = await served()
    metadata = (("request_id", "r"), ("multiplexed_model_id", "m"), ("session_id", "s"))
    await here.unary("GetBook")(b"", metadata=metadata)
    header = here.router.calls[0].header
    assert (header.request_id, header.multiplexed_model_id, header.session_id) == ("r", "m", "s")
    error = await failure(here.unary("GetBook")(b"", metadata=(("request_id", "r" * 300),)))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_which_application_serves(served):
    here = await served(application("a"), application("b"))
    await here.unary("GetBook")(b"", metadata=(("application", "b"),))
    assert here.router.calls[0].header.application == "b"
    error = await failure(here.unary("GetBook")(b""))
    assert (error.code(), "not set" in error.details()) == (grpc.StatusCode.NOT_FOUND, True)
    error = await failure(here.unary("GetBook")(b"", metadata=(("application", "c"),)))
    assert (error.code(), "'c' not found" in error.details()) == (grpc.StatusCode.NOT_FOUND, True)


async def test_what_is_not_offered_is_unimplemented(served):
    here = await served()
    for name, service in (("Nothing", SERVICE), ("GetBook", "other.Service"), ("GetBook", "library.v1.Library")):
        error = await failure(here.unary(name, service)(b""))
        assert error.code() is grpc.StatusCode.UNIMPLEMENTED
    assert await here.unary("GetBook")(b"") == b""
    here.router.deploy()
    assert (await failure(here.unary("GetBook")(b""))).code() is grpc.StatusCode.UNIMPLEMENTED


async def test_a_stream_of_answers(served):
    async def three(call):
        for each in (b"1", b"", b"3"):
            await call.stream(each)
        call.end()

    here = await served()
    here.router.behave = three
    call = here.stream("WatchBooks")(BOOK, metadata=(("x-request-id", "mine"),))
    assert [item async for item in call] == [b"1", b"", b"3"]
    assert here.router.calls[0].header.stream
    assert dict(await call.initial_metadata())["x-request-id"] == "mine"
    assert dict(await call.trailing_metadata()) == IDS


async def test_a_stream_of_requests(served):
    async def collect(call):
        await call.half_closed.wait()
        call.end(None, b"".join(call.sent))

    here = await served()
    here.router.behave = collect
    call = here.channel.stream_unary(f"/{SERVICE}/AddBooks")
    assert await call(iter([b"a", b"", b"b"])) == b"ab"
    [seen] = here.router.calls
    assert seen.payload == b""
    assert seen.sent == [b"a", b"", b"b"]
    assert await call(iter([])) == b""


async def test_both_ways(served):
    async def echo(call):
        done = 0
        while not call.half_closed.is_set() or done < len(call.sent):
            call.arrived.clear()
            for each in call.sent[done:]:
                done += 1
                await call.stream(each)
            if not call.half_closed.is_set():
                await call.arrived.wait()
        call.end()

    here = await served()
    here.router.behave = echo
    call = here.channel.stream_stream(f"/{SERVICE}/Chat")()
    for each in (b"a", b"", b"c"):
        await call.write(each)
        assert await call.read() == each
    await call.done_writing()
    assert await call.read() is grpc.aio.EOF


async def test_statuses_and_their_metadata(served):
    here = await served()
    info = error_details_pb2.ResourceInfo(resource_name="b")
    here.router.behave = lambda call: call.downstream.on_end(
        outcome(5, "gone", [("k", b"v"), ("b-bin", b"\x00")], info), None
    )
    call = here.unary("GetBook")(b"", metadata=(("x-request-id", "mine"),))
    error = await failure(call)
    assert (error.code(), error.details()) == (grpc.StatusCode.NOT_FOUND, "gone")
    trailing = dict(error.trailing_metadata())
    assert trailing.items() >= {**IDS, "k": "v", "b-bin": b"\x00"}.items()
    status = status_pb2.Status.FromString(trailing["grpc-status-details-bin"])
    assert status.details[0].Unpack(info)
    here.router.behave = lambda call: call.end(ReplicaUnavailableError("lost"))
    error = await failure(here.unary("GetBook")(b""))
    assert (error.code(), error.details()) == (grpc.StatusCode.UNAVAILABLE, "lost")


async def test_success_with_metadata(served):
    def answer(call):
        call.message(b"book")
        call.downstream.on_end(outcome(0, "", [("k", b"v")]), None)

    here = await served()
    here.router.behave = answer
    call = here.unary("GetBook")(b"")
    assert await call == b"book"
    assert dict(await call.trailing_metadata())["k"] == "v"
    call = here.stream("WatchBooks")(b"")
    assert [item async for item in call] == [b"book"]
    assert dict(await call.trailing_metadata())["k"] == "v"


async def initial(call):
    """The initial metadata of a call, as soon as they have come: not of a unary one, to which Python gives all at once.

    Clients in other languages see those of a unary method when they come, too; here its answer is read as a stream.
    """
    return dict(await asyncio.wait_for(call.initial_metadata(), 60))


async def test_initial_metadata_come_before_the_answer(served):
    async def behave(call):
        call.head(i=b"1", i_bin=b"\x00")
        await seen.wait()
        if call.header.stream:
            await call.stream(b"book")
        call.end(None, None if call.header.stream else b"book")

    here = await served()
    here.router.behave = behave
    for name in ("GetBook", "WatchBooks"):
        seen = asyncio.Event()
        call = here.stream(name)(b"", metadata=(("x-request-id", "mine"),))
        found = await initial(call)
        assert found.items() >= {"i": "1", "i-bin": b"\x00"}.items()
        assert ("x-request-id" in found) == (name == "WatchBooks")
        seen.set()
        assert [item async for item in call] == [b"book"]
        assert dict(await call.trailing_metadata()) == IDS
    seen.set()
    call = here.unary("GetBook")(b"")
    assert await call == b"book"
    assert (await initial(call))["i"] == "1"


@pytest.mark.parametrize("server_streams", [True, False], ids=["both ways", "one way"])
async def test_a_client_may_wait_for_initial_metadata_before_it_sends(served, server_streams):
    async def behave(call):
        call.head(i=b"1")
        await call.half_closed.wait()
        call.end(None, b"".join(call.sent))

    here = await served()
    here.router.behave = behave
    if server_streams:
        call = here.channel.stream_stream(f"/{SERVICE}/Chat")()
    else:
        call = here.channel.stream_unary(f"/{SERVICE}/AddBooks")()
    assert (await initial(call))["i"] == "1"
    await call.write(b"a")
    await call.done_writing()
    assert (await call.read() if server_streams else await call) == b"a"


async def test_an_error_after_initial_metadata(served):
    here = await served()

    def behave(call):
        call.head(i=b"1")
        call.downstream.on_end(outcome(5, "gone", [("k", b"v")]), None)

    here.router.behave = behave
    for start in (here.unary("GetBook"), here.stream("WatchBooks")):
        call = start(b"")
        error = await failure(call.read() if hasattr(call, "read") else call)
        assert (error.code(), error.details()) == (grpc.StatusCode.NOT_FOUND, "gone")
        assert (await initial(call))["i"] == "1"
        assert dict(await call.trailing_metadata())["k"] == "v"


async def test_cancelling_after_initial_metadata(served):
    here = await served()
    here.router.behave = lambda call: call.head(i=b"1")
    for name in ("GetBook", "WatchBooks"):
        call = here.stream(name)(b"")
        assert (await initial(call))["i"] == "1"
        call.cancel()
        await asyncio.wait_for(here.router.calls[-1].cancelled.wait(), 60)


async def test_a_stream_that_fails_late(served):
    async def fail(call):
        await call.stream(b"1")
        call.downstream.on_end(outcome(8, "full"), None)

    here = await served()
    here.router.behave = fail
    call = here.stream("WatchBooks")(b"")
    assert await call.read() == b"1"
    error = await failure(call.read())
    assert (error.code(), error.details()) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "full")


async def test_cancelling_and_deadlines_end_the_call(served):
    here = await served(limits=GrpcLimits(request_timeout_s=60))
    here.router.behave = lambda call: None
    for start in (here.unary("GetBook"), here.stream("WatchBooks")):
        call = start(b"")
        task = asyncio.ensure_future(call.read() if hasattr(call, "read") else call)
        await asyncio.wait_for(here.router.called.wait(), 60)
        here.router.called.clear()
        call.cancel()
        await asyncio.wait_for(here.router.calls[-1].cancelled.wait(), 60)
        await asyncio.wait({task})
        assert here.router.calls[-1].header.timeout_us == 60_000_000
    error = await failure(here.unary("GetBook")(b"", timeout=0.05))
    assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_health_of_each_service(served):
    here = await served(application("a", serving=False))
    stub = health_pb2_grpc.HealthStub(here.channel)
    assert (await stub.Check(health_pb2.HealthCheckRequest(service=SERVICE))).status == 2
    here.router.deploy(application("a", serving=False), application("b"))
    assert (await stub.Check(health_pb2.HealthCheckRequest(service=SERVICE))).status == 1
    assert set((await stub.List(health_pb2.HealthListRequest())).statuses) >= {"", "a", "b", SERVICE}
    here.router.deploy()
    error = await failure(stub.Check(health_pb2.HealthCheckRequest(service=SERVICE)))
    assert error.code() is grpc.StatusCode.NOT_FOUND


async def reflect(here, version, **request):
    call = here.channel.stream_stream(
        f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
        reflection_pb2.ServerReflectionRequest.SerializeToString,
        reflection_pb2.ServerReflectionResponse.FromString,
    )
    [answer] = [each async for each in call(iter([reflection_pb2.ServerReflectionRequest(**request)]))]
    return answer


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
async def test_reflection_follows_what_is_deployed(served, version):
    here = await served()
    listed = await reflect(here, version, list_services="")
    names = {service.name for service in listed.list_services_response.service}
    assert names > {SERVICE, "fairlead.v1.ServingService", "grpc.health.v1.Health"}
    found = await reflect(here, version, file_containing_symbol=SERVICE)
    files = [
        descriptor_pb2.FileDescriptorProto.FromString(each)
        for each in found.file_descriptor_response.file_descriptor_proto
    ]
    assert "library.proto" in [file.name for file in files]
    here.router.deploy()
    listed = await reflect(here, version, list_services="")
    assert SERVICE not in {service.name for service in listed.list_services_response.service}


async def test_a_token_that_is_the_gateways_is_not_the_callees(served):
    here = await served(listener=TcpListener(token="s3cret"))
    error = await failure(here.unary("GetBook")(b""))
    assert error.code() is grpc.StatusCode.UNAUTHENTICATED
    await here.unary("GetBook")(b"", metadata=(("authorization", "Bearer s3cret"),))
    assert "authorization" not in {entry.key for entry in here.router.calls[0].header.metadata}
    open_to_all = await served()
    await open_to_all.unary("GetBook")(b"", metadata=(("authorization", "Bearer users"),))
    assert "authorization" in {entry.key for entry in open_to_all.router.calls[0].header.metadata}
