"""The state of an instance, for users. Pure."""

from __future__ import annotations

from fairlead.v1 import control_pb2
from fairlead_gateway.control.core import Core
from fairlead_gateway.control.desired import ApplicationGoal, DeploymentGoal
from fairlead_gateway.control.observed import Phase, Progress
from fairlead_gateway.control.standing import application_state, deployment_state

_REPLICA_STATES = {
    Phase.STARTING: control_pb2.REPLICA_STATE_STARTING,
    Phase.RUNNING: control_pb2.REPLICA_STATE_RUNNING,
    Phase.STOPPING: control_pb2.REPLICA_STATE_STOPPING,
}


def instance_status(core: Core, gateways: list[control_pb2.GatewayStatus]) -> control_pb2.InstanceStatus:
    """The state of everything."""
    return control_pb2.InstanceStatus(
        applications=[_application_status(goal, core) for goal in core.desired.applications.values()],
        gateways=gateways,
    )


def _application_status(goal: ApplicationGoal, core: Core) -> control_pb2.ApplicationStatus:
    standing = core.standings[goal.name]
    deployments = [_deployment_status(deployment, core) for deployment in goal.deployments.values()]
    status = control_pb2.ApplicationStatus(
        name=goal.name,
        state=application_state(goal, standing, [deployment.state for deployment in deployments]),
        message="\n".join(
            f"Deployment {deployment.name!r}: {deployment.message}" for deployment in deployments if deployment.message
        ),
        last_deployed_time_s=goal.deployed_at,
        deployments=deployments,
        ingress_deployment=standing.ingress,
        generation=goal.generation,
        traffic=standing.traffic.values(),
    )
    if goal.spec.HasField("target_capacity"):
        status.target_capacity = goal.spec.target_capacity
    if standing.route_prefix is not None:
        status.route_prefix = standing.route_prefix
    return status


def _deployment_status(goal: DeploymentGoal, core: Core) -> control_pb2.DeploymentStatus:
    observed = core.observed
    key = (goal.application, goal.name)
    progress = observed.progress[key]
    return control_pb2.DeploymentStatus(
        name=goal.name,
        state=deployment_state(goal, progress, observed),
        message=_message(progress) or core.scaling.failure(key),
        target_replicas=goal.target,
        trigger=progress.trigger,
        calls=core.scaling.calls(key),
        replicas=[
            control_pb2.ReplicaStatus(
                replica_id=replica.replica_id, state=_REPLICA_STATES[replica.phase], pid=replica.pid
            )
            for replica in observed.replicas_of(goal.application, goal.name)
        ],
    )


def _message(progress: Progress) -> str:
    """Why a deployment is as it is; empty if there is nothing to say."""
    kept = "What ran before is kept running." if progress.fallen_back else ""
    return "\n".join(filter(None, (progress.failure.rstrip(), kept, progress.message)))
