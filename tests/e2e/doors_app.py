"""What test_http.py and test_grpc_door.py call."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pydantic
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, StreamingResponse

from fairlead import serve
from fairlead.serve.exceptions import BackPressureError


class Model(pydantic.BaseModel):
    x: int


@serve.deployment
class Web:
    """Its query says what it returns."""

    async def __call__(self, request: Request) -> Any:
        what = request.query_params.get("what", "")
        if what == "request":
            return {
                "method": request.method,
                "path": request.url.path,
                "root_path": request.scope["root_path"],
                "query": dict(request.query_params),
                "header": request.headers.get("x-mine"),
                "body": (await request.body()).decode(),
            }
        if what == "json body":
            return await request.json()
        if what == "form":
            return dict(await request.form())
        if what == "length":
            return len(await request.body())
        if what == "headers":
            return request.headers["x-custom-header"]
        if what == "stream":
            return StreamingResponse(f"{number}\n" for number in range(3))
        if what == "agenerator":
            return self.numbers()
        if what == "full":
            raise BackPressureError(1, 1, 429, 2.5)
        return {
            "text": "hello",
            "bytes": b"\xff\0",
            "dict": {"a": [1, None]},
            "number": 1.5,
            "none": None,
            "tuple": (1, True),
            "int": 5,
            "nested": {"b": b"bytes", "e": ValueError("text"), "m": Model(x=1)},
            "response": PlainTextResponse("teapot", 418, {"x-kind": "short and stout"}),
            "json": JSONResponse([1]),
        }[what]

    async def numbers(self) -> AsyncIterator[str]:
        for number in range(3):
            yield f"{number}\n"


@serve.deployment
def plain() -> str:
    return "no request wanted"


@serve.deployment
def streaming(request: Request) -> Iterator[str]:
    yield "a"
    yield "b"


@serve.deployment
class Methods:
    def echo(self, value: Any) -> Any:
        return value

    def count(self, n: int) -> Iterator[int]:
        yield from range(n)

    async def total(self, numbers: AsyncIterator[int]) -> int:
        return sum([number async for number in numbers])
