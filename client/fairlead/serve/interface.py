"""What a deployment offers at the doors beyond calls by a method's name, read off its class by the driver.

Gateways and the controller never import users' code, so whatever they need to know of a class is described here, once,
where it is deployed from.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fairlead.serve import ingress
from fairlead.serve.derived.description import describe_typed
from fairlead.serve.grpc_services import describe_services
from fairlead.serve.routes.description import describe_rest, describe_routes
from fairlead.v1 import control_pb2

_DESCRIBERS: tuple[Callable[[Any, control_pb2.DeploymentInterface], None], ...] = (
    ingress.describe,
    describe_routes,
    describe_services,
    describe_typed,
    describe_rest,
)
"""Each looks at a class or function and adds what it finds; raises ValueError or TypeError for what makes no sense.

``describe_rest`` stands last: it looks at what the others found."""


def interface_of(func_or_class: Any) -> control_pb2.DeploymentInterface | None:
    """What a class or a function offers; None: only calls by name.

    Raises ValueError or TypeError, naming class and method, for declarations that contradict each other.
    """
    interface = control_pb2.DeploymentInterface()
    for describe in _DESCRIBERS:
        describe(func_or_class, interface)
    return interface if interface.ByteSize() else None
