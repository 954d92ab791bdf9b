"""Routes as the driver tells them to the controller, and through it to the gateways."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterable, Iterator
from typing import Any

from fairlead.paths import BUILTIN, Converter, Route, StarlettePath
from fairlead.paths.router import check_duplicates
from fairlead.serve.grpc_services import routes_of_services
from fairlead.serve.routes.declaration import Declaration, RoutedMethod, routed_methods
from fairlead.serve.routes.openapi import BODY_METHODS, operation_of
from fairlead.serve.routes.parameters import plan_of
from fairlead.v1 import control_pb2


def describe_routes(func_or_class: Any, interface: control_pb2.DeploymentInterface) -> None:
    """Adds the routes of a class's methods, or of a function.

    Raises ValueError for two that take the same, naming both, and TypeError or ValueError, naming the method, for
    parameters that cannot be bound.
    """
    for method in routed_methods(func_or_class):
        for declaration in method.declarations:
            interface.http_routes.extend(_routes(method, declaration))
    check_duplicates(_parsed(interface.http_routes, getattr(func_or_class, "__qualname__", "")))


def describe_rest(func_or_class: Any, interface: control_pb2.DeploymentInterface) -> None:
    """Notes whether what matches no route goes to ``__call__``. Stands after all that describes routes."""
    if not interface.ByteSize() or not isinstance(func_or_class, type):
        return
    routed = any(route.method == "__call__" for route in interface.http_routes)
    has_call = any("__call__" in vars(base) for base in func_or_class.__mro__)
    interface.handles_requests = has_call and not routed


def check_application(deployments: Iterable[control_pb2.DeploymentSpec]) -> None:
    """Raises ValueError, naming both, for routes of two deployments of one application that take the same.

    Those of typed services are among them; one whose annotations cannot be served is refused, too. Services that were
    derived from type hints yield to what was declared: gateways look at their paths last.
    """
    found = list(deployments)
    check_duplicates(routes_of_services(found))
    routes: list[Route[Any]] = [
        route for deployment in found for route in _parsed(deployment.interface.http_routes, deployment.name)
    ]
    check_duplicates([*routes, *routes_of_services(map(_without_derived, found))])


def _without_derived(deployment: control_pb2.DeploymentSpec) -> control_pb2.DeploymentSpec:
    """What a deployment's typed services are but for those that were derived."""
    if not deployment.interface.derived_services:
        return deployment
    interface = control_pb2.DeploymentInterface(descriptor_set=deployment.interface.descriptor_set)
    derived = set(deployment.interface.derived_services)
    interface.typed_services.extend(each for each in deployment.interface.typed_services if each.name not in derived)
    return control_pb2.DeploymentSpec(name=deployment.name, interface=interface)


def _routes(method: RoutedMethod, declaration: Declaration) -> Iterator[control_pb2.HttpRoute]:
    """A declaration's routes: those of its HTTP methods that have a body are described apart from the others."""
    plan = plan_of(method, declaration)
    stream = _is_generator(method)
    for with_body in (False, True):
        methods = [each for each in declaration.methods if (each in BODY_METHODS) is with_body]
        if not methods:
            continue
        operation, schemas = operation_of(method, plan, with_body=with_body, stream=stream)
        yield control_pb2.HttpRoute(
            path=declaration.path,
            http_methods=methods,
            method=method.name,
            stream=stream,
            openapi_operation=json.dumps(operation).encode(),
            openapi_schemas=json.dumps(schemas).encode() if schemas else b"",
            converters={name: convertor.regex for name, convertor in declaration.converters.items()},
            handler=plan.handler,
        )


def _is_generator(method: RoutedMethod) -> bool:
    function = method.function
    return inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)


def _parsed(routes: Iterable[control_pb2.HttpRoute], owner: str) -> Iterator[Route[None]]:
    """The routes as a router would have them."""
    for route in routes:
        own = {name: Converter(regex=regex, convert=str) for name, regex in route.converters.items()}
        path = StarlettePath(route.path, {**BUILTIN, **own})
        yield Route(path, route.http_methods, None, name=f"{owner}.{route.method}")
