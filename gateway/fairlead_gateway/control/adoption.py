"""Taking over what an earlier controller has left: what it wrote down, and the replicas that it had started. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from fairlead.v1 import control_pb2, replica_pb2, store_pb2
from fairlead_gateway.control.desired import ApplicationGoal, DeploymentGoal, deployment_goal, deployment_goals
from fairlead_gateway.control.observed import ObservedState, Phase, Progress, Replica, Stop
from fairlead_gateway.control.standing import Standing

VERSIONS_PER_START = 2**32
"""Versions of snapshots begin so much higher after each start of a controller."""


class Recovery:
    """Which processes that run have not been heard of since this controller started.

    Until they have been, or the time is up, nothing is decided: what would be started may run already, and gateway
    workers must not be told to route without it.
    """

    def __init__(self, names: Collection[str] = (), deadline: float = 0.0) -> None:
        """``names`` of replicas and gateway workers; ``deadline`` by the controller's clock."""
        self.awaited = set(names)
        self.deadline = deadline

    def heard(self, name: str) -> None:
        """It has connected, or ended."""
        self.awaited.discard(name)

    def is_over(self, now: float) -> bool:
        """Whether decisions may begin."""
        return not self.awaited or now >= self.deadline


def application_record(goal: ApplicationGoal) -> store_pb2.ApplicationRecord:
    """An application as it is written down."""
    return store_pb2.ApplicationRecord(
        spec=goal.spec, generation=goal.generation, deployed_time_s=goal.deployed_at, deleting=goal.deleting
    )


def application_goal(record: store_pb2.ApplicationRecord) -> ApplicationGoal:
    """An application as it was written down."""
    return ApplicationGoal(
        spec=record.spec,
        generation=record.generation,
        deployed_at=record.deployed_time_s,
        deployments=deployment_goals(record.spec),
        deleting=record.deleting,
    )


def standing_record(goal: ApplicationGoal, standing: Standing, observed: ObservedState) -> store_pb2.StandingRecord:
    """How an application stands, as it is written down."""
    there = [*standing.proven.items(), *standing.retired.items(), *goal.deployments.items()]
    record = store_pb2.StandingRecord(
        route_prefix=standing.route_prefix,
        ingress_deployment=standing.ingress,
        serving=standing.serving,
        retired=[one.spec for name, one in standing.retired.items() if name not in standing.proven],
        traffic=standing.traffic.values(),
        scaled={name: one.target for name, one in there if one.scaled is not None},
    )
    for name, proven in standing.proven.items():
        deployed = goal.deployments.get(name)
        if deployed is None or deployed.spec is not proven.spec or observed.progress[goal.name, name].failed:
            record.proven.add(deployment=proven.spec, environment=proven.environment)
        else:
            record.proven_as_deployed.append(name)
    for name, deployment in goal.deployments.items():
        if name in standing.offered and standing.offered[name] != deployment.spec.interface:
            record.offered[name].CopyFrom(standing.offered[name])
        progress = observed.progress.get((goal.name, name))
        if progress is not None and progress.failed:
            record.failures[name] = progress.failure
    return record


def standing_of(goal: ApplicationGoal, record: store_pb2.StandingRecord | None) -> Standing:
    """How an application stood, as it was written down; None: it was not."""
    if record is None:
        return Standing(route_prefix=goal.route_prefix, ingress=goal.spec.ingress_deployment)
    before = control_pb2.ApplicationSpec(name=goal.name, deployments=record.retired, environment=goal.spec.environment)
    proven = {one.deployment.name: deployment_goal(goal.name, one.deployment, one.environment) for one in record.proven}
    retired = deployment_goals(before) | {name: one for name, one in proven.items() if name not in goal.deployments}
    return Standing(
        route_prefix=record.route_prefix if record.HasField("route_prefix") else None,
        ingress=record.ingress_deployment,
        retired=retired,
        proven=proven | {name: goal.deployments[name] for name in record.proven_as_deployed},
        offered=dict(record.offered),
        serving=record.serving,
        traffic={policy.name: policy for policy in record.traffic},
    )


def progress_of(
    goal: ApplicationGoal, deployment: DeploymentGoal, standing: Standing, record: store_pb2.StandingRecord | None
) -> Progress:
    """How far a deployment had come, by what was written down.

    Where its deploy had failed, the goal gets what it had gone back to.
    """
    progress = Progress(generation=goal.generation, code_version=deployment.code_version)
    proven = standing.proven.get(deployment.name)
    progress.started_once = proven is not None and proven.code_version == deployment.code_version
    if record is not None and deployment.name in record.failures:
        standing.give_up(goal, deployment.name, progress, record.failures[deployment.name])
    return progress


def resize(deployments: dict[str, DeploymentGoal], scaled: Mapping[str, int]) -> None:
    """Has those that scale by themselves have as many replicas as before."""
    for name, deployment in deployments.items():
        if name in scaled and deployment.spec.settings.HasField("autoscaling"):
            deployments[name] = replace(deployment, scaled=scaled[name])


def adopted_replica(hello: replica_pb2.ReplicaHello, goal: ApplicationGoal | None, now: float) -> Replica | None:
    """A replica that this controller has not started, by its own account; None: it cannot be one of this instance's.

    ``goal`` is that of :func:`application_of`. One that was not told yet what to run becomes what the goal says.
    """
    running = hello.running
    if hello.HasField("running"):
        replica = Replica(
            replica_id=hello.replica_id,
            application=running.application,
            deployment=running.deployment,
            code_version=running.code_version,
            settings=running.settings,
            started_at=now,
            rank=running.rank,
            phase=Phase.RUNNING if running.address else Phase.STARTING,
            address=running.address,
            running_since=now,
        )
        if running.draining:
            deadline = now + running.settings.graceful_shutdown_timeout_s
            replica.phase = Phase.STOPPING
            replica.stop = Stop(since=now, deadline=deadline, reason="it was draining", drain_sent=True)
        return replica
    deployment = hello.replica_id.rpartition("#")[0].rpartition("#")[2]
    if goal is None or deployment not in goal.deployments:
        return None
    return Replica(
        replica_id=hello.replica_id,
        application=goal.name,
        deployment=deployment,
        code_version=goal.deployments[deployment].code_version,
        settings=goal.deployments[deployment].spec.settings,
        started_at=now,
    )


def application_of(hello: replica_pb2.ReplicaHello) -> str:
    """The name of a replica's application."""
    if hello.HasField("running"):
        return hello.running.application
    return hello.replica_id.rpartition("#")[0].rpartition("#")[0]
