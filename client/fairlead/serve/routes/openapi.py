"""A routed method as an OpenAPI 3.1 operation: its parameters, body and responses, from type hints and docstring."""

from __future__ import annotations

import inspect
from typing import Any, get_args

from fairlead.serve.routes.declaration import RoutedMethod
from fairlead.serve.routes.parameters import Parameter, Plan, Source
from fairlead.serve.routes.schemas import Schemas

Json = dict[str, Any]

BODY_METHODS = frozenset({"POST", "PUT", "PATCH"})
"""Methods whose requests are described with a body where there is a choice."""


def operation_of(method: RoutedMethod, plan: Plan, *, with_body: bool, stream: bool) -> tuple[Json, Json]:
    """The operation object, and the schemas that it refers to by name.

    ``with_body``: whether parameters that may stand in query or body are described in the body. Raises TypeError that
    names the method and the parameter for a hint that values cannot be converted to.
    """
    schemas = Schemas(method)
    in_body = _in_body(plan, with_body)
    documentation = inspect.getdoc(method.function) or ""
    summary, _, description = documentation.partition("\n\n")
    operation: Json = {"summary": " ".join(summary.split()) or str(method)}
    if description.strip():
        operation["description"] = description.strip()
    parameters = [_captured(name, plan, schemas) for name in plan.captured]
    parameters += [_parameter(each, schemas) for each in plan.of(Source.NAMED) if each not in in_body]
    if parameters:
        operation["parameters"] = parameters
    if in_body:
        operation["requestBody"] = _body(plan, in_body, schemas)
    elif plan.of(Source.REQUEST) and with_body:
        operation["requestBody"] = {"content": {"*/*": {"schema": {}}}}
    operation["responses"] = {
        "200": _answer(plan, schemas, stream),
        "default": {"$ref": "#/components/responses/Error"},
    }
    return schemas.settled(operation)


def _in_body(plan: Plan, with_body: bool) -> list[Parameter]:
    """What is described as the body. Names beside a body that is one parameter's stand in the query."""
    structured = plan.of(Source.STRUCTURED)
    return structured if structured or not with_body else plan.of(Source.NAMED)


_LANGUAGES: dict[str, Json] = {
    "int": {"type": "integer", "minimum": 0},
    "float": {"type": "number", "minimum": 0},
    "uuid": {"type": "string", "format": "uuid"},
    "path": {"type": "string", "format": "path"},
}
"""What Starlette's converters take."""


def _captured(name: str, plan: Plan, schemas: Schemas) -> Json:
    """A parameter of the path: by its type hint, or where it has none by its converter."""
    schema = _LANGUAGES.get(plan.captured[name], {"type": "string"})
    parameter = next((each for each in plan.of(Source.PATH) if each.name == name), None)
    if parameter is not None and parameter.hint is not Any:
        schema = {**schemas.of(parameter.hint, f"the parameter {name!r}")}
        if plan.captured[name] == "path":
            schema.setdefault("format", "path")
    return {"name": name, "in": "path", "required": True, "schema": schema}


def _parameter(parameter: Parameter, schemas: Schemas) -> Json:
    described: Json = {
        "name": parameter.name,
        "in": "query",
        "required": parameter.required,
        "schema": _schema(parameter, schemas),
    }
    if parameter.shape.many:
        described |= {"style": "form", "explode": True}
    return described


def _body(plan: Plan, in_body: list[Parameter], schemas: Schemas) -> Json:
    whole = plan.whole
    if whole is not None and whole.source is Source.STRUCTURED:
        schema, required = _schema(whole, schemas), whole.required
    else:
        schema = {"type": "object", "properties": {each.name: _schema(each, schemas) for each in in_body}}
        needed = [each.name for each in in_body if each.required]
        required = bool(needed)
        if needed:
            schema["required"] = needed
    return {"required": required, "content": {"application/json": {"schema": schema}}}


def _schema(parameter: Parameter, schemas: Schemas) -> Json:
    schema = schemas.of(parameter.hint, f"the parameter {parameter.name!r}")
    if parameter.required or parameter.default is None:
        return schema
    default = schemas.value(parameter.default)
    return schema if default is None else {**schema, "default": default}


def _answer(plan: Plan, schemas: Schemas, stream: bool) -> Json:
    hint = plan.returns
    if stream:
        hint = next(iter(get_args(hint)), Any) if hint is not inspect.Signature.empty else Any
        item = schemas.result(hint)
        return {
            "description": "A stream of values, in the format that the Accept header asks for",
            "content": {
                "application/x-ndjson": {"schema": item},
                "text/event-stream": {"schema": {"type": "string"}},
                "application/json": {"schema": {"type": "array", "items": item}},
            },
        }
    if plan.handler or _is_response(hint):
        return {"description": "Whatever the method makes of it"}
    schema = {} if hint is inspect.Signature.empty else schemas.result(hint)
    return {"description": "The result", "content": {"application/json": {"schema": schema}}}


def _is_response(hint: Any) -> bool:
    return isinstance(hint, type) and any(base.__module__ == "starlette.responses" for base in hint.__mro__)
