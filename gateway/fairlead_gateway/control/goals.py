"""What users ask for: applications and how their calls are spread. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from fairlead.v1 import control_pb2, store_pb2
from fairlead.wire.errors import ChangedMeanwhileError
from fairlead_gateway.control.adoption import progress_of, resize, standing_of, standing_record
from fairlead_gateway.control.desired import ApplicationGoal, DeploymentGoal, DesiredState, current_generation
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

    def check_generation(self, application: str, expected: int) -> None:
        """Raises ChangedMeanwhileError unless an application has that generation; 0: is not there, or going away."""
        goal = self._desired.applications.get(application)
        if current_generation(goal) != expected:
            raise ChangedMeanwhileError(f"application {application!r} was deployed or deleted meanwhile")

    def accept(self, goal: ApplicationGoal, traffic: Traffic | None = None) -> int:
        """Takes an application's new goal that was prepared; its generation. ``traffic``: None: as it was."""
        spec = goal.spec
        before = self._desired.applications.get(spec.name)
        known = {} if before is None else {**self._standings[spec.name].retired, **before.deployments}
        self._desired.accept(goal)
        for name, deployment in goal.deployments.items():
            goal.deployments[name] = deployment = carried_over(deployment, known.get(name))
            self._renew_progress(deployment, known.get(name), goal.generation)
        standing = self._standings.get(spec.name)
        if standing is None:
            standing = Standing(route_prefix=goal.route_prefix, ingress=spec.ingress_deployment)
            self._standings[spec.name] = standing
        else:
            standing.renewed(before, goal)
        if traffic is not None:
            standing.traffic = traffic
        return goal.generation

    def record_after(self, goal: ApplicationGoal, traffic: Traffic | None = None) -> store_pb2.StandingRecord | None:
        """What is to be written down of how an application stands once a prepared goal was accepted; changes nothing.

        None: it does not stand yet, and nothing is said of its traffic.
        """
        standings = {}
        if goal.name in self._standings:
            standings[goal.name] = replace(self._standings[goal.name], proven=dict(self._standings[goal.name].proven))
        elif traffic is None:
            return None
        after = replace(goal, deployments=dict(goal.deployments))
        desired = DesiredState(applications=dict(self._desired.applications))
        observed = ObservedState(progress={key: replace(one) for key, one in self._observed.progress.items()})
        Goals(desired, observed, standings).accept(after, traffic)
        return standing_record(after, standings[goal.name], observed)

    def delete(self, name: str, *, force: bool = False) -> bool:
        """Takes an application's end, with ``force`` without a drain, as its goal; whether there is one."""
        return self._desired.delete(name, force=force)

    def with_traffic(
        self,
        application: str,
        *policies: control_pb2.TrafficPolicy,
        goals: Sequence[ApplicationGoal] = (),
        deleted: Collection[str] = (),
    ) -> Traffic:
        """How an application's calls would be spread with those policies; changes nothing. Raises FairleadError.

        ``goals`` and ``deleted``: what is about to be accepted and deleted along with it.
        """
        left = {name: goal for name, goal in self._desired.applications.items() if not goal.deleting}
        there = {name: goal.deployments for name, goal in left.items() if name not in deleted}
        there |= {goal.name: goal.deployments for goal in goals}
        traffic = dict(self._standings[application].traffic) if application in left else {}
        for policy in policies:
            traffic.pop(policy.name, None)
            checked = checked_policy(application, policy, there)
            if checked.backends:
                traffic[policy.name] = checked
        return traffic

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
