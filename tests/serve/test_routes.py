"""``@serve.route``: what can be declared, where parameters come from, and what gateways are told of it."""

from __future__ import annotations

import dataclasses
import decimal
import enum
import json
import types
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Annotated, Any, Literal, NamedTuple, NewType, TypedDict

import cloudpickle
import pydantic
import pytest
import typing_extensions
from starlette import convertors
from starlette.requests import Request

from fairlead import serve
from fairlead.paths import DuplicateRouteError, PatternError
from fairlead.serve.code import pickled_code
from fairlead.serve.graph import application_spec
from fairlead.serve.interface import interface_of
from fairlead.serve.routes.declaration import routed_method, routed_methods
from fairlead.serve.routes.hints import shape_of
from fairlead.serve.routes.parameters import Plan, Source, plan_of


class Model(pydantic.BaseModel):
    name: str
    count: int = pydantic.Field(1, alias="howMany")


@dataclasses.dataclass
class Size:
    width: int


class Named(NamedTuple):
    x: int


class Typed(TypedDict):
    y: int


class Extended(typing_extensions.TypedDict):
    z: int


class Color(enum.Enum):
    RED = 1


Ident = NewType("Ident", int)


class Twice(convertors.Convertor[str]):
    regex = "(?:ab){2}"

    def convert(self, value: str) -> str:
        return value[:2]

    def to_string(self, value: str) -> str:
        return value * 2


@pytest.fixture
def twice() -> Iterator[None]:
    convertors.register_url_convertor("twice", Twice())
    yield
    del convertors.CONVERTOR_TYPES["twice"]


def plan(function: Any, path: str = "/", methods: Sequence[str] = ("GET",)) -> Plan:
    routed = routed_method(serve.route(path, list(methods))(function), function.__name__)
    assert routed is not None
    return plan_of(routed, routed.declarations[0])


def sources(found: Plan) -> dict[str, Source]:
    return {parameter.name: parameter.source for parameter in found.parameters}


class TestDecorator:
    @pytest.mark.parametrize("path", ["users", "/{a}/{a}", "/{bad-name}", "/{a:unknown}"])
    def test_paths_that_cannot_be(self, path: str) -> None:
        with pytest.raises(PatternError):
            serve.route(path)

    def test_other_mistakes(self) -> None:
        with pytest.raises(TypeError, match="list of HTTP methods"):
            serve.route("/", methods="GET")
        with pytest.raises(TypeError, match="takes a path"):
            serve.route(lambda: None)  # type: ignore[arg-type]
        with pytest.raises(PatternError, match="one method at least"):
            serve.route("/", methods=[])
        with pytest.raises(TypeError, match="stands on a function"):
            serve.route("/")(Size)

    def test_an_unknown_converter_says_how_to_register_one(self) -> None:
        with pytest.raises(AssertionError, match="register_url_convertor"):
            serve.route("/{a:twice}")

    def test_several_stand_in_the_order_they_are_written(self) -> None:
        class A:
            @serve.route("/one")
            @serve.route("/two", methods=["post", "POST"])
            def both(self) -> None: ...

        (method,) = routed_methods(A)
        assert [(each.path, each.methods) for each in method.declarations] == [("/one", ("GET",)), ("/two", ("POST",))]

    def test_bases_come_first_and_overriding_takes_routes_away(self) -> None:
        class Base:
            @serve.route("/a")
            def a(self) -> None: ...

            @serve.route("/b")
            def b(self) -> None: ...

        class Child(Base):
            @serve.route("/c")
            @staticmethod
            def c() -> None: ...

            def b(self) -> None: ...

        assert [str(method) for method in routed_methods(Child)] == ["Child.a", "Child.c"]
        assert [method.bound for method in routed_methods(Child)] == [True, False]

    @pytest.mark.parametrize("above", [True, False])
    def test_with_batches(self, above: bool) -> None:
        async def double(values: list[int]) -> list[int]:
            return [value * 2 for value in values]

        bound = serve.route("/double")
        batched = bound(serve.batch(double)) if above else serve.batch(bound(double))
        method = routed_method(cloudpickle.loads(cloudpickle.dumps(batched)), "double")
        assert method is not None
        (parameter,) = plan_of(method, method.declarations[0]).parameters
        assert (parameter.hint, parameter.source) == (int, Source.NAMED)


class TestHints:
    @pytest.mark.parametrize(
        ("hint", "structured", "many"),
        [
            (int, False, False),
            (Any, False, False),
            (Color, False, False),
            (Literal["a", 1], False, False),
            (int | None, False, False),
            (Ident, False, False),
            (uuid.UUID, False, False),
            (list, False, True),
            (list[int], False, True),
            (tuple[int, ...], False, True),
            (Annotated[list[int] | None, "x"], False, True),
            (Sequence[Color], False, True),
            (dict[str, int], True, False),
            (list[list[int]], True, False),
            (list[Size], True, False),
            (Model | None, True, False),
            (Size, True, False),
            (Named, True, False),
            (Typed, True, False),
            (Extended, True, False),
        ],
    )
    def test_shapes(self, hint: Any, structured: bool, many: bool) -> None:
        assert shape_of(hint)[:2] == (structured, many)

    def test_fields_are_known_with_their_aliases(self) -> None:
        assert shape_of(Model).fields == {"name", "count", "howMany"}
        assert [shape_of(each).fields for each in (Typed, Extended, Named, Size)] == [{"y"}, {"z"}, {"x"}, {"width"}]
        assert not shape_of(Extended).open


class TestPlan:
    def test_sources(self) -> None:
        def method(one: int, request: Request, two: str, three: Model, four: list[int]) -> None: ...

        assert sources(plan(method, "/{one}")) == {
            "one": Source.PATH,
            "request": Source.REQUEST,
            "two": Source.NAMED,
            "three": Source.STRUCTURED,
            "four": Source.NAMED,
        }

    def test_a_request_by_its_name_or_its_hint(self) -> None:
        def by_name(request): ...  # type: ignore[no-untyped-def]

        def by_hint(it: Request) -> None: ...

        def neither(request: Model) -> None: ...

        assert plan(by_name).handler
        assert plan(by_hint).handler
        assert sources(plan(neither)) == {"request": Source.STRUCTURED}

    def test_which_one_may_be_the_whole_body(self) -> None:
        def one(a: int, b: Model) -> None: ...

        def two(a: Size, b: Model) -> None: ...

        def listed(a: int, b: list[int]) -> None: ...

        def single(a: int) -> None: ...

        def several(a: int, b: int) -> None: ...

        found = [plan(function).whole for function in (one, two, listed, single, several)]
        assert [each.name if each else None for each in found] == ["b", None, "b", "a", None]

    def test_what_cannot_be_bound(self) -> None:
        def rest(*args: int) -> None: ...

        def lacking() -> None: ...

        def structured(a: Model) -> None: ...

        def undefined(a: Nowhere) -> None: ...  # type: ignore[name-defined]  # noqa: F821

        def request_only(request: Request) -> None: ...

        with pytest.raises(TypeError, match=r"rest .*\*args"):
            plan(rest)
        with pytest.raises(ValueError, match="lacking takes no parameter 'a'"):
            plan(lacking, "/{a}")
        with pytest.raises(TypeError, match="comes from the path"):
            plan(structured, "/{a}")
        with pytest.raises(TypeError, match="type hints of undefined cannot be resolved"):
            plan(undefined)
        assert plan(request_only, "/{a}").captured == {"a": "str"}


class Routed:
    @serve.route("/items/{ident:int}", methods=["GET", "PUT"])
    def item(self, ident: int, model: Model | None = None, wide: bool = False) -> Model:
        """Gets or sets.

        An item.
        """
        raise NotImplementedError

    @serve.route("/stream", methods=["POST"])
    async def stream(self, upto: int) -> AsyncIterator[Size]:
        yield Size(upto)

    @serve.route("/raw")
    def raw(self, request: Request) -> str:
        raise NotImplementedError


class TestDescription:
    def test_routes(self) -> None:
        interface = interface_of(Routed)
        assert interface is not None
        assert not interface.handles_requests
        found = [(each.path, list(each.http_methods), each.method) for each in interface.http_routes]
        assert found == [
            ("/items/{ident:int}", ["GET"], "item"),
            ("/items/{ident:int}", ["PUT"], "item"),
            ("/stream", ["POST"], "stream"),
            ("/raw", ["GET"], "raw"),
        ]
        assert [each.stream for each in interface.http_routes] == [False, False, True, False]
        assert [each.handler for each in interface.http_routes] == [False, False, False, True]

    def test_operations(self) -> None:
        interface = interface_of(Routed)
        assert interface is not None
        operation = json.loads(interface.http_routes[0].openapi_operation)
        assert (operation["summary"], operation["description"]) == ("Gets or sets.", "An item.")
        assert operation["parameters"] == [
            {"name": "ident", "in": "path", "required": True, "schema": {"type": "integer"}},
            {"name": "wide", "in": "query", "required": False, "schema": {"type": "boolean", "default": False}},
        ]
        schemas = json.loads(interface.http_routes[0].openapi_schemas)
        assert set(schemas["Model"]["properties"]) == {"name", "howMany"}
        body = json.loads(interface.http_routes[2].openapi_operation)["requestBody"]
        assert body["content"]["application/json"]["schema"]["required"] == ["upto"]

    def test_what_a_model_takes_and_what_it_is_written_as(self) -> None:
        class Same(pydantic.BaseModel):
            x: int

        class Priced(pydantic.BaseModel):
            price: decimal.Decimal

        class Holder(pydantic.BaseModel):
            priced: Priced
            same: Same

        class A:
            @serve.route("/", methods=["POST"])
            def method(self, one: Priced, two: Holder) -> list[Holder]: ...

        interface = interface_of(A)
        assert interface is not None
        schemas = json.loads(interface.http_routes[0].openapi_schemas)
        assert set(schemas) == {"Priced", "Holder", "Same", "Priced-Output", "Holder-Output"}
        assert set(schemas["Priced"]["properties"]["price"]) == {"anyOf", "title"}
        assert schemas["Priced-Output"]["properties"]["price"]["type"] == "string"
        references = [each["$ref"].rpartition("/")[2] for each in schemas["Holder-Output"]["properties"].values()]
        assert references == ["Priced-Output", "Same"]
        operation = json.loads(interface.http_routes[0].openapi_operation)
        result = operation["responses"]["200"]["content"]["application/json"]["schema"]
        assert result["items"] == {"$ref": "#/components/schemas/Holder-Output"}

    def test_nothing_declared_is_nothing_described(self) -> None:
        class Plain:
            def __call__(self, request: Request) -> None: ...

        assert interface_of(Plain) is None

    def test_a_request_handler_beside_routes(self) -> None:
        class Both(Routed):
            def __call__(self, request: Request) -> None: ...

        interface = interface_of(Both)
        assert interface is not None
        assert interface.handles_requests

    def test_functions(self) -> None:
        @serve.route("/f")
        def function(a: int) -> None: ...

        interface = interface_of(function)
        assert interface is not None
        assert (interface.http_routes[0].method, interface.handles_requests) == ("function", False)

    def test_a_hint_that_nothing_converts_to(self) -> None:
        class A:
            @serve.route("/")
            def method(self, thing: types.CodeType) -> None: ...

        with pytest.raises(TypeError, match=r"'thing' of A\.method"):
            interface_of(A)

    def test_duplicates_name_both(self) -> None:
        class Twins:
            @serve.route("/a/{x}")
            def one(self, x: str) -> None: ...

            @serve.route("/a/{y}")
            def two(self, y: str) -> None: ...

        with pytest.raises(DuplicateRouteError, match=r"Twins\.one.*Twins\.two"):
            interface_of(Twins)

    def test_duplicates_of_several_deployments_name_both(self) -> None:
        @serve.deployment
        class First:
            @serve.route("/a")
            def one(self) -> None: ...

        @serve.deployment
        class Second:
            def __init__(self, first: Any) -> None: ...

            @serve.route("/a")
            def two(self) -> None: ...

        with pytest.raises(DuplicateRouteError, match=r"First\.one.*Second\.two"):
            application_spec(Second.bind(First.bind()))

    def test_what_is_derived_yields_to_what_is_declared(self) -> None:
        @serve.deployment
        class Predictor:
            @serve.route("/v1/predict", methods=["POST"])
            def predict(self, x: int) -> int:
                return x

        (deployment,) = application_spec(Predictor.bind()).deployments
        assert list(deployment.interface.derived_services) == ["predictor.v1.PredictorService"]

    def test_own_converters(self, twice: None) -> None:
        class A:
            @serve.route("/{x:twice}")
            def method(self, x: str) -> None: ...

        interface = interface_of(A)
        assert interface is not None
        assert interface.http_routes[0].converters == {"twice": Twice.regex}
        (method,) = routed_methods(cloudpickle.loads(cloudpickle.dumps(A)))
        assert method.declarations[0].starlette_path().parameters[0].converter.convert("abab") == "ab"


def test_hints_may_name_what_is_local() -> None:
    class Local(pydantic.BaseModel):
        x: int

    class Made:
        Inner = list[Local]

        @serve.route("/", methods=["POST"])
        def method(self, one: Local, more: Inner) -> None: ...

    (method,) = routed_methods(Made)
    assert method.hints()["one"] is Local
    assert method.hints()["more"] == list[Local]


def test_hints_travel_with_code_that_goes_by_value() -> None:
    source = """
from __future__ import annotations
import pydantic
from fairlead import serve

class Made:
    @serve.route("/", methods=["POST"])
    def method(self, item: Item) -> Item: ...

class Item(pydantic.BaseModel):
    x: int
"""
    module = types.ModuleType("made_up_module")
    exec(compile(source, "made_up_module", "exec"), module.__dict__)
    assert interface_of(module.Made) is not None
    made = cloudpickle.loads(pickled_code(module.Made))
    method = routed_method(made(), "method")
    assert method is not None
    (parameter,) = plan_of(method, method.declarations[0]).parameters
    assert parameter.hint.model_validate({"x": "3"}).x == 3
