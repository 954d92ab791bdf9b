"""What comes over sockets that is not what it should be: an answer in JSON or a closed connection, and others go on."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest

from fairlead.v1 import http_pb2
from fairlead_gateway.edge.binding import TcpListener
from fairlead_gateway.edge.http_door import HttpDoor
from fairlead_gateway.edge.http_limits import HttpLimits
from tests.edge.fake_router import FakeCall, FakeRouter, application
from tests.edge.test_http import echo, open_raw, response

GET = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"


class Served:
    """A door, and clients of it that say what they like."""

    def __init__(self, door: HttpDoor, router: FakeRouter, address: str) -> None:
        self.door = door
        self.router = router
        self.address = address

    async def said(self, data: bytes, *, end: bool = False) -> bytes:
        """All that the door answers until it closes the connection. ``end``: the client sends no more, and says so."""
        reader, writer = await open_raw(self.address)
        writer.write(data)
        if end:
            writer.write_eof()
        try:
            return await asyncio.wait_for(reader.read(), 60)
        finally:
            writer.close()

    async def refused(self, data: bytes) -> tuple[int, Any]:
        """The status and the JSON body of the one response with which the door closes the connection."""
        answer = await self.said(data)
        head, _, body = answer.partition(b"\r\n\r\n")
        fields = head.lower().split(b"\r\n")
        assert b"connection: close" in fields
        assert b"content-type: application/json" in fields
        assert b"content-length: %d" % len(body) in fields
        return int(head.split(b" ")[1]), json.loads(body)

    async def lives(self) -> None:
        """Others are served."""
        reader, writer = await open_raw(self.address)
        writer.write(b"GET /-/healthz HTTP/1.1\r\nhost: x\r\n\r\n")
        assert (await asyncio.wait_for(reader.readline(), 60)) == b"HTTP/1.1 200 OK\r\n"
        writer.close()


@contextlib.asynccontextmanager
async def served(behave: Any = echo, prefix: str = "/", **limits: Any) -> AsyncIterator[Served]:
    router = FakeRouter(behave)
    router.deploy(application(route_prefix=prefix))
    door = HttpDoor(router, TcpListener(), limits=HttpLimits(**limits))
    made = Served(door, router, await door.start())
    try:
        yield made
        await made.lives()
    finally:
        await door.stop(1)


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
        b"\x00\x00\x00\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\nno colon\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\nbad name: 1\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\na: b\x00c\r\n\r\n",
        b"GET /\xff\xfe HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET http://[ HTTP/1.1\r\nhost: x\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: +1\r\n\r\na",
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1x\r\n\r\na",
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999999999999999\r\n\r\na",
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\naa",
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\ncontent-length: 1\r\n\r\n1\r\na\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked, identity\r\n\r\n1\r\na\r\n0\r\n\r\n",
        CHUNKED + b"zz\r\na\r\n0\r\n\r\n",
        CHUNKED + b"ffffffffffffffffff\r\na\r\n0\r\n\r\n",
        CHUNKED + b"1\r\nab\r\n0\r\n\r\n",
    ],
)
async def test_what_is_no_http_is_400(data: bytes) -> None:
    async with served() as door:
        status, body = await door.refused(data)
        assert (status, body["code"], body["message"]) == (400, 3, "The request is not valid HTTP.")
        await until_no_calls_run(door)


async def test_who_sends_garbage_does_not_fill_the_log(caplog: pytest.LogCaptureFixture) -> None:
    async with served() as door:
        for data in (b"garbage\r\n\r\n", b"GET / HTTP/1.1\r\nhost: x\r\na: " + b"b" * 100_000):
            await door.refused(data)
        await door.said(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: upgrade, close\r\nupgrade: h2c\r\n\r\n", end=True)
    assert [record.message for record in caplog.records if record.levelno > logging.DEBUG] == []


async def until_no_calls_run(door: Served) -> None:
    for call in door.router.calls:
        if not call.done:
            await asyncio.wait_for(call.cancelled.wait(), 60)


@pytest.mark.parametrize("path", [b"/%", b"/%z", b"/%zz", b"/a%2", b"/%ff", b"/%c3%28", b"/%ed%a0%80"])
async def test_escapes_that_mean_nothing_are_400(path: bytes) -> None:
    async with served() as door:
        answer = await door.said(b"GET %b HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n" % path)
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 400 ")
        assert json.loads(body)["code"] == 3
        assert door.router.calls == []


async def test_a_target_that_is_no_path() -> None:
    async with served(prefix="/app") as door:
        answer = await door.said(b"OPTIONS * HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 404 ")
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["code"] == 5


async def test_a_content_length_that_is_too_short_makes_the_rest_garbage() -> None:
    async with served() as door:
        answer = await door.said(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\n\r\n{}!\r\n\r\n")
        assert answer.startswith((b"HTTP/1.1 200 ", b"")), "whatever was answered, the connection is closed"
        assert answer.count(b"HTTP/1.1 ") <= 2
        assert all(http_pb2.HttpRequest.FromString(call.payload).body == b"{" for call in door.router.calls)


async def test_a_content_length_that_is_too_long_is_408() -> None:
    async with served(body_timeout_s=0.05) as door:
        status, body = await door.refused(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nshort")
        assert (status, body["code"]) == (408, 4)
        assert door.router.calls == []


async def test_a_client_that_leaves_within_its_body() -> None:
    async with served() as door:
        reader, writer = await open_raw(door.address)
        writer.write(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nshort")
        await writer.drain()
        writer.close()
        assert await reader.read() == b""
        await door.lives()
        assert door.router.calls == []


async def dripping(door: Served, begin: bytes, drop: bytes) -> bytes:
    """What a client hears that sends a byte now and then, for as long as it is listened to."""
    reader, writer = await open_raw(door.address)
    writer.write(begin)

    async def drip() -> None:
        while True:
            writer.write(drop)
            await asyncio.sleep(0.01)

    dropping = asyncio.ensure_future(drip())
    try:
        return await asyncio.wait_for(reader.read(), 60)
    except ConnectionResetError:  # a drop came after the end
        return b""
    finally:
        dropping.cancel()
        writer.close()


@pytest.mark.parametrize(
    ("begin", "drop"),
    [
        (b"GET / HTTP/1.1\r\nhost: x\r\nx: ", b"x"),
        (b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 100000\r\n\r\n", b"x"),
        (CHUNKED, b"1\r\nx\r\n"),
        (CHUNKED + b"0\r\n", b"a: b\r\n"),
    ],
)
async def test_one_byte_at_a_time_is_bounded_in_time(begin: bytes, drop: bytes) -> None:
    async with served(head_timeout_s=0.1, body_timeout_s=0.1, min_body_rate=1e9) as door:
        answer = await dripping(door, begin, drop)
        assert answer.startswith(b"HTTP/1.1 408 ") or not answer
        assert door.router.calls == []


async def test_a_body_that_comes_fast_enough_may_take_its_time() -> None:
    async with served(body_timeout_s=0.01, min_body_rate=1.0) as door:
        reader, writer = await open_raw(door.address)
        writer.write(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 30\r\n\r\n" + bytes(20))
        (connection,) = door.door._server.server_state.connections
        while connection._body_timer is None or connection._body_timer.when() - connection._body._since < 20:
            await asyncio.sleep(0.005)
        writer.write(bytes(10))
        assert (await asyncio.wait_for(reader.readline(), 60)) == b"HTTP/1.1 200 OK\r\n"
        writer.close()


async def test_bodies_over_the_limit() -> None:
    async with served(max_body_bytes=1000) as door:
        for data in (
            b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1001\r\n\r\n",
            b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000000000\r\n\r\n" + bytes(2000),
            CHUNKED + b"3e9\r\n" + bytes(1001),
        ):
            assert (await door.refused(data))[0] == 413
        assert door.router.calls == []


async def test_many_bodies_at_once_are_bounded_together() -> None:
    async with served(max_incoming_bytes=100_000) as door:
        incoming = door.door._server.config.incoming
        head = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 60000\r\n\r\n"
        reader, writer = await open_raw(door.address)
        writer.write(head + bytes(50_000))
        while not 50_000 <= incoming.held < 60_000:
            await asyncio.sleep(0.005)
        assert (await door.refused(head + bytes(59_000)))[0] == 503
        while incoming.held > 60_000:
            await asyncio.sleep(0.005)
        writer.write(bytes(10_000))
        assert (await asyncio.wait_for(reader.readline(), 60)) == b"HTTP/1.1 200 OK\r\n"
        assert incoming.held == 0
        reader_, writer_ = await open_raw(door.address)
        writer_.write(head + bytes(50_000))
        while not incoming.held:
            await asyncio.sleep(0.005)
        writer_.close()
        assert await reader_.read() == b""
        while incoming.held:
            await asyncio.sleep(0.005)
        writer.close()


async def test_bodies_that_never_end_are_not_kept() -> None:
    async with served(max_body_bytes=1000) as door:
        reader, writer = await open_raw(door.address)
        writer.write(CHUNKED)
        with contextlib.suppress(ConnectionError):
            while not reader.at_eof() and not writer.transport.is_closing():
                writer.write(b"10000\r\n" + bytes(65536) + b"\r\n")
                await writer.drain()
                await asyncio.sleep(0)
        with contextlib.suppress(ConnectionError):
            assert (await asyncio.wait_for(reader.read(), 60))[:13] in (b"HTTP/1.1 413 ", b"")
        writer.close()


@pytest.mark.parametrize(
    "head",
    [
        b"GET /" + b"a" * 5000 + b" HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\na: " + b"b" * 5000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\n" + b"a: b\r\n" * 1000 + b"\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\n" + b"a" * 5000,
    ],
)
async def test_header_bombs(head: bytes) -> None:
    async with served(max_head_bytes=4096) as door:
        status, body = await door.refused(head)
        assert (status, body["code"]) == (431, 8)
        reader, writer = await open_raw(door.address)
        with contextlib.suppress(ConnectionError):  # the same in pieces
            for start in range(0, len(head), 500):
                writer.write(head[start : start + 500])
                await writer.drain()
            assert (await asyncio.wait_for(reader.read(), 60))[:13] in (b"HTTP/1.1 431 ", b"")
        writer.close()
        assert door.router.calls == []


@pytest.mark.parametrize("endless", [b"a: b\r\n" * 100, b"a" * 1000])
@pytest.mark.parametrize("path", [b"/app", b"/nowhere"])
async def test_trailers_that_never_end_are_not_kept(endless: bytes, path: bytes) -> None:
    async with served(prefix="/app", max_head_bytes=4096, max_body_bytes=10_000) as door:
        reader, writer = await open_raw(door.address)
        writer.write(b"POST %b HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n" % path)
        writer.write(b"3\r\nabc\r\n0\r\nt: ")
        with contextlib.suppress(ConnectionError):
            while not writer.transport.is_closing():
                writer.write(endless)
                await writer.drain()
                await asyncio.sleep(0)
                if reader.at_eof():
                    break
        with contextlib.suppress(ConnectionError):
            answer = await asyncio.wait_for(reader.read(), 60)
            assert answer[:13] in (b"HTTP/1.1 431 ", b"HTTP/1.1 404 ", b"")
        writer.close()
        assert door.router.calls == []


async def test_the_rest_of_a_body_that_was_answered_early_is_let_in() -> None:
    async with served(prefix="/app") as door:
        reader, writer = await open_raw(door.address)
        writer.write(b"POST /nowhere HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\n")
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 60)
        assert head.startswith(b"HTTP/1.1 404 ")
        await reader.readuntil(b'"details":[]}')
        for _ in range(10):
            writer.write(bytes(100_000))
            await writer.drain()
        writer.write(b"GET /app HTTP/1.1\r\nhost: x\r\n\r\n")
        assert (await asyncio.wait_for(reader.readline(), 60)) == b"HTTP/1.1 200 OK\r\n"
        writer.close()


async def test_a_head_just_below_the_limit_with_a_large_body() -> None:
    async with served(max_head_bytes=4096) as door:
        head = b"POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 50000\r\na: " + b"b" * 3900
        assert (await door.said(head + b"\r\n\r\n" + bytes(50_000))).startswith(b"HTTP/1.1 200 ")


async def test_a_client_that_stops_reading_is_given_up() -> None:
    produced = 0

    async def behave(call: FakeCall) -> None:
        nonlocal produced
        if http_pb2.HttpRequest.FromString(call.payload).query_string != b"endless":
            call.end(None, response())
        while not call.done:
            await call.stream(response(200 if not produced else 0, bytes(50_000)))
            produced += 1

    async with served(behave, write_timeout_s=0.2) as door:
        _, writer = await open_raw(door.address)
        writer.transport.pause_reading()
        writer.write(b"GET /?endless HTTP/1.1\r\nhost: x\r\n\r\n")
        await asyncio.wait_for(door.router.called.wait(), 60)
        await asyncio.wait_for(door.router.calls[0].cancelled.wait(), 60)
        writer.close()


async def test_one_that_stops_reading_a_whole_response_is_given_up() -> None:
    whole = response(body=bytes(20_000_000))
    async with served(lambda call: call.end(None, whole), write_timeout_s=0.2) as door:
        _, writer = await open_raw(door.address)
        writer.transport.pause_reading()
        writer.write(GET)
        await asyncio.wait_for(door.router.called.wait(), 60)
        connections = door.door._server.server_state.connections
        while connections:
            await asyncio.sleep(0.01)
        writer.close()


async def test_one_that_stops_reading_does_not_keep_a_closed_connection() -> None:
    headers = [(b"connection", b"close")]
    parts = iter([bytes(4_000_000)])

    def behave(call: FakeCall) -> None:
        call.end(None, response(body=next(parts, b""), more_headers=headers))

    async with served(behave, write_timeout_s=0.2) as door:
        _, writer = await open_raw(door.address)
        writer.transport.pause_reading()
        writer.write(b"GET / HTTP/1.0\r\n\r\n")
        await asyncio.wait_for(door.router.called.wait(), 60)
        while door.door._server.server_state.connections:
            await asyncio.sleep(0.01)
        writer.close()


async def test_pipelining_is_bounded() -> None:
    gate = asyncio.Event()

    async def behave(call: FakeCall) -> None:
        await gate.wait()
        call.end(None, response())

    async with served(behave, max_pipelined=10) as door:
        try:
            reader, writer = await open_raw(door.address)
            writer.write(GET * 11)
            await asyncio.wait_for(door.router.called.wait(), 60)
            (connection,) = door.door._server.server_state.connections
            assert len(connection.pipeline) == 10
            assert await door.said(GET * 12) == b"", "it is closed without an answer that could be taken for another"
        finally:
            gate.set()
        for _ in range(11):
            assert (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 60)).startswith(b"HTTP/1.1 200 ")
        writer.close()


async def test_garbage_behind_a_request_does_not_get_into_its_answer() -> None:
    gate = asyncio.Event()

    async def behave(call: FakeCall) -> None:
        if not gate.is_set():
            call.message(response(body=b"begun"))
            await call.cancelled.wait()
        else:
            call.end(None, response())

    async with served(behave) as door:
        reader, writer = await open_raw(door.address)
        writer.write(GET)
        await asyncio.wait_for(reader.readuntil(b"begun\r\n"), 60)
        writer.write(b"garbage \x00\r\n\r\n")
        assert await asyncio.wait_for(reader.read(), 60) == b""
        gate.set()
        writer.close()


async def test_a_body_that_waits_behind_another_request_is_not_late() -> None:
    gate = asyncio.Event()

    async def behave(call: FakeCall) -> None:
        await gate.wait()
        echo(call)

    async with served(behave, body_timeout_s=0.02, min_body_rate=1e9) as door:
        reader, writer = await open_raw(door.address)
        writer.write(GET)
        await asyncio.wait_for(door.router.called.wait(), 60)
        writer.write(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\n" + bytes(500_000))
        (connection,) = door.door._server.server_state.connections
        while not connection.flow.read_paused:
            await asyncio.sleep(0.005)
        began = connection._body._since
        while connection._body._since == began:  # the timer has looked, and found that it is the gateway that waits
            await asyncio.sleep(0.005)
        gate.set()
        writer.write(bytes(500_000))
        await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 60)
        assert b"content-length: 1000000\r\n" in await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 60)
        writer.close()
