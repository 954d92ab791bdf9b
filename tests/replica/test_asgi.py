"""ASGI applications in a replica: FastAPI and Starlette ones, and raw callables."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any

import pytest
from fastapi import APIRouter, BackgroundTasks, Depends, FastAPI, WebSocket
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Mount, Route

from fairlead import serve
from fairlead.v1 import http_pb2, session_pb2
from fairlead.wire.errors import (
    BackPressureError,
    DeployFailedError,
    DeploymentUnavailableError,
    InvalidArgumentsError,
    RequestCancelledError,
    UserExceptionError,
)
from fairlead_replica.asgi import application_of
from tests.replica.calling import Answer, Stage, until
from tests.replica.test_http import body_of, headers_of


class Item(BaseModel):
    name: str
    price: float = 1.0


Made = Callable[..., Any]


def given(word: str) -> str:
    return word * 2


@contextlib.asynccontextmanager
async def serving(instance: Any) -> AsyncIterator[Stage]:
    """A runtime for an instance of an ingress class, from its startup to its shutdown."""
    stage = Stage(instance)
    application = stage.runtime.callable.asgi = application_of(instance)
    assert application is not None
    await application.start()
    try:
        yield stage
    finally:
        await stage.close()
        await until(lambda: stage.runtime.statistics().ongoing == 0)
        await application.stop()


def path(target: str, *, method: str = "GET", body: bytes = b"", **fields: Any) -> dict[str, Any]:
    route, _, query = target.partition("?")
    return {
        "body": body,
        "method": method,
        "path": route,
        "raw_path": route.encode(),
        "query_string": query.encode(),
        "headers": [
            http_pb2.HttpHeader(name=b"host", value=b"example.org"),
            http_pb2.HttpHeader(name=b"content-type", value=b"application/json"),
        ],
    } | fields


async def fetched(stage: Stage, target: str, **fields: Any) -> tuple[int, Any]:
    head, body = await body_of(stage.caller.request(**path(target, **fields)))
    is_json = headers_of(head).get("content-type") == "application/json"
    return head.status, json.loads(body) if is_json else body.decode()


def shop(app: Any) -> type[Any]:
    """A class with endpoints on ``app``."""

    @serve.ingress(app)
    class Shop:
        def __init__(self, stock: int) -> None:
            self.stock = stock
            self.tasks: list[str] = []
            self.release = asyncio.Event()

        @app.get("/stock")
        def get_stock(self) -> dict[str, int]:
            return {"stock": self.stock}

        @app.post("/items/{number}", status_code=201)
        async def post_item(self, number: int, item: Item, q: str = "none") -> dict[str, Any]:
            self.stock += 1
            return {"number": number, "item": item, "q": q, "stock": self.stock}

        @app.get("/depends")
        async def depends(self, word: Annotated[str, Depends(given)]) -> str:
            return word

        @app.get("/soon")
        async def soon(self, background: BackgroundTasks) -> str:
            background.add_task(self.work)
            return "soon"

        async def work(self) -> None:
            await self.release.wait()
            self.tasks.append("done")

    return Shop


@pytest.mark.parametrize("kind", [FastAPI, APIRouter])
async def test_endpoints_are_methods_of_the_instance(kind: Made) -> None:
    async with serving(shop(kind())(7)) as stage:
        assert await fetched(stage, "/stock") == (200, {"stock": 7})
        item = {"name": "pen", "price": 1.0}
        status, made = await fetched(stage, "/items/5?q=z", method="POST", body=b'{"name": "pen"}')
        assert (status, made) == (201, {"number": 5, "item": item, "q": "z", "stock": 8})
        status, problem = await fetched(stage, "/items/x", method="POST", body=b"{}")
        assert status == 422
        assert [tuple(one["loc"]) for one in problem["detail"]] == [("path", "number"), ("body", "name")]
        assert (await fetched(stage, "/nowhere"))[0] == 404
        schema = (await fetched(stage, "/openapi.json"))[1]["paths"]
        assert [one["name"] for one in schema["/items/{number}"]["post"]["parameters"]] == ["number", "q"]
        assert "parameters" not in schema["/stock"]["get"], "self is no parameter"
        assert await fetched(stage, "/depends?word=ab") == (200, "abab")


async def test_classes_may_share_an_application_and_inherit() -> None:
    app = FastAPI()

    class Base:
        @app.get("/base")
        def base(self) -> str:
            return type(self).__name__

    @serve.ingress(app)
    class One(Base):
        @app.get("/one")
        def one(self) -> str:
            return "one"

    @serve.ingress(app)
    class Other(Base):
        @app.get("/other")
        def other(self) -> str:
            return "other"

    @app.get("/function")
    def function() -> str:
        return "function"

    async with serving(One()) as stage:
        assert await fetched(stage, "/one") == (200, "one")
        assert await fetched(stage, "/base") == (200, "One")
        assert await fetched(stage, "/function") == (200, "function")
        assert (await fetched(stage, "/other"))[0] == 404
    async with serving(Other()) as stage:
        assert await fetched(stage, "/other") == (200, "other")
        assert await fetched(stage, "/base") == (200, "Other")
        assert (await fetched(stage, "/one"))[0] == 404


async def test_endpoints_in_included_routers_and_under_a_decorator() -> None:
    app, router = FastAPI(), APIRouter()

    def noted(function: Any) -> Any:
        def inner(self: Any) -> Any:
            return function(self)

        return inner

    @serve.ingress(app)
    class Shop:
        word = "own"

        @router.get("/deep")
        def deep(self) -> str:
            return self.word

        @noted
        @app.get("/hidden")
        def hidden(self) -> str:
            return self.word

    app.include_router(router, prefix="/in")
    async with serving(Shop()) as stage:
        assert await fetched(stage, "/in/deep") == (200, "own")
        assert await fetched(stage, "/hidden") == (200, "own")


async def test_the_prefix_is_the_root_path() -> None:
    async with serving(shop(FastAPI())(1)) as stage:
        fields = {"path": "/shop/stock", "raw_path": b"/shop/stock", "root_path": "/shop"}
        assert await fetched(stage, "/shop/stock", **fields) == (200, {"stock": 1})
        schema = (await fetched(stage, "/shop/openapi.json", root_path="/shop"))[1]
        assert schema["servers"] == [{"url": "/shop"}]


async def test_a_background_task_does_not_delay_the_response() -> None:
    instance = shop(FastAPI())(1)
    async with serving(instance) as stage:
        answer = stage.caller.request(**path("/soon"))
        response = await answer.next()
        assert (response.status, response.body, response.complete) == (200, b'"soon"', True)
        assert not answer.ended.is_set(), "the call lasts until the task has ended"
        instance.release.set()
        assert await answer.all() == []
        assert instance.tasks == ["done"]


async def test_lifespan() -> None:
    events: list[str] = []

    @contextlib.asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[dict[str, Any]]:
        events.append("startup")
        yield {"word": "kept"}
        events.append("shutdown")

    async def endpoint(request: Request) -> PlainTextResponse:
        return PlainTextResponse(request.state.word)

    @serve.ingress(Starlette(routes=[Route("/", endpoint)], lifespan=lifespan))
    class Shop:
        def __init__(self) -> None:
            events.append("constructor")

    async with serving(Shop()) as stage:
        assert events == ["constructor", "startup"]
        assert await fetched(stage, "/") == (200, "kept")
    assert events == ["constructor", "startup", "shutdown"]


async def test_a_startup_that_fails() -> None:
    @contextlib.asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[None]:
        raise ValueError("no database")
        yield

    application = application_of(serve.ingress(Starlette(lifespan=lifespan))()())
    assert application is not None
    with pytest.raises(DeployFailedError, match="no database"):
        await application.start()
    await application.stop()


async def test_raw_callables_need_no_lifespan() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        message = await receive()
        await send({"type": "http.response.start", "status": 299, "headers": [(b"X-A", b"1")]})
        await send({"type": "http.response.body", "body": message["body"] * 2})

    async with serving(serve.ingress(app)()()) as stage:
        head, body = await body_of(stage.caller.request(**path("/", body=b"ab")))
        assert (head.status, headers_of(head), body) == (299, {"x-a": "1"}, b"abab")


async def test_streams_come_as_they_are_made_and_leaving_ends_them() -> None:
    steps: asyncio.Queue[str] = asyncio.Queue()
    ended = asyncio.Event()

    async def parts() -> AsyncIterator[str]:
        try:
            while True:
                yield await steps.get()
        finally:
            ended.set()

    async def endpoint(request: Request) -> StreamingResponse:
        return StreamingResponse(parts())

    middleware = [Middleware(BaseHTTPMiddleware, dispatch=lambda request, call_next: call_next(request))]
    for app in (
        Starlette(routes=[Route("/", endpoint)]),
        Starlette(routes=[Route("/", endpoint)], middleware=middleware),
    ):
        ended.clear()
        async with serving(serve.ingress(app)()()) as stage:
            answer = stage.caller.request(**path("/"))
            for word in ("one", "two"):
                steps.put_nowait(word)
                assert (await answer.next()).body == word.encode()
            answer.cancel()
            assert isinstance(await answer.error(), RequestCancelledError)
            await asyncio.wait_for(ended.wait(), 60)


async def test_errors() -> None:
    app = FastAPI()

    @app.get("/raises")
    def raises() -> None:
        raise ValueError("secret")

    @app.get("/full")
    def full() -> None:
        raise BackPressureError(1, 1, 429, 1.5)

    @app.get("/gone")
    def gone() -> None:
        raise DeploymentUnavailableError("no replicas")

    async with serving(serve.ingress(app)()()) as stage:
        assert await fetched(stage, "/raises") == (500, "Internal Server Error")  # Starlette's
        head, body = await body_of(stage.caller.request(**path("/full")))
        assert (head.status, headers_of(head)["retry-after"]) == (429, "2")
        full = json.loads(body)
        assert (full["code"], full["details"][0]["reason"]) == (8, "QUEUE_FULL")
        assert full["message"].startswith("Request dropped due to backpressure")
        status, gone = await fetched(stage, "/gone")
        assert (status, gone["code"], gone["message"]) == (503, 14, "no replicas")


@pytest.mark.parametrize("messages", [
    [],
    [{"type": "http.response.body", "body": b""}],
    [{"type": "http.response.start", "status": 200}, {"type": "http.response.start", "status": 200}],
    [{"type": "made.up"}],
])  # fmt: skip
async def test_applications_that_do_not_know_asgi_get_500(
    messages: list[dict[str, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        for message in messages:
            await send(message)

    async with serving(serve.ingress(app)()()) as stage:
        # The gateway makes the response.
        assert isinstance(await stage.caller.request(**path("/")).error(), UserExceptionError)
    assert "RuntimeError" in caplog.text


async def test_fields_that_http_cannot_carry_are_the_applications_error() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        with pytest.raises(ValueError, match="the header field b'x y' of the response"):
            await send({"type": "http.response.start", "status": 200, "headers": [(b"x y", b"1")]})
        await send({"type": "http.response.start", "status": 500, "headers": [(b"X-Own", b"1")]})
        await send({"type": "http.response.body", "body": b"own"})

    async with serving(serve.ingress(app)()()) as stage:
        head, body = await body_of(stage.caller.request(**path("/")))
        assert (head.status, headers_of(head), body) == (500, {"x-own": "1"}, b"own")


async def test_half_a_response_is_no_success() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})

    async with serving(serve.ingress(app)()()) as stage:
        answer = stage.caller.request(**path("/"))
        assert (await answer.next()).body == b"half"
        assert "without a complete response" in str(await answer.error())


async def test_applications_below_an_application() -> None:
    async def inner(request: Request) -> PlainTextResponse:
        return PlainTextResponse(f"{request.scope['root_path']} {request.path_params['n']} {request.url}")

    app = Starlette(routes=[Mount("/sub", routes=[Route("/{n:int}", inner)])])
    async with serving(serve.ingress(app)()()) as stage:
        target = path("/app/sub/5", root_path="/app")
        _, body = await body_of(stage.caller.request(**target))
        assert body == b"/app/sub 5 http://example.org/app/sub/5"


async def test_no_header_leads_past_the_application() -> None:
    async def endpoint(request: Request) -> PlainTextResponse:
        return PlainTextResponse("application")

    class Guarded:
        async def secret(self, request: Any) -> str:
            return "secret"

    made = serve.ingress(Starlette(routes=[Route("/", endpoint)]))(Guarded)()
    async with serving(made) as stage:
        _, body = await body_of(stage.caller.request(handler="secret", **path("/")))
        assert body == b"application"


async def test_what_is_no_request() -> None:
    async with serving(serve.ingress(FastAPI())()()) as stage:
        broken = Answer(stage.caller.link, None)
        http = session_pb2.SERIALIZATION_HTTP
        call = session_pb2.CallHeader(request_serialization=http, response_serialization=http)
        broken.stream = stage.caller.link.open(call, b"\xff\xff", broken)
        assert isinstance(await broken.error(), InvalidArgumentsError)


class Room:
    """A WebSocket's client."""

    def __init__(self, stage: Stage, target: str, protocols: str = "") -> None:
        fields = path(target, websocket=True)
        if protocols:
            fields["headers"] = [http_pb2.HttpHeader(name=b"sec-websocket-protocol", value=protocols.encode())]
        message = http_pb2.HttpRequest(**fields)
        self.link = stage.caller.link
        self.answer = Answer(self.link, None)
        http = session_pb2.SERIALIZATION_HTTP
        call = session_pb2.CallHeader(request_serialization=http, response_serialization=http, stream=True)
        self.answer.stream = self.link.open(call, message.SerializeToString(), self.answer, last=False)

    def say(self, *, last: bool = False, **content: Any) -> None:
        message = http_pb2.WebSocketMessage(**content)
        self.link.send(self.answer.stream, message.SerializeToString(), last=last)

    def leave(self, code: int, reason: str = "") -> None:
        self.say(close=http_pb2.WebSocketClose(code=code, reason=reason), last=True)

    async def hear(self) -> http_pb2.WebSocketMessage:
        payload = await asyncio.wait_for(self.answer._reader.get(), 60)
        return http_pb2.WebSocketMessage.FromString(payload)


class TestWebSockets:
    async def test_messages_both_ways_on_a_method(self) -> None:
        app = FastAPI()

        @serve.ingress(app)
        class Shop:
            word = "own"

            @app.websocket("/room/{name}")
            async def room(self, websocket: WebSocket, name: str) -> None:
                await websocket.accept("b", [(b"X-A", b"1")])
                await websocket.send_text(f"{self.word} {name} {websocket.scope['subprotocols']}")
                await websocket.send_text(await websocket.receive_text())
                await websocket.send_bytes(await websocket.receive_bytes())
                await websocket.close(4001, "enough")

        async with serving(Shop()) as stage:
            room = Room(stage, "/room/x", "a, b")
            accept = (await room.hear()).accept
            assert accept.subprotocol == "b"
            assert [(field.name, field.value) for field in accept.headers] == [(b"x-a", b"1")]
            assert (await room.hear()).text == "own x ['a', 'b']"
            room.say(text="grüße")
            assert (await room.hear()).text == "grüße"
            room.say(data=b"\xff\0")
            assert (await room.hear()).data == b"\xff\0"
            close = (await room.hear()).close
            assert (close.code, close.reason) == (4001, "enough")
            assert await room.answer.all() == []

    async def test_the_client_leaves(self) -> None:
        seen: asyncio.Queue[Any] = asyncio.Queue()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            assert scope["type"] == "websocket"
            await receive()
            await send({"type": "websocket.accept"})
            seen.put_nowait(await receive())
            with pytest.raises(OSError, match="left"):
                await send({"type": "websocket.send", "text": "late"})
            seen.put_nowait("ended")

        async with serving(serve.ingress(app)()()) as stage:
            room = Room(stage, "/")
            await room.hear()
            room.leave(3000, "bye")
            assert await seen.get() == {"type": "websocket.disconnect", "code": 3000, "reason": "bye"}
            assert await seen.get() == "ended"
            assert (await room.hear()).close.code == 1000
            assert await room.answer.all() == []

    @pytest.mark.parametrize("path_", ["/close", "/response", "/raises", "/nowhere", "/silent"])
    async def test_refusals(self, path_: str) -> None:
        app = FastAPI()

        @app.websocket("/close")
        async def close(websocket: WebSocket) -> None:
            await websocket.close(1008)

        @app.websocket("/response")
        async def response(websocket: WebSocket) -> None:
            await websocket.send_denial_response(PlainTextResponse("teapot", 418))

        @app.websocket("/raises")
        async def raises(websocket: WebSocket) -> None:
            raise ValueError("secret")

        @app.websocket("/silent")
        async def silent(websocket: WebSocket) -> None: ...

        async with serving(serve.ingress(app)()()) as stage:
            room = Room(stage, path_)
            if path_ in ("/raises", "/silent"):
                assert isinstance(await room.answer.error(), UserExceptionError)  # the gateway makes the response
            elif path_ == "/response":
                first = (await room.hear()).response
                assert (first.status, first.body) == (418, b"teapot")
            else:
                assert (await room.hear()).close.code == (1008 if path_ == "/close" else 1000)

    @pytest.mark.parametrize(
        "message",
        [
            {"type": "websocket.accept", "headers": [(b"x\r\ny", b"1")]},
            {"type": "websocket.accept", "headers": [(b"x-a", b"1\r\ny: 1")]},
            {"type": "websocket.accept", "subprotocol": "a\r\ny: 1"},
            {"type": "websocket.http.response.start", "status": 403, "headers": [(b"x\ny", b"1")]},
        ],
    )
    async def test_fields_that_http_cannot_carry(
        self, message: dict[str, Any], caplog: pytest.LogCaptureFixture
    ) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            assert scope["type"] == "websocket"
            await send(message)

        async with serving(serve.ingress(app)()()) as stage:
            assert isinstance(await Room(stage, "/").answer.error(), UserExceptionError)
        assert "the header field" in caplog.text

    async def test_an_application_that_fails_closes_with_1011(self, caplog: pytest.LogCaptureFixture) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            assert scope["type"] == "websocket"
            await send({"type": "websocket.accept"})
            raise ValueError("secret")

        async with serving(serve.ingress(app)()()) as stage:
            room = Room(stage, "/")
            await room.hear()
            close = (await room.hear()).close
            assert (close.code, close.reason) == (1011, "Internal Server Error")
        assert "secret" in caplog.text

    async def test_a_slow_client_stops_the_application_and_cancelling_ends_it(self) -> None:
        sent = 0
        ended = asyncio.Event()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            nonlocal sent
            assert scope["type"] == "websocket"
            await send({"type": "websocket.accept"})
            try:
                while True:
                    await send({"type": "websocket.send", "bytes": bytes(1000)})
                    sent += 1
            finally:
                ended.set()

        async with serving(serve.ingress(app)()()) as stage:
            room = Room(stage, "/")
            seen = -1
            while seen != sent:
                seen = sent
                for _ in range(20):
                    await asyncio.sleep(0)
            assert 0 < sent < 1000
            room.answer.cancel()
            await asyncio.wait_for(ended.wait(), 60)
