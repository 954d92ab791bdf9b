"""Streams by Connect over real sockets, against a fake router."""

import asyncio
import gzip

import pytest
from google.rpc import status_pb2

from fairlead.v1 import session_pb2
from fairlead.wire.errors import InvalidArgumentsError
from fairlead_gateway.edge.http_limits import HttpLimits
from fairlead_gateway.edge.web.envelopes import COMPRESSED, envelope
from tests.edge.web.calls import SERVICE, connect_stream, door, text


async def test_initial_metadata_come_before_the_first_message_is_sent():
    async def behave(call):
        call.head(first=b"1", own_bin=b"\xff\0")
        while not call.half_closed.is_set():
            await call.arrived.wait()
            call.arrived.clear()
        for message in call.sent:
            await call.stream(message)
        call.end(InvalidArgumentsError("enough"))

    message = envelope(0, text("a"))
    async with door(behave) as (client, _):
        reader, writer = await asyncio.open_connection(client.base_url.host, client.base_url.port)
        head = f"POST /{SERVICE}/Chat HTTP/1.1\r\nhost: x\r\ncontent-type: application/connect+proto\r\n"
        writer.write(f"{head}content-length: {len(message)}\r\n\r\n".encode())
        answered = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 60)  # and nothing was sent yet
        writer.write(message)
        body = await asyncio.wait_for(reader.readuntil(b"\r\n0\r\n\r\n"), 60)
        writer.close()
    assert answered.startswith(b"HTTP/1.1 200 ")
    assert b"\r\nfirst: 1\r\n" in answered
    assert b"\r\nown-bin: /wA=\r\n" in answered
    assert message in body
    assert b'"message":"enough"' in body


async def test_server_stream():
    async def behave(call):
        for number in range(3):
            await call.stream(text(str(number)))
        call.done = True
        outcome = session_pb2.Outcome(
            status=status_pb2.Status(), trailing_metadata=[session_pb2.Metadata(key="last", value=b"2")]
        )
        call.downstream.on_end(outcome, None)

    async with door(behave) as (client, _):
        response, messages, end = await connect_stream(client, "Count", text("x"))
    assert response.headers["content-type"] == "application/connect+proto"
    assert messages == [(0, text(str(number))) for number in range(3)]
    assert end == {"metadata": {"last": ["2"]}}


async def test_streams_in_json():
    async def behave(call):
        await call.half_closed.wait()
        for part in call.sent:
            await call.stream(part)
        call.end(InvalidArgumentsError("enough"))

    async with door(behave) as (client, _):
        _, messages, end = await connect_stream(client, "Chat", b'{"text":"a"}', b"{}", codec="json")
    assert messages == [(0, b'{"text":"a"}'), (0, b"{}")]
    assert (end["error"]["code"], end["error"]["message"]) == ("invalid_argument", "enough")


async def test_client_stream():
    async def behave(call):
        await call.half_closed.wait()
        call.end(None, b"".join(call.sent))

    async with door(behave) as (client, _):
        response, messages, end = await connect_stream(client, "Join", text("a"), text("b"))
    assert response.headers["content-length"] == str(len(response.content))
    assert (messages, end) == ([(0, text("a") + text("b"))], {})


async def test_messages_pass_as_they_come_in_both_directions():
    async def behave(call):
        while not call.half_closed.is_set():
            await call.arrived.wait()
            call.arrived.clear()
            while call.sent:
                await call.stream(call.sent.pop(0))
                answered.set()
        call.end()

    async def body():
        yield envelope(0, text("a"))
        await answered.wait()  # the second is sent after the first was answered
        yield envelope(0, text("b"))

    answered = asyncio.Event()
    async with door(behave) as (client, _):
        headers = {"content-type": "application/connect+proto"}
        async with client.stream("POST", f"/{SERVICE}/Chat", content=body(), headers=headers) as response:
            content = b"".join([piece async for piece in response.aiter_raw()])
    assert content == envelope(0, text("a")) + envelope(0, text("b")) + envelope(2, b"{}")


async def test_a_stream_may_take_its_time_where_another_body_may_not():
    async def behave(call):
        await call.half_closed.wait()
        call.end(None, b"".join(call.sent))

    async def slow():
        yield envelope(0, text("a"))
        await late.wait()
        yield envelope(0, text("b"))

    late = asyncio.Event()
    limits = HttpLimits(body_timeout_s=0.02, min_body_rate=1e9)
    async with door(behave, limits=limits) as (client, router):
        headers = {"content-type": "application/connect+proto"}
        stream = asyncio.create_task(client.post(f"/{SERVICE}/Join", content=slow(), headers=headers))
        await router.called.wait()
        reader, writer = await asyncio.open_connection(client.base_url.host, client.base_url.port)
        head = (
            f"POST /{SERVICE}/Echo HTTP/1.1\r\nhost: x\r\ncontent-type: application/proto\r\ncontent-length: 2\r\n\r\n"
        )
        writer.write(head.encode() + b"a")
        refused = await asyncio.wait_for(reader.read(), 60)  # its time began later, and is over
        writer.close()
        late.set()
        answer = await stream
    assert refused.startswith(b"HTTP/1.1 408 ")
    assert answer.content.startswith(envelope(0, text("a") + text("b")))


async def test_compressed_streams_both_ways():
    long = text("x" * 100) * 20

    async def behave(call):
        await call.half_closed.wait()
        for part in call.sent:
            await call.stream(part)
        call.end()

    async with door(behave) as (client, router):
        response, messages, _ = await connect_stream(
            client,
            "Chat",
            body=envelope(COMPRESSED, gzip.compress(long)) + envelope(0, text("x")),
            connect_content_encoding="gzip",
            connect_accept_encoding="gzip",
        )
    assert router.calls[0].sent == [long, text("x")]
    assert response.headers["connect-content-encoding"] == "gzip"
    (first, packed), second = messages
    assert (first, gzip.decompress(packed)) == (COMPRESSED, long)
    assert second == (0, text("x"))


@pytest.mark.parametrize(
    ("method", "body", "headers", "code", "said"),
    [
        ("Count", b"", {}, "unimplemented", "has none"),
        ("Count", envelope(0, b"") * 2, {}, "unimplemented", "has more"),
        ("Count", envelope(0, b"abc")[:-1], {}, "invalid_argument", "ended within an envelope"),
        ("Count", envelope(2, b"{}"), {}, "invalid_argument", "flags 0x02"),
        ("Count", b"\0\xff\xff\xff\xff", {}, "resource_exhausted", "larger than the limit"),
        ("Count", envelope(0, b""), {"connect_content_encoding": "br"}, "unimplemented", "gzip"),
        ("Count", envelope(0, b""), {"connect_protocol_version": "2"}, "invalid_argument", "'2'"),
        ("Count", envelope(0, b"{"), {"codec": "json"}, "invalid_argument", "not valid JSON"),
        ("Join", envelope(0, b"{") * 3, {"codec": "json"}, "invalid_argument", "not valid JSON"),
        ("Chat", envelope(COMPRESSED, b"x"), {}, "internal", "does not say how"),
        ("Chat", b"\0\0\0", {}, "invalid_argument", "ended within an envelope"),
    ],
)
async def test_bad_streams(method, body, headers, code, said):
    async with door(lambda call: None, limits=HttpLimits(max_body_bytes=2000)) as (client, _):
        _, messages, end = await connect_stream(client, method, body=body, **headers)
    assert (messages, end["error"]["code"]) == ([], code)
    assert said in end["error"]["message"]
