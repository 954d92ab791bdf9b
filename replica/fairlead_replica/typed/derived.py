"""Services that were derived from the class's hints: their messages become the values that the hints ask for."""

from __future__ import annotations

import inspect
from typing import Any

from google.protobuf.descriptor import MethodDescriptor

from fairlead.serve.derived.conversion import MethodConversion
from fairlead.serve.derived.decorator import options_of
from fairlead.serve.derived.methods import service_of
from fairlead.serve.derived.shapes import Service


def derived_conversion(descriptor: MethodDescriptor, target: Any) -> MethodConversion:
    """The conversion of a method of the user's object or function.

    Raises HintError or KeyError where the class here is not the one that was deployed.
    """
    service = _service_of(target if inspect.isroutine(target) else type(target))
    method = next((each for each in service.methods if each.name == descriptor.name), None)
    if method is None:
        raise KeyError(f"{service.source} has no method for {descriptor.full_name}")
    return MethodConversion(method, descriptor)


def _service_of(kind: Any) -> Service:
    options = options_of(kind)
    service = service_of(kind) if options is None else service_of(kind, options.package, options.service)
    if service is None:
        raise KeyError(f"{kind.__qualname__} has no methods that a service could be derived from")
    return service
