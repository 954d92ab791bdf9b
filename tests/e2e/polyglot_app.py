"""The class that the Go and Node.js clients call, for test_polyglot.py."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

from fairlead.serve.context import get_multiplexed_model_id, get_replica_context, get_request_context


class Polyglot:
    """One method for each thing that a client can see."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.cancelled: list[str] = []

    def __call__(self) -> str:
        return "called"

    def echo(self, value: object, punctuation: str = "") -> object:
        return value + punctuation if isinstance(value, str) else value

    def describe(self) -> dict[str, str]:
        return {"request_id": get_request_context().request_id, "model_id": get_multiplexed_model_id()}

    def whoami(self) -> str:
        return get_replica_context().replica_id

    def fail(self, message: str) -> None:
        raise ValueError(message)

    def fail_on(self, replica_id: str) -> str:
        if replica_id == self.whoami():
            raise ValueError(f"not on {replica_id}")
        return "fine"

    def unserializable(self) -> object:
        return object()

    def count(self, n: int) -> Iterator[int]:
        yield from range(n)

    def count_then_fail(self, n: int) -> Iterator[int]:
        yield from range(n)
        raise ValueError("enough")

    async def chat(self, messages: AsyncIterator[str], prefix: str = "") -> AsyncIterator[str]:
        async for message in messages:
            yield prefix + message
        yield "bye"

    async def total(self, numbers: AsyncIterator[int]) -> int:
        return sum([number async for number in numbers])

    async def sleep(self, seconds: float, key: str) -> None:
        self.started.append(key)
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            self.cancelled.append(key)
            raise

    async def tick(self, key: str) -> AsyncIterator[int]:
        number = 0
        try:
            while True:
                yield number
                number += 1
                await asyncio.sleep(0.005)
        finally:
            self.cancelled.append(key)

    def observations(self) -> dict[str, list[str]]:
        return {"started": self.started, "cancelled": self.cancelled}
