"""The status objects, at the path where Ray Serve has them."""

from __future__ import annotations

from fairlead.serve.logs import LoggingConfig
from fairlead.serve.status import (
    ApplicationStatus,
    ApplicationStatusOverview,
    DeploymentStatus,
    DeploymentStatusOverview,
    DeploymentStatusTrigger,
    ProxyStatus,
    ReplicaState,
    ServeStatus,
)

__all__ = [
    "ApplicationStatus",
    "ApplicationStatusOverview",
    "DeploymentStatus",
    "DeploymentStatusOverview",
    "DeploymentStatusTrigger",
    "LoggingConfig",
    "ProxyStatus",
    "ReplicaState",
    "ServeStatus",
]
