"""What ``serve.status()`` tells, under the names that Ray Serve's users know."""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from fairlead.v1 import control_pb2


class ApplicationStatus(enum.StrEnum):
    """The life of an application."""

    NOT_STARTED = "NOT_STARTED"
    DEPLOYING = "DEPLOYING"
    DEPLOY_FAILED = "DEPLOY_FAILED"
    RUNNING = "RUNNING"
    UNHEALTHY = "UNHEALTHY"
    DELETING = "DELETING"


class DeploymentStatus(enum.StrEnum):
    """The life of a deployment."""

    UPDATING = "UPDATING"
    HEALTHY = "HEALTHY"
    UNHEALTHY = "UNHEALTHY"
    DEPLOY_FAILED = "DEPLOY_FAILED"
    UPSCALING = "UPSCALING"
    DOWNSCALING = "DOWNSCALING"


class DeploymentStatusTrigger(enum.StrEnum):
    """What brought a deployment into its state."""

    UNSPECIFIED = "UNSPECIFIED"
    CONFIG_UPDATE_STARTED = "CONFIG_UPDATE_STARTED"
    CONFIG_UPDATE_COMPLETED = "CONFIG_UPDATE_COMPLETED"
    UPSCALE_COMPLETED = "UPSCALE_COMPLETED"
    DOWNSCALE_COMPLETED = "DOWNSCALE_COMPLETED"
    AUTOSCALING = "AUTOSCALING"
    HEALTH_CHECK_FAILED = "HEALTH_CHECK_FAILED"
    REPLICA_STARTUP_FAILED = "REPLICA_STARTUP_FAILED"


class ReplicaState(enum.StrEnum):
    """The life of a replica."""

    STARTING = "STARTING"
    UPDATING = "UPDATING"
    RECOVERING = "RECOVERING"
    RUNNING = "RUNNING"
    STOPPING = "STOPPING"
    STOPPED = "STOPPED"
    PENDING_MIGRATION = "PENDING_MIGRATION"


class ProxyStatus(enum.StrEnum):
    """The life of a gateway worker, which Ray Serve calls a proxy."""

    STARTING = "STARTING"
    HEALTHY = "HEALTHY"
    UNHEALTHY = "UNHEALTHY"
    DRAINING = "DRAINING"
    DRAINED = "DRAINED"


@dataclass(frozen=True, kw_only=True)
class DeploymentStatusOverview:
    """The state of a deployment."""

    status: DeploymentStatus
    """Its state."""
    status_trigger: DeploymentStatusTrigger
    """What brought it into that state."""
    replica_states: dict[str, int]
    """How many replicas are in which state, those that none is in left out."""
    message: str
    """Why; empty if there is nothing to say."""


@dataclass(frozen=True, kw_only=True)
class EndpointTraffic:
    """How calls to an endpoint are spread. Ray Serve has nothing of the kind."""

    backends: dict[str, float]
    """Who gets which share, between 0 and 1: "application/deployment", or "application" for its ingress."""
    shadows: dict[str, float]
    """Who gets copies of which share of the calls."""


@dataclass(frozen=True, kw_only=True)
class ApplicationStatusOverview:
    """The state of an application."""

    status: ApplicationStatus
    """Its state."""
    message: str
    """Why; empty if there is nothing to say."""
    last_deployed_time_s: float
    """When it was last deployed, in seconds since the epoch."""
    deployments: dict[str, DeploymentStatusOverview]
    """Its deployments by name."""
    traffic: dict[str, EndpointTraffic] = field(default_factory=dict)
    """Its endpoints whose calls are spread, by name. Not in Ray Serve."""


@dataclass(frozen=True, kw_only=True)
class ServeStatus:
    """The state of everything."""

    proxies: dict[str, ProxyStatus] = field(default_factory=dict)
    """The gateway workers by id."""
    applications: dict[str, ApplicationStatusOverview] = field(default_factory=dict)
    """The applications by name."""
    target_capacity: float | None = None
    """How many of their replicas the deployments of the configuration file have, in per cent; None: all."""


def serve_status(status: control_pb2.InstanceStatus) -> ServeStatus:
    """The controller's account as users know it."""
    return ServeStatus(
        proxies={
            gateway.gateway_id: ProxyStatus.HEALTHY if gateway.ready else ProxyStatus.STARTING
            for gateway in status.gateways
        },
        applications={application.name: _application(application) for application in status.applications},
        target_capacity=target_capacity(status),
    )


def target_capacity(status: control_pb2.InstanceStatus) -> float | None:
    """That of the applications which the last configuration file declares: it has one for all of them."""
    return next((one.target_capacity for one in status.applications if one.HasField("target_capacity")), None)


def application_status(state: control_pb2.ApplicationState.ValueType) -> ApplicationStatus:
    """An application's state as users know it."""
    return ApplicationStatus(control_pb2.ApplicationState.Name(state).removeprefix("APPLICATION_STATE_"))


def deployment_status(state: control_pb2.DeploymentState.ValueType) -> DeploymentStatus:
    """A deployment's state as users know it."""
    return DeploymentStatus(control_pb2.DeploymentState.Name(state).removeprefix("DEPLOYMENT_STATE_"))


def _application(status: control_pb2.ApplicationStatus) -> ApplicationStatusOverview:
    return ApplicationStatusOverview(
        status=application_status(status.state),
        message=status.message,
        last_deployed_time_s=status.last_deployed_time_s,
        deployments={deployment.name: _deployment(deployment) for deployment in status.deployments},
        traffic={policy.name: endpoint_traffic(policy) for policy in status.traffic},
    )


def endpoint_traffic(policy: control_pb2.TrafficPolicy) -> EndpointTraffic:
    """How calls to an endpoint are spread, as users know it."""
    return EndpointTraffic(backends=_shares(policy.backends), shadows=_shares(policy.shadows))


def _shares(shares: Iterable[control_pb2.TrafficShare]) -> dict[str, float]:
    return {f"{one.application}/{one.deployment}" if one.deployment else one.application: one.share for one in shares}


def _deployment(status: control_pb2.DeploymentStatus) -> DeploymentStatusOverview:
    trigger = control_pb2.DeploymentTrigger.Name(status.trigger).removeprefix("DEPLOYMENT_TRIGGER_")
    return DeploymentStatusOverview(
        status=deployment_status(status.state),
        status_trigger=DeploymentStatusTrigger(trigger),
        replica_states=dict(
            Counter(
                control_pb2.ReplicaState.Name(replica.state).removeprefix("REPLICA_STATE_")
                for replica in status.replicas
            )
        ),
        message=status.message,
    )
