"""``google.api.http`` annotations: which HTTP requests mean a method of a typed service, and what of them goes where.

Pure. Read by the driver, which refuses what makes no sense, and by gateways, which serve the rest.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

# Imported before any descriptor's options are read: without it the annotations would be unknown fields.
from google.api import annotations_pb2, http_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor, ServiceDescriptor

from fairlead.paths.errors import PatternError
from fairlead.paths.route import Route
from fairlead.paths.template import Template

WRAPPERS = frozenset(
    f"google.protobuf.{name}Value"
    for name in ("Double", "Float", "Int64", "UInt64", "Int32", "UInt32", "Bool", "String", "Bytes")
)
"""Messages that stand for the one value in them."""
TEXTS = frozenset({"google.protobuf.Timestamp", "google.protobuf.Duration", "google.protobuf.FieldMask"})
"""Messages whose JSON is a string."""
DOCUMENTS = frozenset({"google.protobuf.Struct", "google.protobuf.Value", "google.protobuf.ListValue"})
"""Messages that hold any JSON."""
HTTP_BODY = "google.api.HttpBody"
_CLOSED = WRAPPERS | TEXTS | DOCUMENTS | {"google.protobuf.Any"}


class RuleError(ValueError):
    """An annotation that cannot be served. The message names the method and says what is wrong."""


class HttpBinding(NamedTuple):
    """One way to call a method over HTTP."""

    http_method: str
    """Upper case, or ANY_METHOD."""
    template: Template
    body: str
    """Where the body goes: "*" the whole message, a field's name, or empty: there is none."""
    response_body: str
    """The field that is the response's body; empty: the whole message."""


def bindings_of(method: MethodDescriptor) -> list[HttpBinding]:
    """The bindings of a method, the primary one first; of one without annotation ``POST /package.Service/Method``.

    Raises RuleError.
    """
    options = method.GetOptions()
    if not options.HasExtension(annotations_pb2.http):
        path = f"/{method.containing_service.full_name}/{method.name}"
        return [HttpBinding("POST", Template(path), "*", "")]
    rule = options.Extensions[annotations_pb2.http]
    found = [_binding(method, rule)]
    for further in rule.additional_bindings:
        if further.additional_bindings:
            raise _error(method, "additional_bindings hold no further ones")
        found.append(_binding(method, further))
    return found


def service_routes(service: ServiceDescriptor, name: str = "") -> Iterator[Route[tuple[MethodDescriptor, HttpBinding]]]:
    """The routes of a service; ``name``: of what offers it, for errors. Raises RuleError."""
    for method in service.methods:
        for binding in bindings_of(method):
            route_name = f"{name}{': ' if name else ''}{method.full_name}"
            yield Route(binding.template, [binding.http_method], (method, binding), name=route_name)


def resolve(message_type: Descriptor, path: str) -> tuple[FieldDescriptor, ...] | None:
    """The fields of a path like ``book.author.name``, by their .proto or JSON names; None: there is no such field.

    All but the last are single messages that have fields in JSON, too.
    """
    fields: list[FieldDescriptor] = []
    current: Descriptor | None = message_type
    for name in path.split("."):
        field = None if current is None else field_named(current, name)
        if field is None:
            return None
        fields.append(field)
        message = field.message_type
        current = None if message is None or field.is_repeated or message.full_name in _CLOSED else message
    return tuple(fields)


def field_named(message_type: Descriptor, name: str) -> FieldDescriptor | None:
    """A field by its name in JSON or in the .proto file."""
    for field in message_type.fields:
        if field.json_name == name:
            return field
    found: FieldDescriptor | None = message_type.fields_by_name.get(name)
    return found


def _binding(method: MethodDescriptor, rule: http_pb2.HttpRule) -> HttpBinding:
    kind = rule.WhichOneof("pattern")
    if kind is None:
        raise _error(method, "the annotation has no path")
    http_method, path = (rule.custom.kind, rule.custom.path) if kind == "custom" else (kind, getattr(rule, kind))
    try:
        template = Template(path)
        Route(template, [http_method], None)
    except PatternError as error:
        raise _error(method, str(error)) from error
    binding = HttpBinding(http_method.upper(), template, rule.body, rule.response_body)
    for variable in template.variables:
        _check_variable(method, variable.field_path)
    _check_field(method, method.input_type, "body", "" if rule.body == "*" else rule.body)
    _check_field(method, method.output_type, "response_body", rule.response_body)
    return binding


def _check_variable(method: MethodDescriptor, path: str) -> None:
    fields = resolve(method.input_type, path)
    if fields is None:
        raise _error(method, f"{method.input_type.full_name} has no field {path!r}")
    last = fields[-1]
    message = last.message_type
    if last.is_repeated or (message is not None and message.full_name not in WRAPPERS | TEXTS):
        raise _error(method, f"the field {path!r} does not fit into a path")


def _check_field(method: MethodDescriptor, message_type: Descriptor, what: str, name: str) -> None:
    if name and name not in message_type.fields_by_name:
        raise _error(method, f"{what}: {message_type.full_name} has no field {name!r}")


def _error(method: MethodDescriptor, problem: str) -> RuleError:
    return RuleError(f"google.api.http of {method.full_name}: {problem}")


def mask_of(method: MethodDescriptor, binding: HttpBinding) -> str:
    """The field mask that a PATCH request fills from its body, if it does not give one; empty: there is no such field.

    That is the one field of the request that is a FieldMask, where the body is a field.
    """
    if binding.http_method != "PATCH" or binding.body in ("", "*"):
        return ""
    body: Any = method.input_type.fields_by_name[binding.body]
    if body.message_type is None or body.is_repeated or body.message_type.full_name in _CLOSED | {HTTP_BODY}:
        return ""
    masks = [field.name for field in _masks(method.input_type.fields)]
    return masks[0] if len(masks) == 1 else ""


def _masks(fields: Iterable[Any]) -> Iterator[Any]:
    for field in fields:
        message = field.message_type
        if message is not None and message.full_name == "google.protobuf.FieldMask" and not field.is_repeated:
            yield field
