"""The API that Ray Serve had before deployments: backends, endpoints, traffic between them, and their handles."""

from fairlead.serve.backend_config import BackendConfig
from fairlead.serve.classic.backends import (
    create_backend,
    delete_backend,
    get_backend_config,
    list_backends,
    update_backend_config,
)
from fairlead.serve.classic.client import Client, connect, start
from fairlead.serve.classic.endpoints import (
    create_endpoint,
    delete_endpoint,
    get_handle,
    list_endpoints,
    set_traffic,
    shadow_traffic,
)
from fairlead.serve.classic.handle import RayServeHandle, RayServeSyncHandle
from fairlead.serve.classic.request import ServeRequest

__all__ = [
    "BackendConfig",
    "Client",
    "RayServeHandle",
    "RayServeSyncHandle",
    "ServeRequest",
    "connect",
    "create_backend",
    "create_endpoint",
    "delete_backend",
    "delete_endpoint",
    "get_backend_config",
    "get_handle",
    "list_backends",
    "list_endpoints",
    "set_traffic",
    "shadow_traffic",
    "start",
    "update_backend_config",
]
