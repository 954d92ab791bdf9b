"""A class or function to a service: its public methods, with their requests and responses."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from fairlead.serve.batching.decorator import Batched
from fairlead.serve.derived import names
from fairlead.serve.derived.constraints import constraint_of
from fairlead.serve.derived.errors import HintError
from fairlead.serve.derived.hints import without_none
from fairlead.serve.derived.namespace import Namespace, check_names
from fairlead.serve.derived.reading import Reader
from fairlead.serve.derived.shapes import (
    OMITTED,
    Absent,
    Field,
    Label,
    Message,
    Method,
    Service,
)
from fairlead.serve.derived.signatures import Signature, is_of_the_web, signature_of, stream_key_of

_HOOKS = frozenset({"check_health", "reconfigure", "record_autoscaling_stats", "record_routing_stats"})
"""Methods that Fairlead calls."""
_MULTIPLEXED = "_fairlead_multiplexed"
_RESERVED = frozenset({"fairlead", "google", "grpc"})
"""First parts of packages that are taken."""


def service_of(target: Any, package: str | None = None, name: str | None = None) -> Service | None:
    """The service that a class or function says it is; None if no method of it could be called with a message.

    ``package`` is the protobuf package, ``name`` the service's in it; None: after the class. Raises HintError for the
    first hint that cannot be mapped, ValueError for a package or name that cannot be.
    """
    own = names.pascal(target.__name__)
    package = checked_package(package or f"{names.snake(target.__name__)}.v1", target)
    reader = Reader(Namespace())
    methods: list[Method] = []
    for own_name, function in callables(target):
        method = _method(reader, target, own_name, function)
        if method is None:
            continue
        if any(each.name == method.name for each in methods):
            problem = f"two methods would be called {method.name!r}"
            raise HintError(f"{target.__qualname__}.{own_name}", problem, "Rename one of them")
        methods.append(method)
    if not methods:
        return None
    return Service(
        package=package,
        name=checked_name(name or (own if own.endswith("Service") else f"{own}Service")),
        doc=inspect.cleandoc(target.__doc__ or "") if "__doc__" in vars(target) or inspect.isroutine(target) else "",
        source=target.__qualname__,
        module_file=Path(getattr(sys.modules.get(target.__module__), "__file__", None) or "").name,
        methods=tuple(methods),
        messages=reader.namespace.messages,
        enums=reader.namespace.enums,
    )


def checked_package(package: str, target: Any) -> str:
    """The package. Raises ValueError for one that buf lint would refuse, or that is not the user's to take."""
    parts = package.split(".")
    if len(parts) < 2 or not all(names.is_field_name(each) for each in parts) or not names.is_version(parts[-1]):
        raise ValueError(f"a protobuf package is like 'digits.v1', its last part a version; not {package!r}")
    if parts[0] in _RESERVED:
        raise ValueError(
            f"the package {package!r} of {target.__qualname__} is taken; choose one with "
            "@serve.typed(package='mine.v1')"
        )
    return package


def checked_name(name: str) -> str:
    """The name of a service. Raises ValueError for one that buf lint would refuse."""
    if not names.is_type_name(name) or not name.endswith("Service"):
        raise ValueError(f"a protobuf service is called like 'DigitsService', not {name!r}")
    return name


def callables(target: Any) -> Iterator[tuple[str, Any]]:
    """The methods that callers may name, in the order of definition, those of base classes first."""
    if not isinstance(target, type):
        yield "__call__", target
        return
    found: dict[str, Any] = {}
    for kind in reversed(target.__mro__):
        if kind is not object and kind.__module__ != "typing":
            found |= vars(kind)
    for name, value in found.items():
        if name != "__call__" and (name.startswith("_") or name in _HOOKS):
            continue
        if isinstance(value, staticmethod | classmethod):
            value = value.__get__(None, target)
        if (inspect.isroutine(value) or isinstance(value, Batched)) and not hasattr(value, _MULTIPLEXED):
            yield name, value


def _method(reader: Reader, target: Any, name: str, function: Any) -> Method | None:
    """The method of the service; None for one that takes a HTTP request."""
    signature = signature_of(target, name, function)
    if any(is_of_the_web(signature.hints.get(each.name)) for each in signature.parameters):
        return None
    rpc = "Call" if name == "__call__" else names.pascal(name)
    if not names.is_type_name(rpc):
        raise HintError(signature.where, f"{name!r} cannot be the name of a method", "Use ASCII letters and digits")
    stream_key = stream_key_of(signature)
    request, passed_as = _request(reader, signature, rpc, stream_key)
    result, streams = signature.result()
    response = _whole(reader, signature.place(""), result, f"{rpc}Response")
    doc = inspect.cleandoc(function.__doc__ or "" if not signature.batched else signature.function.__doc__ or "")
    return Method(
        name=rpc,
        python_name=name,
        doc=doc,
        request=request,
        response=response or _response(reader, signature, rpc, result, streams),
        client_streaming=bool(stream_key),
        server_streaming=streams,
        stream_key=stream_key,
        passed_as=passed_as,
        positional=tuple(each.name for each in signature.parameters if each.kind is each.POSITIONAL_ONLY),
    )


def _request(reader: Reader, signature: Signature, rpc: str, stream_key: str) -> tuple[Message, str]:
    """The request message, and the parameter that gets the whole of it."""
    parameters = signature.parameters
    if len(parameters) == 1 and parameters[0].default is inspect.Parameter.empty:
        name = parameters[0].name
        hint = signature.item(name) if stream_key else signature.hint(name)
        whole = _whole(reader, signature.place(name), hint, f"{rpc}Request")
        if whole is not None:
            return whole, name
    doc = f"One item of the request of {rpc}." if stream_key else f"The request of {rpc}."
    message = _made(f"{rpc}Request", doc, lambda values: values, _no_field)
    for each in parameters:
        if each.name == stream_key:
            message.fields.append(_item_field(reader, signature, stream_key))
            continue
        default = OMITTED if each.default is inspect.Parameter.empty else each.default
        shown = f"{'Read from the first message. ' if stream_key else ''}{_shown_default(default)}".strip()
        hint = signature.hint(each.name)
        field = reader.field(signature.place(each.name), each.name, hint, default, shown)
        message.fields.append(replace(field, check=constraint_of(hint)))
    check_names(signature.where, message)
    return reader.namespace.add_message(signature.where, message), ""


def _item_field(reader: Reader, signature: Signature, key: str) -> Field:
    """The field of an item. It has presence, so that parameters may join it later: the first message may be theirs."""
    hint = signature.item(key)
    alone = len(signature.parameters) == 1
    return Field(
        name=reader.name(signature.place(key), key),
        key=key,
        label=Label.OPTIONAL,
        element=reader.element(signature.place(key), hint),
        absent=Absent.REFUSED if alone else Absent.OMITTED,
        doc="The item." if alone else "The item; only the first message may have none.",
    )


def _shown_default(default: Any) -> str:
    if default is None or default is OMITTED or not isinstance(default, str | int | float | bytes):
        return ""
    return f"Absent: {getattr(default, 'name', None) or repr(default)}."


def _response(reader: Reader, signature: Signature, rpc: str, result: Any, streams: bool) -> Message:
    doc = f"One item of the answer of {rpc}." if streams else f"The answer of {rpc}."
    message = _made(f"{rpc}Response", doc, lambda values: values.get("result"), lambda value, _: value)
    if result is not None and result is not type(None):
        message.fields.append(reader.field(signature.place(""), "result", result, doc="What the method answers."))
    else:
        message.check = _nothing
    return reader.namespace.add_message(signature.where, message)


def _whole(reader: Reader, where: str, hint: Any, name: str) -> Message | None:
    """The message of a class that has the very name that the request or response should have; None for other hints."""
    inner, optional = without_none(hint)
    if optional or not isinstance(inner, type) or names.pascal(inner.__name__) != name:
        return None
    element = reader.element(where, inner)
    return element if isinstance(element, Message) else None


def _made(name: str, doc: str, build: Any, read: Any) -> Message:
    return Message(name=name, doc=doc, source=None, build=build, check=lambda value: None, read=read)


def _no_field(value: Any, key: str) -> Any:
    return value[key]


def _nothing(value: Any) -> None:
    if value is not None:
        raise TypeError(f"expected None, got {type(value).__name__}")
