"""A chain of deployments that say when they are cancelled, for test_cancellation.py."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

from starlette.requests import Request
from starlette.responses import StreamingResponse

from fairlead import serve
from fairlead.serve.handle import DeploymentHandle
from tests.e2e.stage import Stage


class Observed:
    """Coroutines and generators that note their beginnings and their ends."""

    def __init__(self, stage: Stage, child: DeploymentHandle | None = None) -> None:
        self.stage = stage
        self.child = child
        self.name = type(self).__name__.lower()

    async def hold(self, key: str) -> str:
        """Runs until its gate opens."""
        self.stage.note(f"{self.name} began {key}")
        try:
            await self.stage.pass_gate(key)
        except asyncio.CancelledError:
            self.stage.note(f"{self.name} cancelled {key}")
            raise
        return key

    async def hold_child(self, key: str) -> str:
        """Waits for the next deployment in the chain."""
        return await self._observe(key, self.child.hold.remote(key))

    async def hold_child_shielded(self, key: str) -> str:
        """Makes a call and waits for something else."""
        self.child.hold.remote(key)
        return await self.hold(key)

    async def hold_child_in_task(self, key: str) -> str:
        """The call is made by a task of its own."""

        async def call() -> str:
            return await self.child.hold.remote(key)

        return await self._observe(key, asyncio.create_task(call()))

    async def read_child(self, key: str) -> list[int]:
        """Reads a stream of the next deployment's."""
        self.stage.note(f"{self.name} began {key}")
        return [item async for item in self.child.options(stream=True).endless.remote(key)]

    def hold_child_blocking(self, key: str) -> str:
        """The same from a thread."""
        self.stage.note(f"{self.name} began {key}")
        try:
            return self.child.hold.remote(key).result()
        except BaseException as error:
            self.stage.note(f"{self.name} {type(error).__name__} {key}")
            raise

    async def swallow(self, key: str) -> str:
        """Takes no notice of being cancelled."""
        try:
            await self.hold(key)
        except asyncio.CancelledError:
            return "swallowed"
        return "not cancelled"

    async def _observe(self, key: str, awaitable: Any) -> str:
        self.stage.note(f"{self.name} began {key}")
        try:
            return await awaitable
        except asyncio.CancelledError:
            self.stage.note(f"{self.name} cancelled {key}")
            raise

    async def endless(self, key: str) -> AsyncIterator[int]:
        number = 0
        try:
            while True:
                self.stage.note(f"{self.name} yields {key}")
                yield number
                number += 1
                await asyncio.sleep(0.01)
        finally:
            self.stage.note(f"{self.name} closed {key}")

    def endless_sync(self, key: str) -> Iterator[bytes]:
        try:
            while True:
                yield b"x" * 10_000
        finally:
            self.stage.note(f"{self.name} closed {key}")

    async def one_and_wait(self, key: str) -> AsyncIterator[int]:
        try:
            yield 1
            self.stage.note(f"{self.name} began {key}")
            await self.stage.pass_gate(key)
        finally:
            self.stage.note(f"{self.name} closed {key}")

    async def chat(self, messages: AsyncIterator[Any], key: str) -> AsyncIterator[Any]:
        try:
            async for message in messages:
                yield message
        finally:
            self.stage.note(f"{self.name} closed {key}")

    def sync_hold(self, key: str) -> str:
        self.stage.note(f"{self.name} began {key}")
        self.stage.pass_gate_blocking(key)
        self.stage.note(f"{self.name} ended {key}")
        return key

    def thread_count(self) -> int:
        return threading.active_count()

    async def __call__(self, request: Request) -> Any:
        """Over HTTP: the query says what to do."""
        method, key = request.query_params["method"], request.query_params["key"]
        if method == "stream":
            return StreamingResponse(f"{item}\n" async for item in self.endless(key))
        return await getattr(self, method)(key)


@serve.deployment(max_ongoing_requests=1)
class Last(Observed):
    """One slot: that it is free again shows when the next call begins."""


@serve.deployment(max_ongoing_requests=50)
class Middle(Observed):
    async def hold(self, key: str) -> str:
        return await self.hold_child(key)

    async def own_hold(self, key: str) -> str:
        return await Observed.hold(self, key)


@serve.deployment(max_ongoing_requests=50)
class First(Observed):
    pass


def app(stage: Stage) -> Any:
    last = Last.bind(stage)
    return First.bind(stage, Middle.bind(stage, last))
