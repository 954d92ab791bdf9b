"""One deployment at a time: how many replicas its calls ask for, and the next step towards that. Pure."""

from __future__ import annotations

import random
import string
from collections.abc import Iterable
from dataclasses import replace
from functools import partial

from fairlead_gateway.control.actions import Action, ReconfigureReplica, StartReplica
from fairlead_gateway.control.desired import ApplicationGoal, DeploymentGoal
from fairlead_gateway.control.observed import ObservedState, Phase, Progress, Replica
from fairlead_gateway.control.ranks import free_rank
from fairlead_gateway.control.rollout import plan
from fairlead_gateway.control.scaling import Scaling
from fairlead_gateway.control.stopping import begin_stop

SLOW_START_S = 30.0
"""Seconds after which the status says that a replica is still starting."""


class Planner:
    """Turns goals into actions, and notes in what is observed what they begin."""

    def __init__(self, observed: ObservedState, scaling: Scaling, randomness: random.Random) -> None:
        self._observed = observed
        self._scaling = scaling
        self._random = randomness

    def advance(
        self, deployments: dict[str, DeploymentGoal], deployment: DeploymentGoal, now: float
    ) -> tuple[list[Action], float | None]:
        """What to do for a deployment now, and when to look again at the latest; None: no need.

        ``deployments``, in which it is by its name, gets it with the number of replicas that its calls ask for.
        """
        actions: list[Action] = []
        progress = self._observed.progress[deployment.application, deployment.name]
        replicas = self._observed.replicas_of(deployment.application, deployment.name)
        deployments[deployment.name] = deployment = self._rescale(deployment, progress, replicas, now)
        step = plan(deployment, progress, replicas, now)
        for replica, reason in step.stop:
            begin_stop(replica, now, reason)
            if replica.failed_health_checks:
                progress.unhealthy(f"Replica {replica.replica_id} {reason}")
        for replica in step.reconfigure:
            replica.settings = deployment.spec.settings
            replica.reconfiguring = True
            actions.append(ReconfigureReplica(replica_id=replica.replica_id, settings=deployment.spec.settings))
        for _ in range(step.start):
            replica = self._new_replica(deployment, now)
            actions.append(StartReplica(replica_id=replica.replica_id, environment=deployment.environment))
        return actions, min(
            filter(None, (step.not_before, _tell_of_slow_starts(replicas, progress, now))), default=None
        )

    def questions(self, goal: ApplicationGoal, retired: Iterable[DeploymentGoal], now: float) -> list[Action]:
        """What to ask users' policies now, once all deployments of an application have been advanced."""
        found: list[Action] = []
        for deployment in (*goal.deployments.values(), *retired):
            question = self._scaling.question(deployment, partial(self._running, goal.name), now)
            if question is not None:
                shared = question.key[1] is None
                found.append(replace(question, environment=goal.spec.environment) if shared else question)
        return found

    def _running(self, application: str, deployment: str) -> list[str]:
        replicas = self._observed.replicas_of(application, deployment)
        return [replica.replica_id for replica in replicas if replica.phase is Phase.RUNNING]

    def wants(self, goal: ApplicationGoal, now: float) -> bool:
        """Whether an application's calls give reason to :meth:`advance`, or a policy that is to be asked."""
        return not goal.deleting and any(
            self._scaling.wants(deployment, len(self._running(goal.name, deployment.name)), now)
            for deployment in goal.deployments.values()
            if deployment.spec.settings.HasField("autoscaling")
            and not self._observed.progress[goal.name, deployment.name].given_up
        )

    def _rescale(
        self, before: DeploymentGoal, progress: Progress, replicas: list[Replica], now: float
    ) -> DeploymentGoal:
        """The deployment with as many replicas as its calls ask for."""
        if progress.given_up:
            return before
        running = sum(replica.phase is Phase.RUNNING for replica in replicas)
        after = self._scaling.decide(before, running, now)
        if after.target != before.target:
            progress.scale(up=after.target > before.target)
        return after

    def _new_replica(self, deployment: DeploymentGoal, now: float) -> Replica:
        application = deployment.application
        replica = Replica(
            replica_id=f"{application}#{deployment.name}#{self._new_suffix()}",
            application=application,
            deployment=deployment.name,
            code_version=deployment.code_version,
            settings=deployment.spec.settings,
            started_at=now,
            rank=free_rank(self._observed.replicas_of(application, deployment.name), deployment.code_version),
        )
        self._observed.replicas[replica.replica_id] = replica
        return replica

    def _new_suffix(self) -> str:
        """Not that of another replica: sockets are named by it."""
        taken = {replica_id.rpartition("#")[2] for replica_id in self._observed.replicas}
        while True:
            suffix = "".join(self._random.choices(string.ascii_lowercase, k=6))
            if suffix not in taken:
                return suffix


def _tell_of_slow_starts(replicas: list[Replica], progress: Progress, now: float) -> float | None:
    """Says of replicas that they are still starting; when the next one will have to be told of."""
    starting = [replica for replica in replicas if replica.phase is Phase.STARTING]
    slow = [replica for replica in starting if now >= replica.started_at + SLOW_START_S]
    if slow and not progress.message:
        progress.message = (
            f"{len(slow)} replica(s) have been starting for more than {SLOW_START_S:g} s, among them "
            f"{slow[0].replica_id} (process {slow[0].pid}): imports, the constructor, reconfigure or the first "
            "health check have not returned"
        )
    return min((one.started_at + SLOW_START_S for one in starting if one not in slow), default=None)
