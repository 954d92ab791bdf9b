"""ServingService over real sockets, with grpc.aio clients, against a fake router."""

import asyncio
import contextlib
import os
import pickle
import tempfile

import grpc
import grpc.aio
import orjson
import pytest
from google.rpc import error_details_pb2, status_pb2

from fairlead.v1 import serving_pb2, serving_pb2_grpc, session_pb2
from fairlead.wire.errors import BackPressureError, DeploymentUnavailableError
from fairlead.wire.stream import INITIAL_CREDIT
from fairlead.wire.trust import Trust
from fairlead_gateway.edge.binding import TcpListener
from fairlead_gateway.edge.grpc_door import GrpcDoor, GrpcLimits
from tests.edge.fake_router import FakeRouter, application, arguments

LIMIT = 1024 * 1024


@contextlib.asynccontextmanager
async def doors(router, limits=None):
    """A door on both kinds of listener, and a channel to each: ``(owner, tcp)``."""
    door = GrpcDoor(router, limits=limits)
    with tempfile.TemporaryDirectory() as directory:
        owner = await door.listen_owner(os.path.join(directory, "g.sock"))
        tcp = await door.listen(TcpListener())
        options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        async with (
            grpc.aio.insecure_channel(owner, options=options) as over_unix,
            grpc.aio.insecure_channel(tcp, options=options) as over_tcp,
        ):
            try:
                yield over_unix, over_tcp
            finally:
                await door.stop(0)
        assert os.listdir(directory) == []


@contextlib.asynccontextmanager
async def stub(router, limits=None):
    async with doors(router, limits) as (_, tcp):
        yield serving_pb2_grpc.ServingServiceStub(tcp)


def router_with(behave=None):
    router = FakeRouter() if behave is None else FakeRouter(behave)
    router.deploy(application())
    return router


def call_request(data=b"[[1]]", content_type="", **target):
    request = serving_pb2.CallRequest(target=serving_pb2.Target(**target))
    request.payload.data = data
    request.payload.content_type = content_type
    return request


def stream_request(data=b"[[1]]", **target):
    request = serving_pb2.CallStreamRequest(target=serving_pb2.Target(**target))
    request.payload.data = data
    return request


def rich(error):
    trailers = dict(error.trailing_metadata())
    status = status_pb2.Status.FromString(trailers["grpc-status-details-bin"])
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    return status, info


class TestCall:
    async def test_echoes_on_both_listeners_with_the_trust_of_each(self):
        router = router_with()
        async with doors(router) as channels:
            for channel in channels:
                response = await serving_pb2_grpc.ServingServiceStub(channel).Call(call_request())
                assert response.payload.data == b"[[1]]"
                assert response.payload.content_type == "application/json"
        assert [call.trust for call in router.calls] == [Trust.OWNER, Trust.UNTRUSTED]

    async def test_target_becomes_the_header(self):
        router = router_with()
        async with stub(router) as serving:
            response = await serving.Call(
                call_request(
                    application="default",
                    deployment="Echo",
                    method="predict",
                    multiplexed_model_id="m",
                    session_id="s",
                    shard_key="k",
                    request_id="r",
                    accept="application/msgpack",
                    idempotent=True,
                ),
                timeout=30,
            )
        assert response.payload.content_type == "application/msgpack"
        header = router.calls[0].header
        assert 0 < header.timeout_us <= 31_000_000  # gRPC rounds timeouts up
        header.timeout_us = 0
        assert header == session_pb2.CallHeader(
            application="default",
            deployment="Echo",
            method="predict",
            request_serialization=session_pb2.SERIALIZATION_JSON,
            response_serialization=session_pb2.SERIALIZATION_MSGPACK,
            multiplexed_model_id="m",
            session_id="s",
            shard_key="k",
            request_id="r",
            idempotent=True,
        )

    @pytest.mark.parametrize(
        ("target_id", "metadata", "expected"),
        [("chosen", (), "chosen"), ("", (("x-request-id", "from-metadata"),), "from-metadata"), ("", (), "made-1")],
    )
    async def test_request_id_is_echoed(self, target_id, metadata, expected):
        async with stub(router_with()) as serving:
            call = serving.Call(call_request(request_id=target_id), metadata=metadata)
            assert dict(await call.trailing_metadata())["x-request-id"] == expected
            await call

    async def test_large_payloads_pass_whole(self):
        data = os.urandom(3 * LIMIT)

        async def in_pieces(call):
            for start in range(0, len(data), LIMIT):
                call.message(data[start : start + LIMIT], more=True)
            assert call.credit == INITIAL_CREDIT  # pieces are paid back at once
            call.end(None, b"end")

        router = router_with(in_pieces)
        async with stub(router) as serving:
            response = await serving.Call(call_request(data))
        assert router.calls[0].payload == data
        assert response.payload.data == data + b"end"

    async def test_client_cancel_reaches_the_call(self):
        router = router_with(lambda call: None)
        async with stub(router) as serving:
            call = serving.Call(call_request())
            await asyncio.wait_for(router.called.wait(), 60)
            call.cancel()
            await asyncio.wait_for(router.calls[0].cancelled.wait(), 60)

    async def test_deadline(self):
        router = router_with(lambda call: None)
        async with stub(router) as serving:
            for time_s in (0.05, 1, 10):  # a busy machine may not have begun the call in time
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await serving.Call(call_request(), timeout=time_s)
                assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
                if router.calls:
                    break
            await asyncio.wait_for(_until(lambda: router.calls[0].done), 60)

    async def test_no_result_is_an_error(self):
        async with stub(router_with(lambda call: call.end(None, None))) as serving:
            with pytest.raises(grpc.aio.AioRpcError, match="without a result"):
                await serving.Call(call_request())


async def _until(condition):
    while not condition():
        await asyncio.sleep(0)


class TestErrors:
    async def failed(self, behave=None, request=None, **arguments):
        async with stub(router_with(behave)) as serving:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await serving.Call(request or call_request(**arguments))
        return caught.value

    async def test_backpressure_has_code_details_and_request_id(self):
        error = await self.failed(lambda call: call.end(BackPressureError(3, 2)), request_id="mine")
        status, info = rich(error)
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert error.details().startswith("Request dropped due to backpressure")
        assert status.message == error.details()
        assert (info.domain, info.reason) == ("fairlead", "QUEUE_FULL")
        assert info.metadata["max_queued_requests"] == "2"
        assert dict(error.trailing_metadata())["x-request-id"] == "mine"

    async def test_unknown_application_fails_before_start_returns(self):
        error = await self.failed(application="nope")
        assert error.code() is grpc.StatusCode.NOT_FOUND
        assert "default" in error.details()

    async def test_user_exception_shows_its_text_and_no_more(self):
        error = await self.failed(lambda call: call.end(ValueError("bad input")))
        assert error.code() is grpc.StatusCode.INTERNAL
        assert error.details() == "ValueError: bad input"
        assert not any(b"secret.py" in _bytes(value) for _, value in error.trailing_metadata())

    async def test_long_messages_are_cut_to_what_trailers_can_carry(self):
        for text in ("x" * 100_000, "ü" * 100_000, "%\n" * 50_000):
            error = await self.failed(lambda call, text=text: call.end(DeploymentUnavailableError(text)))
            assert error.code() is grpc.StatusCode.UNAVAILABLE
            assert error.details()[:20] == text[:20]
            assert len(error.details().encode()) <= 4096
            status, info = rich(error)
            assert status.message == error.details()
            assert info.reason == "DEPLOYMENT_UNAVAILABLE"

    async def test_unknown_media_type_names_those_that_work(self):
        error = await self.failed(content_type="text/csv")
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "application/json" in error.details()

    async def test_request_id_that_cannot_travel_is_refused(self):
        error = await self.failed(request_id="a\nb")
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT

    async def test_bytes_that_are_no_message(self):
        async with doors(router_with()) as (_, tcp):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await tcp.unary_unary("/fairlead.v1.ServingService/Call")(b"\xff\xff\xff")
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert rich(caught.value)[1].reason == "INVALID_CALL"

    async def test_defect_of_ours_is_internal_and_says_nothing(self, caplog):
        def broken(call):
            raise RuntimeError("secret detail")

        error = await self.failed(broken)
        assert error.code() is grpc.StatusCode.INTERNAL
        assert "secret" not in error.details()
        assert "secret detail" in caplog.text

    async def test_message_above_the_limit_and_the_connection_lives(self):
        router = router_with()
        async with stub(router, GrpcLimits(max_message_bytes=LIMIT)) as serving:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await serving.Call(call_request(b"x" * (LIMIT + 1)))
            assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert (await serving.Call(call_request())).payload.data == b"[[1]]"
        assert len(router.calls) == 1

    async def test_result_above_the_limit_and_the_connection_lives(self):
        def much(call):
            for _ in range(9):
                call.message(bytes(128 * 1024), more=True)

        router = router_with(much)
        async with stub(router, GrpcLimits(max_message_bytes=LIMIT)) as serving:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await serving.Call(call_request())
            assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert router.calls[0].cancelled.is_set()
            router.behave = lambda call: call.end(None, b"ok")
            assert (await serving.Call(call_request())).payload.data == b"ok"


class Canary:
    """Unpickling it leaves a trace."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (self.path, "w"))


class TestTrust:
    @pytest.mark.parametrize("media_type", ["application/vnd.fairlead.cloudpickle", "application/vnd.fairlead.pickle"])
    async def test_pickles_are_refused_over_tcp_before_a_byte_is_unpickled(self, tmp_path, media_type):
        canary = tmp_path / "sung"
        payload = pickle.dumps(([Canary(str(canary))], {}))

        def unpickle(call):
            arguments(call)[0][0].close()
            call.end(None, b"null")

        router = router_with(unpickle)
        async with doors(router) as (over_unix, over_tcp):
            tcp = serving_pb2_grpc.ServingServiceStub(over_tcp)
            attempts = [
                tcp.Call(call_request(payload, media_type)),
                tcp.Call(call_request(b"[[1]]", accept=media_type)),
                _drain(tcp.CallStream(_with_type(stream_request(payload), media_type))),
                _drain(tcp.Broadcast(_with_type(serving_pb2.BroadcastRequest(), media_type))),
                _drain(tcp.CallBidi(iter([_with_type(serving_pb2.CallBidiRequest(), media_type)]))),
            ]
            for attempt in attempts:
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await attempt
                assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
                assert "msgpack" in caught.value.details()
            assert router.calls == []
            assert not canary.exists()
            await serving_pb2_grpc.ServingServiceStub(over_unix).Call(
                call_request(payload, media_type, accept="application/json")
            )
            assert canary.exists()


async def _drain(call):
    return [item async for item in call]


def _with_type(request, media_type):
    request.payload.content_type = media_type
    return request


def _bytes(value):
    return value if isinstance(value, bytes) else value.encode()


class TestCallStream:
    async def test_items_then_end(self):
        async def three(call):
            for n in range(3):
                await call.stream(orjson.dumps(n))
            call.end()

        router = router_with(three)
        async with stub(router) as serving:
            call = serving.CallStream(stream_request())
            items = [(item.payload.content_type, item.payload.data) for item in await _drain(call)]
            assert items == [("application/json", b"%d" % n) for n in range(3)]
            assert dict(await call.initial_metadata())["x-request-id"] == "made-1"
        assert router.calls[0].header.stream

    async def test_error_after_items(self):
        async def fails(call):
            await call.stream(b"1")
            call.end(ValueError("later"))

        async with stub(router_with(fails)) as serving:
            call = serving.CallStream(stream_request())
            assert (await call.read()).payload.data == b"1"
            with pytest.raises(grpc.aio.AioRpcError, match="later"):
                await call.read()

    async def test_empty_stream(self):
        async with stub(router_with(lambda call: call.end())) as serving:
            call = serving.CallStream(stream_request())
            assert await _drain(call) == []
            assert dict(await call.initial_metadata())["x-request-id"] == "made-1"

    async def test_last_item_may_come_with_the_end(self):
        async with stub(router_with(lambda call: call.end(None, b"1"))) as serving:
            assert [item.payload.data for item in await _drain(serving.CallStream(stream_request()))] == [b"1"]

    async def test_reader_that_stops_stops_the_sender(self):
        sent = 0
        blocked = asyncio.Event()

        async def endless(call):
            nonlocal sent
            while not call.done:
                if call.credit <= 0:
                    blocked.set()
                await call.stream(bytes(16 * 1024))
                sent += 1
                await asyncio.sleep(0)

        router = router_with(endless)
        async with stub(router) as serving:
            call = serving.CallStream(stream_request())
            await call.read()
            await asyncio.wait_for(blocked.wait(), 60)
            before = sent
            assert before < 2000  # transport buffers and the credit, not everything
            for _ in range(before + 10):
                assert await call.read() is not grpc.aio.EOF
            assert sent > before
            call.cancel()
            await asyncio.wait_for(router.calls[0].cancelled.wait(), 60)

    async def test_cancel_while_waiting_for_the_first_item(self):
        router = router_with(lambda call: None)
        async with stub(router) as serving:
            call = serving.CallStream(stream_request())
            await asyncio.wait_for(router.called.wait(), 60)
            call.cancel()
            await asyncio.wait_for(router.calls[0].cancelled.wait(), 60)


class TestCallBidi:
    def first(self, **target):
        return serving_pb2.CallBidiRequest(target=serving_pb2.Target(**target))

    def item(self, data):
        request = serving_pb2.CallBidiRequest()
        request.payload.data = data
        return request

    async def echo(self, call):
        while True:
            await call.arrived.wait()
            call.arrived.clear()
            while call.sent:
                await call.stream(call.sent.pop(0))
            if call.half_closed.is_set():
                call.end()
                return

    async def test_ping_pong(self):
        router = router_with(self.echo)
        async with stub(router) as serving:
            call = serving.CallBidi()
            await call.write(self.first(method="chat"))
            for n in range(5):
                await call.write(self.item(b"%d" % n))
                assert (await call.read()).payload.data == b"%d" % n
            await call.done_writing()
            assert await call.read() is grpc.aio.EOF
        assert router.calls[0].header.method == "chat"

    async def test_callee_may_end_first(self):
        async with stub(router_with(lambda call: call.end(None, b"done"))) as serving:
            call = serving.CallBidi()
            await call.write(self.first())
            assert (await call.read()).payload.data == b"done"
            assert await call.read() is grpc.aio.EOF

    async def test_no_message_at_all(self):
        async with stub(router_with()) as serving:
            call = serving.CallBidi()
            await call.done_writing()
            with pytest.raises(grpc.aio.AioRpcError, match="first message"):
                await call.read()

    async def test_second_target_or_other_content_type_is_refused(self):
        router = router_with(self.echo)
        async with stub(router) as serving:
            for wrong in (self.first(method="x"), _with_type(self.item(b"1"), "application/msgpack")):
                call = serving.CallBidi()
                await call.write(self.first())
                await call.write(wrong)
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await call.read()
                assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert all(call.cancelled.is_set() for call in router.calls)

    async def test_caller_is_held_while_the_callee_does_not_take(self):
        def refuse(call):
            call.accepts = False

        router = router_with(refuse)
        async with stub(router) as serving:
            call = serving.CallBidi()
            await call.write(self.first())
            await call.write(self.item(b"1"))
            await call.write(self.item(b"2"))
            await asyncio.wait_for(router.called.wait(), 60)
            upstream = router.calls[0]
            await asyncio.wait_for(upstream.arrived.wait(), 60)
            upstream.arrived.clear()
            assert upstream.sent == [b"1"]
            upstream.downstream.on_writable()
            await asyncio.wait_for(upstream.arrived.wait(), 60)
            assert upstream.sent == [b"1", b"2"]
            call.cancel()
            await asyncio.wait_for(upstream.cancelled.wait(), 60)


class TestBroadcast:
    async def test_messages_pass_through(self):
        answers = [
            serving_pb2.BroadcastResponse(replicas=serving_pb2.ReplicaSet(replica_ids=["a", "b"])),
            serving_pb2.BroadcastResponse(result=serving_pb2.ReplicaResult(replica_id="a")),
        ]

        def behave(call):
            for answer in answers:
                call.message(answer.SerializeToString())  # the real one does so before start() returns
            call.end()

        router = router_with(behave)
        async with stub(router) as serving:
            assert await _drain(serving.Broadcast(serving_pb2.BroadcastRequest())) == answers
        assert router.calls[0].header.broadcast
