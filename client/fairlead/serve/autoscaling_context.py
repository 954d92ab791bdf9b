"""What a user's own autoscaling policy is told."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class AutoscalingContext:
    """The state of a deployment when it is decided: Ray Serve's names, without those that mean nothing here."""

    app_name: str
    """The application."""
    deployment_name: str
    """The deployment."""
    current_num_replicas: int
    """How many replicas run."""
    target_num_replicas: int
    """How many there shall be by the last decision."""
    running_replicas: tuple[str, ...] = ()
    """The ids of those that run."""
    total_num_requests: float
    """Calls that run or wait: over the look-back period, by the aggregation function."""
    total_queued_requests: float
    """Calls that wait now."""
    capacity_adjusted_min_replicas: int
    """``min_replicas``."""
    capacity_adjusted_max_replicas: int
    """``max_replicas``."""
    policy_state: dict[str, Any] = field(default_factory=dict)
    """What the policy returned for the deployment beside its last decision; empty at first."""
    last_scale_up_time: float | None = None
    """When the deployment last got more replicas, by the clock of ``current_time``."""
    last_scale_down_time: float | None = None
    """When it last got fewer."""
    current_time: float
    """Now, in seconds of a clock that never goes back."""
