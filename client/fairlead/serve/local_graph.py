"""An application as users bind it, to objects of this process: for local testing mode."""

from __future__ import annotations

import io
import pickle
from dataclasses import dataclass
from operator import is_
from typing import Any

from fairlead.serve.deployment import Application, Deployment
from fairlead.serve.graph import ArgumentPickler, Graph
from fairlead.serve.handle import DeploymentHandle
from fairlead.serve.interface import interface_of
from fairlead.serve.router_settings import router_settings
from fairlead.v1 import control_pb2


@dataclass(frozen=True, kw_only=True, slots=True)
class LocalDeployment:
    """A deployment to run in this process."""

    name: str
    code: Any
    """The class or function, or its import path."""
    args: tuple[Any, ...]
    """For the constructor; handles in the place of other deployments."""
    kwargs: dict[str, Any]
    settings: control_pb2.DeploymentSettings
    interface: control_pb2.DeploymentInterface | None = None
    """What it offers at doors, which are not there: methods are described and checked all the same."""


class LocalGraph(Graph[tuple[tuple[Any, ...], dict[str, Any]]]):
    """The deployments of one application.

    An argument in which no other deployment stands is handed over as it is: a fake that a test binds is the object that
    the constructor gets. One that holds deployments is a copy, with handles in their place.
    """

    def __init__(self, application: str) -> None:
        super().__init__(application)
        self.deployments: list[LocalDeployment] = []

    def _arguments(self, node: Application[Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        args = tuple(self._argument(value) for value in node.init_args)
        return args, {name: self._argument(value) for name, value in node.init_kwargs.items()}

    def _put(self, name: str, deployment: Deployment[Any], arguments: tuple[tuple[Any, ...], dict[str, Any]]) -> None:
        settings = deployment.to_settings()
        if (router := router_settings(deployment.config.request_router_config)) is not None:
            settings.request_router.CopyFrom(router)
        args, kwargs = arguments
        self.deployments.append(
            LocalDeployment(
                name=name,
                code=deployment.func_or_class,
                args=args,
                kwargs=kwargs,
                settings=settings,
                interface=interface_of(deployment.func_or_class),
            )
        )

    def _argument(self, value: Any) -> Any:
        if isinstance(value, Application):
            return DeploymentHandle[Any](self.add(value), self.application)
        if type(value) in (list, tuple):
            items = [self._argument(item) for item in value]
            return value if all(map(is_, items, value)) else type(value)(items)
        if type(value) is dict:
            values = [self._argument(item) for item in value.values()]
            return value if all(map(is_, values, value.values())) else dict(zip(value, values, strict=True))
        before = len(self._nodes)
        buffer = io.BytesIO()
        pickler = ArgumentPickler(buffer, self)
        try:
            pickler.dump(value)
        except Exception:
            if len(self._nodes) > before or pickler.found:  # there are deployments in it, and no way to replace them
                raise
            return value  # a lock, a mock: good enough for a process that it stays in
        return pickle.loads(buffer.getvalue()) if pickler.found else value
