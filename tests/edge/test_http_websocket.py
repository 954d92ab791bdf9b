"""WebSockets at the HTTP door: a real client, a fake router."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import ssl
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from fairlead.v1 import http_pb2
from fairlead.wire.errors import (
    BackPressureError,
    InvalidCallError,
    MessageTooLargeError,
    ReplicaUnavailableError,
    RequestCancelledError,
    UserExceptionError,
)
from fairlead.wire.stream import INITIAL_CREDIT
from fairlead_gateway.edge.binding import TcpListener
from fairlead_gateway.edge.http_door import HttpDoor
from fairlead_gateway.edge.http_limits import HttpLimits
from tests.edge.fake_router import FakeCall, FakeRouter, application
from tests.edge.test_http import open_raw, pki, tls

__all__ = ["pki"]  # a fixture


@contextlib.asynccontextmanager
async def served(behave: Any, *, limits: HttpLimits | None = None, listener: TcpListener | None = None, prefix="/"):
    router = FakeRouter(behave)
    router.deploy(application("app", route_prefix=prefix))
    door = HttpDoor(router, listener or TcpListener(), limits=limits)
    address = await door.start()
    try:
        yield f"ws://{address}", router
    finally:
        await door.stop(1)


def say(call: FakeCall, **content: Any) -> None:
    call.message(http_pb2.WebSocketMessage(**content).SerializeToString())


def accept(call: FakeCall, subprotocol: str = "", **headers: str) -> None:
    fields = [http_pb2.HttpHeader(name=name.encode(), value=value.encode()) for name, value in headers.items()]
    say(call, accept=http_pb2.WebSocketAccept(subprotocol=subprotocol, headers=fields))


def close(call: FakeCall, code: int = 1000, reason: str = "") -> None:
    say(call, close=http_pb2.WebSocketClose(code=code, reason=reason))


async def heard(call: FakeCall, count: int) -> list[http_pb2.WebSocketMessage]:
    while len(call.sent) < count:
        call.arrived.clear()
        await asyncio.wait_for(call.arrived.wait(), 60)
    return [http_pb2.WebSocketMessage.FromString(payload) for payload in call.sent]


async def closing(socket: Any) -> tuple[int, str]:
    with pytest.raises(ConnectionClosed):
        await asyncio.wait_for(socket.recv(), 60)
    return socket.close_code, socket.close_reason


async def test_the_handshake() -> None:
    async with served(lambda call: accept(call, "b", xkind="v"), prefix="/app") as (url, router):
        headers = {"x-own": "1", "x-session-id": "s"}
        async with connect(f"{url}/app/x%20y?a=1", subprotocols=["a", "b"], additional_headers=headers) as socket:
            assert socket.subprotocol == "b"
            assert socket.response.headers["xkind"] == "v"
            assert socket.response.headers["x-request-id"] == "made-1"
            call = router.calls[0]
            request = http_pb2.HttpRequest.FromString(call.payload)
            assert request.websocket
            assert (request.method, request.path, request.query_string) == ("GET", "/app/x y", b"a=1")
            assert (request.root_path, request.scheme) == ("/app", "ws")
            assert (b"x-own", b"1") in [(field.name, field.value) for field in request.headers]
            assert (call.header.session_id, call.header.application, call.header.stream) == ("s", "app", True)
            assert not call.half_closed.is_set()


async def test_messages_both_ways() -> None:
    async def behave(call: FakeCall) -> None:
        accept(call)
        await heard(call, 2)
        text, data = await heard(call, 2)
        say(call, text=text.text)
        say(call, data=data.data)
        close(call, 4001, "enough")
        call.end()

    async with served(behave) as (url, _), connect(url) as socket:
        await socket.send("grüße")
        await socket.send(b"\xff\0")
        assert await socket.recv() == "grüße"
        assert await socket.recv() == b"\xff\0"
        assert await closing(socket) == (4001, "enough")


async def test_a_malformed_timeout_is_refused() -> None:
    async with served(accept) as (url, router):
        with pytest.raises(InvalidStatus) as refused:
            async with connect(url, additional_headers={"grpc-timeout": "soon"}):
                pass
        assert refused.value.response.status_code == 400
        assert not router.calls


async def test_over_tls(pki: Path) -> None:
    listener = TcpListener(tls=tls(pki), token="t0k")
    context = ssl.create_default_context(cafile=str(pki / "ca.pem"))
    async with served(accept, listener=listener) as (url, router):
        secure = url.replace("ws:", "wss:")
        async with connect(secure, ssl=context, additional_headers={"authorization": "Bearer t0k"}) as socket:
            await socket.send("one")
            (message,) = await heard(router.calls[0], 1)
            assert message.text == "one"
        assert http_pb2.HttpRequest.FromString(router.calls[0].payload).scheme == "wss"


async def test_the_client_closes() -> None:
    async def behave(call: FakeCall) -> None:
        accept(call)
        await call.half_closed.wait()
        say(call, text="dropped")
        call.end()

    async with served(behave) as (url, router):
        async with connect(url) as socket:
            await socket.close(3000, "bye")
        call = router.calls[0]
        (message,) = await heard(call, 1)
        assert (message.close.code, message.close.reason) == (3000, "bye")
        assert not call.cancelled.is_set(), "the handler ended by itself"


async def test_a_client_that_vanishes_and_a_handler_that_stays() -> None:
    async with served(accept, limits=HttpLimits(websocket_farewell_s=0.01)) as (url, router):
        async with connect(url) as socket:
            socket.transport.abort()
        await asyncio.wait_for(router.calls[0].cancelled.wait(), 60)
        (message,) = await heard(router.calls[0], 1)
        assert message.close.code in (0, 1006)


async def test_a_client_that_vanishes_while_the_replica_takes_nothing() -> None:
    def behave(call: FakeCall) -> None:
        call.accepts = False
        accept(call)

    async with served(behave, limits=HttpLimits(websocket_farewell_s=0.01)) as (url, router):
        async with connect(url) as socket:
            await socket.send("one")
            await heard(router.calls[0], 1)
            socket.transport.abort()
        await asyncio.wait_for(router.calls[0].cancelled.wait(), 60)


async def refusal(url: str, **options: Any) -> Any:
    with pytest.raises(InvalidStatus) as refused:
        await connect(url, **options)
    return refused.value.response


@pytest.mark.parametrize(
    ("behave", "status", "code", "message"),
    [
        (close, 403, 7, "The WebSocket was refused."),
        (lambda call: call.end(BackPressureError(1, 1)), 503, 8, "Request dropped due to backpressure"),
        (lambda call: call.end(InvalidCallError("no WebSockets here")), 400, 3, "no WebSockets here"),
        (lambda call: call.end(UserExceptionError("secret")), 500, 13, "Internal Server Error"),
        (lambda call: call.end(), 500, 13, "the call ended without an answer"),
        (lambda call: call.message(b"\xff"), 500, 13, "Internal Server Error"),
        (lambda call: say(call, text="early"), 500, 13, "Internal Server Error"),
    ],
)
async def test_refusals(behave: Any, status: int, code: int, message: str) -> None:
    async with served(behave) as (url, _):
        response = await refusal(url)
        assert (response.status_code, response.headers["content-type"]) == (status, "application/json")
        body = json.loads(response.body)
        assert body["code"] == code
        assert body["message"].startswith(message)
        assert b"secret" not in response.body


async def test_a_refusal_with_a_response_of_the_handlers() -> None:
    def behave(call: FakeCall) -> None:
        field = http_pb2.HttpHeader(name=b"x-tea", value=b"green")
        say(call, response=http_pb2.HttpResponse(status=418, headers=[field], body=b"tea"))
        say(call, response=http_pb2.HttpResponse(body=b"pot", complete=True))
        call.end()

    async with served(behave) as (url, _):
        response = await refusal(url)
        assert (response.status_code, response.headers["x-tea"], response.body) == (418, "green", b"teapot")


async def test_paths_that_lead_nowhere() -> None:
    async with served(accept, prefix="/app") as (url, router):
        assert (await refusal(f"{url}/elsewhere")).status_code == 404
        assert (await refusal(f"{url}/app/%zz")).status_code == 400
        assert (await refusal(f"{url}/-/healthz")).status_code == 404
    assert router.calls == []


async def pieces(count: int) -> Any:
    for number in range(count):
        yield bytes([number % 100])


@pytest.mark.parametrize("count", [2, 64, 65, 66, 1000])
async def test_messages_in_fragments(count: int) -> None:
    async with served(accept) as (url, router), connect(url) as socket:
        await socket.send(pieces(count))
        await socket.send("whole")
        data, text = await heard(router.calls[0], 2)
        assert data.data == bytes(number % 100 for number in range(count))
        assert text.text == "whole"


async def test_what_is_incomplete_is_bounded_together() -> None:
    limits = HttpLimits(max_incoming_bytes=100_000, websocket_farewell_s=0.01)
    router = FakeRouter(accept)
    router.deploy(application())
    door = HttpDoor(router, TcpListener(), limits=limits)
    address = await door.start()
    incoming = door._server.config.incoming
    begun, rest = bytes(60_000), asyncio.Event()

    async def halves() -> Any:
        yield begun
        await rest.wait()
        yield begun

    async with connect(f"ws://{address}") as one:
        sending = asyncio.ensure_future(one.send(halves()))
        while incoming.held != 60_000:
            await asyncio.sleep(0.005)
        async with connect(f"ws://{address}") as other:
            too_much = asyncio.ensure_future(other.send(halves()))
            assert (await closing(other))[0] == 1013
            too_much.cancel()
        while incoming.held != 60_000:
            await asyncio.sleep(0.005)
        incoming.held -= 20_001  # there is room for the rest
        rest.set()
        await sending
        (message,) = await heard(router.calls[0], 1)
        assert len(message.data) == 120_000
        incoming.held += 20_001
        assert incoming.held == 0
    await door.stop(1)


async def test_compression_is_declined() -> None:
    async with served(accept) as (url, _), connect(url, compression="deflate") as socket:
        assert "sec-websocket-extensions" not in socket.response.headers


async def test_the_token() -> None:
    listener = TcpListener(token="t0k")
    async with served(accept, listener=listener) as (url, router):
        response = await refusal(url)
        assert (response.status_code, response.headers["www-authenticate"]) == (401, "Bearer")
        assert (await refusal(url, additional_headers={"authorization": "Bearer x"})).status_code == 401
        assert router.calls == []
        async with connect(url, additional_headers={"authorization": "Bearer t0k"}):
            assert len(router.calls) == 1


async def test_the_handshake_has_a_time_and_the_websocket_none() -> None:
    async with served(lambda call: None, limits=HttpLimits(request_timeout_s=0.05)) as (url, router):
        assert (await refusal(url)).status_code == 408
        assert router.calls[0].cancelled.is_set()
        assert router.calls[0].header.timeout_us == 0


async def test_a_message_above_the_limit() -> None:
    async with served(accept, limits=HttpLimits(max_websocket_message_bytes=1000)) as (url, router):
        async with connect(url) as socket:
            await socket.send(bytes(1000))
            await heard(router.calls[0], 1)
            await socket.send(bytes(1001))
            assert (await closing(socket))[0] == 1009
        messages = await heard(router.calls[0], 2)
        assert len(messages[0].data) == 1000
        assert messages[1].close.code == 1009


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UserExceptionError("secret"), 1011),
        (ReplicaUnavailableError("gone"), 1012),
        (RequestCancelledError("drained"), 1012),
        (MessageTooLargeError("x"), 1009),
    ],
)
async def test_a_handler_that_fails(error: BaseException, code: int) -> None:
    async def behave(call: FakeCall) -> None:
        accept(call)
        await heard(call, 1)
        call.end(error)

    async with served(behave) as (url, _), connect(url) as socket:
        await socket.send("go")
        assert await closing(socket) == (code, "")


async def test_a_slow_replica_stops_the_client() -> None:
    def behave(call: FakeCall) -> None:
        call.accepts = False
        accept(call)

    sent = 0

    async def send(socket: Any) -> None:
        nonlocal sent
        while True:
            await socket.send(bytes(100_000))
            sent += 1

    async with served(behave, limits=HttpLimits(websocket_farewell_s=0.01)) as (url, router):
        socket = await connect(url)
        sending = asyncio.ensure_future(send(socket))
        call = router.calls[0]
        await heard(call, 1)
        seen = -1
        while seen != sent:
            seen = sent
            await asyncio.sleep(0.05)
        assert len(call.sent) == 1, "the next one waits until the replica takes it"
        call.accepts = True
        call.downstream.on_writable()
        await heard(call, 3)
        sending.cancel()
        socket.transport.abort()


async def test_a_slow_client_stops_the_replica_and_is_given_up() -> None:
    sent = 0

    async def behave(call: FakeCall) -> None:
        nonlocal sent
        accept(call)
        while not call.done:
            await call.stream(http_pb2.WebSocketMessage(data=bytes(50_000)).SerializeToString())
            sent += 1

    limits = HttpLimits(write_timeout_s=0.2, websocket_farewell_s=0.01)
    async with served(behave, limits=limits) as (url, router):
        _, writer = await open_raw(url.removeprefix("ws://"))
        writer.transport.pause_reading()
        writer.write(
            b"GET / HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
            b"sec-websocket-key: x3JJHMbDL1EzLkh9GBhXDw==\r\nsec-websocket-version: 13\r\n\r\n"
        )
        await asyncio.wait_for(router.called.wait(), 60)
        await asyncio.wait_for(router.calls[0].cancelled.wait(), 60)
        assert router.calls[0].credit <= INITIAL_CREDIT
        writer.close()


async def test_the_door_closes_them_when_it_ends() -> None:
    router = FakeRouter(accept)
    router.deploy(application())
    door = HttpDoor(router, TcpListener(), limits=HttpLimits(websocket_farewell_s=0.01))
    async with connect(f"ws://{await door.start()}") as socket:
        stopping = asyncio.ensure_future(door.stop(1))
        assert (await closing(socket))[0] == 1012
        await asyncio.wait_for(stopping, 60)


KEY = b"sec-websocket-key: x3JJHMbDL1EzLkh9GBhXDw==\r\n"
VERSION = b"sec-websocket-version: 13\r\n"
UPGRADE = b"host: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n"


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET / HTTP/1.1\r\n" + UPGRADE + VERSION + b"\r\n", 400),
        (b"GET / HTTP/1.1\r\n" + UPGRADE + VERSION + b"sec-websocket-key: x\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n" + UPGRADE + KEY + b"sec-websocket-version: 12\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\n" + UPGRADE + KEY + VERSION + b"\r\n", 405),
        (b"GET / HTTP/1.1\r\n" + UPGRADE + KEY + VERSION + b"content-length: 2\r\n\r\nab", 400),
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n" + UPGRADE + KEY + VERSION + b"\r\n", 414),
        (b"GET / HTTP/1.1\r\n" + UPGRADE + KEY + VERSION + b"a: b\r\n" * 200 + b"\r\n", 431),
        (b"GET / HTTP/1.1\r\n" + UPGRADE + KEY + VERSION + b"content-length: 2\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n" + UPGRADE + KEY + VERSION + b"transfer-encoding: chunked\r\n\r\n", 400),
    ],
)
async def test_a_handshake_that_is_none(data: bytes, status: int) -> None:
    async with served(accept) as (url, router):
        reader, writer = await open_raw(url.removeprefix("ws://"))
        writer.write(data)
        head, _, body = (await asyncio.wait_for(reader.read(), 60)).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 %d " % status)
        assert b"content-type: application/json" in head.lower().split(b"\r\n")
        assert json.loads(body).keys() == {"code", "message", "details"}
        writer.close()
        assert router.calls == []


async def test_a_websocket_outlives_the_time_for_its_head() -> None:
    async with served(accept, limits=HttpLimits(head_timeout_s=0.05)) as (url, router), connect(url) as socket:
        await asyncio.sleep(0.1)
        await socket.send("still here")
        assert (await heard(router.calls[0], 1))[0].text == "still here"


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (b"\x81\x05hello", 1002),
        (b"\xf1\x80abcd", 1002),
        (b"\x83\x80abcd", 1002),
        (b"\x80\x80abcd", 1002),
        (b"\x88\x81abcdx", 1002),
        (b"\x81\x82\0\0\0\0\xff\xff", 1007),
        (b"\x81\xff\xff\xff\xff\xff\xff\xff\xff\xffabcd", 1009),
    ],
)
async def test_frames_that_are_none(frame: bytes, code: int, caplog: pytest.LogCaptureFixture) -> None:
    async with served(accept, limits=HttpLimits(websocket_farewell_s=0.01)) as (url, router):
        reader, writer = await open_raw(url.removeprefix("ws://"))
        writer.write(b"GET / HTTP/1.1\r\n" + UPGRADE + KEY + VERSION + b"\r\n")
        await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 60)
        writer.write(frame)
        answer = await asyncio.wait_for(reader.read(), 60)
        assert (answer[:1], int.from_bytes(answer[2:4], "big")) == (b"\x88", code)
        writer.close()
        assert (await heard(router.calls[0], 1))[0].close.code == code
    assert [record.message for record in caplog.records if record.levelno > logging.INFO] == []
