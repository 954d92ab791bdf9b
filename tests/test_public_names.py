"""What users can import: the public names of each package are pinned, and the base client stays light.

A name that is added or taken away is a decision; it is made here, in the same change.
"""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

PUBLIC: dict[str, set[str]] = {
    "fairlead": {"ObjectRef", "__version__", "get", "init", "is_initialized", "serve", "shutdown", "wait"},
    "fairlead.serve": {
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
    },
    # The parts: what they hold is imported from its module.
    "fairlead.cli": set(),
    "fairlead.serve.classic": {
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
    },
    "fairlead.serve.derived": set(),
    "fairlead.serve.batching": {"_RuntimeSummaryStatistics", "accept_batch", "batch"},
    "fairlead.serve.multiplexing": {"multiplexed"},
    "fairlead.serve.routes": {"route"},
    "fairlead.wire": set(),
    "fairlead_gateway": set(),
    "fairlead_gateway.control": set(),
    "fairlead_gateway.edge": set(),
    "fairlead_gateway.routing": set(),
    "fairlead_replica": set(),
}

PORTED: dict[str, set[str]] = {
    "fairlead.serve.grpc_util": {"RayServegRPCContext", "gRPCInputStream"},
    "fairlead.serve.config": {
        "AggregationFunction",
        "AutoscalingConfig",
        "AutoscalingContext",
        "AutoscalingPolicy",
        "BackpressureConfig",
        "HTTPOptions",
        "ProxyLocation",
        "RequestRouterConfig",
        "gRPCOptions",
    },
    "fairlead.serve.context": {
        "ReplicaContext",
        "_RequestContext",
        "_get_internal_replica_context",
        "_get_serve_batch_request_context",
        "_get_serve_request_context",
        "_serve_request_context",
    },
    "fairlead.serve.exceptions": {
        "BackPressureError",
        "DeploymentUnavailableError",
        "RayServeException",
        "ReplicaUnavailableError",
        "RequestCancelledError",
        "gRPCStatusError",
    },
    "fairlead.serve.experimental": {"ConsistentHashRouter", "RoundRobinRouter"},
    "fairlead.serve.handle": {
        "DeploymentBroadcastResponse",
        "DeploymentHandle",
        "DeploymentResponse",
        "DeploymentResponseGenerator",
        "ReplicaSelection",
    },
    "fairlead.serve.request_router": {
        "FIFOMixin",
        "LocalityMixin",
        "MultiplexMixin",
        "PendingRequest",
        "ReplicaID",
        "ReplicaResult",
        "RequestRouter",
        "RunningReplica",
    },
    "fairlead.serve.schema": {"ApplicationStatus"},
}
"""Names that programs ported from Ray Serve import, at the paths that they import them from."""

HEAVY = ("pydantic", "starlette", "uvicorn", "uvloop", "typer", "rich", "yaml", "httptools", "multipart", "numpy")
"""What the extra `[serve]` brings, and what it would be a pity to import by accident."""


@pytest.mark.parametrize("package", PUBLIC)
def test_public_names(package: str) -> None:
    module = importlib.import_module(package)
    names = getattr(module, "__all__", [])
    assert sorted(names) == sorted(PUBLIC[package])
    for name in names:
        assert getattr(module, name) is not None


@pytest.mark.parametrize("module", PORTED)
def test_names_of_ported_programs(module: str) -> None:
    assert [name for name in sorted(PORTED[module]) if not hasattr(importlib.import_module(module), name)] == []


@pytest.mark.parametrize("package", ["fairlead", "fairlead.serve", "fairlead.wire.codecs", "fairlead.wire.link"])
def test_the_base_client_imports_nothing_of_what_a_gateway_needs(package: str) -> None:
    code = f"import sys, {package}; print(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) & {*HEAVY, "fairlead_gateway", "fairlead_replica"} == set()
