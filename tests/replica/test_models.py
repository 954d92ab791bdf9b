"""A replica's load reports carry its models; a request's models are in use until it ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from fairlead import serve
from fairlead.serve.multiplexing import decorator
from fairlead.serve.multiplexing.registry import Registry
from fairlead.v1 import session_pb2
from fairlead.wire.link import Link
from fairlead.wire.memory import link_pair
from fairlead_replica.callable import UserCallable
from fairlead_replica.runtime import Runtime
from tests.replica.calling import Caller, until


class Models:
    def __init__(self) -> None:
        self.gate = asyncio.Event()

    @serve.multiplexed(load_timeout_s=0.01)
    async def hang(self, model_id: str) -> None:
        while not self.gate.is_set():
            try:
                await self.gate.wait()
            except asyncio.CancelledError:
                pass

    @serve.multiplexed(max_num_models_per_replica=1)
    async def load(self, model_id: str) -> str:
        return model_id

    async def use(self, model_id: str) -> str:
        return await self.load(model_id)

    async def hold(self, model_id: str) -> str:
        model = await self.load(model_id)
        await self.gate.wait()
        return model

    async def stream(self, model_id: str) -> AsyncIterator[str]:
        yield await self.load(model_id)
        await self.gate.wait()
        yield "end"


class Stage:
    """A runtime that reports models, and as many gateways as a test wants."""

    def __init__(self, target: Any, registry: Registry) -> None:
        self.links: set[Link] = set()
        self.target = target
        self.runtime = Runtime(UserCallable(target, is_function=False), max_ongoing_requests=10, links=self.links)
        decorator.announce(target)
        self.runtime.use_models(registry)
        self.openers: list[Link] = []

    def connect(self) -> tuple[Caller, list[session_pb2.Load]]:
        loads: list[session_pb2.Load] = []
        opener, acceptor = link_pair(self.runtime.accept)
        opener._on_load = loads.append
        self.links.add(acceptor)
        self.openers.append(opener)
        self.runtime.opened(acceptor)
        return Caller(opener), loads


@pytest.fixture
async def stage(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stage]:
    own = Registry()
    monkeypatch.setattr(decorator, "registry", own)
    made = Stage(Models(), own)
    yield made
    for link in made.openers:
        await link.close()
    made.runtime.pool.close()


def told(loads: list[session_pb2.Load]) -> list[list[str]]:
    """What the reports with models said."""
    return [list(load.models.model_ids) for load in loads if load.HasField("models")]


async def test_models_are_reported_at_once_and_only_changes_of_them(stage: Stage) -> None:
    caller, loads = stage.connect()
    await until(lambda: told(loads) == [[]])  # before any call: it multiplexes
    assert await caller.call("use", "a") == "a"
    assert ["a"] in told(loads)  # not later than the answer
    await until(lambda: any(load.models.load_time_us for load in loads))
    before = len(told(loads))
    for _ in range(5):
        await caller.call("use", "a")
    assert len(told(loads)) == before
    other, others = stage.connect()
    await until(lambda: told(others) == [["a"]])
    await caller.call("use", "b")
    await until(lambda: told(others)[-1] == ["b"])
    assert stage.runtime.models.loaded == ("b",)
    assert await other.call("use", "b") == "b"


async def test_a_model_that_is_stuck_is_reported_before_its_calls_fail(stage: Stage) -> None:
    caller, loads = stage.connect()
    assert isinstance(await caller.error("hang", "bad"), TimeoutError)
    reports = [load.models for load in loads if load.HasField("models")]
    assert list(reports[-1].unavailable_model_ids) == ["bad"]
    assert list(reports[-1].model_ids) == []
    stage.target.gate.set()
    await until(lambda: not [*loads[-1].models.unavailable_model_ids] and loads[-1].HasField("models"))


@pytest.mark.parametrize("method", ["hold", "stream"])
async def test_a_model_is_in_use_until_the_call_ends(stage: Stage, method: str) -> None:
    caller, loads = stage.connect()
    first = caller.open(method, "a", stream=method == "stream")
    await until(lambda: stage.runtime.models.loaded == ("a",))
    second = caller.open("use", "b")
    await caller.call("use", "a")
    assert not second.ended.is_set()
    first.cancel()
    assert await second.next() == "b"
    assert told(loads)[-1] == ["b"]


async def test_replicas_without_models_report_none() -> None:
    class Plain:
        async def greet(self) -> str:
            return "hello"

    stage = Stage(Plain(), Registry())
    caller, loads = stage.connect()
    assert await caller.call("greet") == "hello"
    assert loads
    assert told(loads) == []
    await caller.link.close()
