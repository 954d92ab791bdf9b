"""What the methods of typed services are described as."""

import pytest
from openapi_spec_validator import validate

from fairlead.paths import Route
from fairlead.paths.rules import bindings_of
from fairlead.v1 import control_pb2
from fairlead_gateway.edge.http_headers import DEFAULT_RULES
from fairlead_gateway.edge.http_mounts import Mount
from fairlead_gateway.edge.openapi import document
from fairlead_gateway.edge.protojson import ProtoJson
from fairlead_gateway.edge.typed.rpc_method import TypedMethod
from fairlead_gateway.edge.typed.serving_methods import serving_methods
from fairlead_gateway.edge.typed.targets import TypedTarget
from tests.edge.typed.schema import SERVICE, library_pool


def described(**options):
    json_options = control_pb2.JsonOptions(**options)
    routes = []
    for descriptor in library_pool().FindServiceByName(SERVICE).methods:
        method = TypedMethod(descriptor, "books", "Library", ProtoJson(library_pool()), json_options)
        for binding in bindings_of(descriptor):
            target = TypedTarget(method, binding, DEFAULT_RULES)
            routes.append(Route(binding.template, [binding.http_method], target, name=descriptor.name))
    return document([(Mount("/lib", "/lib", "books"), routes)])


@pytest.fixture(scope="module")
def library():
    return described()


def test_the_document_is_valid(library):
    validate(library)
    own = [
        Route(binding.template, [binding.http_method], TypedTarget(method, binding, DEFAULT_RULES))
        for method in serving_methods()
        for binding in bindings_of(method.descriptor)
    ]
    validate(document([(Mount("/", "", ""), own)]))


def test_paths_and_parameters(library):
    get = library["paths"]["/lib/v1/{name}"]["get"]
    assert [(each["name"], each["in"]) for each in get["parameters"]] == [("name", "path"), ("readMask", "query")]
    search = library["paths"]["/lib/v1/books:search"]["get"]
    names = {each["name"]: each["schema"] for each in search["parameters"]}
    assert names["author.penNames"] == {"type": "array", "items": {"type": "string"}}
    assert names["genres"]["items"]["enum"] == ["GENRE_UNSPECIFIED", "GENRE_NOVEL", "GENRE_POETRY"]
    assert names["offset"] == {"type": "string", "format": "uint64"}
    assert names["publishedAfter"]["format"] == "date-time"
    assert "labels" not in names
    assert "authors" not in names
    assert "requestBody" not in search
    moved = library["paths"]["/lib/v1/{name}:move"]["post"]
    assert [each["in"] for each in moved["parameters"]] == ["path"]
    assert moved["requestBody"]["content"]["application/json"]["schema"]["$ref"].endswith("library.v1.MoveBookRequest")
    created = library["paths"]["/lib/v1/{parent}/books"]["post"]
    assert [each["name"] for each in created["parameters"]] == ["parent", "bookId"]


def test_answers(library):
    def content(path, verb):
        return library["paths"][path][verb]["responses"]["200"]["content"]

    assert set(content("/lib/v1/books:watch", "get")) == {
        "application/x-ndjson",
        "text/event-stream",
        "application/json",
    }
    titles = content("/lib/v1/books:titles", "get")["application/json"]["schema"]
    assert titles == {"type": "array", "items": {"type": "string"}}
    assert content("/lib/v1/{name}/cover", "get")["*/*"]["schema"]["format"] == "binary"
    assert content(f"/lib/{SERVICE}/Count", "post")["application/json"]["schema"] == {
        "type": "string",
        "format": "int64",
    }
    upload = library["paths"]["/lib/v1/{parent}/books:add"]["post"]["requestBody"]["content"]
    assert list(upload) == ["application/x-ndjson"]


def test_schemas_follow_the_options(library):
    book = library["components"]["schemas"]["library.v1.Book"]["properties"]
    assert book["copies"] == {"type": "string", "format": "int64"}
    assert book["labels"] == {"type": "object", "additionalProperties": {"type": "string"}}
    assert book["author"] == {"$ref": "#/components/schemas/library.v1.Author"}
    other = described(preserve_proto_field_names=True, always_print_enums_as_ints=True)
    validate(other)
    schemas = other["components"]["schemas"]
    assert "pen_names" in schemas["library.v1.Author"]["properties"]
    assert schemas["library.v1.Book"]["properties"]["genre"]["enum"] == [0, 1, 2]
