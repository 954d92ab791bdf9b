"""From what runs of a deployment towards what shall run: which replicas to start, stop and reconfigure. Pure.

An update rolls. Its first replicas start beside the old ones, and nothing else happens until one of them is ready: a
release that cannot start costs nobody anything. From then on old replicas make room as new ones become ready.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import ceil

from fairlead.v1 import control_pb2
from fairlead_gateway.control.desired import DeploymentGoal
from fairlead_gateway.control.observed import Phase, Progress, Replica

HEALTH_CHECK_FAILURES = 3
"""So many failed health checks in a row end a replica: Ray Serve's rule."""
ROLLING_UPDATE_PERCENTAGE = 0.2
"""The fraction that an update replaces at a time where the settings do not say."""


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
    if progress.given_up:
        step.stop += [(replica, "the deploy failed") for replica in active if replica.phase is Phase.STARTING]
        return step
    room = _replace(step, goal, progress, current, outdated)
    _scale(step, goal, progress, current, room, now)
    _reconfigure(step, goal, current)
    return step


def _replace(
    step: Step, goal: DeploymentGoal, progress: Progress, current: list[Replica], outdated: list[Replica]
) -> int:
    """Stops the outdated replicas that can be spared; how many may start beside those that stay."""
    target = goal.target
    step.stop += [(replica, "replaced by an update") for replica in outdated if replica.phase is Phase.STARTING]
    old = [replica for replica in outdated if replica.phase is Phase.RUNNING]
    ready = sum(replica.phase is Phase.RUNNING and not replica.silent for replica in current)
    # At least one may start beside the old ones: with none, an update of one replica would be an outage.
    surge = max(1, ceil(target * goal.spec.settings.max_surge_percent / 100))
    if not (progress.started_once or ready or not target):
        return max(surge - len(current), target + surge - len(current) - len(old))
    batch = max(1, int(target * (goal.spec.settings.rolling_update_percentage or ROLLING_UPDATE_PERCENTAGE)))
    # What the surge cannot replace at once is missing for a while.
    enough = target - max(0, batch - surge)
    spare = min(len(old), max(0, ready + len(old) - enough))
    if ready >= target:
        spare = len(old)
    step.stop += [(replica, "replaced by an update") for replica in old[:spare]]
    return target + surge - len(current) - (len(old) - spare)


def _scale(step: Step, goal: DeploymentGoal, progress: Progress, current: list[Replica], room: int, now: float) -> None:
    missing = goal.target - len(current)
    if missing > 0:
        if now >= progress.backoff.not_before:
            step.start = max(0, min(missing, room))
        else:
            step.not_before = progress.backoff.not_before
    elif missing < 0:
        # Those that do not serve yet go first, then those without calls, which nobody has to wait for, then the
        # youngest: they hold the least warm state.
        first_to_stay = sorted(current, key=lambda replica: (replica.phase is not Phase.RUNNING, not replica.ongoing))
        step.stop += [(replica, "scaled down") for replica in first_to_stay[goal.target :]]


def _reconfigure(step: Step, goal: DeploymentGoal, current: list[Replica]) -> None:
    """Sends settings to those that do not have them: to one first, and to the others when that one has taken them."""
    stopping = {id(replica) for replica, _ in step.stop}
    staying = [replica for replica in current if replica.phase is Phase.RUNNING and id(replica) not in stopping]
    wanted = replica_settings(goal.spec.settings)
    behind = [
        replica for replica in staying if not replica.reconfiguring and replica_settings(replica.settings) != wanted
    ]
    told = len(staying) - len(behind)
    under_way = sum(replica.reconfiguring for replica in staying)
    proven = told > under_way
    leased = [replica for replica in behind if replica.leased]
    step.reconfigure = leased if proven else leased[: max(0, 1 - under_way)]


def replica_settings(settings: control_pb2.DeploymentSettings) -> control_pb2.DeploymentSettings:
    """The settings that a replica itself acts on, the others cleared."""
    own = control_pb2.DeploymentSettings()
    own.CopyFrom(settings)
    for name in (
        "num_replicas",
        "autoscaling",
        "rolling_update_percentage",
        "max_surge_percent",
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
