"""Unary calls by Connect over real sockets, against a fake router."""

import asyncio
import base64
import gzip
import json
from urllib.parse import quote

import pytest
from google.rpc import error_details_pb2, status_pb2

from fairlead.v1 import session_pb2
from fairlead.wire.errors import ApplicationNotFoundError, InvalidArgumentsError
from fairlead_gateway.edge import http_status
from fairlead_gateway.edge.http import HttpApp
from fairlead_gateway.edge.http_limits import HttpLimits
from fairlead_gateway.edge.http_meter import REQUEST_ID, ROUTE
from fairlead_gateway.edge.web.connect_errors import CODES
from tests.edge.fake_router import FakeRouter
from tests.edge.web.calls import SERVICE, connect_stream, door, echo_application, text

PROTO = {"content-type": "application/proto"}
JSON = {"content-type": "application/json", "connect-protocol-version": "1"}


def post(client, method, content, headers, **more):
    fields = {**headers, **{name.replace("_", "-"): value for name, value in more.items()}}
    return client.post(f"/{SERVICE}/{method}", content=content, headers=fields)


async def test_unary_in_protobuf():
    async with door() as (client, router):
        answer = await post(client, "Echo", text("hello"), PROTO, x_request_id="mine")
    assert (answer.status_code, answer.content) == (200, text("hello"))
    assert answer.headers["content-type"] == "application/proto"
    assert answer.headers["x-request-id"] == "mine"
    assert router.calls[0].header.method == f"/{SERVICE}/Echo"


async def test_unary_in_json():
    async with door() as (client, router):
        answer = await post(client, "Echo", b'{"text":"hello","number":"7"}', JSON)
        empty = await post(client, "Echo", b"{}", JSON)
    assert router.calls[0].payload == text("hello") + b"\x10\x07"
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == {"text": "hello", "number": "7"}
    assert empty.json() == {}


async def test_an_empty_message_has_an_empty_body():
    async with door() as (client, _):
        answer = await post(client, "Echo", b"", PROTO)
    assert (answer.status_code, answer.content, answer.headers["content-length"]) == (200, b"", "0")


async def test_metadata_both_ways():
    def behave(call):
        seen.extend((entry.key, entry.value) for entry in call.header.metadata)
        call.head(first=b"1")
        call.done = True
        outcome = session_pb2.Outcome(
            status=status_pb2.Status(),
            trailing_metadata=[session_pb2.Metadata(key="last-bin", value=b"\xff\0")],
        )
        call.downstream.on_end(outcome, call.payload)

    seen = []
    async with door(behave) as (client, _):
        answer = await post(client, "Echo", b"", PROTO, own="1", own_bin="/wA", connect_timeout_ms="5000")
    assert ("own", b"1") in seen
    assert ("own-bin", b"\xff\0") in seen
    assert "connect-timeout-ms" not in {key for key, _ in seen}
    assert (answer.headers["first"], answer.headers["trailer-last-bin"]) == ("1", "/wA=")


async def test_an_error_after_initial_metadata_has_its_status_and_them():
    def behave(call):
        call.head(first=b"1")
        call.end(InvalidArgumentsError("no such"))

    async with door(behave) as (client, _):
        answer = await post(client, "Echo", b"", PROTO)
    assert (answer.status_code, answer.headers["first"]) == (400, "1")
    assert answer.json()["message"] == "no such"


@pytest.mark.parametrize("code", list(CODES))
async def test_every_code_as_status_and_name(code):
    def behave(call):
        call.done = True
        detail = error_details_pb2.ErrorInfo(reason="WHY")
        call.downstream.on_end(http_status.with_details(code, "what", detail), None)

    async with door(behave) as (client, _):
        answer = await post(client, "Echo", b"", PROTO)
    name, status = CODES[code]
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/json"
    error = answer.json()
    (detail,) = error.pop("details")
    assert error == {"code": name, "message": "what"}
    assert detail["type"] == "google.rpc.ErrorInfo"
    raw = base64.b64decode(detail["value"] + "=" * (-len(detail["value"]) % 4))
    assert error_details_pb2.ErrorInfo.FromString(raw).reason == "WHY"


async def test_compression_both_ways():
    long = text("x" * 100) * 20
    async with door() as (client, router):
        answer = await post(
            client, "Echo", gzip.compress(long), PROTO, content_encoding="gzip", accept_encoding="br, gzip"
        )
        plain = await post(client, "Echo", long, PROTO, accept_encoding="identity")
        short = await post(client, "Echo", text("x"), PROTO, accept_encoding="gzip")
    assert router.calls[0].payload == long
    assert answer.headers["content-encoding"] == "gzip"
    assert answer.content == plain.content == long  # the client has unpacked it
    assert "content-encoding" not in plain.headers
    assert "content-encoding" not in short.headers


class TestGet:
    async def get(self, client, method, **query):
        parameters = "&".join(f"{name}={quote(value, safe='')}" for name, value in query.items())
        return await client.get(f"/{SERVICE}/{method}?{parameters}")

    async def test_json(self):
        async with door() as (client, router):
            answer = await self.get(
                client, "Look", connect="v1", encoding="json", message='{"text":"hällo + wörld","number":"7"}'
            )
        assert (answer.status_code, answer.json()) == (200, {"text": "hällo + wörld", "number": "7"})
        assert len(router.calls) == 1

    @pytest.mark.parametrize("padding", ["", "="])
    async def test_protobuf_in_base64(self, padding):
        message = base64.urlsafe_b64encode(text("h???")).decode().rstrip("=") + padding
        async with door() as (client, _):
            answer = await self.get(client, "Look", encoding="proto", base64="1", message=message)
        assert answer.content == text("h???")

    async def test_compressed(self):
        message = base64.urlsafe_b64encode(gzip.compress(text("hello"))).decode()
        async with door() as (client, _):
            answer = await self.get(client, "Look", encoding="proto", base64="1", compression="gzip", message=message)
        assert answer.content == text("hello")

    async def test_only_methods_without_side_effects(self):
        async with door() as (client, router):
            answer = await self.get(client, "Echo", encoding="json", message="{}")
        assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
        assert "NO_SIDE_EFFECTS" in answer.json()["message"]
        assert not router.calls

    @pytest.mark.parametrize(
        ("query", "status", "said"),
        [
            ({"encoding": "json", "message": "{"}, 400, "JSON"),
            ({"encoding": "json", "message": ""}, 400, "JSON"),
            ({"encoding": "proto", "message": "!", "base64": "1"}, 400, "base64"),
            ({"encoding": "proto", "message": "", "base64": "yes"}, 400, "base64"),
            ({"encoding": "json", "message": "{}", "connect": "v2"}, 400, "v2"),
            ({"encoding": "json", "message": "{}", "compression": "br"}, 501, "gzip"),
            ({"encoding": "proto", "message": "x", "compression": "gzip"}, 400, "gzip"),
            ({"encoding": "xml", "message": "x"}, 415, "xml"),
        ],
    )
    async def test_bad_queries(self, query, status, said):
        async with door() as (client, router):
            answer = await self.get(client, "Look", **query)
        assert (answer.status_code, answer.headers["content-type"]) == (status, "application/json")
        assert said in answer.json()["message"]
        assert not router.calls


@pytest.mark.parametrize(
    ("content", "headers", "more", "status", "code", "said"),
    [
        (b"{", JSON, {}, 400, "invalid_argument", "not valid JSON"),
        (b"", JSON, {}, 400, "invalid_argument", "not valid JSON"),
        (b'{"txt":1}', JSON, {}, 400, "invalid_argument", "txt"),
        (b'{"text":"a"} x', JSON, {}, 400, "invalid_argument", "not valid JSON"),
        (b"{}", JSON, {"connect_protocol_version": "2"}, 400, "invalid_argument", "'2'"),
        (b"", PROTO, {"connect_timeout_ms": "soon"}, 400, "invalid_argument", "connect-timeout-ms"),
        (b"", PROTO, {"content_encoding": "br"}, 501, "unimplemented", "gzip"),
        (b"x", PROTO, {"content_encoding": "gzip"}, 400, "invalid_argument", "not valid gzip"),
        (gzip.compress(bytes(9000), mtime=0), PROTO, {"content_encoding": "gzip"}, 429, "resource_exhausted", "2000"),
        (bytes(2001), PROTO, {}, 429, "resource_exhausted", "2000"),
        (b"", PROTO, {"own_bin": "!"}, 400, "invalid_argument", "own-bin"),
    ],
)
async def test_bad_requests(content, headers, more, status, code, said):
    async with door(limits=HttpLimits(max_body_bytes=2000)) as (client, router):
        answer = await post(client, "Echo", content, headers, **more)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert said in answer.json()["message"]
    assert not router.calls


@pytest.mark.parametrize(
    ("method", "content_type", "accepted"),
    [
        ("Echo", "application/connect+proto", "application/proto"),
        ("Count", "application/proto", "application/connect+proto"),
        ("Echo", "application/connect+xml", "application/connect+proto"),
    ],
)
async def test_content_types_that_do_not_fit_are_415(method, content_type, accepted):
    async with door() as (client, router):
        answer = await post(client, method, b"", {"content-type": content_type})
    assert answer.status_code == 415
    assert accepted in answer.headers["accept-post"]
    assert not router.calls


async def test_below_no_application_the_path_is_connects_alone():
    elsewhere = echo_application()
    elsewhere.route_prefix = "/elsewhere"
    async with door(applications=[elsewhere]) as (client, router):
        answer = await client.post(f"/{SERVICE}/Echo", json={"text": "hello"})
        plain = await client.post(f"/{SERVICE}/Echo", content=b"hello")
        put = await client.put(f"/{SERVICE}/Echo", json={})
        unknown = await client.post("/web.v1.Nothing/Echo", json={})
    assert (answer.status_code, answer.json()) == (200, {"text": "hello"})
    assert (plain.status_code, put.status_code, put.headers["allow"]) == (415, 405, "POST")
    assert unknown.status_code == 404
    assert len(router.calls) == 1


async def test_methods_and_applications_that_are_not_there():
    async with door(applications=[echo_application("a"), echo_application("b")]) as (client, router):
        nothing = await post(client, "Nothing", b"", PROTO)
        ambiguous = await post(client, "Echo", b"", PROTO)
        _, messages, end = await connect_stream(client, "Count", b"")
        await post(client, "Echo", b"", PROTO, application="b")
    assert (nothing.status_code, nothing.json()["code"]) == (501, "unimplemented")
    assert (ambiguous.status_code, ambiguous.json()["code"]) == (404, "not_found")
    assert (messages, end["error"]["code"]) == ([], "not_found")
    assert [call.header.application for call in router.calls] == ["b"]


async def test_calls_are_counted_by_their_method():
    router = FakeRouter(lambda call: call.end(None, call.payload))
    router.deploy(echo_application())
    app = HttpApp(router)
    scope = {
        "type": "http",
        "method": "POST",
        "path": f"/{SERVICE}/Echo",
        "raw_path": f"/{SERVICE}/Echo".encode(),
        "query_string": b"",
        "headers": [(b"content-type", b"application/proto"), (b"x-request-id", b"mine")],
    }

    async def receive():
        return {"type": "http.request", "body": b""}

    async def send(event):
        pass

    await app(scope, receive, send)
    assert (scope[ROUTE], scope[REQUEST_ID]) == (("web", f"/{SERVICE}/Echo"), "mine")


async def test_deadlines():
    async with door(lambda call: None) as (client, router):
        answer = await post(client, "Echo", b"", PROTO, connect_timeout_ms="20")
        _, _, end = await connect_stream(client, "Count", b"", connect_timeout_ms="20")
    assert (answer.status_code, answer.json()["code"]) == (504, "deadline_exceeded")
    assert end["error"]["code"] == "deadline_exceeded"
    assert [call.header.timeout_us for call in router.calls] == [20_000, 20_000]


async def test_a_client_that_leaves_cancels_its_call():
    async with door(lambda call: None) as (client, router):
        task = asyncio.create_task(post(client, "Echo", b"", PROTO))
        await router.called.wait()
        task.cancel()
        await asyncio.wait_for(router.calls[0].cancelled.wait(), 60)


async def test_a_result_that_has_no_json_is_an_internal_error():
    async with door(lambda call: call.end(None, b"\xff")) as (client, _):
        answer = await post(client, "Echo", b"{}", JSON)
    assert (answer.status_code, answer.json()["code"]) == (500, "internal")


async def test_errors_of_the_router_keep_their_code():
    async with door(lambda call: call.end(ApplicationNotFoundError("gone"))) as (client, _):
        answer = await post(client, "Echo", b"", PROTO)
    assert (answer.status_code, answer.json()["message"]) == (404, "gone")
    assert json.loads(answer.content)["details"][0]["type"] == "google.rpc.ErrorInfo"


@pytest.mark.parametrize("headers", [{"content-type": "application/proto"}, {"connect-protocol-version": "1"}])
async def test_a_service_that_nobody_has_is_unimplemented(headers):
    async with door() as (client, _):
        headers = {"content-type": "application/json", **headers}
        response = await client.post("/other.v1.Service/Echo", headers=headers, content=b"")
        plain = await client.post("/other.v1.Service/Echo", headers={"content-type": "application/json"}, content=b"")
    assert response.status_code == plain.status_code == 404
    assert response.json()["code"] == "unimplemented"
    assert plain.json()["code"] == 5  # google.rpc.Status, for all who speak neither protocol
