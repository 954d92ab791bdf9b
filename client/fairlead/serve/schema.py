"""The status objects and the schema of configuration files, at the path where Ray Serve has them.

The schema needs pydantic, which the light client does without: it is imported when it is asked for.
"""

from __future__ import annotations

import importlib
from typing import Any

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
from fairlead.serve.tracing_config import TracingConfig

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
    "TracingConfig",
]

_FILES = ("DeploymentSchema", "ServeApplicationSchema", "ServeDeploySchema")


def __getattr__(name: str) -> Any:
    if name in _FILES:
        return getattr(importlib.import_module("fairlead.serve.deploy_schema"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
