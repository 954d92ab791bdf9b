from __future__ import annotations

import contextlib
import dataclasses
import datetime
import decimal
import enum
import itertools
import keyword
import uuid
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal, NamedTuple, Optional, TypedDict

import annotated_types
import numpy as np
import numpy.typing as npt
import pydantic
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fairlead.serve.derived.shapes import OMITTED
from fairlead.v1 import tensor_pb2
from fairlead.wire.errors import InvalidArgumentsError
from tests.serve.derived.deriving import class_of, conversion_of, derived, echo_of, round_trip


class Color(enum.Enum):
    RED = "r"
    GREEN = "g"


class Level(enum.IntEnum):
    LOW = 0
    HIGH = 10


@dataclasses.dataclass
class Node:
    name: str
    children: list[Node] = dataclasses.field(default_factory=list)
    parent: Node | None = None


class Point(NamedTuple):
    x: int
    y: float = 0.5


class Options(TypedDict, total=False):
    mode: str
    depth: int


class Box(pydantic.BaseModel):
    width: float = pydantic.Field(gt=0, alias="w")
    tags: list[str] = []
    sizes: list[int] = [1, 2]


INT64 = st.integers(-(1 << 63), (1 << 63) - 1)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
UTC = st.timezones() | st.just(datetime.UTC)
LEAVES: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (int, INT64),
    (float, st.floats(allow_nan=False)),
    (bool, st.booleans()),
    (str, TEXT),
    (bytes, st.binary(max_size=8)),
    (Color, st.sampled_from(Color)),
    (Level, st.sampled_from(Level)),
    (decimal.Decimal, st.decimals(allow_nan=False)),
    (uuid.UUID, st.uuids()),
    (datetime.datetime, st.datetimes(timezones=st.just(datetime.UTC))),
    (datetime.timedelta, st.timedeltas()),
    (datetime.date, st.dates()),
    (datetime.time, st.times()),
    (Literal["a", "b"], st.sampled_from(["a", "b"])),
    (Point, st.builds(Point, INT64, st.floats(allow_nan=False))),
    (Options, st.fixed_dictionaries({}, optional={"mode": TEXT, "depth": INT64})),
]
KEYS = [(int, INT64), (str, TEXT), (bool, st.booleans()), (uuid.UUID, st.uuids())]
Typed = tuple[Any, st.SearchStrategy[Any]]


def optional(inner: Typed) -> Typed:
    return Optional[inner[0]], st.none() | inner[1]  # noqa: UP045 - of a value


def plural(inner: Typed) -> st.SearchStrategy[Typed]:
    hint, values = inner
    lists: list[Typed] = [
        (list[hint], st.lists(values, max_size=3)),  # type: ignore[valid-type]
        (tuple[hint, ...], st.lists(values, max_size=3).map(tuple)),  # type: ignore[valid-type]
    ]
    maps: list[Typed] = [(dict[key, hint], st.dictionaries(keys, values, max_size=3)) for key, keys in KEYS]  # type: ignore[valid-type]
    return st.sampled_from(lists + maps)


NAMES = st.from_regex(r"[a-z][a-z]{0,4}(_[a-z]{1,3})?", fullmatch=True).filter(lambda name: not keyword.iskeyword(name))


_NUMBERS = itertools.count()


@st.composite
def records(draw: st.DrawFn, inner: st.SearchStrategy[Typed]) -> Typed:
    fields = draw(
        st.dictionaries(
            NAMES,
            inner,
            max_size=4,
        )
    )
    hints = {name: hint for name, (hint, _) in fields.items()}
    name = f"Record{next(_NUMBERS)}"  # each its own: two types of one name are refused
    made = dataclasses.make_dataclass(name, list(hints.items()))
    return made, st.fixed_dictionaries({key: values for key, (_, values) in fields.items()}).map(
        lambda all: made(**all)
    )


def is_optional(typed: Typed) -> bool:
    return type(None) in getattr(typed[0], "__args__", ())


TYPED: st.SearchStrategy[Typed] = st.recursive(
    st.sampled_from(LEAVES),
    lambda inner: (
        inner.flatmap(plural) | inner.filter(lambda each: not is_optional(each)).map(optional) | records(inner)
    ),
    max_leaves=6,
)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(st.data())
def test_values_survive_a_round_trip(data: st.DataObject) -> None:
    hint, values = data.draw(TYPED)
    value = data.draw(values)
    assert round_trip(hint, value) == value


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_arrays_survive_a_round_trip(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(["bool", "int8", "uint16", "int64", "float16", "float32", "float64", "complex64"]))
    shape = data.draw(st.lists(st.integers(0, 3), max_size=4))
    order: Any = data.draw(st.sampled_from(["C", "F"]))
    array = np.asarray(np.random.default_rng(7).integers(0, 2, shape).astype(name), order=order)
    for hint in (np.ndarray, npt.NDArray[np.dtype(name).type]):
        back = round_trip(hint, array.astype(array.dtype.newbyteorder(data.draw(st.sampled_from("<>")))))
        assert back.dtype == array.dtype
        assert back.shape == array.shape
        assert (back == array).all()


def test_an_array_is_a_view_of_its_message() -> None:
    back = round_trip(npt.NDArray[np.float32], np.arange(6, dtype=np.float32))
    assert back.base is not None
    assert not back.flags.writeable


def test_elements_are_converted_only_where_nothing_is_lost() -> None:
    def mean(self: Any, values: npt.NDArray[np.float64]) -> npt.NDArray[np.int32]:
        raise NotImplementedError

    conversion = conversion_of(derived(class_of(mean)), "Mean")
    request = tensor_message(tensor_pb2.DATA_TYPE_FLOAT32, [2], np.array([1, 2], np.float32).tobytes())
    _, kwargs = conversion.arguments(request)
    assert kwargs["values"].dtype == np.float64
    with pytest.raises(ValueError, match="result: expected an array of int32, got one of int64"):
        conversion.dump(np.array([1], np.int64))
    with pytest.raises(InvalidArgumentsError, match="values: expected a tensor of float64, which complex64"):
        conversion.arguments(tensor_message(tensor_pb2.DATA_TYPE_COMPLEX64, [0], b""))


def tensor_message(data_type: int, shape: list[int], data: bytes) -> bytes:
    """A message whose first field is a tensor."""
    tensor = tensor_pb2.Tensor(data_type=data_type, shape=shape, data=data).SerializeToString()  # type: ignore[arg-type]
    return b"\x0a" + bytes([len(tensor)]) + tensor


@pytest.mark.parametrize(
    ("data_type", "shape", "data", "problem"),
    [
        (0, [1], b"\x01", "value: a tensor needs a data_type"),
        (99, [1], b"\x01", "value: a tensor needs a data_type"),
        (tensor_pb2.DATA_TYPE_FLOAT32, [3], b"\0" * 8, "value: 3 of float32 are 12 bytes, and there are 8"),
        (tensor_pb2.DATA_TYPE_FLOAT32, [-1, -2], b"\0" * 8, "value: .* none of them negative"),
        (tensor_pb2.DATA_TYPE_UINT8, [1 << 62, 1 << 62, 0], b"", "value: "),
        (tensor_pb2.DATA_TYPE_UINT8, [1] * 65, b"\0", "value: a tensor has at most 64 dimensions"),
        (tensor_pb2.DATA_TYPE_BOOL, [2], b"\x01\x02", "value: .* bytes of 0 and 1 only"),
    ],
)
def test_a_tensor_that_cannot_be_is_refused(data_type: int, shape: list[int], data: bytes, problem: str) -> None:
    conversion = conversion_of(derived(echo_of(np.ndarray)), "Echo")
    with pytest.raises(InvalidArgumentsError, match=problem):
        conversion.arguments(tensor_message(data_type, shape, data))


def test_an_array_of_objects_is_refused() -> None:
    conversion = conversion_of(derived(echo_of(np.ndarray)), "Echo")
    with pytest.raises(ValueError, match="result: a tensor cannot hold elements of object"):
        conversion.dump(np.array([object()]))


@pytest.mark.parametrize(
    ("hint", "value", "problem"),
    [
        (int, "1", "result: 'str' object cannot be interpreted as an integer"),
        (int, 1 << 64, "result: .*range"),
        (float, "1.5", "result: expected a number, got str"),
        (str, 1, "result: expected str, got int"),
        (bool, 1, "result: expected bool, got int"),
        (bytes, "x", "result: expected bytes, got str"),
        (int, None, "result: there is no value, and there has to be one"),
        (list[int], [1, None], r"result\[1\]: "),
        (list[str], "abc", "result: expected a list, got str"),
        (dict[str, float], [1], "result: expected a dict, got list"),
        (dict[str, float], {"a": "b"}, r"result\['a'\]: expected a number"),
        (Color, "r", "result: 'r' is no member of Color"),
        (Node, {"name": "x"}, "result: expected Node, got dict"),
        (Node, Node("a", [Node("b", parent=Node(7))]), r"result.children\[0\].parent.name: expected str"),  # type: ignore[arg-type]
        (Options, {"mood": "x"}, "result: Options has no key 'mood'"),
        (datetime.datetime, datetime.datetime(2026, 1, 1), "result: a datetime needs a time zone"),
        (None, 1, "expected None, got int"),
    ],
)
def test_a_result_that_is_not_as_hinted_is_refused(hint: Any, value: Any, problem: str) -> None:
    def echo(self: Any) -> Any:
        raise NotImplementedError

    echo.__annotations__ = {"return": hint}
    with pytest.raises((ValueError, TypeError), match=problem):
        conversion_of(derived(class_of(echo)), "Echo").dump(value)


def test_what_is_missing_or_wrong_in_a_request_is_named() -> None:
    def pack(self: Any, box: Box, color: Color, at: datetime.datetime, nodes: list[Node]) -> None: ...

    service = derived(class_of(pack))
    conversion = conversion_of(service, "Pack")
    message = conversion._request

    def problem(**fields: Any) -> str:
        good = {"box": {"width": 1.0}, "color": "COLOR_RED", "at": {"seconds": 1}, "nodes": []}
        with pytest.raises(InvalidArgumentsError) as raised:
            conversion.arguments(
                message(**{key: value for key, value in (good | fields).items() if value}).SerializeToString()
            )
        place = raised.value.metadata["field"]
        assert raised.value.message.startswith(f"{place}: ")
        return raised.value.message

    assert problem(box=None) == "box: is missing"
    assert problem(box={"width": -1}) == "box.width: Input should be greater than 0"
    assert problem(color=None) == "color: is missing"
    assert problem(color=9) == "color: 9 is no value of the enum"
    assert problem(at=None) == "at: is missing"
    assert problem(at={"seconds": 1 << 60}) == "at: a timestamp is from the year 1 to the year 9999"
    assert problem(at={"nanos": -1}) == "at: nanos of a timestamp are from 0 to 999,999,999"
    with pytest.raises(InvalidArgumentsError, match="the payload is no PackRequest"):
        conversion.arguments(b"\xff\xff")


def test_constraints_of_parameters_are_checked() -> None:
    def find(self: Any, limit: Any, names: Any, pixels: Any, ratio: Any = None) -> None: ...

    find.__annotations__ = {
        "limit": Annotated[int, pydantic.Field(gt=0)],
        "names": list[Annotated[str, annotated_types.MaxLen(3)]],
        "pixels": Annotated[npt.NDArray[np.float32], pydantic.Field(description="of any size")],
        "ratio": Annotated[float, pydantic.Field(le=1)] | None,
        "return": None,
    }
    conversion = conversion_of(derived(class_of(find)), "Find")

    def found(**fields: Any) -> dict[str, Any]:
        message = conversion._request(**{"limit": 1, "pixels": {"data_type": 11, "shape": [0]}} | fields)
        return conversion.arguments(message.SerializeToString())[1]

    assert found(names=["a"])["names"] == ["a"]
    assert "ratio" not in found()
    for fields, problem in (
        ({"limit": 0}, "limit: Input should be greater than 0"),
        ({"names": ["a", "long"]}, r"names\[1\]: String should have at most 3 characters"),
        ({"ratio": 1.5}, "ratio: Input should be less than or equal to 1"),
    ):
        with pytest.raises(InvalidArgumentsError, match=problem):
            found(**fields)


def test_defaults_apply_where_nothing_was_sent() -> None:
    def find(
        self: Any,
        text: str,
        limit: int = 10,
        /,
        color: Color = Color.GREEN,
        *,
        tags: list[str] = ["a"],  # noqa: B006 - not changed
        by: str | None = None,
    ) -> None: ...

    conversion = conversion_of(derived(class_of(find)), "Find")
    message = conversion._request
    assert conversion.arguments(message(text="x").SerializeToString()) == (("x",), {})
    full = message(text="x", limit=0, color="COLOR_RED", tags={}, by="")
    assert conversion.arguments(full.SerializeToString()) == (("x", 0), {"color": Color.RED, "tags": [], "by": ""})


def test_pydantic_models_are_built_and_validated() -> None:
    assert round_trip(Box, Box(w=2, tags=["a"])) == Box(w=2, tags=["a"])
    assert round_trip(Box, Box(w=2, sizes=[])).sizes == []
    numbers = pydantic.RootModel[list[int]]
    named = type("Numbers", (numbers,), {"__module__": __name__})
    assert round_trip(named, named([1, 2])).root == [1, 2]


def test_a_class_with_the_name_of_the_message_is_the_message() -> None:
    @dataclasses.dataclass
    class ScanRequest:
        code: str

    @dataclasses.dataclass
    class ScanResponse:
        ok: bool

    async def scan(self: Any, request: Any) -> Any: ...

    scan.__annotations__ = {"request": ScanRequest, "return": ScanResponse}
    conversion = conversion_of(derived(class_of(scan)), "Scan")
    _, kwargs = conversion.arguments(conversion._request(code="7").SerializeToString())
    assert kwargs == {"request": ScanRequest("7")}
    assert conversion._response.FromString(conversion.dump(ScanResponse(True))).ok


def test_items_of_a_client_stream() -> None:
    async def total(self: Any, numbers: AsyncIterator[int]) -> float: ...  # type: ignore[empty-body]

    service = derived(class_of(total))
    assert service.methods[0].client_streaming
    conversion = conversion_of(service, "Total")
    assert conversion.item(conversion._request(numbers=0).SerializeToString()) == 0
    with pytest.raises(InvalidArgumentsError, match="numbers: is missing"):
        conversion.item(b"")


def test_the_first_message_of_a_client_stream_may_have_other_arguments() -> None:
    async def total(self: Any, numbers: AsyncIterator[int], base: Point, /, scale: float = 1.0) -> float: ...  # type: ignore[empty-body]

    conversion = conversion_of(derived(class_of(total)), "Total")
    assert conversion.opens_with_parameters

    def fields(**message: Any) -> Any:
        return conversion.item(conversion._request(**message).SerializeToString())

    base = {"x": 1}
    assert conversion.opening(fields(numbers=0, base=base)) == ((Point(1),), {}, 0)
    args, kwargs, item = conversion.opening(fields(base=base, scale=2))
    assert (args, kwargs, item) == ((Point(1),), {"scale": 2.0}, OMITTED)
    assert conversion.further(fields(numbers=3)) == 3
    for refused in (lambda: conversion.opening(fields(numbers=1)), lambda: conversion.opening(None)):
        with pytest.raises(InvalidArgumentsError, match="base: is missing"):
            refused()
    with pytest.raises(InvalidArgumentsError, match="numbers: is missing"):
        conversion.further(fields(base=base))


def test_numpy_scalars() -> None:
    assert round_trip(np.float32, np.float32(0.1)) == np.float32(0.1)
    assert type(round_trip(np.int16, np.int16(-3))) is np.int16
    conversion = conversion_of(derived(echo_of(np.int8)), "Echo")
    with pytest.raises(InvalidArgumentsError, match="value: 300 is out of range for int8"):
        conversion.arguments(conversion._request(value=300).SerializeToString())


def test_an_error_of_the_users_class_is_the_callers() -> None:
    @dataclasses.dataclass
    class Even:
        number: int

        def __post_init__(self) -> None:
            if self.number % 2:
                raise ValueError(f"{self.number} is odd")

    conversion = conversion_of(derived(echo_of(list[Even])), "Echo")
    message = conversion._request(value=[{"number": 2}, {"number": 3}])
    with pytest.raises(InvalidArgumentsError, match=r"^value\[1\]: 3 is odd$"):
        conversion.arguments(message.SerializeToString())


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=64))
def test_whatever_bytes_come_the_error_is_the_callers(data: bytes) -> None:
    for conversion in (SHOP, FINDER):
        with contextlib.suppress(InvalidArgumentsError):
            conversion.arguments(data)


def measure(
    self: Any, pixels: npt.NDArray[np.float32], ids: set[uuid.UUID], parts: dict[int, Node], at: Point
) -> None: ...


def locate(
    self: Any, box: Box, kind: Color, when: datetime.datetime | None = None, took: datetime.timedelta | None = None
) -> None: ...


SHOP = conversion_of(derived(class_of(measure)), "Measure")
FINDER = conversion_of(derived(class_of(locate)), "Locate")
