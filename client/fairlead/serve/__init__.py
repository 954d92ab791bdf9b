"""The public face: ``from fairlead import serve``. The names are Ray Serve's."""

# Users write serve.exceptions.X without a further import.
from fairlead.serve import exceptions as exceptions
from fairlead.serve.api import (
    RunTarget,
    delete,
    get_app_handle,
    get_deployment_handle,
    run,
    run_many,
    shutdown,
    shutdown_async,
    start,
    status,
)
from fairlead.serve.batching import accept_batch, batch
from fairlead.serve.config import HTTPOptions
from fairlead.serve.context import get_multiplexed_model_id, get_replica_context, get_request_context
from fairlead.serve.deployment import Application, Deployment, deployment
from fairlead.serve.derived.decorator import typed
from fairlead.serve.grpc_services import grpc_service
from fairlead.serve.ingress import ingress
from fairlead.serve.multiplexing import multiplexed
from fairlead.serve.routes import route
from fairlead.serve.service_sources import JsonOptions

__all__ = [
    "Application",
    "Deployment",
    "HTTPOptions",
    "JsonOptions",
    "RunTarget",
    "accept_batch",
    "batch",
    "delete",
    "deployment",
    "get_app_handle",
    "get_deployment_handle",
    "get_multiplexed_model_id",
    "get_replica_context",
    "get_request_context",
    "grpc_service",
    "ingress",
    "multiplexed",
    "route",
    "run",
    "run_many",
    "shutdown",
    "shutdown_async",
    "start",
    "status",
    "typed",
]
