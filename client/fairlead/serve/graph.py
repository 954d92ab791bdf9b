"""An application as users bind it, to what the controller is told: deployments, their code and arguments."""

from __future__ import annotations

import io
import logging
import pickle
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Generic, TypeVar

import cloudpickle

from fairlead.serve.autoscaling import autoscaling_settings
from fairlead.serve.code import SettingError, capture_environment, import_path_of, pickled_code
from fairlead.serve.deployment import Application, Deployment
from fairlead.serve.derived.description import describe_ingress, keep_hints
from fairlead.serve.fingerprint import pickled_digest
from fairlead.serve.grpc_services import offer
from fairlead.serve.handle import DeploymentHandle, unbound_handle
from fairlead.serve.ingress import check_one
from fairlead.serve.interface import interface_of
from fairlead.serve.logs import LoggingConfig
from fairlead.serve.router_settings import router_settings
from fairlead.serve.routes.description import check_application as check_routes
from fairlead.serve.routes.description import describe_rest
from fairlead.serve.sources import source_digest
from fairlead.serve.validation import check_route_prefix
from fairlead.v1 import control_pb2
from fairlead.wire.errors import FairleadError

logger = logging.getLogger("fairlead.serve")

A = TypeVar("A")
"""A constructor's arguments, as a graph keeps them."""


def application_spec(
    target: Application[Any],
    *,
    name: str = "default",
    route_prefix: str | None = "/",
    caller: str = "serve.run",
    services: control_pb2.DeploymentInterface | None = None,
    overrides: Mapping[str, Mapping[str, Any]] | None = None,
    logging_config: LoggingConfig | Mapping[str, Any] | None = None,
) -> control_pb2.ApplicationSpec:
    """The application bound from ``target``: its deployments, each after those that its arguments need.

    ``overrides``: settings by deployment, as for ``Deployment.options``, that take the place of those in the code.
    ``logging_config``: for those deployments that have none of their own.
    ``services``: the typed services of the instance, which the ingress deployment serves if it has their methods.
    Raises TypeError if ``target`` was not made by ``.bind()`` (``caller`` names the function in the message) or code or
    arguments cannot be pickled, ValueError for a route prefix that cannot be, or for an import path among the settings
    that leads to no router or policy (SettingError), FairleadError for an empty name.
    """
    check_application(target, caller)
    if not isinstance(name, str) or not name:
        raise FairleadError("Application name must a non-empty string.")
    check_route_prefix(route_prefix)
    graph = _SpecGraph(name, overrides or {})
    ingress = graph.add(target)
    code = target.deployment.func_or_class
    interface = graph.specs[-1].interface
    if services is not None:
        offer(services, code, interface)
    describe_ingress(code, interface)
    describe_rest(code, interface)
    check_routes(graph.specs)
    check_one(graph.specs)
    if (logging := LoggingConfig.of(logging_config)) is not None:
        for spec in graph.specs:
            spec.settings.logging = spec.settings.logging or logging.to_json()
    return control_pb2.ApplicationSpec(
        name=name,
        route_prefix=route_prefix,
        ingress_deployment=ingress,
        deployments=graph.specs,
        environment=capture_environment(),
    )


def deployments_of(target: Application[Any]) -> list[tuple[str, Deployment[Any]]]:
    """The deployments of an application with their names in it, each after those that its arguments need."""
    graph = _SpecGraph("default", {})
    graph.add(target)
    return graph.deployments


def check_application(target: Any, caller: str = "serve.run") -> None:
    """Raises TypeError that says what to do if ``target`` was not made by ``.bind()``."""
    if isinstance(target, Application):
        return
    found = f"a `{type(target).__name__}`"
    if isinstance(target, Deployment):
        found = f"the deployment `{target.name}`; call `.bind()` on it"
    elif isinstance(target, type) or callable(target):
        found = f"`{getattr(target, '__name__', target)}`; decorate it with `@serve.deployment` and call `.bind()`"
    elif isinstance(target, DeploymentHandle):
        found = "a `DeploymentHandle`, which is what `serve.run` returns"
    raise TypeError(f"`{caller}` expects an `Application` returned by `Deployment.bind()`, but got {found}.")


class Graph(ABC, Generic[A]):
    """The deployments of one application, collected: each after those that its arguments need."""

    def __init__(self, application: str) -> None:
        self.application = application
        self._names: dict[int, str] = {}
        self._nodes: list[Application[Any]] = []  # keeps the ids above from being used again
        self._taken: set[str] = set()
        self._open: list[Application[Any]] = []

    def add(self, node: Application[Any]) -> str:
        """Adds an application and those in its arguments; the name of its deployment."""
        known = self._names.get(id(node))
        if known is not None:
            return known
        if any(node is one for one in self._open):
            raise ValueError(f"{node!r} is bound to itself")
        self._nodes.append(node)
        self._open.append(node)
        arguments = self._arguments(node)
        self._open.pop()
        name = self._names[id(node)] = _unique_name(node.deployment.name, self._taken)
        self._put(name, node.deployment, arguments)
        return name

    @abstractmethod
    def _arguments(self, node: Application[Any]) -> A:
        """What the constructor gets, handles in the place of the applications in it, which are added."""

    @abstractmethod
    def _put(self, name: str, deployment: Deployment[Any], arguments: A) -> None:
        """Keeps a deployment under the name that it has got."""


class _SpecGraph(Graph[bytes]):
    """Deployments as they are sent to a controller."""

    def __init__(self, application: str, overrides: Mapping[str, Mapping[str, Any]]) -> None:
        super().__init__(application)
        self.overrides = overrides
        self.deployments: list[tuple[str, Deployment[Any]]] = []
        self.specs: list[control_pb2.DeploymentSpec] = []

    def _put(self, name: str, deployment: Deployment[Any], arguments: bytes) -> None:
        if (changes := self.overrides.get(name)) is not None:
            deployment = deployment.options(**changes)
        self.deployments.append((name, deployment))
        spec = control_pb2.DeploymentSpec(name=name, init_arguments=arguments, settings=deployment.to_settings())
        spec.variables.update(deployment.config.variables)
        try:
            if deployment.autoscaling_config is not None:
                spec.settings.autoscaling.CopyFrom(autoscaling_settings(deployment.autoscaling_config))
            if (router := router_settings(deployment.config.request_router_config)) is not None:
                spec.settings.request_router.CopyFrom(router)
        except SettingError as error:
            error.deployment = name
            raise
        code = deployment.func_or_class
        interface = interface_of(code)  # before it is pickled: this resolves type hints, which travel with it
        path = code if isinstance(code, str) else import_path_of(code)
        if path is not None:
            spec.import_path = path
        else:
            keep_hints(code)
            spec.pickled_code = pickled_code(code)
        spec.source_digest = source_digest(code)
        spec.pickled_digest = pickled_digest(spec.pickled_code, arguments)
        if interface is not None:
            spec.interface.CopyFrom(interface)
        self.specs.append(spec)

    def _arguments(self, node: Application[Any]) -> bytes:
        if not (node.init_args or node.init_kwargs):
            return b""
        buffer = io.BytesIO()
        try:
            ArgumentPickler(buffer, self).dump((node.init_args, node.init_kwargs))
        except (FairleadError, ValueError):
            raise
        except Exception as error:
            raise TypeError(
                f"the arguments of {node.deployment.name!r} cannot be sent to replicas: {type(error).__name__}: {error}"
            ) from error
        return buffer.getvalue()


def _unique_name(wanted: str, taken: set[str]) -> str:
    """A deployment's name, with a number if another one has it; it is taken from now on."""
    name = wanted
    number = 0
    while name in taken:
        number += 1
        name = f"{wanted}_{number}"
    if number:
        logger.warning("There are multiple deployments with the same name '%s'. Renaming one to '%s'.", wanted, name)
    taken.add(name)
    return name


class ArgumentPickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle has no types
    """Pickles a constructor's arguments, handles in the place of applications, wherever they stand."""

    def __init__(self, buffer: io.BytesIO, graph: Graph[Any]) -> None:
        super().__init__(buffer, pickle.HIGHEST_PROTOCOL)
        self._graph = graph
        self.found = False
        """Whether there was an application."""

    def reducer_override(self, obj: Any) -> Any:
        """Called for every object but the plainest."""
        if isinstance(obj, Application):
            self.found = True
            return unbound_handle(self._graph.add(obj), self._graph.application)
        return super().reducer_override(obj)
