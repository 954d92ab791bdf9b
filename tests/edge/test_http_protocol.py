"""Which requests the HTTP door takes what comes over a socket for: who they are for, where they end, what they ask."""

from __future__ import annotations

import asyncio

import pytest

from fairlead.v1 import http_pb2
from tests.edge.test_http import open_raw
from tests.edge.test_http_bad_input import CHUNKED, GET, served


@pytest.mark.parametrize("upgrade", [b"", b"connection: upgrade\r\nupgrade: websocket\r\n"])
@pytest.mark.parametrize("hosts", [b"", b"host: x\r\nhost: x\r\n", b"Host: x\r\na: b\r\nHOST: y\r\n"])
async def test_one_host_is_asked_for(hosts: bytes, upgrade: bytes) -> None:
    async with served() as door:
        status, body = await door.refused(b"GET / HTTP/1.1\r\n%b%b\r\n" % (hosts, upgrade))
        assert (status, body["code"], body["message"]) == (400, 3, "The request must have one Host field.")
        assert door.router.calls == []


SMUGGLED = b"GET /smuggled HTTP/1.1\r\nhost: x\r\n\r\n"
UPGRADE = b"POST / HTTP/1.1\r\nhost: x\r\nconnection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AA\r\n"


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize(
    "rest",
    [
        b"content-length: %d\r\n\r\n" % len(SMUGGLED) + SMUGGLED,
        b"transfer-encoding: chunked\r\n\r\n%x\r\n" % len(SMUGGLED) + SMUGGLED + b"\r\n0\r\n\r\n",
    ],
)
async def test_a_request_for_another_protocol_keeps_its_body(rest: bytes, at_once: bool) -> None:
    """Java's client asks for HTTP/2 like that, and so does ``curl --http2``."""
    async with served() as door:
        reader, writer = await open_raw(door.address)
        if at_once:
            writer.write(UPGRADE + rest + UPGRADE + b"\r\n" + GET)
        else:
            for piece in (UPGRADE + rest[:-70], rest[-70:-40], rest[-40:] + UPGRADE, b"\r\n" + GET):
                writer.write(piece)
                await asyncio.sleep(0.01)
        for body in (SMUGGLED, b"", b""):
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 60)
            assert head.startswith(b"HTTP/1.1 200 ")
            assert await asyncio.wait_for(reader.readexactly(len(body)), 60) == body
        writer.close()
        assert len(door.router.calls) == 3


async def test_requests_for_a_tunnel_are_refused() -> None:
    async with served() as door:
        assert (await door.refused(b"CONNECT x:1 HTTP/1.1\r\nhost: x:1\r\n\r\n"))[0] == 400
        assert (await door.refused(b"CONNECT / HTTP/1.1\r\nhost: x:1\r\n\r\n"))[0] == 400


async def test_trailers_are_no_header_fields() -> None:
    async with served() as door:
        data = CHUNKED + b"1\r\na\r\n0\r\nx-own: 1\r\nx-request-id: mine\r\nhost: y\r\n\r\n" + GET
        reader, writer = await open_raw(door.address)
        writer.write(data)
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 60)
        assert (head[:13], b"x-request-id: mine" in head) == (b"HTTP/1.1 200 ", False)
        assert (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 60)).startswith(b"a" + b"HTTP/1.1 200 ")
        writer.close()
        requests = [http_pb2.HttpRequest.FromString(call.payload) for call in door.router.calls]
        assert [[field.name for field in request.headers] for request in requests] == [
            [b"host", b"transfer-encoding"],
            [b"host"],
        ]


async def test_what_is_older_than_the_host_field_needs_none() -> None:
    async with served() as door:
        assert (await door.said(b"GET / HTTP/1.0\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
        assert (await door.refused(b"GET / HTTP/1.0\r\nhost: x\r\nhost: x\r\n\r\n"))[0] == 400
