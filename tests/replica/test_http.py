from __future__ import annotations

import asyncio
import collections
import dataclasses
import datetime
import decimal
import enum
import ipaddress
import json
import logging
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import numpy
import pydantic
import pytest
from fastapi.encoders import jsonable_encoder
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse

from fairlead.v1 import http_pb2
from fairlead.wire.errors import (
    BackPressureError,
    InvalidArgumentsError,
    RequestCancelledError,
    ResultNotSerializableError,
    UserExceptionError,
)
from fairlead_replica.http import encode_json, encode_value
from tests.replica.calling import Answer, Stage, until


def headers_of(response: http_pb2.HttpResponse) -> dict[str, str]:
    return {header.name.decode(): header.value.decode() for header in response.headers}


class Point(pydantic.BaseModel):
    x: int


@dataclasses.dataclass
class Pair:
    left: int
    right: list[int]


class Colour(enum.Enum):
    RED = "red"


class Handler:
    def __init__(self) -> None:
        self.finished: list[str] = []
        self.produced = 0
        self.started = asyncio.Event()

    async def __call__(self, request: Request) -> Any:
        return await request.json()

    async def describe(self, request: Request) -> dict[str, Any]:
        return {
            "method": request.method,
            "url": str(request.url),
            "query": dict(request.query_params),
            "header": request.headers["x-colour"],
            "client": request.client and [request.client.host, request.client.port],
            "body": (await request.body()).decode(),
            "again": (await request.body()).decode(),
            "root": request.scope["root_path"],
            "fields": len(request.scope["headers"]),
            "raw": request.scope["raw_path"].decode(),
            "disconnected": await request.is_disconnected(),
        }

    async def own_json(self, request: Request) -> Any:
        return json.loads("{" + (await request.body()).decode())

    async def json_and_more(self, request: Request) -> int:
        await request.json()
        return int("x")

    async def form(self, request: Request) -> dict[str, Any]:
        return dict(await request.form())

    def sync(self, request: Request) -> str:
        return request.method

    def nothing_taken(self) -> str:
        return "no parameter"

    def value(self, request: Request) -> Any:
        return VALUES[request.query_params["name"]]

    async def fail(self, request: Request) -> None:
        raise ValueError("secret")

    def fail_sync(self, request: Request) -> None:
        raise ValueError("secret")

    async def refuse(self, request: Request) -> None:
        raise HTTPException(418, "teapot", headers={"X-Tea": "green"})

    async def refuse_oddly(self, request: Request) -> None:
        odd = {"headers": ("tea", {"x-a": "日本"}), "detail": ({"a": [1]}, None), "secret": (object(), None)}
        detail, headers = odd[request.query_params["with"]]
        raise HTTPException(418, detail, headers)  # type: ignore[arg-type]

    async def split(self, request: Request) -> Response:
        return made_to_split(request)

    def split_sync(self, request: Request) -> Response:
        return made_to_split(request)

    async def overloaded(self, request: Request) -> None:
        raise BackPressureError(3, 2, 429, 1.5)

    async def chunks(self, request: Request) -> AsyncIterator[Any]:
        for item in ("a", b"b", {"c": 1}):
            yield item

    def chunks_sync(self, request: Request) -> Iterator[Any]:
        for number in range(3):
            yield {"n": number}

    async def no_chunks(self, request: Request) -> AsyncIterator[Any]:
        for item in ():
            yield item

    async def streaming(self, request: Request) -> StreamingResponse:
        async def parts() -> AsyncIterator[str]:
            for part in ("one", "two"):
                yield part

        return StreamingResponse(parts(), status_code=202, media_type="text/x", headers={"X-A": "1"})

    def streaming_sync(self, request: Request) -> StreamingResponse:
        return StreamingResponse(iter(["one", "two"]))

    async def endless(self, request: Request) -> StreamingResponse:
        async def parts() -> AsyncIterator[bytes]:
            try:
                while True:
                    self.produced += 1
                    yield b"x" * 1000
            finally:
                self.finished.append("endless")

        return StreamingResponse(parts())

    async def breaks(self, request: Request) -> AsyncIterator[str]:
        yield "begun"
        raise ValueError("secret")

    async def file(self, request: Request) -> FileResponse:
        return FileResponse(Path(__file__))

    async def background(self, request: Request) -> Response:
        return PlainTextResponse("soon", background=BackgroundTask(self.finished.append, "background"))

    async def hang(self, request: Request) -> None:
        self.started.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.finished.append("hang")

    async def unserializable(self, request: Request) -> Any:
        return object()


def made_to_split(request: Request) -> Response:
    kind = request.query_params["with"]
    headers = {"x-a": "1\r\n\r\nHTTP/1.1 200 OK"}
    if kind == "stream":
        return StreamingResponse(iter(["a", "b"]), headers=headers)
    return Response("a", headers=headers, background=BackgroundTask(print) if kind == "background" else None)


VALUES = {
    "none": None,
    "bytes": b"\x00raw",
    "text": "grüße",
    "json": {"a": [1, 2.5, True, None]},
    "response": Response(b"own", status_code=201, media_type="image/png"),
    "json_response": JSONResponse({"a": 1}, headers={"X-B": "2"}),
}


@pytest.fixture
async def handler() -> Handler:
    return Handler()


@pytest.fixture
async def stage(handler: Handler) -> AsyncIterator[Stage]:
    made = Stage(handler)
    yield made
    await made.close()
    await until(lambda: made.runtime.statistics().ongoing == 0)


async def test_the_request(stage: Stage) -> None:
    response = await stage.caller.request(
        b"body",
        "describe",
        method="PUT",
        scheme="http",
        path="/app/ä",
        raw_path=b"/app/%C3%A4",
        query_string=b"q=1",
        root_path="/app",
        headers=[
            http_pb2.HttpHeader(name=b"host", value=b"example.org"),
            http_pb2.HttpHeader(name=b"x-colour", value=b"blue"),
        ],
        client_host="10.0.0.1",
        client_port=5,
        server_host="127.0.0.1",
        server_port=8000,
    ).next()
    assert response.status == 200
    assert json.loads(response.body) == {
        "method": "PUT",
        "url": "http://example.org/app/ä?q=1",
        "query": {"q": "1"},
        "header": "blue",
        "client": ["10.0.0.1", 5],
        "body": "body",
        "again": "body",
        "root": "/app",
        "fields": 2,
        "raw": "/app/%C3%A4",
        "disconnected": False,
    }


async def test_forms(stage: Stage) -> None:
    kind = http_pb2.HttpHeader(name=b"content-type", value=b"application/x-www-form-urlencoded")
    response = await stage.caller.request(b"a=1&b=x%20y", "form", headers=[kind]).next()
    assert json.loads(response.body) == {"a": "1", "b": "x y"}


@pytest.mark.parametrize(("method", "body"), [("sync", b"POST"), ("nothing_taken", b"no parameter")])
async def test_synchronous_handlers(stage: Stage, method: str, body: bytes) -> None:
    assert (await stage.caller.request(b"", method).next()).body == body


@pytest.mark.parametrize(("name", "status", "content_type", "body"), [
    ("none", 200, "text/plain", b""),
    ("bytes", 200, "text/plain", b"\x00raw"),
    ("text", 200, "text/plain; charset=utf-8", "grüße".encode()),
    ("json", 200, "application/json", b'{"a":[1,2.5,true,null]}'),
    ("response", 201, "image/png", b"own"),
    ("json_response", 200, "application/json", b'{"a":1}'),
])  # fmt: skip
async def test_return_values(stage: Stage, name: str, status: int, content_type: str, body: bytes) -> None:
    responses = await stage.caller.request(b"", "value", query_string=b"name=" + name.encode()).all()
    assert len(responses) == 1
    assert (responses[0].status, responses[0].body) == (status, body)
    headers = headers_of(responses[0])
    assert headers["content-type"] == content_type
    assert headers["content-length"] == str(len(body))


@pytest.mark.parametrize(("value", "expected"), [
    (numpy.arange(3), [0, 1, 2]),
    ({"a": numpy.float32(0.5)}, {"a": 0.5}),
    ([Point(x=1)], [{"x": 1}]),
    (Pair(1, [2]), {"left": 1, "right": [2]}),
    ({1: "int key", None: 2}, {"1": "int key", "null": 2}),
    ({"s": {5}}, {"s": [5]}),
    ((1, "two"), [1, "two"]),
    ({"b": b"bytes"}, {"b": "bytes"}),
    (ValueError("text"), "text"),
    (Colour.RED, "red"),
    (2**70, 2**70),
    (Path("/x"), "/x"),
    (5, 5),
    (True, True),
])  # fmt: skip
def test_json(value: Any, expected: Any) -> None:
    assert json.loads(encode_json(value)) == expected


@pytest.mark.parametrize(
    "value",
    [
        decimal.Decimal("1.50"),
        decimal.Decimal("2"),
        decimal.Decimal("1e3"),
        datetime.timedelta(seconds=1.5),
        collections.deque([1, decimal.Decimal("0.1")]),
        ipaddress.ip_address("::1"),
        ipaddress.ip_network("10.0.0.0/8"),
        re.compile("a.b"),
        pydantic.SecretStr("hidden"),
        pydantic.AnyUrl("http://x/"),
    ],
)
def test_what_fastapi_makes_json_of_is_json(value: Any) -> None:
    response = http_pb2.HttpResponse.FromString(encode_value({"value": value}))
    assert json.loads(response.body) == {"value": jsonable_encoder(value)}


def test_no_json() -> None:
    with pytest.raises(TypeError, match="object"):
        encode_value(object())


@pytest.mark.parametrize("method", ["fail", "fail_sync"])
async def test_a_users_exception_is_500_without_its_text(
    stage: Stage, method: str, caplog: pytest.LogCaptureFixture
) -> None:
    error = await stage.caller.request(b"", method).error()  # the gateway makes the response
    assert (type(error), str(error)) == (UserExceptionError, "")
    assert 'raise ValueError("secret")' in caplog.text


FORM = b"application/x-www-form-urlencoded"
JSON_BODIES = [b"", b" ", b"{", b"{} {}", b"\xff", b"[" * 100_000, b"9" * 5000]
MULTIPART = b"multipart/form-data"


@pytest.mark.parametrize(
    ("body", "method", "content_type", "message"),
    [
        *((body, "", b"application/json", "the body of the request is no JSON") for body in JSON_BODIES),
        (b"x", "form", MULTIPART, "the body of the request is no form"),
        (b"x", "form", MULTIPART + b"; boundary=b", "the body of the request is no form"),
        (b"&".join([b"a=b"] * 1001), "form", FORM, "the body of the request is no form"),
    ],
)
async def test_a_body_that_cannot_be_read_is_its_senders_fault(
    stage: Stage, body: bytes, method: str, content_type: bytes, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    headers = [http_pb2.HttpHeader(name=b"content-type", value=content_type)]
    error = await stage.caller.request(body, method, headers=headers).error()
    assert (type(error), str(error)) == (InvalidArgumentsError, message)
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


@pytest.mark.parametrize("method", ["own_json", "json_and_more"])
async def test_what_the_handler_makes_of_it_is_its_own(stage: Stage, method: str) -> None:
    assert type(await stage.caller.request(b"{}", method).error()) is UserExceptionError


async def test_http_exceptions_are_what_they_say(stage: Stage) -> None:
    response = await stage.caller.request(b"", "refuse").next()
    assert (response.status, response.body) == (418, b"teapot")
    assert headers_of(response)["x-tea"] == "green"


async def test_http_exceptions_that_say_more(stage: Stage) -> None:
    response = await stage.caller.request(b"", "refuse_oddly", query_string=b"with=detail").next()
    assert (response.status, response.body) == (418, b'{"a":[1]}')
    assert headers_of(response)["content-type"] == "application/json"


@pytest.mark.parametrize("what", ["headers", "secret"])
async def test_http_exceptions_that_cannot_be_said(stage: Stage, what: str, caplog: pytest.LogCaptureFixture) -> None:
    answer = stage.caller.request(b"", "refuse_oddly", query_string=f"with={what}".encode())
    assert isinstance(await answer.error(), UserExceptionError)
    assert "raise HTTPException(418, detail, headers)" in caplog.text


@pytest.mark.parametrize("method", ["split", "split_sync"])
@pytest.mark.parametrize("kind", ["whole", "background", "stream"])
async def test_fields_that_http_cannot_carry_are_the_users_error(
    stage: Stage, method: str, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    answer = stage.caller.request(b"", method, query_string=f"with={kind}".encode())
    assert isinstance(await answer.error(), UserExceptionError)  # the gateway makes the response
    assert "the header field b'x-a' of the response" in caplog.text


async def test_fairleads_own_errors_are_the_doors_to_translate(stage: Stage) -> None:
    error = await stage.caller.request(b"", "overloaded").error()
    assert isinstance(error, BackPressureError)
    assert (error.status_code, error.retry_after_s) == (429, 1.5)
    assert isinstance(await stage.caller.request(b"", "unserializable").error(), ResultNotSerializableError)


async def body_of(answer: Answer) -> tuple[http_pb2.HttpResponse, bytes]:
    responses = await answer.all()
    assert [response.status for response in responses[1:]] == [0] * (len(responses) - 1)
    return responses[0], b"".join(response.body for response in responses)


@pytest.mark.parametrize(("method", "content_type", "body"), [
    ("chunks", "text/plain; charset=utf-8", b'ab{"c":1}\n'),
    ("chunks_sync", "application/x-ndjson", b'{"n":0}\n{"n":1}\n{"n":2}\n'),
    ("no_chunks", "text/plain", b""),
])  # fmt: skip
async def test_generators_stream(stage: Stage, method: str, content_type: str, body: bytes) -> None:
    head, got = await body_of(stage.caller.request(b"", method))
    assert head.status == 200
    assert headers_of(head)["content-type"] == content_type
    assert got == body


async def test_streaming_responses(stage: Stage) -> None:
    head, body = await body_of(stage.caller.request(b"", "streaming"))
    assert (head.status, body) == (202, b"onetwo")
    assert headers_of(head) == {"x-a": "1", "content-type": "text/x; charset=utf-8"}
    head, body = await body_of(stage.caller.request(b"", "streaming_sync"))
    assert (head.status, body) == (200, b"onetwo")


async def test_files_and_background_tasks(stage: Stage, handler: Handler) -> None:
    head, body = await body_of(stage.caller.request(b"", "file", method="GET"))
    assert head.status == 200
    assert body == Path(__file__).read_bytes()
    head, body = await body_of(stage.caller.request(b"", "background"))
    assert body == b"soon"
    await until(lambda: handler.finished == ["background"])


async def test_a_slow_client_stops_the_stream_and_its_leaving_closes_it(stage: Stage, handler: Handler) -> None:
    answer = stage.caller.request(b"", "endless")
    for _ in range(20):
        await answer.next()
    seen = -1
    while seen != handler.produced:
        seen = handler.produced
        for _ in range(20):
            await stage.caller.request(b"1").next()
    assert handler.produced < 1000
    answer.cancel()
    assert isinstance(await answer.error(), RequestCancelledError)
    await until(lambda: handler.finished == ["endless"])


async def test_a_client_that_leaves_cancels_the_handler(stage: Stage, handler: Handler) -> None:
    answer = stage.caller.request(b"", "hang")
    await handler.started.wait()
    answer.cancel()
    assert isinstance(await answer.error(), RequestCancelledError)
    assert handler.finished == ["hang"]


async def test_a_stream_that_breaks_is_no_success(stage: Stage) -> None:
    answer = stage.caller.request(b"", "breaks")
    assert (await answer.next()).body == b"begun"
    assert str(await answer.error()) == "secret"


async def test_functions_as_handlers() -> None:
    def handle(request: Request) -> str:
        return request.url.path

    stage = Stage(handle)
    assert (await stage.caller.request().next()).body == b"/p"
    await stage.close()
