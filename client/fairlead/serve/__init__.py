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
    status,
)
from fairlead.serve.batching import accept_batch, batch
from fairlead.serve.classic import (
    BackendConfig,
    connect,
    create_backend,
    create_endpoint,
    delete_backend,
    delete_endpoint,
    get_backend_config,
    get_handle,
    list_backends,
    list_endpoints,
    set_traffic,
    shadow_traffic,
    start,
    update_backend_config,
)
from fairlead.serve.config import HTTPOptions
from fairlead.serve.context import get_multiplexed_model_id, get_replica_context, get_request_context
from fairlead.serve.deployment import Application, Deployment, deployment
from fairlead.serve.derived.decorator import typed
from fairlead.serve.grpc_services import grpc_service
from fairlead.serve.ingress import ingress
from fairlead.serve.multiplexing import multiplexed
from fairlead.serve.routes import route
from fairlead.serve.service_sources import JsonOptions
from fairlead.serve.tracing_config import TracingConfig

__all__ = [
    "Application",
    "BackendConfig",
    "Deployment",
    "HTTPOptions",
    "JsonOptions",
    "RunTarget",
    "TracingConfig",
    "accept_batch",
    "batch",
    "connect",
    "create_backend",
    "create_endpoint",
    "delete",
    "delete_backend",
    "delete_endpoint",
    "deployment",
    "get_app_handle",
    "get_backend_config",
    "get_deployment_handle",
    "get_handle",
    "get_multiplexed_model_id",
    "get_replica_context",
    "get_request_context",
    "grpc_service",
    "ingress",
    "list_backends",
    "list_endpoints",
    "multiplexed",
    "route",
    "run",
    "run_many",
    "set_traffic",
    "shadow_traffic",
    "shutdown",
    "shutdown_async",
    "start",
    "status",
    "typed",
    "update_backend_config",
]
