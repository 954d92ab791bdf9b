"""What the core decides and the controller's shell carries out."""

from __future__ import annotations

from dataclasses import dataclass

from fairlead.v1 import control_pb2

PolicyKey = tuple[str, str | None]
"""Application, and the deployment whose policy it is; None: it is the application's."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StartReplica:
    """Start a replica's process."""

    replica_id: str
    environment: control_pb2.CodeEnvironment


@dataclass(frozen=True, kw_only=True, slots=True)
class DrainReplica:
    """Tell a replica on its lease to drain."""

    replica_id: str
    timeout_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class ReconfigureReplica:
    """Tell a replica on its lease that settings have changed."""

    replica_id: str
    settings: control_pb2.DeploymentSettings


@dataclass(frozen=True, kw_only=True, slots=True)
class KillReplica:
    """End a replica's process, with what it started."""

    replica_id: str
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class PublishSnapshot:
    """Send a new snapshot to all gateway workers."""

    snapshot: control_pb2.WatchResponse


@dataclass(frozen=True, kw_only=True, slots=True)
class AskPolicy:
    """Ask a user's autoscaling policy how many replicas there shall be."""

    key: PolicyKey
    policy: control_pb2.AutoscalingSettings
    """The fields that say what it is."""
    environment: control_pb2.CodeEnvironment
    contexts: dict[str, dict[str, object]]
    """The fields of AutoscalingContexts by deployment, but for what the policy remembers itself: that of the one that
    it decides for, or those of all that scale by it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StartGateway:
    """Start a gateway worker's process."""

    gateway_id: str


@dataclass(frozen=True, kw_only=True, slots=True)
class KillGateway:
    """End a gateway worker's process."""

    gateway_id: str
    reason: str


Action = (
    StartReplica
    | DrainReplica
    | ReconfigureReplica
    | KillReplica
    | PublishSnapshot
    | AskPolicy
    | StartGateway
    | KillGateway
)
