"""What the tests of handles call."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

from fairlead import serve
from fairlead.serve.context import get_request_context
from fairlead.serve.handle import DeploymentHandle, DeploymentResponse
from tests.e2e.stage import Stage

BLOCK = b"x" * 10_000
"""What the endless streams are made of."""


class OutOfTune(Exception):
    """An exception of the user's own, with a field."""

    def __init__(self, message: str, pitch: int) -> None:
        super().__init__(message, pitch)
        self.pitch = pitch


class TakesTwo(Exception):
    """An exception that pickles, and cannot be unpickled: its constructor wants more than it gives to Exception."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} and {second}")


@serve.deployment
class Downstream:
    """No ``__call__``."""

    def say_hi(self, message: str) -> str:
        return f"Hello {message}!"


@serve.deployment(max_ongoing_requests=20)
class Ingress:
    def __init__(self, downstream: DeploymentHandle, kit: DeploymentHandle, crowd: DeploymentHandle) -> None:
        self.downstream = downstream
        self.kit = kit
        self.crowd = crowd

    async def __call__(self, name: str) -> str:
        return await self.downstream.say_hi.remote(name)

    def types_of_arguments(self) -> list[str]:
        return [type(handle).__name__ for handle in (self.downstream, self.kit, self.crowd)]

    async def type_of_response(self) -> str:
        response = self.downstream.say_hi.remote("x")
        name = type(response).__name__
        await response
        return name

    async def chained(self) -> list[Any]:
        first = self.kit.echo.remote(1)
        return await asyncio.gather(
            self.kit.types.remote(first),
            self.kit.add.remote(first, b=first),
            self.kit.add.remote(2, b=self.kit.add.remote(first, b=first)),
        )

    async def asks_by_name(self) -> str:
        same_app = serve.get_deployment_handle("Downstream")
        other = serve.get_deployment_handle("Downstream", "handles")
        return await same_app.say_hi.remote(await other.say_hi.remote("you"))

    async def broadcasts(self) -> list[str]:
        return sorted(await self.crowd.broadcast("whoami"))

    async def forwards_stream(self, n: int) -> AsyncIterator[int]:
        async for item in self.kit.options(stream=True).count.remote(n):
            yield item * 10

    def blocks(self, name: str) -> str:
        return self.downstream.say_hi.remote(name).result()

    def reads_stream_blocking(self, n: int) -> list[int]:
        return list(self.kit.options(stream=True).count.remote(n))

    async def result_in_loop(self) -> str:
        response = self.downstream.say_hi.remote("x")
        try:
            response.result()
        except RuntimeError as error:
            await response
            return str(error)
        return ""

    async def calls_handle(self, handle: DeploymentHandle, name: str) -> str:
        return await handle.say_hi.remote(name)

    async def request_ids(self) -> list[str]:
        return [get_request_context().request_id, *await self.kit.request_ids.remote()]


@serve.deployment(max_ongoing_requests=20)
class Kit:
    """One method for each thing that a handle can meet."""

    def __init__(self, stage: Stage, downstream: DeploymentHandle) -> None:
        self.stage = stage
        self.downstream = downstream
        self.produced = 0
        self.calls = 0

    def __call__(self) -> str:
        return "called"

    def other_method(self) -> str:
        return "other"

    def echo(self, value: Any) -> Any:
        return value

    def call(self, function: Any) -> Any:
        return function()

    def make_lambda(self) -> Any:
        return lambda: 5

    def types(self, *args: Any, **kwargs: Any) -> list[str]:
        return [type(value).__name__ for value in (*args, *kwargs.values())]

    def add(self, a: int, b: int = 0) -> int:
        return a + b

    def seen(self, a: Any, b: Any = 0, *c: Any, **d: Any) -> list[Any]:
        return [a, b, list(c), d]

    def count_call(self) -> None:
        self.calls += 1

    def call_count(self) -> int:
        return self.calls

    def model_id(self) -> str:
        return serve.get_multiplexed_model_id()

    def tuple_of(self) -> tuple[int, int]:
        return (1, 2)

    def count(self, n: int) -> Iterator[int]:
        yield from range(n)

    async def acount(self, n: int) -> AsyncIterator[int]:
        for item in range(n):
            yield item

    def fails_at(self, n: int) -> Iterator[int]:
        yield from range(n)
        raise ValueError("boom")

    def endless(self) -> Iterator[bytes]:
        while True:
            self.produced += 1
            yield BLOCK

    async def aendless(self) -> AsyncIterator[bytes]:
        while True:
            self.produced += 1
            yield BLOCK

    def produced_so_far(self) -> int:
        return self.produced

    def reset_produced(self) -> None:
        self.produced = 0

    def fail(self, kind: str) -> None:
        if kind == "own":
            raise OutOfTune("flat", 440)
        if kind == "two":
            raise TakesTwo("this", "that")
        if kind == "exit":
            raise SystemExit(3)
        if kind == "stop":
            raise StopIteration(3)
        raise ValueError("boom")

    async def hold(self, key: str) -> str:
        self.stage.note(f"held {key}")
        await self.stage.pass_gate(key)
        return key

    def die(self) -> None:
        os._exit(7)

    async def request_ids(self) -> list[str]:
        return [get_request_context().request_id]

    def thread(self) -> str:
        return threading.current_thread().name


@serve.deployment(num_replicas=3, max_ongoing_requests=10)
class Crowd:
    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.cache = {"a": 1}
        self.config = 0
        self.calls = 0

    def whoami(self) -> str:
        return serve.get_replica_context().replica_id

    def pid(self) -> int:
        return os.getpid()

    def count_call(self) -> int:
        self.calls += 1
        return self.calls

    def call_count(self) -> int:
        return self.calls

    def reset_cache(self) -> None:
        self.cache.clear()

    def cache_size(self) -> int:
        return len(self.cache)

    def update_config(self, new_value: int) -> int:
        self.config = new_value
        return self.config

    def add(self, a: int, b: int) -> int:
        return a + b

    def fail_on(self, replica_id: str) -> str:
        if replica_id == self.whoami():
            raise ValueError("not here")
        return "fine"

    def die_on(self, replica_id: str) -> str:
        if replica_id == self.whoami():
            os._exit(7)
        return "alive"

    async def hold_on(self, replica_id: str, key: str) -> str:
        if replica_id == self.whoami():
            self.stage.note(f"held {key}")
            await self.stage.pass_gate(key)
        return self.whoami()

    def returns_an_exception(self) -> Exception:
        return ValueError("a value like any other")

    def die_the_first_time(self, key: str) -> str:
        if self.stage.first(key):
            os._exit(7)
        return "the second time"

    async def hold_then_die(self, key: str) -> None:
        self.stage.note(f"held {key}")
        await self.stage.pass_gate(key)
        os._exit(7)

    def item_and_die(self) -> Iterator[str]:
        yield "before"
        os._exit(7)


@serve.deployment(max_ongoing_requests=1, max_queued_requests=1)
class Narrow:
    def __init__(self, stage: Stage) -> None:
        self.stage = stage

    async def hold(self, key: str) -> str:
        self.stage.note(f"held {key}")
        await self.stage.pass_gate(key)
        return key

    def mark(self) -> str:
        return "marked"


@serve.deployment
def function(value: str = "nothing") -> str:
    return f"function of {value}"


@serve.deployment
class Exists:
    """For the message that lists methods: one, public."""

    def exists(self) -> int:
        return 1


def response_type() -> type:
    return DeploymentResponse
