"""What type checkers make of deployments and handles: ``make check`` has mypy read this. Nothing runs it.

mypy takes a decorated class for the class itself where its plugin is not used, as here: so they are called.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any, assert_type

from fairlead import serve
from fairlead.serve.deployment import Application, Deployment
from fairlead.serve.handle import (
    DeploymentHandle,
    DeploymentResponse,
    DeploymentResponseGenerator,
    StreamingDeploymentHandle,
)


class Model:
    def __call__(self) -> int:
        return 1

    async def predict(self, text: str) -> str:
        return text


def function(text: str) -> float:
    return float(text)


async def coroutine(text: str) -> bytes:
    return text.encode()


def numbers(count: int) -> Iterator[int]:
    yield from range(count)


async def later(count: int) -> AsyncIterator[int]:
    for number in range(count):
        yield number


def deployments() -> None:
    deployment = serve.deployment(Model)
    assert_type(deployment, Deployment[Model])
    assert_type(serve.deployment(num_replicas=2)(Model), Deployment[Model])
    assert_type(deployment.options(num_replicas=3), Deployment[Model])
    assert_type(deployment.bind(1, a=2), Application[Model])
    assert_type(serve.run(deployment.bind()), DeploymentHandle[Model])
    serve.deployment(numreplicas=2)  # type: ignore[call-overload]


def calls(handle: DeploymentHandle[Model]) -> None:
    assert_type(handle.remote(), DeploymentResponse[int])
    assert_type(handle.remote().result(timeout_s=1), int)
    assert_type(handle.predict.remote("x"), DeploymentResponse[Any])
    assert_type(serve.run(serve.deployment(function).bind()).remote("1").result(), float)
    assert_type(serve.run(serve.deployment(coroutine).bind()).remote("1").result(), bytes)
    handle.options(strem=True)  # type: ignore[call-overload]
    handle.remote().upper()  # type: ignore[attr-defined]


async def streams(handle: DeploymentHandle[Model]) -> None:
    assert_type(handle.options(stream=True), StreamingDeploymentHandle)
    assert_type(handle.options(stream=True).predict.remote("x"), DeploymentResponseGenerator[Any])
    assert_type(serve.run(serve.deployment(numbers).bind()).remote(1), DeploymentResponseGenerator[int])
    async for item in serve.run(serve.deployment(later).bind()).remote(1):
        assert_type(item, int)
    assert_type(await handle.remote(), int)
    for _ in handle.remote():  # type: ignore[attr-defined]
        pass
