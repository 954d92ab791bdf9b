"""Taking over what an earlier controller has left: what it wrote down, and the replicas that it had started. Pure."""

from __future__ import annotations

from collections.abc import Collection

from fairlead.v1 import control_pb2, replica_pb2, store_pb2
from fairlead_gateway.control.desired import ApplicationGoal, DeploymentGoal, deployment_goals
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
    record = store_pb2.StandingRecord(
        route_prefix=standing.route_prefix,
        ingress_deployment=standing.ingress,
        serving=standing.serving,
        retired=[deployment.spec for deployment in standing.retired.values()],
        traffic=standing.traffic.values(),
        scaled={name: goal.target for name, goal in goal.deployments.items() if goal.scaled is not None},
    )
    for name, deployment in goal.deployments.items():
        if name in standing.offered and standing.offered[name] != deployment.spec.interface:
            record.offered[name].CopyFrom(standing.offered[name])
        progress = observed.progress.get((goal.name, name))
        if progress is not None and progress.failed:
            record.failures[name] = progress.message
    return record


def standing_of(goal: ApplicationGoal, record: store_pb2.StandingRecord | None) -> Standing:
    """How an application stood, as it was written down; None: it was not."""
    if record is None:
        return Standing(route_prefix=goal.route_prefix, ingress=goal.spec.ingress_deployment)
    before = control_pb2.ApplicationSpec(name=goal.name, deployments=record.retired, environment=goal.spec.environment)
    return Standing(
        route_prefix=record.route_prefix if record.HasField("route_prefix") else None,
        ingress=record.ingress_deployment,
        retired=deployment_goals(before),
        offered=dict(record.offered),
        serving=record.serving,
        traffic={policy.name: policy for policy in record.traffic},
    )


def progress_of(goal: ApplicationGoal, deployment: DeploymentGoal, failures: dict[str, str]) -> Progress:
    """How far a deployment had come, by what was written down."""
    return Progress(
        generation=goal.generation,
        code_version=deployment.code_version,
        failed=deployment.name in failures,
        message=failures.get(deployment.name, ""),
    )


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
