"""How an application stands between what it shall be and what runs."""

from __future__ import annotations

from dataclasses import dataclass, field

from fairlead.v1 import control_pb2
from fairlead_gateway.control.desired import ApplicationGoal, DeploymentGoal
from fairlead_gateway.control.observed import ObservedState, Phase, Progress, Replica
from fairlead_gateway.control.rollout import replica_settings

Traffic = dict[str, control_pb2.TrafficPolicy]
"""How calls to an application's endpoints are spread, by their names."""


@dataclass(kw_only=True)
class Standing:
    """What the controller remembers of an application beside its goal."""

    route_prefix: str | None
    """Where it is mounted now: an update moves it only when it is complete."""
    ingress: str
    """The deployment called from outside now; as above."""
    retired: dict[str, DeploymentGoal] = field(default_factory=dict)
    """Deployments that the goal no longer has, until their replicas have gone."""
    traffic: Traffic = field(default_factory=dict)
    """Deploys do not change it."""
    offered: dict[str, control_pb2.DeploymentInterface] = field(default_factory=dict)
    """What deployments offer at the doors now, by their names: an update changes it when the last replica of other code
    has stopped taking calls, so that one that fails changes nothing."""
    proven: dict[str, DeploymentGoal] = field(default_factory=dict)
    """Deployments as they last ran completely, by their names: what a deploy that fails goes back to."""
    serving: bool = False
    """Whether it was ever complete and is not being deleted."""
    ready_version: int | None = None
    """The first snapshot with the complete application; None: not complete."""
    completed: bool = False
    """Whether this generation ever was complete."""
    running: bool = False
    """Whether gateways have applied that snapshot."""
    was_running: bool = False
    """Whether this generation ever was running."""

    def offer(self, goal: DeploymentGoal, observed: ObservedState) -> None:
        """Has a deployment offer what its goal says, unless replicas of other code take calls."""
        replicas = observed.replicas_of(goal.application, goal.name)
        outdated = any(
            replica.phase is Phase.RUNNING and replica.code_version != goal.code_version for replica in replicas
        )
        if goal.name not in self.offered or not outdated:
            self.offered[goal.name] = goal.spec.interface

    def renewed(self, before: ApplicationGoal | None, after: ApplicationGoal) -> None:
        """A new generation was deployed."""
        self.ready_version = None
        self.running = self.was_running = self.completed = False
        known = {} if before is None else before.deployments
        for name, deployment in known.items():
            # One that only has another number of replicas since then is proven, too.
            if name in self.proven and are_alike(deployment, self.proven[name]):
                self.proven[name] = deployment
        self.retired = {
            name: deployment for name, deployment in {**self.retired, **known}.items() if name not in after.deployments
        }
        there = {*after.deployments, *self.retired}
        self.offered = {name: offered for name, offered in self.offered.items() if name in there}
        self.proven = {name: deployment for name, deployment in self.proven.items() if name in there}

    def give_up(self, goal: ApplicationGoal, name: str, progress: Progress, why: str) -> None:
        """The deploy of a deployment has failed: as it last ran completely, if it ever did, it is kept running."""
        progress.fail(why)
        if before := self.proven.get(name):
            goal.deployments[name] = before
            progress.fall_back(before.code_version)

    @property
    def kept(self) -> list[DeploymentGoal]:
        """Deployments that the goal no longer has and that serve until it is complete."""
        return [] if self.completed else [one for name, one in self.retired.items() if name in self.proven]


def is_complete(goal: DeploymentGoal, progress: Progress, observed: ObservedState) -> bool:
    """Whether exactly what the goal asks for runs, what is stopping left aside."""
    return not progress.failed and is_met(goal, observed)


def is_met(goal: DeploymentGoal, observed: ObservedState) -> bool:
    """The same where the goal may be what a failed deploy has gone back to."""
    active = [
        replica for replica in observed.replicas_of(goal.application, goal.name) if replica.phase is not Phase.STOPPING
    ]
    return len(active) == goal.target and all(_is_current(replica, goal) for replica in active)


def _is_current(replica: Replica, goal: DeploymentGoal) -> bool:
    return (
        replica.phase is Phase.RUNNING
        and not replica.silent
        and replica.code_version == goal.code_version
        and not replica.reconfiguring
        and replica_settings(replica.settings) == replica_settings(goal.spec.settings)
    )


def are_alike(one: DeploymentGoal, other: DeploymentGoal) -> bool:
    """Whether replicas of one are as good for the other."""
    return one.code_version == other.code_version and replica_settings(one.spec.settings) == replica_settings(
        other.spec.settings
    )


def is_settled(goal: DeploymentGoal, progress: Progress, observed: ObservedState) -> bool:
    """Whether it is complete, or was and now only follows the calls: for the application that is the same."""
    if is_complete(goal, progress, observed):
        return True
    return progress.autoscaling and not progress.failed and not keeps_failing(goal, progress)


def keeps_failing(goal: DeploymentGoal, progress: Progress) -> bool:
    """Whether replicas of code that could start once cannot any more."""
    return progress.started_once and progress.failures >= goal.constructor_failure_limit


def deployment_state(
    goal: DeploymentGoal, progress: Progress, observed: ObservedState
) -> control_pb2.DeploymentState.ValueType:
    """A deployment's state, by Ray Serve's names."""
    if progress.failed:
        return control_pb2.DEPLOYMENT_STATE_DEPLOY_FAILED
    if is_complete(goal, progress, observed):
        return control_pb2.DEPLOYMENT_STATE_HEALTHY
    if progress.reached or keeps_failing(goal, progress):
        return control_pb2.DEPLOYMENT_STATE_UNHEALTHY
    return progress.kind


def application_state(
    goal: ApplicationGoal, standing: Standing, deployments: list[control_pb2.DeploymentState.ValueType]
) -> control_pb2.ApplicationState.ValueType:
    """An application's state from those of its deployments, by Ray Serve's names."""
    if goal.deleting:
        return control_pb2.APPLICATION_STATE_DELETING
    if control_pb2.DEPLOYMENT_STATE_DEPLOY_FAILED in deployments:
        return control_pb2.APPLICATION_STATE_DEPLOY_FAILED
    if standing.running:
        return control_pb2.APPLICATION_STATE_RUNNING
    if standing.was_running or control_pb2.DEPLOYMENT_STATE_UNHEALTHY in deployments:
        return control_pb2.APPLICATION_STATE_UNHEALTHY
    return control_pb2.APPLICATION_STATE_DEPLOYING
