"""gRPC-Web over real sockets, against a fake router."""

import asyncio
import base64
import gzip

import pytest
from google.rpc import status_pb2

from fairlead.v1 import serving_pb2, session_pb2
from fairlead.wire.errors import InvalidArgumentsError
from fairlead.wire.trust import Trust
from fairlead_gateway.edge.binding import TcpListener
from fairlead_gateway.edge.http_limits import HttpLimits
from fairlead_gateway.edge.web import base64_text
from fairlead_gateway.edge.web.envelopes import COMPRESSED, envelope
from tests.edge.web.calls import SERVICE, door, echo_application, grpc_web, opened, text, trailers_of


async def test_unary():
    async with door() as (client, router):
        response, messages, trailers = await grpc_web(client, "Echo", text("hello"), x_request_id="mine")
    assert response.headers["content-type"] == "application/grpc-web+proto"
    assert response.headers["x-request-id"] == "mine"
    assert messages == [(0, text("hello"))]
    assert trailers == {"grpc-status": "0"}
    (call,) = router.calls
    header = call.header
    assert (header.application, header.deployment, header.method) == ("web", "Echo", f"/{SERVICE}/Echo")
    assert header.request_serialization == session_pb2.SERIALIZATION_PROTOBUF
    assert call.trust is Trust.UNTRUSTED
    assert header.peer.startswith("ipv4:127.0.0.1:")
    assert not header.timeout_us


@pytest.mark.parametrize("content_type", ["application/grpc-web-text", "application/grpc-web-text+proto"])
async def test_text_mode(content_type):
    # Two pieces, each padded, as a client that flushes them would send.
    framed = envelope(0, text("hello"))
    body = base64_text.encode(framed[:4]) + base64_text.encode(framed[4:])
    async with door() as (client, _):
        response, messages, trailers = await grpc_web(client, "Echo", content_type=content_type, body=body)
    assert response.headers["content-type"] == "application/grpc-web-text+proto"
    assert (messages, trailers) == ([(0, text("hello"))], {"grpc-status": "0"})


@pytest.mark.parametrize(
    ("asked", "accept", "answered"),
    [
        ("application/grpc-web-text", "application/grpc-web+proto", "application/grpc-web+proto"),
        ("application/grpc-web-text", "*/*", "application/grpc-web-text+proto"),
        ("application/grpc-web", "application/grpc-web-text", "application/grpc-web-text+proto"),
    ],
)
async def test_the_client_chooses_the_mode_of_the_answer(asked, accept, answered):
    body = envelope(0, text("x"))
    async with door() as (client, _):
        sent = base64.b64encode(body) if "text" in asked else body
        response, messages, _ = await grpc_web(client, "Echo", content_type=asked, body=sent, accept=accept)
    assert (response.headers["content-type"], messages) == (answered, [(0, text("x"))])


async def test_json():
    async with door() as (client, router):
        response, messages, trailers = await grpc_web(
            client, "Echo", b'{"text":"hello","number":"7"}', content_type="application/grpc-web+json"
        )
        _, _, refused = await grpc_web(client, "Echo", b'{"txt":1}', content_type="application/grpc-web+json")
    assert router.calls[0].payload == text("hello") + b"\x10\x07"
    assert response.headers["content-type"] == "application/grpc-web+json"
    assert (messages, trailers) == ([(0, b'{"text":"hello","number":"7"}')], {"grpc-status": "0"})
    assert refused["grpc-status"] == "3"
    assert "txt" in refused["grpc-message"]


async def test_metadata_both_ways():
    def behave(call):
        seen.extend((entry.key, entry.value) for entry in call.header.metadata)
        call.head(first=b"1")
        outcome = session_pb2.Outcome(
            status=status_pb2.Status(),
            trailing_metadata=[
                session_pb2.Metadata(key="last", value=b"2"),
                session_pb2.Metadata(key="last-bin", value=b"\xff\0"),
            ],
        )
        call.downstream.on_end(outcome, call.payload)
        call.done = True

    seen = []
    async with door(behave) as (client, _):
        response, messages, trailers = await grpc_web(client, "Echo", text("x"), own="1", own_bin="/wA")
    assert ("own", b"1") in seen
    assert ("own-bin", b"\xff\0") in seen
    assert not {"content-type", "host", "x-grpc-web"} & {key for key, _ in seen}
    assert response.headers["first"] == "1"
    assert messages == [(0, text("x"))]
    assert trailers == {"grpc-status": "0", "last": "2", "last-bin": "/wA="}


@pytest.mark.parametrize("method", ["Echo", "Count"])
@pytest.mark.parametrize("fails", [False, True], ids=["answered", "failed"])
async def test_initial_metadata_come_before_the_answer(method, fails):
    async def behave(call):
        call.head(first=b"1")
        await seen.wait()
        call.end(InvalidArgumentsError("enough") if fails else None, None if fails else text("x"))

    seen = asyncio.Event()
    headers = {"content-type": "application/grpc-web+proto"}
    async with door(behave) as (client, _):
        request = client.stream("POST", f"/{SERVICE}/{method}", content=envelope(0, text("x")), headers=headers)
        async with request as response:
            assert (response.status_code, response.headers["first"]) == (200, "1")
            seen.set()
            *messages, (_, last) = opened(await response.aread())
    assert messages == ([] if fails else [(0, text("x"))])
    assert trailers_of(last)["grpc-status"] == ("3" if fails else "0")


async def test_an_error_has_its_details_in_the_trailers():
    async with door(lambda call: call.end(InvalidArgumentsError("no – such"))) as (client, _):
        response, messages, trailers = await grpc_web(client, "Echo", text("x"))
    assert response.headers["content-length"] == str(len(response.content))
    assert messages == []
    assert (trailers["grpc-status"], trailers["grpc-message"]) == ("3", "no %E2%80%93 such")
    details = trailers["grpc-status-details-bin"]
    status = status_pb2.Status.FromString(base64.b64decode(details + "=" * (-len(details) % 4)))
    assert (status.code, status.message) == (3, "no – such")
    assert "secret.py" not in response.text


async def test_server_stream():
    async def behave(call):
        for number in range(3):
            await call.stream(text(str(number)))
        call.end()

    async with door(behave) as (client, router):
        response, messages, trailers = await grpc_web(client, "Count", text("x"))
    assert "content-length" not in response.headers
    assert messages == [(0, text(str(number))) for number in range(3)]
    assert trailers == {"grpc-status": "0"}
    assert router.calls[0].header.stream


async def test_a_stream_that_fails_after_its_first_message():
    async def behave(call):
        await call.stream(text("a"))
        call.end(InvalidArgumentsError("enough"))

    async with door(behave) as (client, _):
        _, messages, trailers = await grpc_web(client, "Count", text("x"))
    assert messages == [(0, text("a"))]
    assert (trailers["grpc-status"], trailers["grpc-message"]) == ("3", "enough")


async def test_client_stream():
    async def behave(call):
        await call.half_closed.wait()
        call.end(None, text("+".join(part[2:].decode() for part in call.sent)))

    async with door(behave) as (client, router):
        _, messages, trailers = await grpc_web(client, "Join", text("a"), b"", text("b"))
    assert (messages, trailers) == ([(0, text("a++b"))], {"grpc-status": "0"})
    assert not router.calls[0].header.stream


async def test_deadlines():
    async with door(lambda call: None, limits=HttpLimits(request_timeout_s=60)) as (client, router):
        _, _, trailers = await grpc_web(client, "Echo", text("x"), grpc_timeout="20m")
        assert trailers["grpc-status"] == "4"
        assert router.calls[0].header.timeout_us == 20_000
        _, _, malformed = await grpc_web(client, "Echo", text("x"), grpc_timeout="20")
    assert malformed["grpc-status"] == "3"
    assert "grpc-timeout" in malformed["grpc-message"]


async def test_a_client_that_leaves_cancels_its_call():
    async with door(lambda call: None) as (client, router):
        task = asyncio.create_task(grpc_web(client, "Count", text("x")))
        await router.called.wait()
        task.cancel()
        await asyncio.wait_for(router.calls[0].cancelled.wait(), 60)


async def test_compressed_messages_both_ways():
    long = text("x" * 100) * 20  # the last field of a name counts; here only the bytes do
    body = envelope(COMPRESSED, gzip.compress(long, mtime=0))
    async with door() as (client, router):
        response, messages, _ = await grpc_web(
            client, "Echo", body=body, grpc_encoding="gzip", grpc_accept_encoding="gzip"
        )
        plain, uncompressed, _ = await grpc_web(client, "Echo", long)
    assert router.calls[0].payload == long
    assert response.headers["grpc-encoding"] == "gzip"
    ((flags, message),) = messages
    assert (flags, gzip.decompress(message)) == (COMPRESSED, long)
    assert "grpc-encoding" not in plain.headers
    assert uncompressed == [(0, long)]


@pytest.mark.parametrize(
    ("method", "body", "headers", "status", "said"),
    [
        ("Echo", b"", {}, "12", "has none"),
        ("Echo", envelope(0, b"") * 2, {}, "12", "has more"),
        ("Echo", envelope(0, b"abc")[:-1], {}, "3", "ended within an envelope"),
        ("Echo", b"\0\0", {}, "3", "ended within an envelope"),
        ("Echo", envelope(0x80, b"x:1\r\n"), {}, "3", "flags 0x80"),
        ("Echo", b"\0\xff\xff\xff\xff", {}, "8", "larger than the limit"),
        ("Echo", envelope(COMPRESSED, b"x"), {}, "13", "does not say how"),
        ("Echo", envelope(COMPRESSED, b"x"), {"grpc_encoding": "gzip"}, "3", "not valid gzip"),
        (
            "Echo",
            envelope(COMPRESSED, gzip.compress(bytes(9000), mtime=0)),
            {"grpc_encoding": "gzip"},
            "8",
            "limit of 2000",
        ),
        ("Echo", envelope(0, b""), {"grpc_encoding": "br"}, "12", "gzip"),
        ("Echo", b"!!!", {"content_type": "application/grpc-web-text"}, "3", "base64"),
        ("Echo", b"AAAA!AAA", {"content_type": "application/grpc-web-text"}, "3", "base64"),
        ("Echo", b"AAAAAAA", {"content_type": "application/grpc-web-text"}, "3", "base64"),
        ("Echo", envelope(0, b""), {"own_bin": "!"}, "3", "own-bin must be base64"),
        ("Join", envelope(0, b"abc")[:-1], {}, "3", "ended within an envelope"),
        ("Nothing", envelope(0, b""), {}, "12", "no method /web.v1.EchoService/Nothing"),
    ],
)
async def test_bad_requests(method, body, headers, status, said):
    async with door(lambda call: None, limits=HttpLimits(max_body_bytes=2000)) as (client, _):
        _, messages, trailers = await grpc_web(client, method, body=body, **headers)
    assert (messages, trailers["grpc-status"]) == ([], status)
    assert said in trailers["grpc-message"]


async def test_other_encodings_of_messages_are_415():
    async with door() as (client, _):
        response = await client.post(f"/{SERVICE}/Echo", headers={"content-type": "application/grpc-web+thrift"})
    assert (response.status_code, response.content) == (415, b"")  # which its clients would take for envelopes
    assert "application/proto" in response.headers["accept-post"]


async def test_a_service_that_nobody_has_is_unimplemented():
    async with door() as (client, _):
        headers = {"content-type": "application/grpc-web+proto"}
        response = await client.post("/other.v1.Service/Echo", headers=headers, content=envelope(0, b""))
    assert response.status_code == 200
    [(_, trailers)] = opened(response.content)
    assert trailers_of(trailers)["grpc-status"] == "12"
    assert "no method /other.v1.Service/Echo" in trailers_of(trailers)["grpc-message"]


async def test_the_application_is_chosen_by_its_header():
    async with door(applications=[echo_application("a"), echo_application("b")]) as (client, router):
        _, _, ambiguous = await grpc_web(client, "Echo", text("x"))
        _, _, unknown = await grpc_web(client, "Echo", text("x"), application="c")
        await grpc_web(client, "Echo", text("x"), application="b")
    assert ambiguous["grpc-status"] == unknown["grpc-status"] == "5"
    assert [call.header.application for call in router.calls] == ["b"]


async def test_the_gateways_token_is_not_for_methods():
    listener = TcpListener(token="secret")
    async with door(listener=listener) as (client, router):
        refused = await client.post(f"/{SERVICE}/Echo", headers={"content-type": "application/grpc-web"})
        await grpc_web(client, "Echo", text("x"), authorization="Bearer secret")
    assert refused.status_code == 401
    assert "authorization" not in {entry.key for entry in router.calls[0].header.metadata}


async def test_the_serving_service():
    request = serving_pb2.CallRequest()
    request.target.application, request.target.method = "web", "greet"
    request.payload.content_type, request.payload.data = "application/json", b'[["x"]]'
    pickled = serving_pb2.CallRequest()
    pickled.CopyFrom(request)
    pickled.payload.content_type = "application/vnd.fairlead.pickle"
    async with door() as (client, router):
        bodies = [envelope(0, message.SerializeToString()) for message in (request, pickled)]
        headers = {"content-type": "application/grpc-web+proto"}
        answers = [
            await client.post("/fairlead.v1.ServingService/Call", content=body, headers=headers) for body in bodies
        ]
    (call,) = router.calls
    assert (call.header.method, call.payload, call.trust) == ("greet", b'[["x"]]', Trust.UNTRUSTED)
    length = int.from_bytes(answers[0].content[1:5], "big")
    answered = serving_pb2.CallResponse.FromString(answers[0].content[5 : 5 + length])
    assert (answered.payload.content_type, answered.payload.data) == ("application/json", b'[["x"]]')
    assert b"grpc-status:7\r\n" in answers[1].content
