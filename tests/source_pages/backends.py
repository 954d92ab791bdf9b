"""What the classic pages deploy."""

from __future__ import annotations

import asyncio
import os
import threading
from dataclasses import dataclass
from typing import Any

import starlette.requests
from starlette.responses import Response

import fairlead as ray
from fairlead import serve
from fairlead.serve.utils import ServeRequest


def hello(request: Any) -> str:
    return "hello"


def my_backend(request: Any) -> str:
    username: str = request.path_params["username"]
    return username


def parameters(request: Any) -> dict[str, Any]:
    return {name: [type(value).__name__, value] for name, value in request.path_params.items()}


def f(starlette_request: Any) -> Response:
    return Response("Hello, world!", status_code=123, media_type="text/plain")


def teapot(request: Any) -> Response:
    return Response("short and stout", status_code=418, media_type="text/plain")


def own_tag(request: Any) -> list[Any]:
    mine = serve.get_replica_context()
    return [mine.backend_tag, mine.replica_tag, "tagged" in serve.connect().list_backends()]


def pid(request: Any) -> int:
    return os.getpid()


class Named:
    """Answers with its name."""

    def __init__(self, name: str) -> None:
        self.name = name

        self.calls: list[str] = []

    def __call__(self, request: Any) -> str:
        return self.name

    def other(self, request: Any) -> str:
        self.calls.append("other")
        return f"other of {self.name}"

    def called(self, request: Any) -> list[str]:
        return self.calls


class StatefulProcessor:
    def __init__(self) -> None:
        self.count = 1

    def __call__(self, request: Any) -> dict[str, int]:
        return {"current": self.count}

    def other_method(self, inc: int) -> bool:
        self.count += inc
        return True


@dataclass
class Point:
    x: int
    y: int


class Configured:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def reconfigure(self, config: Any) -> None:
        self.told.append(config)

    def __call__(self, request: Any) -> tuple[int, list[Any]]:
        return os.getpid(), self.told


class Counter:
    def __init__(self) -> None:
        self.count = 0

    def __call__(self, request: Any) -> int:
        self.count += 1
        return self.count


class Methods:
    """Has no __call__."""

    def method(self, request: Any) -> str:
        return "hello"


async def mirror(request: Any) -> Any:
    """What a request says, member by member, by the query's or keyword's ``what``."""
    what = request.query_params["what"]
    if what == "headers":
        return request.headers["x-custom-header"]
    if what == "method":
        return request.method
    if what == "json":
        return await request.json()
    if what == "form":
        return dict(await request.form())
    if what == "params":
        return dict(request.query_params)
    if what == "body":
        body = await request.body()
        return [type(body).__name__, body if isinstance(body, str) else body.decode()]
    if what == "object":
        return await request.body()
    if what == "length":
        return len(await request.body())
    if what == "data":
        return request.data
    raise ValueError(what)


def origin(request: Any) -> str:
    if isinstance(request, starlette.requests.Request):
        return "web"
    return "python" if isinstance(request, ServeRequest) else "neither"


async def inner(request: Any) -> dict[str, Any]:
    return {
        "type": str(type(request)),
        "method": request.method,
        "path": request.path_params,
        "query": dict(request.query_params),
        "header": request.headers.get("x-a"),
        "body": (await request.body()).decode(),
    }


class Wrapper:
    """Passes its request on."""

    def __init__(self) -> None:
        self.handle = serve.get_handle("inner", sync=False)

    async def __call__(self, request: Any) -> Any:
        await request.body()
        return await (await self.handle.remote(request))


class Composed:
    def __init__(self) -> None:
        self.handle = serve.get_handle("endpoint1")

    def __call__(self, request: Any) -> str:
        answer: str = ray.get(self.handle.remote())
        return answer


@serve.accept_batch
def batched(requests: list[Any]) -> list[int]:
    return [len(requests)] * len(requests)


@serve.accept_batch
async def shrinking(requests: list[Any]) -> list[int]:
    return [1, 2, 3, 4, 5, 6, 7]


class Marked:
    """Each of its methods gets lists, since what ``__call__`` says counts for the backend."""

    @serve.accept_batch
    def __call__(self, requests: list[Any]) -> list[Any]:
        return [["marked", [request.data for request in requests]]] * len(requests)

    async def other(self, requests: list[Any]) -> list[Any]:
        return [["other", [await request.body() for request in requests]]] * len(requests)


class Imported:
    """Is not marked: whether what a path leads to accepts batches is not known before it runs, and so believed."""

    def __init__(self, argument: str) -> None:
        assert argument == "given"

    def __call__(self, requests: list[Any]) -> list[Any]:
        return [["imported", [request.data for request in requests]]] * len(requests)

    async def other(self, requests: list[Any]) -> list[Any]:
        return [["other", [await request.body() for request in requests]]] * len(requests)


class Meeting:
    """Its calls go on when so many are there; each says its number."""

    def __init__(self, parties: int) -> None:
        self.barrier = threading.Barrier(parties)

    def __call__(self, request: Any) -> int:
        return self.barrier.wait(30)


class Stuck:
    """Its calls never end."""

    def __init__(self) -> None:
        self.stuck = threading.Event()

    def __call__(self, request: Any) -> None:
        self.stuck.set()
        threading.Event().wait()

    def waits(self, request: Any) -> bool:
        return self.stuck.wait(30)


async def slow(request: Any) -> str:
    await asyncio.sleep(0)
    return "slow"


def failing(request: Any) -> None:
    raise KeyError("no such thing")
