"""What users ask for: applications and how their calls are spread. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from fairlead.v1 import control_pb2, store_pb2
from fairlead_gateway.control.adoption import progress_of, resize, standing_of, standing_record
from fairlead_gateway.control.desired import ApplicationGoal, DeploymentGoal, DesiredState
from fairlead_gateway.control.observed import ObservedState, Progress
from fairlead_gateway.control.rollout import kind_of_change
from fairlead_gateway.control.scaling import carried_over
from fairlead_gateway.control.standing import Standing, Traffic
from fairlead_gateway.control.traffic import checked_policy


class Goals:
    """Takes goals, and notes what they begin."""

    def __init__(self, desired: DesiredState, observed: ObservedState, standings: dict[str, Standing]) -> None:
        self._desired = desired
        self._observed = observed
        self._standings = standings

    def restore(
        self, applications: Sequence[ApplicationGoal], standings: Mapping[str, store_pb2.StandingRecord]
    ) -> None:
        """Takes in what was written down. Before anything else."""
        for goal in applications:
            record = standings.get(goal.name)
            self._desired.applications[goal.name] = goal
            self._standings[goal.name] = standing = standing_of(goal, record)
            for deployments in (goal.deployments, standing.retired, standing.proven):
                resize(deployments, {} if record is None else record.scaled)
            for deployment in [*standing.retired.values(), *goal.deployments.values()]:
                self._observed.progress[goal.name, deployment.name] = progress_of(goal, deployment, standing, record)

    def accept(self, goal: ApplicationGoal) -> int:
        """Takes an application's new goal that was prepared; its generation."""
        spec = goal.spec
        before = self._desired.applications.get(spec.name)
        known = {} if before is None else {**self._standings[spec.name].retired, **before.deployments}
        self._desired.accept(goal)
        for name, deployment in goal.deployments.items():
            goal.deployments[name] = deployment = carried_over(deployment, known.get(name))
            self._renew_progress(deployment, known.get(name), goal.generation)
        standing = self._standings.get(spec.name)
        if standing is None:
            self._standings[spec.name] = Standing(route_prefix=goal.route_prefix, ingress=spec.ingress_deployment)
            return goal.generation
        standing.renewed(before, goal)
        return goal.generation

    def record_after(self, goal: ApplicationGoal) -> store_pb2.StandingRecord | None:
        """What is to be written down of how an application stands once a prepared goal was accepted; changes nothing.

        None: it does not stand yet.
        """
        if goal.name not in self._standings:
            return None
        after = replace(goal, deployments=dict(goal.deployments))
        desired = DesiredState(applications=dict(self._desired.applications))
        observed = ObservedState(progress={key: replace(one) for key, one in self._observed.progress.items()})
        standing = replace(self._standings[goal.name], proven=dict(self._standings[goal.name].proven))
        Goals(desired, observed, {goal.name: standing}).accept(after)
        return standing_record(after, standing, observed)

    def delete(self, name: str, *, force: bool = False) -> bool:
        """Takes an application's end, with ``force`` without a drain, as its goal; whether there is one."""
        return self._desired.delete(name, force=force)

    def with_traffic(self, application: str, policy: control_pb2.TrafficPolicy) -> Traffic:
        """How an application's calls would be spread with that policy; changes nothing. Raises FairleadError."""
        there = {name: goal.deployments for name, goal in self._desired.applications.items() if not goal.deleting}
        policy = checked_policy(application, policy, there)
        others = {name: one for name, one in self._standings[application].traffic.items() if name != policy.name}
        return {**others, policy.name: policy} if policy.backends else others

    def spread(self, application: str, traffic: Traffic) -> None:
        """Takes how an application's calls shall be spread, by its endpoints' names, as :meth:`with_traffic` said."""
        self._standings[application].traffic = traffic

    def _renew_progress(self, goal: DeploymentGoal, before: DeploymentGoal | None, generation: int) -> None:
        key = (goal.application, goal.name)
        progress = self._observed.progress.get(key)
        if progress is None or before is None or progress.code_version != goal.code_version or progress.failed:
            self._observed.progress[key] = Progress(generation=generation, code_version=goal.code_version)
            return
        progress.generation = generation
        progress.renew(kind_of_change(before, goal))
