"""What test_trust.py calls, and tries to make unpickle something."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

from starlette.requests import Request

from fairlead import serve


@serve.deployment
class Guarded:
    async def __call__(self, request: Request) -> str:
        return f"{len(await request.body())} bytes"

    def echo(self, value: Any = None) -> Any:
        return value

    def fail(self) -> None:
        secret = "the traceback shows this line"
        raise ValueError("boom", len(secret))

    def stream(self, value: Any = None) -> Iterator[Any]:
        yield value

    def count(self, to: int) -> Iterator[int]:
        yield from range(to)

    def fail_late(self) -> Iterator[int]:
        yield 1
        raise ValueError("boom")

    async def chat(self, messages: AsyncIterator[Any]) -> AsyncIterator[Any]:
        async for message in messages:
            yield message


app = Guarded.bind()
