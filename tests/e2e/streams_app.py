"""What test_streams.py calls."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import orjson
from starlette.requests import Request

from fairlead import serve
from fairlead.serve.handle import DeploymentHandle
from tests.e2e.stage import Stage

KILOBYTE = "x" * 1024


@serve.deployment(max_ongoing_requests=100)
class Streams:
    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.produced: dict[str, int] = {}

    def __call__(self, request: Request) -> Any:
        """A HTTP request names the generator and its arguments."""
        return getattr(self, request.query_params["method"])(*orjson.loads(request.query_params["arguments"]))

    def count(self, number: int) -> Iterator[int]:
        yield from range(number)

    async def count_async(self, number: int) -> AsyncIterator[int]:
        for item in range(number):
            yield item

    async def count_later(self, number: int) -> AsyncIterator[int]:  # a coroutine that returns a generator
        await asyncio.sleep(0)
        return self.count_async(number)

    def nothing(self) -> Iterator[int]:
        return iter(()) if self.produced is None else (item for item in ())

    def fail_after(self, number: int) -> Iterator[int]:
        yield from range(number)
        raise ValueError("no more")

    async def fail_after_async(self, number: int) -> AsyncIterator[int]:
        for item in range(number):
            yield item
        raise ValueError("no more")

    def kilobytes(self, key: str) -> Iterator[str]:
        """Never ends."""
        try:
            while True:
                self.produced[key] = self.produced.get(key, 0) + 1
                yield KILOBYTE
        finally:
            self.stage.note(f"closed {key}")

    async def kilobytes_async(self, key: str) -> AsyncIterator[str]:
        """Never ends."""
        try:
            while True:
                self.produced[key] = self.produced.get(key, 0) + 1
                yield KILOBYTE
        finally:
            await asyncio.sleep(0)  # what cleans up may wait
            self.stage.note(f"closed {key}")

    async def silence(self, key: str) -> AsyncIterator[int]:
        """Never yields."""
        try:
            self.stage.note(f"entered {key}")
            await asyncio.Event().wait()
            yield 1
        finally:
            self.stage.note(f"closed {key}")

    async def how_many(self, key: str) -> int:
        return self.produced.get(key, 0)

    # -- streams of arguments

    async def total(self, numbers: AsyncIterator[int], start: int = 0) -> int:
        async for number in numbers:
            start += number
        return start

    def total_in_thread(self, numbers: Iterator[int], start: int = 0) -> int:
        return start + sum(numbers)

    async def running_total(self, numbers: AsyncIterator[int], start: int = 0) -> AsyncIterator[int]:
        async for number in numbers:
            start += number
            yield start

    def running_total_in_thread(self, numbers: Iterator[int], start: int = 0) -> Iterator[int]:
        for number in numbers:
            start += number
            yield start

    async def take_one(self, items: AsyncIterator[str], key: str) -> str:
        """Reads one item, then no more until the gate is open."""
        async for item in items:
            self.stage.note(f"took one {key}")
            await self.stage.pass_gate(key)
            return item
        return ""

    async def listen(self, items: AsyncIterator[int], key: str) -> int:
        """Reads for ever."""
        count = 0
        try:
            async for _ in items:
                count += 1
                self.stage.note(f"heard {key}")
        finally:
            self.stage.note(f"closed {key}")
        return count


@serve.deployment(max_ongoing_requests=100)
class Relay:
    """Passes everything on: the door of deployments that call each other."""

    def __init__(self, streams: DeploymentHandle[Any]) -> None:
        self.streaming = streams.options(stream=True)
        self.once = streams

    async def stream(self, method: str, *args: Any) -> AsyncIterator[Any]:
        async for item in getattr(self.streaming, method).remote(*args):
            yield item

    async def converse(self, items: AsyncIterator[Any], method: str, *args: Any) -> AsyncIterator[Any]:
        async for item in getattr(self.streaming, method).remote(items, *args):
            yield item

    async def how_many(self, key: str) -> int:
        return await self.once.how_many.remote(key)  # type: ignore[no-any-return]
