"""Listeners: TLS, tokens, ports that are taken, and the end."""

import asyncio
import os

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from fairlead.v1 import serving_pb2, serving_pb2_grpc
from fairlead.wire.trust import Trust
from fairlead_gateway.edge.binding import BindError, InsecureBindingError, TcpListener, Tls
from fairlead_gateway.edge.grpc_door import GrpcDoor, GrpcLimits
from tests.certificates import make_certificates
from tests.edge.fake_router import FakeRouter, application

CONNECTIONS = 16
PICKLE = "application/vnd.fairlead.pickle"


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    return make_certificates(tmp_path_factory.mktemp("pki"))


def tls(pki, client_ca=False):
    return Tls(
        certificate_file=str(pki / "server.pem"),
        key_file=str(pki / "server.key"),
        client_ca_file=str(pki / "ca.pem") if client_ca else None,
    )


def client_credentials(pki, own=False):
    return grpc.ssl_channel_credentials(
        (pki / "ca.pem").read_bytes(),
        (pki / "client.key").read_bytes() if own else None,
        (pki / "client.pem").read_bytes() if own else None,
    )


@pytest.fixture
async def door():
    router = FakeRouter()
    router.deploy(application())
    door = GrpcDoor(router)
    yield door
    await door.stop(0)


def pickled():
    request = serving_pb2.CallRequest()
    request.payload.content_type = PICKLE
    return request


async def call(channel, token=None, request=None):
    metadata = () if token is None else (("authorization", f"Bearer {token}"),)
    stub = serving_pb2_grpc.ServingServiceStub(channel)
    await stub.Call(request or serving_pb2.CallRequest(), metadata=metadata, timeout=60)


async def refused(channel, code, **arguments):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(channel, **arguments)
    assert caught.value.code() is code
    return caught.value


async def test_token_over_tls_is_authentication(door, pki):
    address = await door.listen(TcpListener(host="0.0.0.0", tls=tls(pki), token="s3cret"))
    local = address.replace("0.0.0.0", "localhost")
    async with grpc.aio.secure_channel(local, client_credentials(pki)) as channel:
        for token in (None, "", "wrong", "s3cret2"):
            error = await refused(channel, grpc.StatusCode.UNAUTHENTICATED, token=token)
            assert b"UNAUTHENTICATED" in dict(error.trailing_metadata())["grpc-status-details-bin"]
        await call(channel, "s3cret", pickled())
    assert [call.trust for call in door._router.calls] == [Trust.AUTHENTICATED]


async def test_probes_need_no_token(door, pki):
    address = await door.listen(TcpListener(token="s3cret"))
    async with grpc.aio.insecure_channel(address) as channel:
        answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
        assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def test_token_in_plain_text_lets_in_but_proves_nothing(door):
    address = await door.listen(TcpListener(token="s3cret"))
    async with grpc.aio.insecure_channel(address) as channel:
        await refused(channel, grpc.StatusCode.UNAUTHENTICATED)
        await call(channel, "s3cret")
        await refused(channel, grpc.StatusCode.PERMISSION_DENIED, token="s3cret", request=pickled())


async def test_tls_alone_proves_nothing(door, pki):
    address = await door.listen(TcpListener(tls=tls(pki)))
    async with grpc.aio.secure_channel(address, client_credentials(pki)) as channel:
        await call(channel)
        await refused(channel, grpc.StatusCode.PERMISSION_DENIED, request=pickled())


async def test_client_certificate_is_authentication(door, pki):
    address = await door.listen(TcpListener(tls=tls(pki, client_ca=True)))
    async with grpc.aio.secure_channel(address, client_credentials(pki, own=True)) as channel:
        await call(channel, request=pickled())
    async with grpc.aio.secure_channel(address, client_credentials(pki)) as channel:
        await refused(channel, grpc.StatusCode.UNAVAILABLE)


async def test_what_it_does_not_listen_on(door, pki):
    with pytest.raises(InsecureBindingError):
        await door.listen(TcpListener(host="0.0.0.0"))
    address = await door.listen(TcpListener())
    with pytest.raises(BindError, match="in use"):
        await door.listen(TcpListener(port=int(address.rpartition(":")[2])))
    for certificate, key, reason in (
        ("/nowhere", "/nowhere", "No such file"),
        (pki / "server.pem", pki / "client.key", "(?i)mismatch"),
        (pki / "server.pem", pki / "encrypted.key", "certificates for"),
        (pki / "names", pki / "server.key", "(?i)pem"),
    ):
        with pytest.raises(BindError, match=reason):
            await door.listen(TcpListener(tls=Tls(certificate_file=str(certificate), key_file=str(key))))
    with pytest.raises(BindError):
        await door.listen_owner("/nowhere/at/all.sock")


async def test_unix_socket_is_the_owners(door, tmp_path):
    path = str(tmp_path / "g.sock")
    assert await door.listen_owner(path) == f"unix:{path}"
    assert os.stat(path).st_mode & 0o777 == 0o600
    await door.stop(0)
    assert not os.path.exists(path)


async def test_session_handlers_are_made_for_each_trust(tmp_path):
    asked = []

    def sessions(trust, longest_us):
        asked.append((trust, longest_us))

        async def session(requests, context):
            yield trust.value.encode()

        return grpc.stream_stream_rpc_method_handler(session)

    door = GrpcDoor(FakeRouter(), sessions=sessions, limits=GrpcLimits(request_timeout_s=2.5))
    addresses = [await door.listen_owner(str(tmp_path / "g.sock")), await door.listen(TcpListener())]
    for address, expected in zip(addresses, (b"owner", b"untrusted"), strict=True):
        async with grpc.aio.insecure_channel(address) as channel:
            assert await channel.stream_stream("/fairlead.v1.ServingService/Session")().read() == expected
    await door.stop(0)
    assert asked == [(Trust.OWNER, 0), (Trust.UNTRUSTED, 2_500_000)]


async def test_calls_over_tcp_are_bounded_and_those_of_the_owner_are_not(tmp_path):
    router = FakeRouter()
    router.deploy(application())
    door = GrpcDoor(router, limits=GrpcLimits(request_timeout_s=2.5))
    unix, tcp = await door.listen_owner(str(tmp_path / "g.sock")), await door.listen(TcpListener())
    for address in (unix, tcp):
        async with grpc.aio.insecure_channel(address) as channel:
            stub = serving_pb2_grpc.ServingServiceStub(channel)
            for timeout in (None, 60, 1):
                await stub.Call(serving_pb2.CallRequest(), timeout=timeout)
            await stub.CallStream(serving_pb2.CallStreamRequest()).read()
            await stub.CallBidi(iter([serving_pb2.CallBidiRequest()])).read()
            await stub.Broadcast(serving_pb2.BroadcastRequest()).read()
    await door.stop(0)
    timeouts = [call.header.timeout_us for call in router.calls]
    assert len(timeouts) == 12
    none, long, short, *streams = timeouts[:6]
    assert (none, streams) == (0, [0, 0, 0])
    assert long > 2_500_000
    assert 0 < short < 2_500_000  # gRPC rounds
    none, long, short, *streams = timeouts[6:]
    assert {none, long, *streams} == {2_500_000}
    assert 0 < short < 2_500_000  # gRPC rounds


async def test_without_reflection():
    door = GrpcDoor(FakeRouter(), reflection=False)
    async with grpc.aio.insecure_channel(await door.listen(TcpListener())) as channel:
        for version in ("v1", "v1alpha"):
            method = f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo"
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await channel.stream_stream(method)(iter([b""])).read()
            assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    await door.stop(0)


async def test_stop_lets_calls_finish():
    async def slow(call):
        await release.wait()
        call.end(None, b"done")

    release = asyncio.Event()
    router = FakeRouter(slow)
    router.deploy(application())
    door = GrpcDoor(router)
    address = await door.listen(TcpListener())
    async with grpc.aio.insecure_channel(address) as channel:
        running = asyncio.ensure_future(serving_pb2_grpc.ServingServiceStub(channel).Call(serving_pb2.CallRequest()))
        await asyncio.wait_for(router.called.wait(), 60)
        stopping = asyncio.ensure_future(door.stop(30))
        release.set()
        assert (await asyncio.wait_for(running, 60)).payload.data == b"done"
        await asyncio.wait_for(stopping, 60)


async def test_every_connection_is_served_and_ended(tmp_path):
    """A port has several acceptors: each connection is one's, and all have the same methods, health and end."""

    def begin(call):
        waiting.append(call)
        if len(waiting) == CONNECTIONS:
            for each in waiting:
                each.end(None, b"done")

    waiting = []
    router = FakeRouter(begin)
    router.deploy(application())
    door = GrpcDoor(router)
    address = await door.listen(TcpListener())
    options = (("grpc.use_local_subchannel_pool", 1),)  # else channels of a process share a connection
    channels = [grpc.aio.insecure_channel(address, options=options) for _ in range(CONNECTIONS)]
    try:
        stubs = [serving_pb2_grpc.ServingServiceStub(channel) for channel in channels]
        answers = await asyncio.gather(*(stub.Call(serving_pb2.CallRequest(), timeout=60) for stub in stubs))
        assert [answer.payload.data for answer in answers] == [b"done"] * CONNECTIONS
        door.drain()
        for channel in channels:
            checked = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=60)
            assert checked.status == health_pb2.HealthCheckResponse.NOT_SERVING
        await door.stop(0)
        for channel in channels:
            await refused(channel, grpc.StatusCode.UNAVAILABLE)
    finally:
        await asyncio.gather(*(channel.close() for channel in channels))


async def test_a_port_of_another_door_is_taken(door):
    address = await door.listen(TcpListener())
    other = GrpcDoor(FakeRouter())
    with pytest.raises(BindError, match="in use"):
        await other.listen(TcpListener(port=int(address.rpartition(":")[2])))
    await other.stop(0)


async def test_unknown_method(door):
    address = await door.listen(TcpListener())
    async with grpc.aio.insecure_channel(address) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await channel.unary_unary("/no.Such/Method")(b"")
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
