"""What test_asgi.py serves: a FastAPI application on a class that calls another deployment, and plain handlers."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import BackgroundTasks, FastAPI, WebSocket
from fastapi.responses import StreamingResponse
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import WebSocketRoute

from fairlead import serve
from fairlead.serve.handle import DeploymentHandle
from tests.e2e.stage import Stage


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
    yield {"started_in": os.getpid()}


app = FastAPI(lifespan=lifespan)


class Order(BaseModel):
    name: str
    count: int = 1


@serve.deployment
class Stock:
    def __init__(self, stage: Stage) -> None:
        self.stage = stage

    async def take(self, count: int) -> int:
        return 10 - count

    async def hang(self, key: str) -> None:
        self.stage.note(f"child of {key} runs")
        try:
            await self.stage.pass_gate("never")
        finally:
            self.stage.note(f"child of {key} ended")


@serve.deployment
@serve.ingress(app)
class Shop:
    def __init__(self, stock: DeploymentHandle[Stock], stage: Stage) -> None:
        self.stock = stock
        self.stage = stage

    @app.get("/where")
    def where(self, request: Request) -> dict[str, Any]:
        return {"pid": os.getpid(), "started_in": request.state.started_in, "root_path": request.scope["root_path"]}

    @app.post("/orders", status_code=201)
    async def order(self, order: Order) -> dict[str, Any]:
        return {"order": order, "left": await self.stock.take.remote(order.count)}

    @app.get("/lines")
    async def lines(self, key: str) -> StreamingResponse:
        async def made() -> AsyncIterator[str]:
            yield "first\n"
            await self.stage.pass_gate(key)
            yield "second\n"

        return StreamingResponse(made())

    @app.get("/background")
    async def background(self, key: str, tasks: BackgroundTasks) -> str:
        tasks.add_task(self.later, key)
        return "at once"

    async def later(self, key: str) -> None:
        await self.stage.pass_gate(key)
        self.stage.note(f"{key} done")

    @app.get("/hang")
    async def hang(self, key: str) -> None:
        await self.stock.hang.remote(key)

    @app.get("/split")
    def split(self, stream: bool = False) -> Response:
        return splitting(StreamingResponse(iter(["a", "b"])) if stream else Response("a"))

    @app.get("/raises")
    def raises(self) -> None:
        raise ValueError("secret")

    @app.websocket("/room")
    async def room(self, websocket: WebSocket, key: str) -> None:
        if key == "refused":
            await websocket.close()
            return
        await websocket.accept(subprotocol=(websocket.scope["subprotocols"] or [None])[0])
        try:
            async for text in websocket.iter_text():
                await websocket.send_text(f"{text}: {await self.stock.take.remote(len(text))}")
        finally:
            self.stage.note(f"{key} left with")


def splitting(response: Response) -> Response:
    response.headers["x-a"] = "1\r\ncontent-length: 0\r\n\r\nHTTP/1.1 200 OK"
    return response


@serve.deployment
class Plain:
    """Its methods are for the header that names one."""

    async def __call__(self, request: Request) -> Any:
        status = int(request.query_params["status"])
        return Response("Hello, world!", status_code=status, media_type="text/plain")

    def split(self, request: Request) -> Response:
        return splitting(Response("a"))

    def split_stream(self, request: Request) -> Response:
        return splitting(StreamingResponse(iter(["a", "b"])))

    async def split_error(self, request: Request) -> None:
        raise HTTPException(418, headers={"x-a": "日本"})

    def other(self, request: Request) -> str:
        return f"other {request.method}"

    def lines(self, request: Request) -> Iterator[str]:
        yield "a"
        yield "b"

    def fail(self, request: Request) -> None:
        raise ValueError("secret")

    async def hang(self, request: Request) -> None:
        await serve.get_deployment_handle("Stock", "shop").hang.remote(request.query_params["key"])


@serve.deployment
class NoCall:
    def hello(self, request: Request) -> str:
        return "hello"


async def endless_room(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_text("welcome")
    await asyncio.Event().wait()


@serve.deployment(graceful_shutdown_timeout_s=1.5)
@serve.ingress(Starlette(routes=[WebSocketRoute("/", endless_room)]))
class Rooms:
    """Its application closes nothing by itself."""


class Marking:
    """A middleware of the user's own."""

    def __init__(self, app: Any, mark: str) -> None:
        self.app = app
        self.mark = mark

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def marked(message: Any) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], (b"x-mark", self.mark.encode())]}
            await send(message)

        await self.app(scope, receive, marked)
