"""Typed protobuf services: what a class says that it implements, described for gateways and replicas.

A service comes from generated code (``add_LibraryServiceServicer_to_server`` of a ``_pb2_grpc`` module, or a class that
inherits from ``LibraryServiceServicer``) or from a descriptor set. The class's methods are the RPCs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from google.protobuf.descriptor import ServiceDescriptor

from fairlead.paths import Route
from fairlead.paths.rules import service_routes
from fairlead.serve.deployment import Deployment
from fairlead.serve.descriptor_sets import FileProto, add_files, files_of, read_files
from fairlead.serve.service_sources import (
    JsonOptions,
    ServiceDeclaration,
    Source,
    declared,
    descriptors,
    inherited,
    pool_of,
)
from fairlead.v1 import control_pb2

C = TypeVar("C", bound=type)

SERVICES = "__fairlead_grpc_services__"
"""The attribute of a class that holds its :class:`ServiceDeclaration`, in the order of the decorators."""


class ServiceDecorator:
    """``@serve.grpc_service(...)``, waiting for the class."""

    def __init__(self, declaration: ServiceDeclaration) -> None:
        self._declaration = declaration

    def __call__(self, cls: C) -> C:
        """The same class, marked. Raises TypeError for what is no class, ValueError for one without any of the RPCs."""
        if isinstance(cls, Deployment):
            raise TypeError("@serve.grpc_service must stand below @serve.deployment")
        if not isinstance(cls, type):
            raise TypeError(f"@serve.grpc_service is for classes, whose methods are the RPCs; {cls!r} is none")
        services = _chosen(cls, self._declaration)
        for service in services:
            for rpc, name in self._declaration.methods.items():
                if rpc in service.methods_by_name and not callable(getattr(cls, name, None)):
                    raise ValueError(
                        f"{cls.__qualname__} has no method {name!r}, which shall be {rpc} of {service.full_name}"
                    )
        setattr(cls, SERVICES, (*getattr(cls, SERVICES, ()), self._declaration))
        return cls


def grpc_service(
    source: Source,
    *,
    service: str | Sequence[str] | None = None,
    methods: Mapping[str, str] | None = None,
    json: JsonOptions | Mapping[str, Any] | None = None,
) -> ServiceDecorator:
    """Says that a class implements a protobuf service, or several: its methods are their RPCs.

    ``source``: the generated function ``add_…Servicer_to_server``; its import path, "package.module.function"; a
    serialized descriptor set (bytes); or the path of a file with one. ``service``: the full names of the services of
    the descriptor set that are meant; without it those of which the class has a method. ``methods``: the class's method
    by the RPC's name, where the two differ. ``json``: how its messages look over HTTP.

    Stands below ``@serve.deployment``. Raises TypeError or ValueError for what describes no service.
    """
    declaration = declared(source, service)
    known = {method.name for found in descriptors(declaration) for method in found.methods}
    unknown = sorted(set(methods or {}) - known)
    if unknown:
        raise ValueError(f"{', '.join(declaration.names)} has no method {', '.join(unknown)}; it has {sorted(known)}")
    return ServiceDecorator(
        ServiceDeclaration(
            names=declaration.names,
            choose=declaration.choose,
            files=declaration.files,
            modules=declaration.modules,
            methods=dict(methods or {}),
            json=None if json is None else JsonOptions.of(json),
        )
    )


def describe_services(func_or_class: Any, interface: control_pb2.DeploymentInterface) -> None:
    """Adds the typed services of a class to its interface: those declared, and those it inherits servicers of."""
    if not isinstance(func_or_class, type):
        return
    marked: tuple[ServiceDeclaration, ...] = getattr(func_or_class, SERVICES, ())
    for declaration in reversed(marked):  # the decorator that stands on top was applied last
        for descriptor in _chosen(func_or_class, declaration):
            _add(interface, declaration, descriptor)
    for declaration in inherited(func_or_class):
        for descriptor in descriptors(declaration):
            _add(interface, declaration, descriptor)


def describe_sources(sources: Iterable[Source]) -> control_pb2.DeploymentInterface:
    """The services of an instance's ``grpc_servicer_functions``, which any application may turn out to implement."""
    interface = control_pb2.DeploymentInterface()
    for source in sources:
        declaration = declared(source, None)
        for descriptor in descriptors(declaration):
            _add(interface, declaration, descriptor)
    return interface


def offer(
    services: control_pb2.DeploymentInterface, func_or_class: Any, interface: control_pb2.DeploymentInterface
) -> None:
    """Adds those of an instance's services of which a class has a method. Of code that is not imported here: all."""
    if not services.typed_services or not isinstance(func_or_class, type | str):
        return
    pool = pool_of(read_files(services.descriptor_set))
    there = {service.name for service in interface.typed_services}
    for service in services.typed_services:
        descriptor = pool.FindServiceByName(service.name)
        if service.name not in there and (isinstance(func_or_class, str) or _implements(func_or_class, descriptor)):
            interface.typed_services.add().CopyFrom(service)
            add_files(interface, files_of(descriptor.file))
            _add_modules(interface, services.message_modules)
            if isinstance(func_or_class, str):
                interface.handles_requests = True  # as far as can be known here


# -- services


def routes_of_services(deployments: Iterable[control_pb2.DeploymentSpec]) -> Iterator[Route[Any]]:
    """The HTTP routes of an application's typed services. Raises RuleError for annotations that cannot be served.

    A service that several deployments offer is served by one of them: the ingress deployment, if it is among them.
    """
    seen: set[str] = set()
    for deployment in deployments:
        interface = deployment.interface
        names = [service.name for service in interface.typed_services if service.name not in seen]
        if names:
            pool = pool_of(read_files(interface.descriptor_set))
            for name in names:
                seen.add(name)
                yield from service_routes(pool.FindServiceByName(name), deployment.name)


def _chosen(cls: type, declaration: ServiceDeclaration) -> list[ServiceDescriptor]:
    """Those that a class implements. Raises ValueError if there is none, or one that is asked for is not among them."""
    found = descriptors(declaration)
    chosen = [service for service in found if _implements(cls, service, declaration.methods)]
    if not chosen or (not declaration.choose and len(chosen) < len(found)):
        missing = [service for service in found if service not in chosen]
        wanted = "; ".join(f"{each.full_name} has {sorted(each.methods_by_name)}" for each in missing)
        raise ValueError(f"{cls.__qualname__} has no method of {'' if len(missing) == 1 else 'any of '}{wanted}")
    return chosen


def _implements(cls: type, service: ServiceDescriptor, methods: Mapping[str, str] | None = None) -> bool:
    names = methods or {}
    return any(callable(getattr(cls, names.get(method.name, method.name), None)) for method in service.methods)


def _add(
    interface: control_pb2.DeploymentInterface, declaration: ServiceDeclaration, service: ServiceDescriptor
) -> None:
    if any(each.name == service.full_name for each in interface.typed_services):
        return
    typed = interface.typed_services.add(name=service.full_name)
    for rpc, name in declaration.methods.items():
        if rpc in service.methods_by_name and rpc != name:
            typed.methods[rpc] = name
    if declaration.json is not None:
        typed.json.CopyFrom(declaration.json.to_proto())
    add_files(interface, [FileProto.FromString(file) for file in declaration.files])
    _add_modules(interface, declaration.modules)


def _add_modules(interface: control_pb2.DeploymentInterface, modules: Iterable[str]) -> None:
    interface.message_modules.extend(module for module in modules if module not in interface.message_modules)
