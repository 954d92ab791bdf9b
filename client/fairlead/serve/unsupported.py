"""What Ray Serve takes and this project gives no effect: refused with what to do instead, never ignored."""

from __future__ import annotations

from typing import Any

from fairlead.v1 import control_pb2


def check_controller_options(value: Any) -> None:
    """Refuses them unless they are None or empty. Raises ValueError."""
    if value:
        raise ValueError(
            "controller_options has no effect here; the controller is a process with the environment of the program "
            "that starts the instance: set the variables there, and leave it out"
        )


def check_external_scaler(spec: control_pb2.ApplicationSpec) -> None:
    """Refuses deployments that scale by themselves in an application that something outside scales.

    That is Ray Serve's rule: with ``external_scaler_enabled`` replicas are counted by ``fairlead scale``, or by whoever
    calls ControlService's ``Scale``. Raises ValueError.
    """
    for deployment in spec.deployments:
        if deployment.settings.HasField("autoscaling"):
            raise ValueError(
                f"external_scaler_enabled is set for application '{spec.name}', and its deployment "
                f"'{deployment.name}' scales by itself: give it num_replicas instead of autoscaling_config"
            )
