"""OpenAPI 3.1 descriptions of typed services' methods, made of their descriptors: the standard mapping to JSON."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from fairlead.paths.rules import HTTP_BODY, WRAPPERS, HttpBinding, resolve
from fairlead_gateway.edge.protojson.scalars import enum_of
from fairlead_gateway.edge.protojson.stores import is_map, message_of
from fairlead_gateway.edge.typed.parameters import ParameterSet
from fairlead_gateway.edge.typed.rpc_method import RpcMethod

Json = dict[str, Any]

_T = FieldDescriptor
_SCALARS: Final[dict[int, Json]] = {
    _T.TYPE_INT32: {"type": "integer", "format": "int32"},
    _T.TYPE_SINT32: {"type": "integer", "format": "int32"},
    _T.TYPE_SFIXED32: {"type": "integer", "format": "int32"},
    _T.TYPE_UINT32: {"type": "integer", "format": "uint32"},
    _T.TYPE_FIXED32: {"type": "integer", "format": "uint32"},
    _T.TYPE_INT64: {"type": "string", "format": "int64"},
    _T.TYPE_SINT64: {"type": "string", "format": "int64"},
    _T.TYPE_SFIXED64: {"type": "string", "format": "int64"},
    _T.TYPE_UINT64: {"type": "string", "format": "uint64"},
    _T.TYPE_FIXED64: {"type": "string", "format": "uint64"},
    _T.TYPE_DOUBLE: {"type": "number", "format": "double"},
    _T.TYPE_FLOAT: {"type": "number", "format": "float"},
    _T.TYPE_BOOL: {"type": "boolean"},
    _T.TYPE_STRING: {"type": "string"},
    _T.TYPE_BYTES: {"type": "string", "contentEncoding": "base64"},
}
_KNOWN: Final[dict[str, Json]] = {
    "google.protobuf.Timestamp": {"type": "string", "format": "date-time"},
    "google.protobuf.Duration": {"type": "string", "description": "Seconds, as in 1.5s."},
    "google.protobuf.FieldMask": {"type": "string", "description": "Paths of fields, separated by commas."},
    "google.protobuf.Struct": {"type": "object", "additionalProperties": True},
    "google.protobuf.ListValue": {"type": "array", "items": {}},
    "google.protobuf.Value": {},
    "google.protobuf.Empty": {"type": "object"},
    "google.protobuf.Any": {
        "type": "object",
        "properties": {"@type": {"type": "string"}},
        "additionalProperties": True,
    },
}
_DEEPEST = 3
"""Messages within messages whose fields are listed as query parameters; deeper ones can be given all the same."""
_JSON = "application/json"
_LINES = "application/x-ndjson"
_BYTES: Final[Json] = {"*/*": {"schema": {"type": "string", "format": "binary"}}}


def operation(method: RpcMethod, binding: HttpBinding) -> Json:
    """The operation object of one binding."""
    described: Json = {
        "responses": {"200": _response(method, binding), "default": {"$ref": "#/components/responses/Error"}}
    }
    parameters = [*_path_parameters(method, binding), *_query_parameters(method, binding)]
    if parameters:
        described["parameters"] = parameters
    body = _request_body(method, binding)
    if body is not None:
        described["requestBody"] = body
    return described


def schemas(method: RpcMethod, binding: HttpBinding) -> Json:
    """The schemas of all messages that the operation refers to, by full name."""
    found: Json = {}
    for start in (method.descriptor.input_type, method.descriptor.output_type):
        _collect(start, method, found)
    return found


def _collect(message_type: Descriptor, method: RpcMethod, found: Json) -> None:
    name = message_type.full_name
    if name in found or name in _KNOWN or name in WRAPPERS:
        return
    properties: Json = {}
    found[name] = {"type": "object", "properties": properties}
    for field in message_type.fields:
        properties[_name(field, method)] = _field_schema(field, method)
        value = message_of(field).fields_by_name["value"] if is_map(field) else field
        if value.message_type is not None:
            _collect(value.message_type, method, found)


def _name(field: FieldDescriptor, method: RpcMethod) -> str:
    return field.name if method.options.preserve_proto_field_names else field.json_name


def _field_schema(field: FieldDescriptor, method: RpcMethod) -> Json:
    if is_map(field):
        value = message_of(field).fields_by_name["value"]
        return {"type": "object", "additionalProperties": _value_schema(value, method)}
    schema = _value_schema(field, method)
    return {"type": "array", "items": schema} if field.is_repeated else schema


def _value_schema(field: FieldDescriptor, method: RpcMethod) -> Json:
    if field.message_type is not None:
        return _message_schema(field.message_type, method)
    if field.type != _T.TYPE_ENUM:
        return dict(_SCALARS[field.type])
    enum = enum_of(field)
    if enum.full_name == "google.protobuf.NullValue":
        return {"type": "null"}
    if method.options.always_print_enums_as_ints:
        return {"type": "integer", "enum": [value.number for value in enum.values]}
    return {"type": "string", "enum": [value.name for value in enum.values]}


def _message_schema(message_type: Descriptor, method: RpcMethod) -> Json:
    name = message_type.full_name
    if name in _KNOWN:
        return dict(_KNOWN[name])
    if name in WRAPPERS:
        return _value_schema(message_type.fields_by_name["value"], method)
    return {"$ref": f"#/components/schemas/{name}"}


# -- the parts of an operation


def _path_parameters(method: RpcMethod, binding: HttpBinding) -> Iterator[Json]:
    for variable in binding.template.variables:
        fields = resolve(method.descriptor.input_type, variable.field_path)
        assert fields is not None, "rules are checked before they come here"
        schema = _value_schema(fields[-1], method)
        yield {"name": variable.field_path, "in": "path", "required": True, "schema": schema}


def _query_parameters(method: RpcMethod, binding: HttpBinding) -> Iterator[Json]:
    if binding.body == "*":
        return
    taken = {variable.field_path for variable in binding.template.variables} | {binding.body}
    parameters = ParameterSet(method.descriptor.input_type)
    for path, field in _leaves(method.descriptor.input_type, ()):
        names = [each.name for each in path]
        known = not is_map(field) and parameters.find(".".join(names)) is not None
        if known and not any(".".join(names[:count]) in taken for count in range(1, len(names) + 1)):
            name = ".".join(_name(each, method) for each in path)
            yield {"name": name, "in": "query", "schema": _field_schema(field, method)}


def _leaves(
    message_type: Descriptor, above: tuple[FieldDescriptor, ...]
) -> Iterator[tuple[tuple[FieldDescriptor, ...], FieldDescriptor]]:
    for field in message_type.fields:
        message = field.message_type
        closed = message is None or field.is_repeated or message.full_name in _KNOWN or message.full_name in WRAPPERS
        if closed:
            yield (*above, field), field
        elif message is not None and len(above) < _DEEPEST - 1:
            yield from _leaves(message, (*above, field))


def _request_body(method: RpcMethod, binding: HttpBinding) -> Json | None:
    if not binding.body:
        return None
    if binding.body == "*":
        schema = _message_schema(method.descriptor.input_type, method)
        raw = method.descriptor.input_type.full_name == HTTP_BODY
    else:
        field = method.descriptor.input_type.fields_by_name[binding.body]
        schema = _field_schema(field, method)
        raw = not field.is_repeated and field.message_type is not None and field.message_type.full_name == HTTP_BODY
    if raw:
        return {"content": dict(_BYTES)}
    return {"content": {_LINES if method.client_streaming else _JSON: {"schema": schema}}}


def _response(method: RpcMethod, binding: HttpBinding) -> Json:
    output_type = method.descriptor.output_type
    schema, raw = _message_schema(output_type, method), output_type.full_name == HTTP_BODY
    if binding.response_body:
        field = output_type.fields_by_name[binding.response_body]
        schema = _field_schema(field, method)
        raw = not field.is_repeated and field.message_type is not None and field.message_type.full_name == HTTP_BODY
    if raw:
        return {"description": "The result", "content": dict(_BYTES)}
    if not method.server_streaming:
        return {"description": "The result", "content": {_JSON: {"schema": schema}}}
    content = {
        _LINES: {"schema": schema},
        "text/event-stream": {"schema": {"type": "string"}},
        _JSON: {"schema": {"type": "array", "items": schema}},
    }
    return {"description": "The results as they come, by Accept", "content": content}
