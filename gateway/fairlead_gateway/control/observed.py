"""What runs: replicas and gateway workers as their processes, leases and watches tell of them.

Pure: no I/O, no clock. Nothing here needs to be kept over a restart of the controller: replicas and gateway workers say
all of it again when they connect.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from fairlead.v1 import control_pb2
from fairlead_gateway.control.backoff import Backoff


class Phase(enum.Enum):
    """The life of a replica."""

    STARTING = enum.auto()
    """The process or the constructor is starting."""
    RUNNING = enum.auto()
    """It is ready, and gateways may call it."""
    STOPPING = enum.auto()
    """It is out of the snapshot, draining or being killed."""


LEAST_PATIENCE_S = 5.0
"""A replica that is silent is replaced after its health checks' timeout, but no sooner than this."""
_LOGGED_FAILURES = 100
"""So many different ones are told apart; then the log may have one again."""


@dataclass(kw_only=True, slots=True)
class Stop:
    """How far the end of a replica has come."""

    since: float
    """When it began."""
    deadline: float
    """When the process is killed."""
    reason: str
    """Why, for the log."""
    version: int | None = None
    """The first snapshot without the replica; None: not published yet."""
    drain_sent: bool = False
    """Whether the replica knows."""
    drained: bool = False
    """Whether it has finished its calls."""
    killed: bool = False
    """Whether the process was told to end."""


@dataclass(kw_only=True, slots=True)
class Replica:
    """One replica, from the decision to start it to the end of its process."""

    replica_id: str
    application: str
    deployment: str
    code_version: str
    """Of the goal that it was started for."""
    settings: control_pb2.DeploymentSettings
    """What it was last told to run with."""
    started_at: float
    rank: int = 0
    """Its number among its deployment's replicas of the same code version."""
    phase: Phase = Phase.STARTING
    pid: int = 0
    """0: not known yet."""
    address: str = ""
    """Where it takes calls; empty: not ready yet."""
    running_since: float = 0.0
    leased: bool = False
    """Whether its lease stream is open."""
    lease_lost_at: float | None = None
    """When its lease stream was lost; None: it was not."""
    reconfiguring: bool = False
    """Whether it has been sent settings and has not answered."""
    failed_health_checks: int = 0
    """In a row, by its own account."""
    health_message: str = ""
    failure: str = ""
    """Why it could not start, by its own account."""
    ongoing: int = 0
    """The calls that it had when it last reported."""
    heard_at: float | None = None
    """When there last was a sign of life; None: not noted yet."""
    used_s: float | None = None
    """The processor time that it had used when it became suspect; None: it is not."""
    silent: bool = False
    """Whether it is taken for frozen."""
    stop: Stop | None = None
    """Set while STOPPING."""

    @property
    def key(self) -> tuple[str, str]:
        """Application and deployment."""
        return self.application, self.deployment

    @property
    def reports(self) -> bool:
        """Whether it is to report now."""
        return self.phase is Phase.RUNNING and self.leased

    @property
    def patience_s(self) -> float:
        """Seconds of silence after which it is replaced."""
        return max(self.settings.health_check_timeout_s, LEAST_PATIENCE_S)


@dataclass(kw_only=True, slots=True)
class Progress:
    """How far a deployment has come towards its goal."""

    generation: int
    """Of the goal."""
    code_version: str
    """Of the goal."""
    kind: control_pb2.DeploymentState.ValueType = control_pb2.DEPLOYMENT_STATE_UPDATING
    """UPDATING, UPSCALING or DOWNSCALING: what the goal asks for."""
    backoff: Backoff = field(default_factory=Backoff)
    failures: int = 0
    """Failures to start in a row."""
    logged: set[str] = field(default_factory=set)
    """Those that are in the log, with their tracebacks."""
    started_once: bool = False
    """Whether a replica of this code version was ever ready."""
    reached: bool = False
    """Whether the goal was ever reached."""
    failed: bool = False
    """Whether the goal was given up."""
    failure: str = ""
    """Why it was given up."""
    fallen_back: bool = False
    """Whether what ran before takes its place since then."""
    autoscaling: bool = False
    """Whether the number of replicas follows the calls just now, the goal itself having been reached before."""
    trigger: control_pb2.DeploymentTrigger.ValueType = control_pb2.DEPLOYMENT_TRIGGER_CONFIG_UPDATE_STARTED
    """What brought the deployment into its state."""
    message: str = ""
    """What went wrong last; empty: nothing, or it is over."""

    @property
    def given_up(self) -> bool:
        """Whether there is nothing to run: the goal was given up, and nothing ran before."""
        return self.failed and not self.fallen_back

    def fail(self, why: str) -> None:
        """The goal is given up."""
        self.failed, self.failure, self.message = True, why, ""
        self.trigger = control_pb2.DEPLOYMENT_TRIGGER_REPLICA_STARTUP_FAILED

    def fall_back(self, code_version: str) -> None:
        """What ran before, with this code, is kept running."""
        self.fallen_back = self.started_once = True
        self.code_version = code_version
        self.failures = 0
        self.backoff.reset()

    def is_news(self, failure: str) -> bool:
        """Whether the log shall have all of a failure to start: once each."""
        if len(self.logged) == _LOGGED_FAILURES:
            self.logged.clear()
        news = failure not in self.logged
        self.logged.add(failure)
        return news

    def renew(self, kind: control_pb2.DeploymentState.ValueType) -> None:
        """A deploy asks for something else that needs no other code."""
        self.kind = kind
        self.trigger = control_pb2.DEPLOYMENT_TRIGGER_CONFIG_UPDATE_STARTED
        self.reached = self.autoscaling = False

    def scale(self, *, up: bool) -> None:
        """The calls ask for another number of replicas."""
        if self.failed:
            return
        if self.reached or self.autoscaling:
            self.autoscaling = True
            self.trigger = control_pb2.DEPLOYMENT_TRIGGER_AUTOSCALING
            self.kind = control_pb2.DEPLOYMENT_STATE_UPSCALING if up else control_pb2.DEPLOYMENT_STATE_DOWNSCALING
        self.reached = False

    def complete(self) -> None:
        """Exactly what the goal asks for runs."""
        self.message = ""
        if not self.reached or self.trigger == control_pb2.DEPLOYMENT_TRIGGER_HEALTH_CHECK_FAILED:
            self.trigger = _COMPLETED[self.kind]
        self.reached, self.autoscaling = True, False

    def unhealthy(self, message: str) -> None:
        """A replica that had been running does not any more."""
        self.message = message
        if not self.failed:
            self.trigger = control_pb2.DEPLOYMENT_TRIGGER_HEALTH_CHECK_FAILED


_COMPLETED = {
    control_pb2.DEPLOYMENT_STATE_UPDATING: control_pb2.DEPLOYMENT_TRIGGER_CONFIG_UPDATE_COMPLETED,
    control_pb2.DEPLOYMENT_STATE_UPSCALING: control_pb2.DEPLOYMENT_TRIGGER_UPSCALE_COMPLETED,
    control_pb2.DEPLOYMENT_STATE_DOWNSCALING: control_pb2.DEPLOYMENT_TRIGGER_DOWNSCALE_COMPLETED,
}


@dataclass(kw_only=True, slots=True)
class GatewayView:
    """What a gateway worker says of itself on its watch."""

    gateway_id: str
    pid: int
    applied_version: int
    trusted_address: str
    grpc_address: str
    http_address: str
    session_address: str = ""
    grpc_tls: bool = False
    http_tls: bool = False


@dataclass
class ObservedState:
    """All replicas and all connected gateway workers."""

    replicas: dict[str, Replica] = field(default_factory=dict)
    """By id."""
    progress: dict[tuple[str, str], Progress] = field(default_factory=dict)
    """By application and deployment."""
    gateways: dict[str, GatewayView] = field(default_factory=dict)
    """By id; those whose watch is open."""

    def replicas_of(self, application: str, deployment: str) -> list[Replica]:
        """The replicas of a deployment, oldest first."""
        return [
            replica
            for replica in self.replicas.values()
            if replica.deployment == deployment and replica.application == application
        ]

    def progress_of(self, replica: Replica) -> Progress | None:
        """The progress of its deployment, if the replica is one of those that the goal asks for."""
        progress = self.progress.get(replica.key)
        return progress if progress is not None and progress.code_version == replica.code_version else None

    def applied_by_all(self, version: int) -> bool:
        """Whether every connected gateway worker routes by that snapshot or a later one."""
        return all(view.applied_version >= version for view in self.gateways.values())
