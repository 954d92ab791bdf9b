from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from fairlead.wire.errors import MethodNotFoundError
from fairlead_replica.callable import MethodKind, UserCallable


def plain_wrapper(function: Any) -> Any:
    @functools.wraps(function)
    def wrapper(*args: Any) -> Any:
        return function(*args)

    return wrapper


class AsyncCallable:
    async def __call__(self, request: Any) -> None: ...


class Model:
    attribute = 3

    def __init__(self) -> None:
        self.from_init = AsyncCallable()
        self.partial = functools.partial(self.coroutine, 1)

    def __call__(self, request: Any) -> None: ...

    def sync(self) -> None: ...

    async def coroutine(self, value: int) -> None: ...

    def generator(self) -> Iterator[int]:
        yield 1

    async def async_generator(self, *, key: int = 1) -> AsyncIterator[int]:
        yield 1

    @staticmethod
    async def static(value: int) -> None: ...

    @classmethod
    def klass(cls) -> None: ...

    @plain_wrapper
    async def wrapped(self, *args: Any) -> None: ...

    @property
    def explosive(self) -> None:
        raise RuntimeError("looked at")


@pytest.mark.parametrize(("name", "kind", "takes_request"), [
    ("", MethodKind.SYNC, True),
    ("__call__", MethodKind.SYNC, True),
    ("sync", MethodKind.SYNC, False),
    ("coroutine", MethodKind.COROUTINE, True),
    ("generator", MethodKind.GENERATOR, False),
    ("async_generator", MethodKind.ASYNC_GENERATOR, False),
    ("static", MethodKind.COROUTINE, True),
    ("klass", MethodKind.SYNC, False),
    ("wrapped", MethodKind.SYNC, True),
    ("from_init", MethodKind.COROUTINE, True),
    ("partial", MethodKind.COROUTINE, False),
])  # fmt: skip
def test_methods_are_known_for_what_they_are(name: str, kind: MethodKind, takes_request: bool) -> None:
    target = UserCallable(Model())
    method = target.method(name)
    assert (method.kind, method.takes_request) == (kind, takes_request)
    assert target.method(name) is method


@pytest.mark.parametrize("name", ["attribute", "nothing", "__init__", "__class__", "__reduce_ex__", "__dict__"])
def test_what_is_no_method(name: str) -> None:
    with pytest.raises(MethodNotFoundError, match="Available methods: "):
        UserCallable(Bare()).method(name)


class Bare:
    attribute = 1

    def exists(self) -> None: ...


def test_functions_and_what_acts_as_one() -> None:
    async def function(request: Any) -> None: ...

    target = UserCallable(function)
    assert target.method("a") is target.method("b")
    assert target.method("").name == "function"
    assert target.hook("reconfigure") is None
    acting = UserCallable(functools.partial(function, 1), is_function=True)
    assert acting.method("anything").kind is MethodKind.COROUTINE
    assert not acting.method("anything").takes_request


def test_an_attribute_that_raises_does_not_hide_the_rest() -> None:
    with pytest.raises(MethodNotFoundError) as caught:
        UserCallable(Model()).method("nothing")
    assert "'coroutine'" in str(caught.value)
    assert "explosive" not in str(caught.value)
