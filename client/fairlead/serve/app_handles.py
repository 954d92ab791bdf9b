"""Handles to what is deployed, by name."""

from __future__ import annotations

from typing import Any

from fairlead.serve import context
from fairlead.serve.handle import DeploymentHandle
from fairlead.serve.instance import Instance
from fairlead.serve.instance_in_use import current
from fairlead.v1 import control_pb2
from fairlead.wire.errors import FairleadError

_REMEMBERED_HANDLES = 100


def get_app_handle(name: str) -> DeploymentHandle[Any]:
    """A handle to an application's ingress deployment. Raises FairleadError (``RayServeException``) for no such one.

    Where ``FAIRLEAD_ADDRESS`` names a gateway's port, and while a standing instance's controller is away, whether it
    exists is found out by the first call.
    """
    if not tells_names(current.existing()):
        return _handle("", name)
    application = _applications().get(name)
    if application is None:
        raise FairleadError(f"Application '{name}' does not exist.")
    return _handle(application.ingress_deployment, name)


def get_deployment_handle(
    deployment_name: str, app_name: str | None = None, _check_exists: bool = True
) -> DeploymentHandle[Any]:
    """A handle to a deployment or an endpoint; the same object for the same name. In a replica ``app_name`` is its own.

    Raises FairleadError (``RayServeException``) without an application's name outside of a replica, KeyError for a
    deployment that does not exist.
    """
    if app_name is None:
        if not context.is_replica():
            raise FairleadError(
                "Please specify an application name when getting a deployment handle outside of a Serve application."
            )
        app_name = context.get_replica_context().app_name
    if _check_exists and tells_names(current.existing()):
        application = _applications().get(app_name)
        if application is None or deployment_name not in callable_names(application):
            raise KeyError(f"Deployment(name='{deployment_name}', app='{app_name}') does not exist.")
    return _handle(deployment_name, app_name)


def callable_names(application: control_pb2.ApplicationStatus) -> list[str]:
    """The names in an application that can be called: of deployments, and of endpoints whose calls are spread."""
    deployments = [one.name for one in application.deployments]
    return deployments + [one.name for one in application.traffic if one.name not in deployments]


def _handle(deployment_name: str, app_name: str) -> DeploymentHandle[Any]:
    with current.lock:
        handles = current.handles
        handle = handles.get((deployment_name, app_name))
        if handle is None:
            handle = handles[deployment_name, app_name] = DeploymentHandle(deployment_name, app_name)
            if len(handles) > _REMEMBERED_HANDLES:
                handles.popitem(last=False)
        handles.move_to_end((deployment_name, app_name))
        return handle


def tells_names(instance: Instance) -> bool:
    """Whether there is a controller to ask what is deployed."""
    return not instance.remote and not instance.away


def _applications() -> dict[str, control_pb2.ApplicationStatus]:
    return {application.name: application for application in current.existing().status().applications}
