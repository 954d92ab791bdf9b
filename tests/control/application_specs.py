"""Specifications of applications, for tests."""

from fairlead.v1 import control_pb2


def settings(**changes) -> control_pb2.DeploymentSettings:
    values = {
        "num_replicas": 1,
        "max_ongoing_requests": 5,
        "max_queued_requests": -1,
        "graceful_shutdown_timeout_s": 20.0,
        "health_check_period_s": 10.0,
        "health_check_timeout_s": 30.0,
        "max_constructor_retry_count": 20,
    }
    return control_pb2.DeploymentSettings(**{**values, **changes})


def deployment(name="Echo", code="app:Echo", **changes) -> control_pb2.DeploymentSpec:
    return control_pb2.DeploymentSpec(name=name, import_path=code, settings=settings(**changes))


def application(
    *deployments: control_pb2.DeploymentSpec, name="default", route_prefix: str | None = "/"
) -> control_pb2.ApplicationSpec:
    deployments = deployments or (deployment(),)
    return control_pb2.ApplicationSpec(
        name=name, route_prefix=route_prefix, ingress_deployment=deployments[0].name, deployments=deployments
    )
