"""What replicas' processes and leases tell, and what they are told to run. Pure: the clock is an argument.

Events of replicas that are gone are ignored.
"""

from __future__ import annotations

from collections.abc import Mapping

from fairlead.v1 import control_pb2, replica_pb2
from fairlead.wire.errors import FairleadError
from fairlead_gateway.control.adoption import adopted_replica, application_of
from fairlead_gateway.control.backoff import CALM_S
from fairlead_gateway.control.desired import ApplicationGoal, DeploymentGoal, DesiredState
from fairlead_gateway.control.observed import ObservedState, Phase, Replica
from fairlead_gateway.control.silence import heard as heard_from
from fairlead_gateway.control.standing import Standing
from fairlead_gateway.control.stopping import EXIT_GRACE_S, begin_stop, note_drained


class ReplicaEvents:
    """Takes in what happens to replicas. Times are seconds of one monotonic clock."""

    def __init__(self, desired: DesiredState, observed: ObservedState, standings: Mapping[str, Standing]) -> None:
        self._desired = desired
        self._observed = observed
        self._standings = standings

    def assignment(self, replica_id: str, socket_path: str) -> replica_pb2.ReplicaAssignment:
        """What a replica shall run. Raises FairleadError for one that this controller has not started."""
        replica = self._observed.replicas.get(replica_id)
        goal = None if replica is None else self._desired.applications.get(replica.application)
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
        new = goal.deployments.get(deployment.name) is deployment and not self._observed.progress[replica.key].failed
        prefix = goal.route_prefix if new else self._standings[goal.name].route_prefix
        if prefix is not None:
            assignment.route_prefix = prefix
        return assignment

    def _deployment_of(self, replica: Replica, goal: ApplicationGoal) -> DeploymentGoal | None:
        """What a replica is one of; None: it is to end."""
        if replica.phase is Phase.STOPPING:
            return None
        if replica.deployment in goal.deployments or replica.phase is not Phase.STARTING:
            return goal.deployments.get(replica.deployment)
        return self._standings[goal.name].retired.get(replica.deployment)

    def adopt(self, hello: replica_pb2.ReplicaHello, now: float) -> bool:
        """A replica that is not known has registered; whether it can be one of this instance's.

        One that nobody wants any more is drained, as if it had always been known.
        """
        goal = self._desired.applications.get(application_of(hello))
        replica = adopted_replica(hello, goal, now)
        if replica is None:
            return False
        self._observed.replicas[replica.replica_id] = replica
        known = {} if goal is None else {**self._standings[goal.name].retired, **goal.deployments}
        if replica.deployment not in known:
            begin_stop(replica, now, "it is not deployed any more")
        elif replica.phase is Phase.RUNNING and (progress := self._observed.progress_of(replica)):
            progress.started_once = True
        return True

    def started(self, replica_id: str, pid: int) -> None:
        """The process runs."""
        if replica := self._observed.replicas.get(replica_id):
            replica.pid = pid

    def lease_taken(self, replica_id: str) -> None:
        """The lease stream is open."""
        if replica := self._observed.replicas.get(replica_id):
            replica.leased = True
            replica.lease_lost_at = None
            replica.heard_at = None

    def heard(self, replica_id: str, now: float) -> bool:
        """The replica has said anything at all; whether it was taken for frozen."""
        replica = self._observed.replicas.get(replica_id)
        return replica is not None and heard_from(replica, now)

    def lease_lost(self, replica_id: str, now: float) -> None:
        """The lease stream has ended."""
        if replica := self._observed.replicas.get(replica_id):
            replica.leased = False
            replica.lease_lost_at = now
            if replica.reconfiguring:
                # Whether it heard is not known: it will be told again.
                replica.reconfiguring = False
                replica.settings = control_pb2.DeploymentSettings()

    def ready(self, replica_id: str, address: str, now: float) -> None:
        """The replica can be called at that address."""
        replica = self._observed.replicas.get(replica_id)
        if replica is None or replica.phase is not Phase.STARTING:
            return
        replica.phase = Phase.RUNNING
        replica.address = address
        replica.running_since = now
        progress = self._observed.progress_of(replica)
        if progress is not None:
            progress.started_once = True
            progress.failures = 0

    def failed(self, replica_id: str, description: str, now: float) -> None:
        """The replica could not start; the description has the traceback."""
        replica = self._observed.replicas.get(replica_id)
        if replica is None or replica.phase is not Phase.STARTING:
            return
        self._count_failure(replica, description, now)
        begin_stop(replica, now, "could not start", EXIT_GRACE_S)
        if replica.stop is not None:
            replica.stop.drain_sent = True

    def reported(self, replica_id: str, report: replica_pb2.ReplicaReport) -> bool:
        """The replica says how it is; whether there may be something to decide."""
        replica = self._observed.replicas.get(replica_id)
        if replica is None:
            return False
        replica.ongoing = report.load.ongoing
        if replica.failed_health_checks == report.failed_health_checks:
            return False
        replica.failed_health_checks = report.failed_health_checks
        replica.health_message = report.health_message
        return True

    def drained(self, replica_id: str, now: float) -> None:
        """The replica has finished its calls."""
        replica = self._observed.replicas.get(replica_id)
        if replica is not None and replica.stop is not None:
            note_drained(replica.stop, now)

    def reconfigured(self, replica_id: str, traceback: str) -> None:
        """The replica runs with the settings that it was sent, or could not."""
        replica = self._observed.replicas.get(replica_id)
        if replica is None:
            return
        replica.reconfiguring = False
        if traceback:
            self._note_refusal(replica, f"Replica {replica_id} could not be reconfigured:\n{traceback}")

    def process_ended(self, replica_id: str, description: str, now: float) -> None:
        """A replica's process has ended; the description says how."""
        replica = self._observed.replicas.pop(replica_id, None)
        if replica is None or replica.phase is Phase.STOPPING:
            return
        if replica.phase is Phase.STARTING:
            self._count_failure(replica, f"The replica's process ended before it was ready: {description}", now)
        else:
            self.crashed(replica, f"Replica {replica_id} died: {description}", now)

    def crashed(self, replica: Replica, description: str, now: float) -> None:
        """A replica that had been running does not any more."""
        if progress := self._observed.progress_of(replica):
            if now - replica.running_since >= CALM_S:
                progress.backoff.recovered()
            progress.backoff.failed(now)
            progress.unhealthy(description)

    def _count_failure(self, replica: Replica, description: str, now: float) -> None:
        progress = self._observed.progress_of(replica)
        goal = self._desired.applications.get(replica.application)
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
        self._standings[goal.name].give_up(goal, deployment.name, progress, progress.message)

    def _note_refusal(self, replica: Replica, description: str) -> None:
        """A replica could not take new settings: that ends a deploy."""
        progress = self._observed.progress_of(replica)
        goal = self._desired.applications.get(replica.application)
        if progress is None or goal is None or replica.deployment not in goal.deployments:
            return
        if progress.failed:
            progress.message = description
        else:
            self._standings[goal.name].give_up(goal, replica.deployment, progress, description)
