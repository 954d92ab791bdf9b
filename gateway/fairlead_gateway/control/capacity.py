"""``target_capacity``: an application with a part of the replicas that its deployments ask for. Pure.

The rule is Ray Serve's: numbers of replicas and their bounds are scaled alike and rounded half up, and none becomes 0
but by a capacity of 0. For moving calls from one instance to another while one grows and the other shrinks.
"""

from __future__ import annotations

from math import floor

from fairlead.v1 import control_pb2

FULL = 100.0
"""Per cent."""


def at_capacity(spec: control_pb2.DeploymentSpec, percent: float) -> control_pb2.DeploymentSpec:
    """The deployment with so much of its replicas; the same one at 100."""
    if percent == FULL:
        return spec
    smaller = control_pb2.DeploymentSpec()
    smaller.CopyFrom(spec)
    settings = smaller.settings
    settings.num_replicas = part_of(settings.num_replicas, percent)
    if settings.HasField("autoscaling"):
        settings.autoscaling.min_replicas = part_of(settings.autoscaling.min_replicas, percent)
        settings.autoscaling.max_replicas = part_of(settings.autoscaling.max_replicas, percent)
    return smaller


def part_of(replicas: int, percent: float) -> int:
    """So much of so many replicas."""
    if not replicas or not percent:
        return 0
    return max(1, floor(replicas * percent / FULL + 0.5))


def capacity_of(spec: control_pb2.ApplicationSpec) -> float:
    """The capacity that an application shall have, in per cent."""
    return spec.target_capacity if spec.HasField("target_capacity") else FULL
