"""What test_replicas.py runs: one deployment for each thing that a replica must get right."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

from fairlead import serve
from fairlead.serve.context import get_request_context
from fairlead.serve.handle import DeploymentHandle
from tests.e2e.stage import Stage


def where() -> str:
    """Where this code runs: on the event loop, or in which kind of thread."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return "main thread" if threading.current_thread() is threading.main_thread() else "thread"
    return "loop"


@serve.deployment
class SyncKinds:
    def __init__(self) -> None:
        self.made = "sync"

    def __call__(self) -> str:
        return self.made

    def named(self) -> str:
        return "named"

    async def anamed(self) -> str:
        return "anamed"

    def generator(self, n: int) -> Iterator[int]:
        yield from range(n)

    async def agenerator(self, n: int) -> AsyncIterator[int]:
        for item in range(n):
            yield item

    def returns_coroutine(self) -> Any:
        return self.anamed()

    def returns_generator(self, n: int) -> Any:
        return self.generator(n)

    def returns_agenerator(self, n: int) -> Any:
        return self.agenerator(n)

    async def areturns_generator(self, n: int) -> Any:
        return self.generator(n)

    @staticmethod
    def static() -> str:
        return "static"

    @classmethod
    def of_class(cls) -> str:
        return cls.__name__

    def places(self) -> list[str]:
        return [where()]

    async def aplaces(self) -> list[str]:
        return [where()]

    def generator_places(self) -> Iterator[str]:
        yield where()
        yield where()

    def returned_generator_places(self) -> Any:
        return self.generator_places()

    def constructor(self) -> str:
        return self.made


@serve.deployment
class AsyncKinds(SyncKinds.func_or_class):  # type: ignore[misc]
    async def __init__(self) -> None:
        await asyncio.sleep(0)
        self.made = "async"

    async def __call__(self) -> str:
        return self.made


@serve.deployment
def function(value: int = 1) -> int:
    return value + 1


@serve.deployment
async def afunction(value: int = 1) -> int:
    return value + 2


@serve.deployment
def generator_function(n: int) -> Iterator[int]:
    yield from range(n)


@serve.deployment
async def agenerator_function(n: int) -> AsyncIterator[int]:
    for item in range(n):
        yield item


@serve.deployment
class Leaf:
    async def ids(self) -> list[str]:
        return [get_request_context().request_id]


@serve.deployment(max_ongoing_requests=3)
class Limited:
    """Counts how many of its calls run at once."""

    def __init__(self, stage: Stage, leaf: DeploymentHandle) -> None:
        self.stage = stage
        self.leaf = leaf
        self.lock = threading.Lock()
        self.now = 0
        self.peak = 0

    def enter(self, key: str) -> None:
        with self.lock:
            self.now += 1
            self.peak = max(self.peak, self.now)
        self.stage.note(f"began {key}")

    def leave(self) -> None:
        with self.lock:
            self.now -= 1

    def hold(self, key: str) -> int:
        self.enter(key)
        self.stage.pass_gate_blocking(key)
        self.leave()
        return self.peak

    async def ahold(self, key: str) -> int:
        self.enter(key)
        await self.stage.pass_gate(key)
        self.leave()
        return self.peak

    def hold_stream(self, key: str) -> Iterator[int]:
        self.enter(key)
        self.stage.pass_gate_blocking(key)
        yield self.peak
        self.leave()

    async def ahold_stream(self, key: str) -> AsyncIterator[int]:
        self.enter(key)
        await self.stage.pass_gate(key)
        yield self.peak
        self.leave()

    async def ids(self) -> list[str]:
        mine = [get_request_context().request_id]
        children = await asyncio.gather(self.leaf.ids.remote(), self.leaf.ids.remote())
        task = await asyncio.create_task(self._ids_of_child())
        thread = await asyncio.to_thread(lambda: self.leaf.ids.remote().result())
        return mine + children[0] + children[1] + task + thread

    async def _ids_of_child(self) -> list[str]:
        return await self.leaf.ids.remote()

    def sync_ids(self) -> list[str]:
        return [get_request_context().request_id, *self.leaf.ids.remote().result()]

    def stream_ids(self) -> Iterator[str]:
        yield get_request_context().request_id
        yield from self.leaf.ids.remote().result()

    async def astream_ids(self) -> AsyncIterator[str]:
        yield get_request_context().request_id
        for each in await self.leaf.ids.remote():
            yield each

    async def bidi_ids(self, items: AsyncIterator[Any]) -> AsyncIterator[str]:
        async for _ in items:
            yield get_request_context().request_id

    async def __call__(self) -> list[str]:
        return await self.ids()


@serve.deployment(max_ongoing_requests=5, health_check_period_s=0.1, health_check_timeout_s=0.1)
class Blocking:
    def __init__(self, stage: Stage) -> None:
        self.stage = stage

    def pid(self) -> int:
        return os.getpid()

    async def block_the_loop(self, key: str) -> int:
        self.stage.note(f"blocks {key}")
        self.stage.pass_gate_blocking(key)
        return os.getpid()

    async def spin_on_the_loop(self, key: str) -> int:
        self.stage.note(f"blocks {key}")
        while not self.stage.is_open(key):
            pass
        return os.getpid()

    def spin(self, key: str) -> int:
        self.stage.note(f"blocks {key}")
        while not self.stage.is_open(key):
            pass
        return os.getpid()

    async def note(self, key: str) -> None:
        self.stage.note(f"began {key}")

    def check_health(self) -> None:
        """Healthy, if it only gets to say so."""


@serve.deployment(max_ongoing_requests=1)
class Mortal:
    def __init__(self, stage: Stage) -> None:
        self.stage = stage

    def pid(self) -> int:
        return os.getpid()

    async def hold(self, key: str) -> int:
        self.stage.note(f"held {key}")
        await self.stage.pass_gate(key)
        return os.getpid()

    async def hold_stream(self, key: str) -> AsyncIterator[int]:
        yield 1
        self.stage.note(f"held {key}")
        await self.stage.pass_gate(key)


class Failing:
    """Its constructor fails in the way that is asked for."""

    def __init__(self, stage: Stage, key: str, how: str) -> None:
        stage.note(f"constructed {key}")
        if how == "raises":
            self.deeper()
        if how == "exits":
            sys.exit(3)
        if how == "dies":
            os._exit(4)

    def deeper(self) -> None:
        raise ValueError("out of order")

    def __call__(self) -> None: ...


class FailingAsync:
    async def __init__(self, stage: Stage, key: str, how: str) -> None:
        stage.note(f"constructed {key}")
        await asyncio.sleep(0)
        raise ValueError("out of order")

    def __call__(self) -> None: ...


@serve.deployment
class FailsOnce:
    def __init__(self, stage: Stage, key: str) -> None:
        if stage.first(key):
            raise ValueError("only the first time")

    def __call__(self) -> str:
        return "works"
