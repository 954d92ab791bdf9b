"""What gateway workers shall route, made from what shall run and what runs. Pure."""

from __future__ import annotations

from fairlead.v1 import control_pb2
from fairlead_gateway.control.capacity import capacity_of
from fairlead_gateway.control.desired import ApplicationGoal, DeploymentGoal
from fairlead_gateway.control.observed import ObservedState, Phase
from fairlead_gateway.control.standing import Standing

_DEFAULT_BACKPRESSURE_STATUS = 503


def application_routes(
    goal: ApplicationGoal, standing: Standing, observed: ObservedState
) -> control_pb2.ApplicationRoutes:
    """An application as gateway workers see it."""
    deployments = {**standing.retired, **goal.deployments}
    routes = control_pb2.ApplicationRoutes(
        name=goal.name,
        ingress_deployment=standing.ingress,
        deployments=[_deployment_routes(deployment, goal, standing, observed) for deployment in deployments.values()],
        serving=standing.serving and not goal.deleting,
        traffic=standing.traffic.values(),
    )
    if standing.route_prefix is not None:
        routes.route_prefix = standing.route_prefix
    return routes


def _deployment_routes(
    deployment: DeploymentGoal, goal: ApplicationGoal, standing: Standing, observed: ObservedState
) -> control_pb2.DeploymentRoutes:
    settings = deployment.spec.settings
    routes = control_pb2.DeploymentRoutes(
        name=deployment.name,
        max_ongoing_requests=settings.max_ongoing_requests,
        max_queued_requests=settings.max_queued_requests,
        autoscaled=settings.HasField("autoscaling"),
        backpressure_status_code=settings.backpressure_status_code or _DEFAULT_BACKPRESSURE_STATUS,
        replicas=[
            control_pb2.ReplicaRoute(replica_id=replica.replica_id, address=replica.address)
            for replica in observed.replicas_of(goal.name, deployment.name)
            if replica.phase is Phase.RUNNING and not replica.silent
        ],
    )
    if settings.HasField("backpressure_retry_after_s"):
        routes.backpressure_retry_after_s = settings.backpressure_retry_after_s
    interface = standing.offered.get(deployment.name, deployment.spec.interface)
    if interface.ByteSize():
        routes.interface.CopyFrom(interface)
    if settings.HasField("request_router"):
        routes.request_router.CopyFrom(settings.request_router)
        routes.sys_path.extend(deployment.environment.sys_path)
    if not routes.replicas:
        routes.unavailable_message = _unavailable_message(deployment, goal, observed)
    return routes


def _unavailable_message(deployment: DeploymentGoal, goal: ApplicationGoal, observed: ObservedState) -> str:
    if goal.deleting:
        return f"Application {goal.name!r} is being deleted."
    if capacity_of(goal.spec) == 0:
        return f"Deployment {deployment.name!r} in application {goal.name!r} has no replicas: its target_capacity is 0."
    progress = observed.progress.get((goal.name, deployment.name))
    if progress is not None and progress.given_up:
        # No traceback: this goes to whoever calls.
        return f"Deployment {deployment.name!r} in application {goal.name!r} failed to deploy."
    return ""
