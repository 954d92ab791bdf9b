"""From what runs of a deployment towards what shall run: which replicas to start, stop and reconfigure. Pure.

An update surges: the new replicas start beside the old ones, which go when all the new ones are ready. An update that
fails leaves the old ones serving.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from fairlead.v1 import control_pb2
from fairlead_gateway.control.desired import DeploymentGoal
from fairlead_gateway.control.observed import Phase, Progress, Replica

HEALTH_CHECK_FAILURES = 3
"""So many failed health checks in a row end a replica: Ray Serve's rule."""


@dataclass(kw_only=True)
class Step:
    """What to do now for one deployment."""

    start: int = 0
    """How many replicas to start."""
    stop: list[tuple[Replica, str]] = field(default_factory=list)
    """Which to stop, and why."""
    reconfigure: list[Replica] = field(default_factory=list)
    """Which to send the goal's settings."""
    not_before: float | None = None
    """When to look again because replicas are missing and must wait for it; None: no need."""


def plan(goal: DeploymentGoal, progress: Progress, replicas: list[Replica], now: float) -> Step:
    """Decides the next step of a deployment; ``replicas`` are all of its replicas, oldest first."""
    step = Step()
    active = [replica for replica in replicas if replica.phase is not Phase.STOPPING]
    for replica in list(active):
        if replica.failed_health_checks >= HEALTH_CHECK_FAILURES:
            step.stop.append((replica, f"failed {HEALTH_CHECK_FAILURES} health checks: {replica.health_message}"))
            active.remove(replica)
    current = [replica for replica in active if replica.code_version == goal.code_version]
    outdated = [replica for replica in active if replica.code_version != goal.code_version]
    if progress.failed:
        step.stop += [(replica, "the deploy failed") for replica in active if replica.phase is Phase.STARTING]
    else:
        _scale(step, goal, progress, current, now)
        ready = sum(replica.phase is Phase.RUNNING for replica in current)
        step.stop += [
            (replica, "replaced by an update")
            for replica in outdated
            if ready >= goal.target or replica.phase is Phase.STARTING
        ]
    stopping = {id(replica) for replica, _ in step.stop}
    step.reconfigure = [
        replica
        for replica in current
        if replica.phase is Phase.RUNNING
        and replica.leased
        and not replica.reconfiguring
        and not progress.failed
        and id(replica) not in stopping
        and replica_settings(replica.settings) != replica_settings(goal.spec.settings)
    ]
    return step


def _scale(step: Step, goal: DeploymentGoal, progress: Progress, current: list[Replica], now: float) -> None:
    missing = goal.target - len(current)
    if missing > 0:
        if now >= progress.backoff.not_before:
            step.start = missing
        else:
            step.not_before = progress.backoff.not_before
    elif missing < 0:
        # Those that do not serve yet go first, then the youngest: they hold the least warm state.
        first_to_stay = sorted(current, key=lambda replica: replica.phase is not Phase.RUNNING)
        step.stop += [(replica, "scaled down") for replica in first_to_stay[goal.target :]]


def replica_settings(settings: control_pb2.DeploymentSettings) -> control_pb2.DeploymentSettings:
    """The settings that a replica itself acts on, the others cleared."""
    own = control_pb2.DeploymentSettings()
    own.CopyFrom(settings)
    for name in (
        "num_replicas",
        "max_queued_requests",
        "max_constructor_retry_count",
        "backpressure_status_code",
        "backpressure_retry_after_s",
    ):
        own.ClearField(name)
    return own


def kind_of_change(before: DeploymentGoal | None, after: DeploymentGoal) -> control_pb2.DeploymentState.ValueType:
    """UPSCALING or DOWNSCALING if only the number of replicas differs, else UPDATING."""
    if before is None or before.code_version != after.code_version or before.target == after.target:
        return control_pb2.DEPLOYMENT_STATE_UPDATING
    if replica_settings(before.spec.settings) != replica_settings(after.spec.settings):
        return control_pb2.DEPLOYMENT_STATE_UPDATING
    if after.target > before.target:
        return control_pb2.DEPLOYMENT_STATE_UPSCALING
    return control_pb2.DEPLOYMENT_STATE_DOWNSCALING
