"""Routed methods called over a link: results, streams and errors as the gateway gets them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, StreamingResponse

from fairlead import serve
from fairlead.v1 import http_pb2
from fairlead.wire.errors import InvalidArgumentsError, MethodNotFoundError, RequestCancelledError
from tests.replica.calling import Answer, Stage, until


class Target:
    def __init__(self) -> None:
        self.cancelled = 0

    @serve.route("/double")
    async def double(self, x: int) -> int:
        return x * 2

    @serve.route("/sync")
    def sync(self, x: int) -> list[int]:
        return [x]

    @serve.route("/path/{x:float}")
    def handler(self, request: Request) -> str:
        return f"{request.path_params}"

    @serve.route("/count")
    async def count(self, upto: int, fail: bool = False) -> AsyncIterator[int]:
        for number in range(upto):
            yield number
        if fail:
            raise ValueError("late")

    @serve.route("/rows")
    def rows(self, upto: int) -> Iterator[int]:
        yield from range(upto)

    @serve.route("/teapot")
    async def teapot(self, stream: bool = False) -> AsyncIterator[int]:
        if not stream:
            raise HTTPException(418, "short")
        yield 1
        raise HTTPException(418, "late")

    @serve.route("/unsayable")
    def unsayable(self) -> None:
        raise HTTPException(418, headers={"x-a": "1\n2"})

    @serve.route("/response")
    async def response(self, stream: bool = False) -> Any:
        return StreamingResponse(iter(["a", "b"])) if stream else PlainTextResponse("x", 201)

    @serve.route("/made")
    async def made(self) -> Any:
        return self.count(2)

    @serve.route("/batched")
    @serve.batch(max_batch_size=2, batch_wait_timeout_s=5)
    async def batched(self, x: list[int]) -> list[int]:
        return [sum(x)] * len(x)

    @serve.route("/wait")
    async def wait(self) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    stage = Stage(Target())
    yield stage
    await stage.close()


def get(
    stage: Stage, method: str, query: str = "", *, route: str | None = None, accept: str = "", **params: str
) -> Answer:
    headers = [http_pb2.HttpHeader(name=b"accept", value=accept.encode())] if accept else []
    return stage.caller.request(
        handler=method,
        method="GET",
        route=f"/{method}" if route is None else route,
        query_string=query.encode(),
        path_params=params,
        headers=headers,
    )


async def body(answer: Answer) -> bytes:
    return b"".join(piece.body for piece in await answer.all())


async def test_results(stage: Stage) -> None:
    assert await body(get(stage, "double", "x=4")) == b"8"
    assert await body(get(stage, "sync", "x=4")) == b"[4]"
    assert await body(get(stage, "handler", route="/path/{x:float}", x="1.5")) == b"{'x': 1.5}"
    (response,) = await get(stage, "response").all()
    assert (response.status, response.body) == (201, b"x")
    assert await body(get(stage, "response", "stream=1")) == b"ab"


async def test_requests_share_a_batch(stage: Stage) -> None:
    first, second = get(stage, "batched", "x=1"), get(stage, "batched", "x=2")
    assert [await body(first), await body(second)] == [b"3", b"3"]


async def test_streams(stage: Stage) -> None:
    assert await body(get(stage, "count", "upto=2")) == b"0\n1\n"
    assert await body(get(stage, "rows", "upto=2", accept="application/json")) == b"[0,1]"
    assert await body(get(stage, "rows", "upto=0", accept="application/json")) == b"[]"
    assert await body(get(stage, "made", accept="text/event-stream")) == b"data: 0\n\ndata: 1\n\n"


async def test_errors(stage: Stage) -> None:
    answer = get(stage, "double", "x=a")
    assert isinstance(await answer.error(), InvalidArgumentsError)
    assert answer.outcome is not None
    assert len(answer.outcome.status.details) == 2
    late = get(stage, "count", "upto=1&fail=1")
    assert (await late.next()).body == b"0\n"
    assert isinstance(await late.error(), ValueError)
    (refused,) = await get(stage, "teapot").all()
    assert refused.status == 418
    assert isinstance(await get(stage, "teapot", "stream=1").error(), HTTPException)
    assert await get(stage, "unsayable").error() is not None


async def test_what_is_no_route(stage: Stage) -> None:
    assert isinstance(await get(stage, "double", route="/other").error(), MethodNotFoundError)
    assert isinstance(await get(stage, "cancelled", route="/x").error(), MethodNotFoundError)


async def test_without_a_route_it_is_a_request_handler(stage: Stage) -> None:
    assert await body(get(stage, "handler", route="")) == b"{}"


async def test_cancelling(stage: Stage) -> None:
    answer = get(stage, "wait")
    target = stage.runtime.callable.target
    await until(lambda: stage.runtime.load().ongoing == 1)
    answer.cancel()
    assert isinstance(await answer.error(), RequestCancelledError)
    assert target.cancelled == 1
