"""The page on DeploymentHandle, row by row."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from fairlead import serve
from fairlead.serve.exceptions import BackPressureError
from fairlead.serve.handle import (
    DeploymentBroadcastResponse,
    DeploymentHandle,
    DeploymentResponse,
    DeploymentResponseGenerator,
)
from tests.e2e.conftest import state_directory as state_directory


@serve.deployment
class Downstream:
    def say_hi(self, message: str) -> str:  # noqa: RET503 - as the page has it
        return f"Hello {message}!"
        self._message = message  # type: ignore[unreachable]


@serve.deployment
class Ingress:
    def __init__(self, handle: DeploymentHandle[Any]) -> None:
        self._downstream_handle = handle

    async def __call__(self, name: str) -> str:
        response = self._downstream_handle.say_hi.remote(name)
        answer: str = await response
        return answer

    async def kind_of_response(self) -> str:
        response = self._downstream_handle.say_hi.remote("x")
        kind = type(response).__name__
        await response
        return kind

    def injected(self) -> str:
        return type(self._downstream_handle).__name__


@serve.deployment(num_replicas=3, max_ongoing_requests=10)
class MyDeployment:
    def __init__(self) -> None:
        self.cache: dict[str, int] = {"a": 1}
        self.value = 0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return ["called", list(args), kwargs]

    def other_method(self) -> str:
        return f"other {serve.get_multiplexed_model_id()}"

    def gen(self, count: int) -> Iterator[int]:
        yield from range(count)

    async def agen(self, count: int) -> AsyncIterator[int]:
        for number in range(count):
            yield number

    def f(self, a: Any, b: int = 0, *c: Any, **d: Any) -> Any:
        return [a, b, list(c), d]

    def kind(self, arg: Any) -> str:
        return type(arg).__name__

    def double(self, number: int) -> int:
        return number * 2

    def echo(self, value: Any) -> Any:
        return value

    def fail(self) -> None:
        raise ValueError("boom")

    def reset_cache(self) -> int:
        self.cache.clear()
        return os.getpid()

    def cached(self) -> int:
        return len(self.cache)

    def update_config(self, new_value: int) -> int:
        self.value = new_value
        return self.value

    def count_up(self) -> None:
        self.value += 1

    def get_value(self) -> int:
        return self.value

    async def wait(self, path: str) -> str:
        while not Path(path).exists():
            await asyncio.sleep(0.01)
        return "waited"

    def add(self, a: int, b: int) -> int:
        return a + b

    def apply(self, function: Any) -> Any:
        return function(2)


@pytest.fixture(scope="module", autouse=True)
def instance(state_directory: Path) -> Iterator[None]:
    serve.start(proxy_location="Disabled")
    yield
    serve.shutdown()


@pytest.fixture(scope="module")
def app() -> DeploymentHandle[Any]:
    return serve.run(Ingress.bind(Downstream.bind()), name="hello", route_prefix=None)


@pytest.fixture(scope="module")
def handle() -> DeploymentHandle[Any]:
    return serve.run(MyDeployment.bind(), name="app", route_prefix=None)


def test_a1_names() -> None:
    kinds = (DeploymentHandle, DeploymentResponse, DeploymentResponseGenerator, DeploymentBroadcastResponse)
    assert all(isinstance(kind, type) for kind in kinds)


def test_a2_a4_handles_both_ways(app: DeploymentHandle[Any]) -> None:
    assert isinstance(app, DeploymentHandle)
    assert app.injected.remote().result() == "DeploymentHandle"


def test_a3_no_call_method() -> None:
    handle = serve.run(Downstream.bind(), name="alone", route_prefix=None)
    assert handle.say_hi.remote("x").result() == "Hello x!"


def test_a5_a8_a9_the_sample(app: DeploymentHandle[Any]) -> None:
    response = app.remote("world")
    assert response.result() == "Hello world!"


def test_a6_the_result_of_remote_is_there_at_once(app: DeploymentHandle[Any]) -> None:
    assert app.kind_of_response.remote().result() == "DeploymentResponse"


async def test_a7_a22_await(app: DeploymentHandle[Any], handle: DeploymentHandle[Any]) -> None:
    assert await app.remote("world") == "Hello world!"
    with pytest.raises(ValueError, match="boom"):
        await handle.fail.remote()


def test_a10_options_make_a_copy(handle: DeploymentHandle[Any]) -> None:
    other = handle.options(method_name="other_method")
    assert handle.remote().result()[0] == "called"
    assert other.options(stream=False).remote().result() == "other "
    with pytest.raises(TypeError):
        handle.options("other_method")  # type: ignore[misc]
    assert other.remote().result() == "other "
    with pytest.raises(TypeError):
        handle.options(nonesuch=1)


def test_a11_method_name(handle: DeploymentHandle[Any]) -> None:
    chosen = handle.options(method_name="other_method").remote()
    assert chosen.result() == handle.other_method.remote().result()


def test_a12_a19_model_id(handle: DeploymentHandle[Any]) -> None:
    response = handle.options(method_name="other_method", multiplexed_model_id="model:v1").remote()
    assert isinstance(response, DeploymentResponse)
    assert response.result() == "other model:v1"


async def test_a13_streams(handle: DeploymentHandle[Any]) -> None:
    streaming = handle.options(stream=True)
    assert isinstance(streaming.gen.remote(3), DeploymentResponseGenerator)
    assert [item async for item in streaming.gen.remote(3)] == [0, 1, 2]
    assert [item async for item in streaming.agen.remote(3)] == [0, 1, 2]


def test_a13_streams_without_a_loop(handle: DeploymentHandle[Any]) -> None:
    assert list(handle.options(stream=True).gen.remote(3)) == [0, 1, 2]


@pytest.mark.parametrize("name", ["use_new_handle_api", "_prefer_local_routing", "_by_reference"])
@pytest.mark.parametrize("value", [True, False])
def test_a14_a15_a16_accepted_and_without_effect(handle: DeploymentHandle[Any], name: str, value: bool) -> None:
    options: Any = {name: value}
    with contextlib.ExitStack() as told:
        if name == "_by_reference" and value:
            told.enter_context(pytest.warns(UserWarning, match="travel by value"))
        chosen = handle.options(**options)
    assert chosen.remote().result() == ["called", [], {}]


NAMES = ("cloudpickle", "pickle", "msgpack", "orjson")
VALUE = {"a": [1, 2.5, "x", None, True]}


@pytest.mark.parametrize("request_name", NAMES)
@pytest.mark.parametrize("response_name", NAMES)
def test_a17_a18_serializations(handle: DeploymentHandle[Any], request_name: str, response_name: str) -> None:
    chosen = handle.options(request_serialization=request_name, response_serialization=response_name)
    assert chosen.echo.remote(VALUE).result() == VALUE


def test_a17_lambdas_and_unknown_names(handle: DeploymentHandle[Any]) -> None:
    assert handle.apply.remote(lambda number: number + 1).result() == 3
    with pytest.raises(Exception, match=r"(?i)pickle|lambda|serializ"):
        handle.options(request_serialization="orjson").apply.remote(lambda number: number).result()
    with pytest.raises(ValueError, match="Available"):
        handle.options(request_serialization="yaml")


def test_a20_any_arguments(handle: DeploymentHandle[Any]) -> None:
    assert handle.f.remote(1, 2, 3, 4, d=5).result() == [1, 2, [3, 4], {"d": 5}]
    assert handle.f.remote(1).result() == [1, 0, [], {}]


def test_a21_a23_responses_as_arguments(handle: DeploymentHandle[Any]) -> None:
    assert handle.kind.remote(handle.double.remote(2)).result() == "int"
    assert handle.kind.remote(arg=handle.double.remote(2)).result() == "int"
    assert handle.double.remote(handle.double.remote(2)).result() == 8


def test_a25_remote_reaches_one_replica(handle: DeploymentHandle[Any]) -> None:
    before = handle.broadcast("get_value").results()
    handle.count_up.remote().result()
    assert sum(handle.broadcast("get_value").results()) == sum(before) + 1


def test_a24_a26_broadcast_reaches_every_replica(handle: DeploymentHandle[Any]) -> None:
    response = handle.broadcast("reset_cache")
    assert isinstance(response, DeploymentBroadcastResponse)
    assert len(set(response.results())) == 3
    assert handle.broadcast("cached").results() == [0, 0, 0]


async def test_a29_a30_results(handle: DeploymentHandle[Any]) -> None:
    assert await handle.broadcast("update_config", new_value=42).results_async() == [42, 42, 42]
    assert await handle.broadcast("add", 1, b=2).results_async(timeout_s=30) == [3, 3, 3]
    failed = await handle.broadcast("fail").results_async(return_exceptions=True)
    assert [type(error) for error in failed] == [ValueError] * 3
    assert await handle.options(stream=True).broadcast("add", 1, 2).results_async() == [3, 3, 3]


def test_a29_results_that_take_too_long(handle: DeploymentHandle[Any], tmp_path: Path) -> None:
    response = handle.broadcast("wait", str(tmp_path / "go"))
    with pytest.raises(TimeoutError):
        response.results(timeout_s=0.1)
    with pytest.raises(TimeoutError):
        asyncio.run(handle.broadcast("wait", str(tmp_path / "go")).results_async(timeout_s=0.1))
    (tmp_path / "go").touch()
    assert response.results() == ["waited"] * 3


def test_a27_broadcast_ignores_the_queue(tmp_path: Path) -> None:
    @serve.deployment(max_ongoing_requests=1, max_queued_requests=1)
    class Busy:
        async def wait(self, path: str) -> str:
            import asyncio
            from pathlib import Path

            while not Path(path).exists():
                await asyncio.sleep(0.01)
            return "waited"

        def reset(self) -> str:
            return "reset"

    handle = serve.run(Busy.bind(), name="busy", route_prefix=None)
    signal = tmp_path / "go"
    running, waiting = handle.wait.remote(str(signal)), handle.wait.remote(str(signal))
    with pytest.raises(BackPressureError):
        for _ in range(1000):  # until both are there
            handle.options(timeout_s=0.05).reset.remote().result()
    told = handle.broadcast("reset")
    signal.touch()
    assert told.results(timeout_s=30) == ["reset"]
    assert [running.result(), waiting.result()] == ["waited", "waited"]


@serve.deployment
class ByName:
    async def __call__(self, number: int) -> int:
        found: int = await serve.get_deployment_handle("MyDeployment", "app").double.remote(number)
        return found


def test_a28_handles_by_name(handle: DeploymentHandle[Any]) -> None:
    other = serve.run(ByName.bind(), name="other", route_prefix=None)
    assert other.remote(5).result() == 10
    assert serve.get_deployment_handle("MyDeployment", "app").double.remote(4).result() == 8
