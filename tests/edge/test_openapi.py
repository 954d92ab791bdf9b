"""The OpenAPI document: paths, ids, schemas of one name, and the page that shows it."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import ipaddress
import pathlib
import re
import time
import uuid
from collections.abc import AsyncIterator
from typing import Annotated, Any, Generic, Literal, NamedTuple, TypeVar

import pydantic
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator
from starlette.requests import Request
from starlette.responses import Response
from typing_extensions import TypedDict

from fairlead import serve
from fairlead.paths import ANY_METHOD, Route, StarlettePath, Template
from fairlead.serve.interface import interface_of
from fairlead_gateway.edge.exchange import Exchange, HttpTarget
from fairlead_gateway.edge.http_methods import method_routes
from fairlead_gateway.edge.http_mounts import Mount
from fairlead_gateway.edge.http_pages import docs
from fairlead_gateway.edge.openapi import document, openapi_path
from fairlead_gateway.routing.deployment import Deployment

ROOT, APP = Mount("/", "", "root"), Mount("/app", "/app", "app")


class Target:
    def __init__(self, operation: dict[str, Any] | None, schemas: dict[str, Any] | None = None) -> None:
        self.deployment = "D"
        self._operation = operation
        self._schemas = schemas or {}

    async def serve(self, exchange: Exchange) -> None:
        raise NotImplementedError

    def describe(self) -> dict[str, Any] | None:
        return self._operation

    def schemas(self) -> dict[str, Any]:
        return self._schemas


def route(path: str, *methods: str, schema: Any = None, schemas: dict[str, Any] | None = None) -> Route[HttpTarget]:
    names = re.findall(r"{(\w+)", path)
    operation = {
        "parameters": [{"name": name, "in": "path", "required": True, "schema": {}} for name in names],
        "responses": {"200": {"description": "", "content": {"application/json": {"schema": schema or {}}}}},
    }
    target: HttpTarget = Target(operation, schemas)
    return Route(StarlettePath(path), methods or ("GET",), target, name="D.method")


def made(*applications: tuple[Mount, list[Route[HttpTarget]]], **options: Any) -> Any:
    found = document(applications, **options)
    OpenAPIV31SpecValidator(found).validate()
    return found


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        (StarlettePath("/a/{b:int}/{c:path}"), "/a/{b}/{c}"),
        (Template("/v1/{name=shelves/*}/books/{book.id}:publish"), "/v1/{name}/books/{book.id}:publish"),
        (Template("/v1/*/x/**"), "/v1/*/x/**"),
        (Template("/"), "/"),
    ],
)
def test_paths(pattern: StarlettePath | Template, path: str) -> None:
    assert openapi_path(pattern) == path


def test_nothing_is_a_document_too() -> None:
    assert made()["paths"] == {}


def test_operations_stand_below_their_prefixes_with_ids_of_their_own() -> None:
    found = made((ROOT, [route("/x/{a}", "GET", "POST")]), (APP, [route("/x/{a}"), route("/y", ANY_METHOD)]))
    ids = [operation["operationId"] for item in found["paths"].values() for operation in item.values()]
    assert set(found["paths"]) == {"/x/{a}", "/app/x/{a}", "/app/y"}
    assert len(set(ids)) == len(ids) == 5
    assert [tag["name"] for tag in found["tags"]] == ["app", "root"]


def test_methods_that_openapi_does_not_know_and_what_is_not_described() -> None:
    hidden: Route[HttpTarget] = Route(StarlettePath("/hidden"), ["GET"], Target(None))
    assert list(made((ROOT, [route("/a", "BREW", "GET"), hidden]))["paths"]) == ["/a"]


def test_of_paths_that_differ_in_converters_only_the_first_is_described() -> None:
    found = made((ROOT, [route("/{a:int}"), route("/{a}", "GET", "PUT")]))
    assert set(found["paths"]["/{a}"]) == {"get", "put"}


def test_schemas_of_one_name_that_differ_get_names_of_their_own() -> None:
    outer = {"type": "object", "properties": {"inner": {"$ref": "#/components/schemas/Inner"}}}
    first = {"Outer": outer, "Inner": {"type": "string"}}
    second = {"Outer": outer, "Inner": {"type": "integer"}}
    reference = {"$ref": "#/components/schemas/Outer"}
    found = made(
        (ROOT, [route("/a", schema=reference, schemas=first), route("/b", schema=reference, schemas=first)]),
        (APP, [route("/c", schema=reference, schemas=second), route("/d", schema=reference, schemas=second)]),
    )
    schemas = found["components"]["schemas"]
    assert set(schemas) == {"google.rpc.Status", "Outer", "Inner", "app.Outer", "app.Inner"}
    assert schemas["app.Outer"]["properties"]["inner"] == {"$ref": "#/components/schemas/app.Inner"}
    for path, name in (("/a", "Outer"), ("/b", "Outer"), ("/app/c", "app.Outer"), ("/app/d", "app.Outer")):
        content = found["paths"][path]["get"]["responses"]["200"]["content"]
        assert content["application/json"]["schema"] == {"$ref": f"#/components/schemas/{name}"}


def test_recursive_schemas() -> None:
    schemas = {"Tree": {"type": "array", "items": {"$ref": "#/components/schemas/Tree"}}}
    reference = {"$ref": "#/components/schemas/Tree"}
    routes = [route(f"/{name}", schema=reference, schemas=schemas) for name in "ab"]
    assert set(made((ROOT, routes))["components"]["schemas"]) == {"google.rpc.Status", "Tree"}


def test_tokens_and_proxies() -> None:
    found = made((ROOT, [route("/a")]), root_path="/behind", token=True)
    assert found["servers"] == [{"url": "/behind"}]
    assert found["security"] == [{"token": []}]
    assert "security" not in made()


def test_the_page_runs_its_own_script_only_and_loads_nothing_from_elsewhere() -> None:
    reply = docs()
    policy = dict(reply.headers)[b"content-security-policy"].decode()
    assert "default-src 'none'" in policy
    assert re.search(r"script-src 'sha256-[\w+/=]+'$", policy)
    assert not re.search(rb"https?://|//cdn|src=|@import|url\(", reply.body)


T = TypeVar("T")


class Leaf(pydantic.BaseModel):
    kind: Literal["leaf"] = "leaf"
    weight: Annotated[decimal.Decimal, pydantic.Field(gt=0)]


class Branch(pydantic.BaseModel):
    kind: Literal["branch"] = "branch"
    children: list[Annotated[Branch | Leaf, pydantic.Field(discriminator="kind")]] = []


class Page(pydantic.BaseModel, Generic[T]):
    items: list[T]
    next: str | None = pydantic.Field(None, alias="nextPage", description="Where it goes on.")


class Numbers(pydantic.RootModel[list[int]]):
    pass


@dataclasses.dataclass
class Point:
    x: float
    label: str | None = None


class Pair(NamedTuple):
    one: int
    two: bytes = b""


class Options(TypedDict, total=False):
    deep: dict[str, list[Point]]


class Everything:
    @serve.route("/all/{one}/{two:uuid}/{three:path}", methods=["GET", "POST"])
    def all(
        self,
        one: Annotated[str, pydantic.Field(pattern="^a")],
        two: uuid.UUID,
        three: pathlib.PurePosixPath,
        tree: Branch,
        page: Page[Leaf],
        at: datetime.datetime | datetime.date | None = None,
        took: datetime.timedelta = datetime.timedelta(seconds=1),
        flags: frozenset[Literal["a", 1]] = frozenset(),
        anything: Any = None,
        address: ipaddress.IPv4Address | None = None,
    ) -> Page[Branch]:
        raise NotImplementedError

    @serve.route("/others", methods=["POST"])
    async def others(self, pair: Pair, options: Options, numbers: Numbers) -> AsyncIterator[Pair | Options | Point]:
        yield pair

    @serve.route("/raw/{rest:path}", methods=["GET", "DELETE", "PATCH"])
    def raw(self, request: Request) -> Response:
        raise NotImplementedError


def test_the_document_of_all_kinds_of_hints_is_valid() -> None:
    interface = interface_of(Everything)
    assert interface is not None
    deployment = Deployment("app", "Everything", time.monotonic)
    deployment.interface = interface
    found = made((APP, list(method_routes(deployment))))
    assert set(found["paths"]["/app/all/{one}/{two}/{three}"]) == {"get", "post"}
    assert set(found["components"]["schemas"]) >= {"Branch", "Leaf", "Page_Branch_", "Page_Leaf_", "Point"}
    assert found["components"]["schemas"]["Page_Leaf_"]["properties"]["nextPage"]["description"] == "Where it goes on."
    parameters = {each["name"]: each for each in found["paths"]["/app/all/{one}/{two}/{three}"]["get"]["parameters"]}
    assert parameters["three"]["schema"]["format"] == "path"
    assert parameters["took"]["schema"]["default"] == "PT1S"
    assert [each["name"] for each in found["paths"]["/app/raw/{rest}"]["get"]["parameters"]] == ["rest"]
