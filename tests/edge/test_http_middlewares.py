"""Middlewares around the HTTP door, and their way to it."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware

from fairlead.serve import instance_middlewares
from fairlead.serve.config import HTTPOptions, ProxyLocation
from fairlead.serve.doors import Doors
from fairlead.v1 import http_pb2
from fairlead_gateway.edge.binding import BindError, TcpListener
from fairlead_gateway.edge.http_door import HttpDoor
from fairlead_gateway.edge.http_middlewares import load
from tests.edge.fake_router import FakeCall, FakeRouter, application
from tests.edge.test_http import echo, response


class Mark:
    """A middleware in Starlette's format: it marks every response."""

    def __init__(self, app: Any, name: str) -> None:
        self.app = app
        self.name = name

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def marked(message: Any) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], (b"x-mark", self.name.encode())]}
            await send(message)

        await self.app(scope, receive, marked)


class Raising:
    def __init__(self, app: Any) -> None:
        raise ValueError("never made")


@contextlib.asynccontextmanager
async def served(*middlewares: Middleware, behave: Any = echo) -> Any:
    router = FakeRouter(behave)
    router.deploy(application("app", route_prefix="/app"))
    door = HttpDoor(router, TcpListener(), middlewares=middlewares)
    async with httpx.AsyncClient(base_url=f"http://{await door.start()}", trust_env=False) as client:
        try:
            yield client
        finally:
            await client.aclose()
            await door.stop(1)


async def test_everything_passes_them_and_the_last_is_the_outermost() -> None:
    async with served(Middleware(Mark, "inner"), Middleware(Mark, name="outer")) as client:
        for path, status in (("/app", 200), ("/-/routes", 200), ("/-/healthz", 200), ("/nowhere", 404)):
            answer = await client.get(path)
            assert (answer.status_code, answer.headers.get_list("x-mark")) == (status, ["inner", "outer"])


class Failing:
    """Raises, at a path of its own before the response and at another one within it."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/raises":
            raise ValueError("secret")
        if scope["path"] == "/begins":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            raise ValueError("secret")
        if scope["path"] != "/returns":
            await self.app(scope, receive, send)


async def test_one_that_fails_is_500(caplog: pytest.LogCaptureFixture) -> None:
    async with served(Middleware(Failing)) as client:
        for path in ("/raises", "/returns"):
            answer = await client.get(path)
            assert (answer.status_code, answer.headers["connection"]) == (500, "close")
            assert answer.json() == {"code": 13, "message": "Internal Server Error", "details": []}
        with pytest.raises(httpx.RemoteProtocolError):
            await client.get("/begins")
        assert (await client.get("/app")).status_code == 200
    assert caplog.text.count("ValueError: secret") == 2


async def dispatch(request: Any, call_next: Any) -> Any:
    answer = await call_next(request)
    answer.headers["x-path"] = request.url.path
    return answer


@pytest.mark.parametrize("middleware", [Middleware(GZipMiddleware), Middleware(BaseHTTPMiddleware, dispatch=dispatch)])
async def test_starlettes_own_pass_whole_responses_and_streams(middleware: Middleware) -> None:
    async def behave(call: FakeCall) -> None:
        request = http_pb2.HttpRequest.FromString(call.payload)
        if request.path == "/app/whole":
            call.end(None, response(body=request.body * 2))
            return
        for number in range(3):
            call.message(response(200 if not number else 0, b"%d" % number))
            await steps.get()
        call.end()

    steps: asyncio.Queue[None] = asyncio.Queue()
    async with served(middleware, behave=behave) as client:
        for _ in range(2):
            answer = await client.post("/app/whole", content=b"x" * 1000)
            assert (answer.status_code, answer.content) == (200, b"x" * 2000)
        async with client.stream("GET", "/app/stream", headers={"accept-encoding": "identity"}) as answer:
            seen = b""
            async for piece in answer.aiter_raw():
                seen += piece
                steps.put_nowait(None)
        assert seen == b"012"
        assert (await client.get("/nowhere")).status_code == 404


async def test_cross_origin_requests() -> None:
    async with served(Middleware(CORSMiddleware, allow_origins=["*"], allow_methods=["*"])) as client:
        origin = {"origin": "https://example.org"}
        answer = await client.get("/app", headers=origin)
        assert answer.headers["access-control-allow-origin"] == "*"
        assert "access-control-allow-origin" not in (await client.get("/app")).headers
        answer = await client.options("/app", headers={**origin, "access-control-request-method": "GET"})
        assert (answer.status_code, answer.text) == (200, "OK")
        assert answer.headers["access-control-allow-origin"] == "*"
        assert {"GET", "POST"} <= set(answer.headers["access-control-allow-methods"].split(", "))
        assert answer.headers["access-control-max-age"] == "600"


def test_they_are_kept_for_the_gateway(tmp_path: Path) -> None:
    doors = Doors(http=HTTPOptions(middlewares=[Middleware(Mark, "a"), Middleware(type("Own", (Mark,), {}), "b")]))
    doors.keep(tmp_path)
    (path,) = tmp_path.iterdir()
    assert path.stat().st_mode & 0o777 == 0o600
    first, second = load(tmp_path)
    assert (first.cls, first.args) == (Mark, ("a",))
    assert (second.cls.__name__, second.args) == ("Own", ("b",))
    Doors().keep(tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert load(tmp_path) == ()


def test_a_file_that_others_could_have_written_is_not_read(tmp_path: Path) -> None:
    instance_middlewares.keep(tmp_path, [Middleware(Mark, "a")])
    next(tmp_path.iterdir()).chmod(0o640)
    with pytest.raises(BindError, match="not this user's alone"):
        load(tmp_path)


def test_what_cannot_be_made(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="cannot be sent to the gateway"):
        instance_middlewares.keep(tmp_path, [Middleware(Mark, (one for one in ()))])
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "http_middlewares.pickle").touch(0o600)
    with pytest.raises(BindError, match="EOFError"):
        load(tmp_path)


async def test_one_that_raises_keeps_the_door_shut() -> None:
    with pytest.raises(BindError, match="the HTTP middleware Raising: ValueError: never made"):
        HttpDoor(FakeRouter(), TcpListener(), middlewares=[Middleware(Raising)])


@pytest.mark.parametrize("middlewares", [[CORSMiddleware], [5], [(CORSMiddleware, {})]])
def test_what_is_no_middleware(middlewares: list[Any]) -> None:
    with pytest.raises(TypeError, match=r"starlette\.middleware\.Middleware"):
        HTTPOptions(middlewares=middlewares)


@pytest.mark.parametrize(
    ("options", "served_"),
    [
        ({}, True),
        ({"location": "HeadOnly"}, True),
        ({"location": "EveryNode"}, True),
        ({"location": ProxyLocation.EveryNode}, True),
        ({"location": "NoServer"}, False),
        ({"location": "Disabled"}, False),
        ({"location": None}, False),
        ({"host": None}, False),
    ],
)
def test_locations(options: dict[str, Any], served_: bool) -> None:
    doors = Doors.of(None, HTTPOptions.of(options), None, False)
    assert (doors.http is not None) is served_


def test_a_location_that_is_none() -> None:
    with pytest.raises(ValueError, match="must be one of Disabled, HeadOnly, EveryNode"):
        HTTPOptions(location="Somewhere")
