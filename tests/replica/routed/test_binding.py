"""Requests bound to parameters: what fits, every problem of what does not, and nothing else whatever comes."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import json
import uuid
from collections.abc import Callable
from typing import Annotated, Any, Literal
from urllib.parse import urlencode

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette import convertors
from starlette.requests import Request

from fairlead import serve
from fairlead.serve.routes.declaration import routed_method
from fairlead.v1 import http_pb2
from fairlead.wire.errors import MethodNotFoundError, UnknownSerializationError
from fairlead_replica import http
from fairlead_replica.routed.binding import Binding
from fairlead_replica.routed.problems import BadRequestError


class Color(enum.Enum):
    RED = "red"


class Level(enum.Enum):
    LOW = 1


class Item(pydantic.BaseModel):
    name: str
    tags: list[int] = []


class Nested(pydantic.BaseModel):
    item: Item


@dataclasses.dataclass
class Size:
    width: int


def binding(function: Callable[..., Any], path: str = "/") -> Binding:
    routed = routed_method(serve.route(path, methods=["POST"])(function), function.__name__)
    assert routed is not None
    return Binding(routed, path)


def bound(
    target: Callable[..., Any] | Binding,
    body: bytes | Any = b"",
    query: str = "",
    *,
    path: str = "/",
    media_type: str = "application/json",
    **params: str,
) -> dict[str, Any]:
    """The arguments by name, or the problems."""
    made = target if isinstance(target, Binding) else binding(target, path)
    message = http_pb2.HttpRequest(
        method="POST",
        body=body if isinstance(body, bytes) else json.dumps(body).encode(),
        query_string=query.encode(),
        path_params=params,
        headers=[http_pb2.HttpHeader(name=b"content-type", value=media_type.encode())],
    )
    try:
        args, kwargs = made.bind(message, http.request_of(message))
    except BadRequestError as error:
        return dict(error.problems)
    names = [parameter.name for parameter in made.plan.parameters if parameter.positional]
    return dict(zip(names, args, strict=True)) | kwargs


class TestQuery:
    @pytest.mark.parametrize(
        ("hint", "query", "value"),
        [
            (int, "x=5", 5),
            (float, "x=1e3", 1000.0),
            (bool, "x=true", True),
            (str, "x=a+b%2Bc", "a b+c"),
            (str, "x=", ""),
            (Any, "x=5", "5"),
            (Any, "x=5&x=6", ["5", "6"]),
            (int | None, "x=5", 5),
            (int | str, "x=5", 5),
            (int | str, "x=a", "a"),
            (Literal[1, "b"], "x=1", 1),
            (Literal[1, "b"], "x=b", "b"),
            (Color, "x=red", Color.RED),
            (Level, "x=1", Level.LOW),
            (uuid.UUID, f"x={uuid.UUID(int=7)}", uuid.UUID(int=7)),
            (decimal.Decimal, "x=1.10", decimal.Decimal("1.10")),
            (datetime.date, "x=2024-02-29", datetime.date(2024, 2, 29)),
            (datetime.timedelta, "x=PT5S", datetime.timedelta(seconds=5)),
            (list[int], "x=1&x=2", [1, 2]),
            (list[str] | None, "x=1", ["1"]),
            (set[Color], "x=red&x=red", {Color.RED}),
            (tuple[int, str], "x=1&x=2", (1, "2")),
            (Annotated[int, pydantic.Field(ge=1)], "x=1", 1),
        ],
    )
    def test_values(self, hint: Any, query: str, value: Any) -> None:
        def method(x): ...  # type: ignore[no-untyped-def]

        method.__annotations__["x"] = hint
        found = bound(method, query=query)
        assert found == {"x": value}
        assert type(found["x"]) is type(value)

    @pytest.mark.parametrize(
        ("hint", "query", "field"),
        [
            (int, "", "query.x"),
            (int, "x=a", "query.x"),
            (int, "x=1&x=2", "query.x"),
            (int | None, "x=", "query.x"),
            (list[int], "x=1&x=b&x=c", "query.x[1]"),
            (tuple[int, int], "x=1", "query.x[1]"),
            (Color, "x=green", "query.x"),
            (Annotated[int, pydantic.Field(ge=1)], "x=0", "query.x"),
            (int, "x=%zz", "query"),
        ],
    )
    def test_problems(self, hint: Any, query: str, field: str) -> None:
        def method(x): ...  # type: ignore[no-untyped-def]

        method.__annotations__["x"] = hint
        found = bound(method, query=query)
        assert field in found
        assert all(isinstance(description, str) for description in found.values())

    def test_defaults_and_what_is_unknown(self) -> None:
        def method(x: int = 3) -> None: ...

        assert bound(method, query="y=1") == {}


class TestBody:
    def test_the_only_structure_is_the_body_or_a_member_of_it(self) -> None:
        def method(item: Item, wide: bool = False) -> None: ...

        item = Item(name="a")
        assert bound(method, {"name": "a"}, "wide=1") == {"item": item, "wide": True}
        assert bound(method, {"item": {"name": "a"}, "wide": True}) == {"item": item, "wide": True}

    def test_a_member_of_the_same_name_is_the_models_own(self) -> None:
        def method(item: Nested) -> None: ...

        assert bound(method, {"item": {"name": "a"}}) == {"item": Nested(item=Item(name="a"))}

    def test_dictionaries_are_bodies(self) -> None:
        def method(data: dict[str, Any]) -> None: ...

        assert bound(method, {"data": 1}) == {"data": {"data": 1}}

    def test_lists(self) -> None:
        def method(numbers: list[int], scale: int = 1) -> None: ...

        assert bound(method, [1, 2], "scale=2") == {"numbers": [1, 2], "scale": 2}
        assert bound(method, {"numbers": [1, 2], "scale": 2}) == {"numbers": [1, 2], "scale": 2}
        assert bound(method, query="numbers=1") == {"numbers": [1]}

    def test_several_structures_are_members(self) -> None:
        def method(item: Item, size: Size) -> None: ...

        assert bound(method, {"item": {"name": "a"}, "size": {"width": 1}}) == {
            "item": Item(name="a"),
            "size": Size(1),
        }
        assert set(bound(method, [])) == {"body"}
        assert set(bound(method, {"item": {"name": 1, "tags": ["x"]}})) == {
            "body.item.name",
            "body.item.tags[0]",
            "body.size",
        }

    def test_positional_only(self) -> None:
        def method(a: int, /, b: int = 2) -> None: ...

        assert bound(method, {"a": 1}) == {"a": 1}
        assert bound(method, {"a": 1, "b": 3}) == {"a": 1, "b": 3}

    def test_integers_are_exact(self) -> None:
        def method(number: int, item: dict[str, int]) -> None: ...

        large = 12345678901234567890123
        assert bound(method, {"n": large}, f"number={large}") == {"number": large, "item": {"n": large}}

    def test_problems_of_all_parts_are_listed_together(self) -> None:
        def method(one: int, two: int, item: Item) -> None: ...

        assert set(bound(method, {"tags": 1}, "two=x", path="/{one}", one="a")) == {
            "path.one",
            "query.two",
            "body.name",
            "body.tags",
        }
        assert set(bound(method, b"{", "two=x", path="/{one}", one="a")) == {"path.one", "query.two", "body"}
        assert set(bound(method, b"", "two=%", path="/{one}", one="1")) == {"query", "body"}

    def test_given_twice(self) -> None:
        def method(a: int) -> None: ...

        assert set(bound(method, {"a": 1}, "a=1")) == {"query.a"}

    def test_other_media_types(self) -> None:
        def method(a: int = 1) -> None: ...

        with pytest.raises(UnknownSerializationError):
            bound(method, b"a=1", media_type="application/x-www-form-urlencoded")
        assert bound(method, b"", media_type="text/plain") == {}

    def test_a_body_is_left_to_a_method_that_takes_none(self) -> None:
        def method(request: Request, one: int) -> None: ...

        found = bound(method, b"no JSON", media_type="text/plain", path="/{one}", one="1")
        assert (found["one"], found["request"].path_params) == (1, {"one": "1"})


class TestPath:
    def test_values_by_hint_or_by_converter(self) -> None:
        def hinted(a: str, b: decimal.Decimal, c: Color) -> None: ...

        def plain(a, b, c): ...  # type: ignore[no-untyped-def]

        path = "/{a:int}/{b:float}/{c}"
        assert bound(hinted, path=path, a="01", b="1.10", c="red") == {
            "a": "01",
            "b": decimal.Decimal("1.10"),
            "c": Color.RED,
        }
        assert bound(plain, path=path, a="01", b="1.10", c="red") == {"a": 1, "b": 1.1, "c": "red"}

    def test_a_users_converter_makes_the_value(self, monkeypatch: pytest.MonkeyPatch) -> None:
        class Hex(convertors.Convertor[int]):
            regex = "[0-9a-z]+"

            def convert(self, value: str) -> int:
                return int(value, 16)

            def to_string(self, value: int) -> str:
                return hex(value)

        monkeypatch.setitem(convertors.CONVERTOR_TYPES, "hex", Hex())

        def method(number: int) -> None: ...

        made = binding(method, "/{number:hex}")
        assert bound(made, number="ff") == {"number": 255}
        with pytest.raises(MethodNotFoundError):
            bound(made, number="xy")


def test_a_route_that_the_method_does_not_have() -> None:
    @serve.route("/a")
    def method() -> None: ...

    routed = routed_method(method, "method")
    assert routed is not None
    with pytest.raises(MethodNotFoundError, match="has no route '/b'"):
        Binding(routed, "/b")


def _everything(
    a: int,
    item: Item,
    b: list[float] | None = None,
    c: Color | Level | None = None,
    d: datetime.datetime | int | None = None,
    e: Any = None,
) -> None: ...


def _members(a: int, items: list[Item], sizes: dict[str, Size] | None = None, b: bytes | None = None) -> None: ...


BINDINGS = [binding(_everything), binding(_members)]
NAMES = st.sampled_from(["a", "b", "c", "d", "e", "item", "items", "sizes", "name", "tags", "x"])
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
JSON = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=5), max_leaves=12
)


@given(
    st.sampled_from(BINDINGS),
    st.binary(max_size=30) | JSON.map(lambda value: json.dumps(value).encode()),
    st.binary(max_size=30) | st.lists(st.tuples(NAMES, st.text(max_size=5))).map(lambda q: _encoded(q)),
)
def test_any_request_is_bound_or_refused_with_places(made: Binding, body: bytes, query: bytes) -> None:
    message = http_pb2.HttpRequest(method="POST", body=body, query_string=query)
    arguments, error = _tried(made, message)
    if error is None:
        assert arguments is not None
        assert isinstance(arguments["a"], int)
    else:
        assert error.problems
        assert all(field.startswith(("query", "body")) for field, _ in error.problems)
        assert error.outcome().status.code == 3


def _tried(made: Binding, message: http_pb2.HttpRequest) -> tuple[dict[str, Any] | None, BadRequestError | None]:
    """The arguments, or why there are none: no other error fits."""
    try:
        return made.bind(message, http.request_of(message))[1], None
    except BadRequestError as error:
        return None, error


def _encoded(pairs: list[tuple[str, str]]) -> bytes:
    return urlencode(pairs, errors="replace").encode()
