"""What test_bad_input.py mistreats."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

from starlette.requests import Request

from fairlead import serve
from fairlead.serve.context import get_replica_context
from tests.e2e.stage import Stage


class Unpicklable:
    def __reduce__(self) -> Any:
        raise ZeroDivisionError("not to be pickled")


class Treacherous:
    """Pickles, and raises where it is unpickled."""

    def __reduce__(self) -> Any:
        return (_raise, ())


def _raise() -> None:
    raise ZeroDivisionError("not to be unpickled")


class Unspeakable(Exception):
    """Even its text fails."""

    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


@serve.deployment(max_ongoing_requests=20)
class Sturdy:
    def __init__(self, stage: Stage) -> None:
        self.stage = stage

    async def __call__(self, request: Request) -> Any:
        what = request.query_params.get("what", "")
        if what == "object":
            return object()
        if what == "raise":
            raise Unspeakable
        return {"bytes": len(await request.body())}

    def whoami(self) -> str:
        return get_replica_context().replica_id

    def echo(self, value: Any, times: int = 1) -> Any:
        return value

    def make(self, what: str) -> Any:
        nested: list[Any] = []
        if what == "deep":
            for _ in range(100_000):
                nested = [nested]
        return {
            "object": object(),
            "generator": (i for i in ()),
            "lambda": lambda: 1,
            "unpicklable": Unpicklable(),
            "treacherous": Treacherous(),
            "surrogate": "\ud800",
            "deep": nested,
            "huge integer": 2**70,
        }[what]

    def large(self, size: int) -> bytes:
        return b"x" * size

    def items(self, bad_at: int) -> Iterator[Any]:
        yield from range(bad_at)
        yield object()

    def endless(self) -> Iterator[bytes]:
        while True:
            yield b"x" * 10_000

    def raise_unspeakable(self) -> None:
        raise Unspeakable

    async def hold(self, key: str) -> str:
        self.stage.note(f"held {key}")
        await self.stage.pass_gate(key)
        return key

    async def chat(self, messages: AsyncIterator[Any]) -> AsyncIterator[Any]:
        async for message in messages:
            yield message
