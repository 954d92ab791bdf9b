"""The controller's mind: what shall run, what runs, and what to do about the difference.

Pure: the clock and randomness are arguments, and what is to be done is returned for the shell to do. Goals and events
change what is known; :meth:`Core.reconcile` decides. Not thread-safe.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence

from fairlead.v1 import control_pb2, store_pb2
from fairlead_gateway.control.actions import Action, PublishSnapshot
from fairlead_gateway.control.desired import ApplicationGoal, DeploymentGoal, DesiredState
from fairlead_gateway.control.goals import Goals
from fairlead_gateway.control.observed import GatewayView, ObservedState, Phase
from fairlead_gateway.control.planning import Planner
from fairlead_gateway.control.replica_events import ReplicaEvents
from fairlead_gateway.control.scaling import Scaling
from fairlead_gateway.control.silence import LOOK_S, Listener
from fairlead_gateway.control.snapshot import application_routes
from fairlead_gateway.control.standing import Standing, is_complete, is_met, is_settled
from fairlead_gateway.control.stopping import advance_stop, begin_stop

LEASE_GRACE_S = 10.0
"""A process whose lease was lost has that long to end or to take it up again."""


class Core:
    """The state of one instance's applications. Times are seconds of one monotonic clock."""

    def __init__(
        self,
        *,
        randomness: random.Random,
        gateways: int,
        processor_time: Callable[[int], float | None] = lambda pid: None,
    ) -> None:
        """``processor_time``: seconds that the process with an id has used; None: not to be found out."""
        self.desired = DesiredState()
        self.observed = ObservedState()
        self.standings: dict[str, Standing] = {}
        self.scaling = Scaling()
        self.snapshot = control_pb2.WatchResponse(version=1)
        """The last one published."""
        self.due: float | None = None
        """When to reconcile next if nothing happens before; None: no need."""
        self.look_due: float | None = None
        """When to look at the replicas next; None: no need."""
        self.goals = Goals(self.desired, self.observed, self.standings)
        """Takes what users ask for."""
        self.events = ReplicaEvents(self.desired, self.observed, self.standings)
        """Takes what happens to replicas."""
        self._listener = Listener(processor_time)
        self._planner = Planner(self.observed, self.scaling, randomness)
        self._gateways = gateways
        self._draining_gateways = False
        self._ending = False

    def restore(
        self,
        applications: Sequence[ApplicationGoal],
        standings: Mapping[str, store_pb2.StandingRecord],
        *,
        generation: int,
        version: int,
    ) -> None:
        """Takes in what was written down; ``version``: snapshots begin above it. Before anything else."""
        self.desired.generation = generation
        self.snapshot.version = version
        self.goals.restore(applications, standings)

    def end(self) -> None:
        """Takes the end of the whole instance as the goal: first that of all applications."""
        self._ending = True
        self.desired.delete_all()

    def drain_gateways(self) -> None:
        """From the next snapshot on gateway workers are told to drain."""
        self._draining_gateways = True

    def gateway_said(self, view: GatewayView) -> None:
        """A gateway worker has connected, or applied a snapshot."""
        self.observed.gateways[view.gateway_id] = view

    def gateway_lost(self, gateway_id: str) -> None:
        """A gateway worker's watch has ended."""
        self.observed.gateways.pop(gateway_id, None)
        self.scaling.lost(gateway_id)

    def gateway_loads(self, gateway_id: str, loads: Iterable[control_pb2.DeploymentLoad], now: float) -> bool:
        """A gateway worker tells its calls; whether that cannot wait for the next decision."""
        return self.scaling.note(gateway_id, loads, now)

    def reconcile(self, now: float) -> list[Action]:
        """Decides what to do now. Deciding twice without an event in between decides nothing the second time."""
        actions: list[Action] = []
        self.due = None
        self._listen(now)
        for goal in list(self.desired.applications.values()):
            if goal.deleting:
                self._plan_deletion(goal, now)
            else:
                self._plan_application(goal, now, actions)
        for replica in self.observed.replicas.values():
            lost = replica.lease_lost_at
            if lost is not None and replica.phase is not Phase.STOPPING and self._is_due(lost + LEASE_GRACE_S, now):
                self.events.crashed(replica, f"Replica {replica.replica_id} lost its lease", now)
                begin_stop(replica, now, "lost its lease", 0.0)
        self._publish(actions)
        for replica in self.observed.replicas.values():
            if replica.stop is not None:
                action, due = advance_stop(replica, replica.stop, now, self.snapshot.version, self.observed)
                actions += [action] if action else []
                self._remember(due)
        for standing in self.standings.values():
            self._settle(standing)
        self._look_again(now)
        return actions

    def _plan_application(self, goal: ApplicationGoal, now: float, actions: list[Action]) -> None:
        for deployment in list(goal.deployments.values()):
            self._advance(goal.deployments, deployment, now, actions)
        standing = self.standings[goal.name]
        for deployment in goal.deployments.values():
            standing.offer(deployment, self.observed)
        complete = True
        for deployment in goal.deployments.values():
            progress = self.observed.progress[goal.name, deployment.name]
            if is_complete(deployment, progress, self.observed):
                progress.complete()
                if progress.started_once:
                    standing.proven[deployment.name] = deployment
            elif not is_settled(deployment, progress, self.observed):
                complete = False
                if progress.fallen_back and is_met(deployment, self.observed):
                    progress.message = ""
        if complete:
            standing.serving = standing.completed = True
        else:
            standing.ready_version = None
            standing.running = False
        for deployment in standing.kept:
            self._advance(standing.retired, deployment, now, actions)
        actions += self._planner.questions(goal, standing.kept, now)
        if complete or not standing.serving:
            standing.route_prefix = goal.route_prefix
            standing.ingress = goal.spec.ingress_deployment
        if complete and not any(self._has_calls(goal.name, name) for name in goal.deployments):
            self._retire(goal.name, standing, now)

    def _advance(
        self, deployments: dict[str, DeploymentGoal], deployment: DeploymentGoal, now: float, actions: list[Action]
    ) -> None:
        wanted, due = self._planner.advance(deployments, deployment, now)
        actions += wanted
        self._remember(due)

    def _listen(self, now: float) -> None:
        """Looks for frozen replicas."""
        replicas = self.observed.replicas.values()
        for replica in self._listener.look(replicas, now):
            self.events.crashed(replica, f"Replica {replica.replica_id} was frozen for too long; it is replaced", now)
            begin_stop(replica, now, "it was frozen for too long", 0.0)
        for replica in replicas:
            if replica.silent and replica.phase is Phase.RUNNING and (progress := self.observed.progress_of(replica)):
                progress.unhealthy(
                    f"Replica {replica.replica_id} (process {replica.pid}) gives no sign of life and gets no calls: it "
                    "may be stopped, swapped out or deadlocked"
                )

    def look(self, now: float) -> bool:
        """Looks at replicas and calls between decisions; whether that gives reason for one. Costs little."""
        before = [replica.silent for replica in self.observed.replicas.values()]
        lost = self._listener.look(self.observed.replicas.values(), now)
        self._look_again(now)
        changed = before != [replica.silent for replica in self.observed.replicas.values()]
        return (
            bool(lost) or changed or any(self._planner.wants(goal, now) for goal in self.desired.applications.values())
        )

    def _look_again(self, now: float) -> None:
        replicas = self.observed.replicas.values()
        listening = any(replica.reports for replica in replicas)
        self.look_due = now + LOOK_S if listening or self.scaling else None

    def _retire(self, application: str, standing: Standing, now: float) -> None:
        for name in list(standing.retired):
            self.scaling.forget((application, name))
            replicas = self.observed.replicas_of(application, name)
            for replica in replicas:
                begin_stop(replica, now, "removed by an update")
            if not replicas:
                del standing.retired[name]
                standing.proven.pop(name, None)
                self.observed.progress.pop((application, name), None)

    def _plan_deletion(self, goal: ApplicationGoal, now: float) -> None:
        # The ingress first: its calls under way may still need the other deployments.
        standing = self.standings[goal.name]
        names = [standing.ingress]
        if goal.forced or not self._has_calls(goal.name, standing.ingress):
            names = [*goal.deployments, *standing.retired]
        for name in names:
            for replica in self.observed.replicas_of(goal.name, name):
                begin_stop(replica, now, "the application is being deleted", 0.0 if goal.forced else None)
        if any(replica.application == goal.name for replica in self.observed.replicas.values()):
            return
        self.desired.gone(goal.name)
        del self.standings[goal.name]
        for key in [key for key in self.observed.progress if key[0] == goal.name]:
            self.scaling.forget(key)
            del self.observed.progress[key]

    def _publish(self, actions: list[Action]) -> None:
        snapshot = control_pb2.WatchResponse(
            version=self.snapshot.version,
            applications=[
                application_routes(goal, self.standings[goal.name], self.observed)
                for goal in self.desired.applications.values()
            ],
            drain=self._draining_gateways,
            ending=self._ending,
            gateway_addresses=sorted(
                view.session_address for view in self.observed.gateways.values() if view.session_address
            ),
        )
        if snapshot != self.snapshot:
            snapshot.version += 1
            self.snapshot = snapshot
            actions.append(PublishSnapshot(snapshot=snapshot))
        for goal in self.desired.applications.values():
            standing = self.standings[goal.name]
            if standing.ready_version is None and self._is_all_reached(goal):
                standing.ready_version = snapshot.version

    def _settle(self, standing: Standing) -> None:
        if standing.ready_version is None or standing.running:
            return
        enough = len(self.observed.gateways) >= min(1, self._gateways)
        if enough and self.observed.applied_by_all(standing.ready_version):
            standing.running = True
            standing.was_running = True

    def _has_calls(self, application: str, deployment: str) -> bool:
        """Whether replicas of the deployment may have calls that they have been asked to finish."""
        return any(
            replica.stop is None or not (replica.stop.drained or replica.stop.killed)
            for replica in self.observed.replicas_of(application, deployment)
            if replica.stop is not None or self.desired.applications[application].deleting
        )

    def _is_all_reached(self, goal: ApplicationGoal) -> bool:
        return not goal.deleting and all(
            is_settled(deployment, self.observed.progress[goal.name, name], self.observed)
            for name, deployment in goal.deployments.items()
        )

    def _is_due(self, time: float, now: float) -> bool:
        """Whether the time has come; if not, it is remembered."""
        if now >= time:
            return True
        self._remember(time)
        return False

    def _remember(self, due: float | None) -> None:
        if due is not None:
            self.due = due if self.due is None else min(self.due, due)
