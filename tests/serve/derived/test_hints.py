"""Hints that cannot be mapped: named by method, parameter and hint, with what to write instead."""

from __future__ import annotations

import collections.abc
import dataclasses
import enum
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import Any, Generic, Literal, TypeVar, Union

import numpy as np
import numpy.typing as npt
import pydantic
import pytest

from fairlead import serve
from fairlead.serve.derived.errors import HintError
from fairlead.serve.derived.methods import service_of
from tests.serve.derived.deriving import class_of, derived

T = TypeVar("T")


class Flags(enum.Flag):
    A = 1
    B = 2


class Alike(enum.Enum):
    small = 1
    SMALL = 2


class Opaque:
    pass


@dataclasses.dataclass
class Holder:
    inner: list[Opaque]


@dataclasses.dataclass
class Clash:
    image_url: str
    imageURL: str


@dataclasses.dataclass
class Both:
    limit: int | None = 5


class Unfinished(pydantic.BaseModel):
    at: dict[str, Nowhere]  # type: ignore[name-defined]  # noqa: F821


class Paged(pydantic.BaseModel, Generic[T]):
    items: list[T]


def other_holder() -> type:
    @dataclasses.dataclass
    class Holder:
        name: str

    return Holder


NAMED: list[tuple[Any, str, str]] = [
    (Any, "Any says nothing of the value", "Write what it is; a dataclass for a record"),
    (object, "object says nothing of the value", "Write what it is"),
    (dict, "a bare dict does not say what it holds", "Write dict[str, float], for example"),
    (list, "a bare list does not say what it holds", "Write list[float], for example"),
    (dict[str, Any], "Any says nothing of the value", "Write what it is"),
    (dict[float, int], "the keys of a map are str, int or bool, not float", "Use such keys, or a list of a dataclass"),
    (dict[Opaque, int], "Opaque cannot be mapped to protobuf", "Use a scalar"),
    (int | str, "int | str is one of several types", "Use a dataclass with an optional field for each"),
    (Union[int, str, None], "is one of several types", "Use a dataclass"),  # noqa: UP007
    (tuple[int, str], "tuple[int, str] has parts without names", "Use a NamedTuple or a dataclass"),
    (Literal["a", 1], "Literal['a', 1] has values of several types", "Use an enum"),
    (Callable[[], int], "cannot be mapped to protobuf", "Use a scalar"),
    (Opaque, "Opaque cannot be mapped to protobuf", "Use a scalar, a list or dict, an enum, a dataclass"),
    (complex, "complex cannot be mapped to protobuf", "Use a scalar"),
    (Flags, "Flags is a set of flags", "Use int, or a list of an Enum"),
    (Alike, "the members of Alike would not have names of their own", "Rename those that differ only in case"),
    (T, "~T stands for any type", "Write the type itself"),
    (list[Iterator[int]], "is a stream, which only a method's first parameter and its result can be", "Use list[...]"),
    (npt.NDArray[np.str_], "a tensor cannot hold elements of str_", "Write numpy.typing.NDArray[numpy.float32]"),
    (npt.NDArray[np.floating[Any]], "a tensor cannot hold elements of", "Write numpy.typing.NDArray[numpy.float32]"),
    (Holder, "field 'inner' of Holder: Opaque cannot be mapped", "Use a scalar"),
    (Clash, "'image_url' and 'imageURL' of Clash would have the same name", "Rename one of them"),
    (Both, "field 'limit' of Both: a field that is not sent can mean None or the default 5", "Make None the default"),
    (
        Unfinished,
        "field 'at' of Unfinished: 'dict[str, Nowhere]' cannot be looked up",
        "Define or import what it names",
    ),
    (list[Holder | other_holder()], "is one of several types", "Use a dataclass"),  # type: ignore[misc]
]


@pytest.mark.parametrize(("hint", "problem", "fix"), NAMED, ids=lambda value: str(value)[:40])
def test_a_hint_that_cannot_be_mapped_is_named_with_the_fix(hint: Any, problem: str, fix: str) -> None:
    def find(self: Any, fine: int, thing: Any) -> None: ...

    find.__annotations__["thing"] = hint
    find.__qualname__ = "ignored"
    with pytest.raises(HintError) as raised:
        service_of(class_of(find))
    message = str(raised.value)
    assert message.startswith("Shop.find: parameter 'thing'")
    assert problem in message
    assert f". {fix}" in message


def method(**annotations: Any) -> Callable[..., Any]:
    def find(self: Any, a: Any, b: Any) -> Any: ...

    find.__annotations__ = annotations
    return find


def without(parameters: str) -> Callable[..., Any]:
    made: dict[str, Any] = {}
    exec(f"def find(self, {parameters}) -> int: ...", made)
    function: Callable[..., Any] = made["find"]
    return function


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (method(a=int, **{"return": int}), "Shop.find: parameter 'b': it has no type hint. Write one, or begin"),
        (method(a=int, b=int), "Shop.find: its result: it has no type hint. Write one behind ->"),
        (method(a=int, b=int, **{"return": dict}), "Shop.find: its result: a bare dict does not say"),
        (
            method(a=int, b="Nowhere", **{"return": int}),
            "Shop.find: the name 'Nowhere' in its hints cannot be looked up",
        ),
        (method(a=int, b="list[", **{"return": int}), "Shop.find: its hints cannot be read"),
        (
            method(a=int, b=AsyncIterator[int], **{"return": int}),
            "parameter 'b': .* which only the first parameter can be",
        ),
        (method(a=AsyncIterator, b=int, **{"return": int}), "parameter 'a': .* does not say what it yields"),
        (
            method(a=AsyncIterator[int], b=Iterator[int], **{"return": int}),
            "parameter 'b': .* only the first parameter",
        ),
        (method(a=int, b=int, **{"return": Iterable[int]}), "its result: an Iterable may be a list or a stream"),
        (
            method(a=int, b=int, **{"return": collections.abc.AsyncIterator}),
            "its result: .* does not say what it yields",
        ),
        (without("*args: int"), "Shop.find: parameter 'args': it takes any number of arguments. Take a list"),
        (without("**options: int"), "Shop.find: parameter 'options': it takes any number of arguments"),
        (without("größe: int"), "parameter 'größe': 'größe' cannot be the name of a field"),
        (without("_1: int"), "parameter '_1': '_1' cannot be the name of a field"),
    ],
)
def test_a_method_that_cannot_be_mapped_is_named(function: Callable[..., Any], message: str) -> None:
    with pytest.raises(HintError, match=message):
        service_of(class_of(function))


def test_two_classes_of_one_name_are_an_error_that_names_both() -> None:
    def find(self: Any, a: Any, b: Any) -> None: ...

    @dataclasses.dataclass
    class FindResponse:
        x: int

    find.__annotations__ = {"a": other_holder(), "b": other_holder(), "return": None}
    with pytest.raises(HintError, match=r"two types would be the message 'Holder': .*test_hints.other_holder"):
        service_of(class_of(find))
    find.__annotations__ = {"a": FindResponse, "b": int, "return": None}
    with pytest.raises(HintError, match=r"'FindResponse': .*FindResponse, one made for"):
        service_of(class_of(find))


def test_two_methods_of_one_name_are_an_error() -> None:
    def find_all(self: Any) -> int: ...  # type: ignore[empty-body]

    with pytest.raises(HintError, match=r"two methods would be called 'FindAll'. Rename one"):
        service_of(type("Shop", (), {"find_all": find_all, "findAll": find_all}))


def test_a_batched_method_whose_hints_are_no_lists() -> None:
    @serve.batch
    async def price(self: Any, items: list[str]) -> dict[str, float]: ...  # type: ignore[empty-body]

    with pytest.raises(HintError, match=r"Shop.price: its result: a batched method takes and returns lists"):
        service_of(type("Shop", (), {"price": price}))


def test_an_endless_hint_ends() -> None:
    endless: Any = list
    for _ in range(100):
        endless = list[endless]

    def find(self: Any, a: Any) -> None: ...

    find.__annotations__["a"] = endless
    with pytest.raises(HintError, match=r"the hint does not end"):
        service_of(class_of(find))


@pytest.mark.parametrize("package", ["v1", "Shop.v1", "shop", "shop.1", "shop.v0", "shöp.v1", "a..v1"])
def test_a_package_that_buf_lint_would_refuse(package: str) -> None:
    with pytest.raises(ValueError, match=r"a protobuf package is like 'digits.v1'"):
        service_of(class_of(lambda_of_int), package)


@pytest.mark.parametrize("package", ["google.v1", "fairlead.v1", "grpc.shop.v1"])
def test_a_package_that_is_taken(package: str) -> None:
    with pytest.raises(ValueError, match=r"is taken; choose one with @serve.typed"):
        service_of(class_of(lambda_of_int), package)


def lambda_of_int(self: Any) -> int:
    return 1


def test_a_class_whose_name_is_taken_says_what_to_do() -> None:
    with pytest.raises(ValueError, match=r"the package 'fairlead.v1' of Fairlead is taken"):
        service_of(class_of(lambda_of_int, "Fairlead"))


def test_classes_without_methods_for_callers_have_no_service() -> None:
    assert service_of(type("Empty", (), {})) is None
    assert derived(class_of(lambda_of_int)).full_name == "shop.v1.ShopService"
    assert derived(class_of(lambda_of_int, "ShopService")).name == "ShopService"
