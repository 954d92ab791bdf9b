"""Deriving services in tests: a class of one method, its contract, and the conversion of the method."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from google.protobuf import descriptor_pool

from fairlead.serve.derived.conversion import MethodConversion
from fairlead.serve.derived.descriptor import file_of, set_of
from fairlead.serve.derived.lock import LockedService, advance
from fairlead.serve.derived.methods import service_of
from fairlead.serve.derived.shapes import Service


def class_of(function: Callable[..., Any], name: str = "Shop") -> type:
    """A class that has the function as its only method."""
    return type(name, (), {function.__name__: function})


def echo_of(hint: Any) -> type:
    """A class whose method takes and returns a value of a hint."""

    def echo(self: Any, value: Any) -> Any:
        return value

    echo.__annotations__ = {"value": hint, "return": hint}
    return class_of(echo)


def derived(target: Any) -> Service:
    """The service of a class, which has one."""
    service = service_of(target)
    assert service is not None
    return service


def conversion_of(service: Service, method: str, lock: LockedService | None = None) -> MethodConversion:
    """The conversion of a method, by descriptors that went through a pool as they do between processes."""
    locked, breaking = advance(lock, service)
    assert not breaking
    pool = descriptor_pool.DescriptorPool()
    for file in set_of([file_of(service, locked)]).file:
        pool.Add(file)
    descriptor = pool.FindServiceByName(service.full_name).methods_by_name[method]
    return MethodConversion(next(each for each in service.methods if each.name == method), descriptor)


def round_trip(hint: Any, value: Any) -> Any:
    """A value through a message: what a method answers is what it can be asked, field for field."""
    conversion = conversion_of(derived(echo_of(hint)), "Echo")
    _, kwargs = conversion.arguments(conversion.dump(value))
    return kwargs["value"]
