"""What the HTTP paths of all applications take and answer, as one OpenAPI 3.1 document.

Routes bring their own operations (``HttpTarget.describe``) and schemas; here they are put together: paths below their
applications' prefixes, operation ids made unique, and schemas renamed where two of one name differ.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any, Final

from fairlead.paths import ANY_METHOD, Route, StarlettePath, Template
from fairlead.version import __version__
from fairlead_gateway.edge.exchange import HttpTarget
from fairlead_gateway.edge.http_mounts import Mount

Json = dict[str, Any]

STATUS: Final[Json] = {
    "type": "object",
    "description": "google.rpc.Status: why a request failed.",
    "properties": {
        "code": {"type": "integer", "description": "A gRPC status code."},
        "message": {"type": "string"},
        "details": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"@type": {"type": "string"}},
                "required": ["@type"],
                "additionalProperties": True,
            },
        },
    },
    "required": ["code", "message"],
}
STATUS_NAME: Final = "google.rpc.Status"
_PREFIX: Final = "#/components/schemas/"
_METHODS: Final = frozenset({"GET", "PUT", "POST", "DELETE", "OPTIONS", "HEAD", "PATCH", "TRACE"})
_OF_ANY: Final = ("GET", "POST")
"""What a route that takes every method is described as."""


def document(
    applications: Iterable[tuple[Mount, Iterable[Route[HttpTarget]]]], *, root_path: str = "", token: bool = False
) -> Json:
    """The document. ``root_path``: a prefix that a proxy removes. ``token``: whether requests need a bearer token."""
    builder = _Builder()
    for mount, routes in applications:
        for route in routes:
            builder.add(mount, route)
    made: Json = {
        "openapi": "3.1.0",
        "info": {"title": "Fairlead", "version": __version__},
        "servers": [{"url": root_path or "/"}],
        "paths": builder.paths,
        "components": {
            "schemas": dict(sorted(builder.schemas.items())),
            "responses": {
                "Error": {
                    "description": "A failure",
                    "content": {"application/json": {"schema": {"$ref": _PREFIX + STATUS_NAME}}},
                }
            },
        },
        "tags": [{"name": name} for name in sorted(builder.tags)],
    }
    if token:
        made["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        made["security"] = [{"token": []}]
    return made


def openapi_path(pattern: StarlettePath | Template) -> str:
    """A pattern with plain ``{name}`` parameters."""
    if isinstance(pattern, StarlettePath):
        return "".join(part if isinstance(part, str) else f"{{{part.name}}}" for part in pattern.parts)
    starts = {variable.start: variable for variable in pattern.variables}
    pieces = []
    index = 0
    while index < len(pattern.segments):
        variable = starts.get(index)
        if variable is not None:
            pieces.append(f"{{{variable.field_path}}}")
            index = variable.end
        else:
            segment = pattern.segments[index]
            pieces.append(segment.literal or ("**" if segment.many else "*"))
            index += 1
    return "/" + "/".join(pieces) + (f":{pattern.verb}" if pattern.verb else "")


class _Builder:
    """The parts of the document, as routes come in."""

    def __init__(self) -> None:
        self.paths: dict[str, Json] = {}
        self.schemas: Json = {STATUS_NAME: STATUS}
        self.tags: set[str] = set()
        self._ids: set[str] = set()

    def add(self, mount: Mount, route: Route[HttpTarget]) -> None:
        """Adds a route, if it is described."""
        operation = route.target.describe()
        if operation is None:
            return
        operation = self._renamed(operation, route.target.schemas(), mount.application)
        self.tags.add(mount.application)
        item = self.paths.setdefault(mount.root_path + openapi_path(route.pattern), {})
        methods = _OF_ANY if ANY_METHOD in route.methods else sorted(route.methods & _METHODS)
        for method in methods:
            if method.lower() not in item:  # of paths that differ only in their converters the first is described
                one = copy.deepcopy(operation) if len(methods) > 1 else operation
                one["operationId"] = self._unique(f"{mount.application}.{route.name or route.pattern.source}")
                one["tags"] = [mount.application]
                item[method.lower()] = one

    def _unique(self, wanted: str) -> str:
        name, number = wanted, 1
        while name in self._ids:
            number += 1
            name = f"{wanted}.{number}"
        self._ids.add(name)
        return name

    def _renamed(self, operation: Json, schemas: Json, application: str) -> Json:
        """The operation with the names that its schemas got; they are added."""
        schemas = {name: schema for name, schema in schemas.items() if name != STATUS_NAME}  # it is here already
        names = {name: name for name in schemas}
        tried = dict.fromkeys(schemas, 0)
        settled = False
        while not settled:  # one that refers to a renamed one differs from its namesake, too
            settled = True
            for name, schema in schemas.items():
                while names[name] in self.schemas and self.schemas[names[name]] != _with_names(schema, names):
                    tried[name] += 1
                    names[name] = _name(application, name, tried[name])
                    settled = False
        for name, schema in schemas.items():
            self.schemas.setdefault(names[name], _with_names(schema, names))
        renamed: Json = _with_names(operation, names)
        return renamed


def _name(application: str, name: str, number: int) -> str:
    """The name to try after ``name`` for the ``number``th time: OpenAPI takes these characters only."""
    wanted = f"{application}.{name}" + (f".{number}" if number > 1 else "")
    return "".join(each if each.isascii() and (each.isalnum() or each in "._-") else "_" for each in wanted)


def _with_names(value: Any, names: dict[str, str]) -> Any:
    """A copy of a schema in which references have new names."""
    if isinstance(value, dict):
        return {
            key: _PREFIX + names.get(each.removeprefix(_PREFIX), each.removeprefix(_PREFIX))
            if key == "$ref" and isinstance(each, str) and each.startswith(_PREFIX)
            else _with_names(each, names)
            for key, each in value.items()
        }
    if isinstance(value, list):
        return [_with_names(each, names) for each in value]
    return value
