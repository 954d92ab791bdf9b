"""The functions that programs use instances with, gathered: each is of the module that says what it is about."""

from __future__ import annotations

from fairlead.serve.app_handles import get_app_handle, get_deployment_handle
from fairlead.serve.deploying import RunTarget, delete, deploy_change, deploy_specs, run, run_many
from fairlead.serve.instance_in_use import controller_address, existing_instance, instance_status, status
from fairlead.serve.lifecycle import is_running, shutdown, shutdown_async, shutdown_own, start, wait

__all__ = [
    "RunTarget",
    "controller_address",
    "delete",
    "deploy_change",
    "deploy_specs",
    "existing_instance",
    "get_app_handle",
    "get_deployment_handle",
    "instance_status",
    "is_running",
    "run",
    "run_many",
    "shutdown",
    "shutdown_async",
    "shutdown_own",
    "start",
    "status",
    "wait",
]
