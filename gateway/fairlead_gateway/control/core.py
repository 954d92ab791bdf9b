"""The controller's mind: what shall run, what runs, and what to do about the difference.

Pure: the clock and randomness are arguments, and what is to be done is returned for the shell to do. Events change what
is known; :meth:`Core.reconcile` decides. Not thread-safe.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence

from fairlead.v1 import control_pb2, replica_pb2, store_pb2
from fairlead.wire.errors import FairleadError
from fairlead_gateway.control.actions import (
    Action,
    PublishSnapshot,
)
from fairlead_gateway.control.adoption import adopted_replica, application_of, progress_of, resize, standing_of
from fairlead_gateway.control.backoff import CALM_S
from fairlead_gateway.control.desired import ApplicationGoal, DeploymentGoal, DesiredState
from fairlead_gateway.control.observed import GatewayView, ObservedState, Phase, Progress, Replica
from fairlead_gateway.control.planning import Planner
from fairlead_gateway.control.rollout import kind_of_change
from fairlead_gateway.control.scaling import Scaling, carried_over
from fairlead_gateway.control.silence import LOOK_S, Listener, heard
from fairlead_gateway.control.snapshot import application_routes
from fairlead_gateway.control.standing import Standing, Traffic, is_complete, is_met, is_settled
from fairlead_gateway.control.stopping import EXIT_GRACE_S, advance_stop, begin_stop, note_drained
from fairlead_gateway.control.traffic import checked_policy

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
        self._listener = Listener(processor_time)
        self._planner = Planner(self.observed, self.scaling, randomness)
        self._gateways = gateways
        self._draining_gateways = False
        self._ending = False

    # What an earlier controller has left.

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
        for goal in applications:
            record = standings.get(goal.name)
            self.desired.applications[goal.name] = goal
            self.standings[goal.name] = standing = standing_of(goal, record)
            for deployment in [*standing.retired.values(), *goal.deployments.values()]:
                self.observed.progress[goal.name, deployment.name] = progress_of(goal, deployment, standing, record)
            if record is not None:
                resize(goal.deployments, record.scaled)
                resize(standing.retired, record.scaled)

    def adopt(self, hello: replica_pb2.ReplicaHello, now: float) -> bool:
        """A replica that is not known has registered; whether it can be one of this instance's.

        One that nobody wants any more is drained, as if it had always been known.
        """
        goal = self.desired.applications.get(application_of(hello))
        replica = adopted_replica(hello, goal, now)
        if replica is None:
            return False
        self.observed.replicas[replica.replica_id] = replica
        known = {} if goal is None else {**self.standings[goal.name].retired, **goal.deployments}
        if replica.deployment not in known:
            begin_stop(replica, now, "it is not deployed any more")
        elif replica.phase is Phase.RUNNING and (progress := self._progress_of(replica)):
            progress.started_once = True
        return True

    # What users ask for.

    def deploy(self, spec: control_pb2.ApplicationSpec, now: float) -> int:
        """Takes an application's new goal; its generation. ``now``: seconds since the epoch. Raises FairleadError."""
        (goal,) = self.desired.prepare([spec], now)
        return self.accept(goal)

    def accept(self, goal: ApplicationGoal) -> int:
        """Takes an application's new goal that was prepared; its generation."""
        spec = goal.spec
        before = self.desired.applications.get(spec.name)
        known = {} if before is None else {**self.standings[spec.name].retired, **before.deployments}
        self.desired.accept(goal)
        for name, deployment in goal.deployments.items():
            goal.deployments[name] = deployment = carried_over(deployment, known.get(name))
            self._renew_progress(deployment, known.get(name), goal.generation)
        standing = self.standings.get(spec.name)
        if standing is None:
            self.standings[spec.name] = Standing(route_prefix=goal.route_prefix, ingress=spec.ingress_deployment)
            return goal.generation
        standing.renewed(before, goal)
        return goal.generation

    def delete(self, name: str) -> bool:
        """Takes an application's end as its goal; whether there is one."""
        return self.desired.delete(name)

    def with_traffic(self, application: str, policy: control_pb2.TrafficPolicy) -> Traffic:
        """How an application's calls would be spread with that policy; changes nothing. Raises FairleadError."""
        policy = checked_policy(application, policy, self.desired.applications)
        others = {name: one for name, one in self.standings[application].traffic.items() if name != policy.name}
        return {**others, policy.name: policy} if policy.backends else others

    def spread(self, application: str, traffic: Traffic) -> None:
        """Takes how an application's calls shall be spread, by its endpoints' names, as :meth:`with_traffic` said."""
        self.standings[application].traffic = traffic

    def end(self) -> None:
        """Takes the end of the whole instance as the goal: first that of all applications."""
        self._ending = True
        self.desired.delete_all()

    def drain_gateways(self) -> None:
        """From the next snapshot on gateway workers are told to drain."""
        self._draining_gateways = True

    # What replicas' processes and leases tell. Events of replicas that are gone are ignored.

    def assignment(self, replica_id: str, socket_path: str) -> replica_pb2.ReplicaAssignment:
        """What a replica shall run. Raises FairleadError for one that this controller has not started."""
        replica = self.observed.replicas.get(replica_id)
        goal = None if replica is None else self.desired.applications.get(replica.application)
        deployment = None if replica is None or goal is None else self._deployment_of(replica, goal)
        if replica is None or goal is None or deployment is None:
            raise FairleadError(f"replica {replica_id!r} is not wanted here")
        if replica.phase is Phase.STARTING:
            replica.settings = deployment.spec.settings
        assignment = replica_pb2.ReplicaAssignment(
            application=goal.name,
            deployment=deployment.spec,
            environment=deployment.environment,
            socket_path=socket_path,
            code_version=replica.code_version,
            rank=replica.rank,
        )
        new = goal.deployments.get(deployment.name) is deployment and not self.observed.progress[replica.key].failed
        prefix = goal.route_prefix if new else self.standings[goal.name].route_prefix
        if prefix is not None:
            assignment.route_prefix = prefix
        return assignment

    def _deployment_of(self, replica: Replica, goal: ApplicationGoal) -> DeploymentGoal | None:
        """What a replica is one of; None: it is to end."""
        if replica.phase is Phase.STOPPING:
            return None
        if replica.deployment in goal.deployments or replica.phase is not Phase.STARTING:
            return goal.deployments.get(replica.deployment)
        return self.standings[goal.name].retired.get(replica.deployment)

    def replica_started(self, replica_id: str, pid: int) -> None:
        """The process runs."""
        if replica := self.observed.replicas.get(replica_id):
            replica.pid = pid

    def lease_taken(self, replica_id: str) -> None:
        """The lease stream is open."""
        if replica := self.observed.replicas.get(replica_id):
            replica.leased = True
            replica.lease_lost_at = None
            replica.heard_at = None

    def replica_heard(self, replica_id: str, now: float) -> bool:
        """The replica has said anything at all; whether it was taken for frozen."""
        replica = self.observed.replicas.get(replica_id)
        return replica is not None and heard(replica, now)

    def lease_lost(self, replica_id: str, now: float) -> None:
        """The lease stream has ended."""
        if replica := self.observed.replicas.get(replica_id):
            replica.leased = False
            replica.lease_lost_at = now
            if replica.reconfiguring:
                # Whether it heard is not known: it will be told again.
                replica.reconfiguring = False
                replica.settings = control_pb2.DeploymentSettings()

    def replica_ready(self, replica_id: str, address: str, now: float) -> None:
        """The replica can be called at that address."""
        replica = self.observed.replicas.get(replica_id)
        if replica is None or replica.phase is not Phase.STARTING:
            return
        replica.phase = Phase.RUNNING
        replica.address = address
        replica.running_since = now
        progress = self._progress_of(replica)
        if progress is not None:
            progress.started_once = True
            progress.failures = 0

    def replica_failed(self, replica_id: str, description: str, now: float) -> None:
        """The replica could not start; the description has the traceback."""
        replica = self.observed.replicas.get(replica_id)
        if replica is None or replica.phase is not Phase.STARTING:
            return
        self._count_failure(replica, description, now)
        begin_stop(replica, now, "could not start", EXIT_GRACE_S)
        if replica.stop is not None:
            replica.stop.drain_sent = True

    def replica_reported(self, replica_id: str, report: replica_pb2.ReplicaReport) -> bool:
        """The replica says how it is; whether there may be something to decide."""
        replica = self.observed.replicas.get(replica_id)
        if replica is None:
            return False
        replica.ongoing = report.load.ongoing
        if replica.failed_health_checks == report.failed_health_checks:
            return False
        replica.failed_health_checks = report.failed_health_checks
        replica.health_message = report.health_message
        return True

    def replica_drained(self, replica_id: str, now: float) -> None:
        """The replica has finished its calls."""
        replica = self.observed.replicas.get(replica_id)
        if replica is not None and replica.stop is not None:
            note_drained(replica.stop, now)

    def replica_reconfigured(self, replica_id: str, traceback: str) -> None:
        """The replica runs with the settings that it was sent, or could not."""
        replica = self.observed.replicas.get(replica_id)
        if replica is None:
            return
        replica.reconfiguring = False
        if traceback:
            self._note_refusal(replica, f"Replica {replica_id} could not be reconfigured:\n{traceback}")

    def process_ended(self, replica_id: str, description: str, now: float) -> None:
        """A replica's process has ended; the description says how."""
        replica = self.observed.replicas.pop(replica_id, None)
        if replica is None or replica.phase is Phase.STOPPING:
            return
        if replica.phase is Phase.STARTING:
            self._count_failure(replica, f"The replica's process ended before it was ready: {description}", now)
        else:
            self._note_crash(replica, f"Replica {replica_id} died: {description}", now)

    # What gateway workers tell on their watches.

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

    # Deciding.

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
                self._note_crash(replica, f"Replica {replica.replica_id} lost its lease", now)
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
            self._note_crash(replica, f"Replica {replica.replica_id} was frozen for too long; it is replaced", now)
            begin_stop(replica, now, "it was frozen for too long", 0.0)
        for replica in replicas:
            if replica.silent and replica.phase is Phase.RUNNING and (progress := self._progress_of(replica)):
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
        listening = any(replica.phase is Phase.RUNNING and replica.leased for replica in replicas)
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
        if not self._has_calls(goal.name, standing.ingress):
            names = [*goal.deployments, *standing.retired]
        for name in names:
            for replica in self.observed.replicas_of(goal.name, name):
                begin_stop(replica, now, "the application is being deleted")
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

    # Small parts.

    def _renew_progress(self, goal: DeploymentGoal, before: DeploymentGoal | None, generation: int) -> None:
        key = (goal.application, goal.name)
        progress = self.observed.progress.get(key)
        if progress is None or before is None or progress.code_version != goal.code_version or progress.failed:
            self.observed.progress[key] = Progress(generation=generation, code_version=goal.code_version)
            return
        progress.generation = generation
        progress.renew(kind_of_change(before, goal))

    def _progress_of(self, replica: Replica) -> Progress | None:
        """The progress of its deployment, if the replica is one of those that the goal asks for."""
        progress = self.observed.progress.get(replica.key)
        return progress if progress is not None and progress.code_version == replica.code_version else None

    def _count_failure(self, replica: Replica, description: str, now: float) -> None:
        progress = self._progress_of(replica)
        goal = self.desired.applications.get(replica.application)
        if progress is None or goal is None:
            return
        progress.failures += 1
        progress.backoff.failed(now)
        if progress.failed:
            progress.message = f"What ran before cannot be started again. Error:\n{description}"
            return
        progress.trigger = control_pb2.DEPLOYMENT_TRIGGER_REPLICA_STARTUP_FAILED
        progress.message = (
            f"The deployment failed to start {progress.failures} times in a row. This may be due to a problem with its "
            f"constructor or initial health check failing. Error:\n{description}"
        )
        deployment = goal.deployments.get(replica.deployment)
        if deployment is None or progress.started_once or progress.failures < deployment.constructor_failure_limit:
            return
        self.standings[goal.name].give_up(goal, deployment.name, progress, progress.message)

    def _note_refusal(self, replica: Replica, description: str) -> None:
        """A replica could not take new settings: that ends a deploy."""
        progress = self._progress_of(replica)
        goal = self.desired.applications.get(replica.application)
        if progress is None or goal is None or replica.deployment not in goal.deployments:
            return
        if progress.failed:
            progress.message = description
        else:
            self.standings[goal.name].give_up(goal, replica.deployment, progress, description)

    def _note_crash(self, replica: Replica, description: str, now: float) -> None:
        if progress := self._progress_of(replica):
            if now - replica.running_since >= CALM_S:
                progress.backoff.recovered()
            progress.backoff.failed(now)
            progress.unhealthy(description)

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
