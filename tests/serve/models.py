"""Models, a loader of them, and requests that use them, for tests of ``serve.multiplexed``."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

from fairlead.serve.context import RequestContext, set_request_context
from fairlead.serve.multiplexing.cache import ModelCache
from fairlead.v1 import session_pb2

PATIENCE = 60.0


class Loader:
    """Loads models named after their ids, when it is let; notes what happens."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.gates: dict[str, asyncio.Event] = {}
        self.failures: dict[str, BaseException] = {}
        self.running = 0

    async def __call__(self, model_id: str) -> Model:
        self.log.append(f"load {model_id}")
        self.running += 1
        try:
            if model_id in self.gates:
                await self.gates[model_id].wait()
            if model_id in self.failures:
                raise self.failures[model_id]
        finally:
            self.running -= 1
        return Model(model_id, self.log)

    def close(self, model_id: str) -> asyncio.Event:
        gate = self.gates[model_id] = asyncio.Event()
        return gate


class Model:
    def __init__(self, model_id: str, log: list[str]) -> None:
        self.model_id = model_id
        self.log = log

    async def close(self) -> None:
        self.log.append(f"unload {self.model_id}")


class Request:
    """A request: what it gets, it uses until it ends."""

    def __init__(self) -> None:
        self.context = RequestContext(session_pb2.CallHeader(multiplexed_model_id="asked"))

    def get(self, cache: ModelCache, model_id: str) -> asyncio.Task[Any]:
        async def run() -> Any:
            set_request_context(self.context)
            return await cache.get(model_id)

        return asyncio.get_running_loop().create_task(run())

    def end(self) -> None:
        self.context.finish()


async def settle() -> None:
    for _ in range(30):
        await asyncio.sleep(0)


async def soon(awaitable: Awaitable[Any]) -> Any:
    return await asyncio.wait_for(awaitable, PATIENCE)
