"""What shall run: the applications as they were last deployed.

Pure: no I/O, no clock. Everything here can be written down and read back: an application's specification, its
generation and the time of its deploy say it all.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from fairlead.v1 import control_pb2
from fairlead.wire.errors import DeployFailedError, InvalidCallError
from fairlead_gateway.control.capacity import FULL, at_capacity, capacity_of
from fairlead_gateway.control.known_pickles import keep_known

_FAILURES_PER_REPLICA = 3


@dataclass(frozen=True, kw_only=True)
class DeploymentGoal:
    """One deployment as it shall run."""

    application: str
    """The application's name."""
    spec: control_pb2.DeploymentSpec
    """Code, arguments and settings."""
    code_version: str
    """Equal for replicas that need no restart to become this: a digest of code, arguments and environment."""
    environment: control_pb2.CodeEnvironment = field(default_factory=control_pb2.CodeEnvironment)
    """What its code expects."""
    scaled: int | None = None
    """How many replicas its calls ask for; None: that is not known yet, or it does not scale by itself."""

    @property
    def name(self) -> str:
        """The deployment's name."""
        return self.spec.name

    @property
    def target(self) -> int:
        """How many replicas shall run."""
        return self.spec.settings.num_replicas if self.scaled is None else self.scaled

    @property
    def constructor_failure_limit(self) -> int:
        """How many failures to start end a deploy: Ray Serve's rule."""
        return max(1, min(self.target * _FAILURES_PER_REPLICA, self.spec.settings.max_constructor_retry_count))


@dataclass(kw_only=True)
class ApplicationGoal:
    """One application as it shall run."""

    spec: control_pb2.ApplicationSpec
    """As it was deployed."""
    generation: int
    """Grows with each deploy of any application."""
    deployed_at: float
    """Seconds since the epoch."""
    deployments: dict[str, DeploymentGoal]
    """By name, in the order of the specification."""
    deleting: bool = False
    """Whether it shall go away instead."""
    forced: bool = False
    """Whether its replicas are killed then; a controller that comes after this one drains what is left."""

    @property
    def name(self) -> str:
        """The application's name."""
        return self.spec.name

    @property
    def route_prefix(self) -> str | None:
        """Where it is mounted over HTTP; None: nowhere."""
        return self.spec.route_prefix if self.spec.HasField("route_prefix") else None


@dataclass
class DesiredState:
    """All applications that shall run, and those that shall go away and have not gone yet."""

    applications: dict[str, ApplicationGoal] = field(default_factory=dict)
    """By name."""
    generation: int = 0
    """The last generation given out."""

    def deploy(self, spec: control_pb2.ApplicationSpec, now: float) -> ApplicationGoal:
        """Makes an application what the specification says; raises as :meth:`prepare`."""
        (goal,) = self.prepare([spec], now)
        self.accept(goal)
        return goal

    def prepare(
        self, specs: Sequence[control_pb2.ApplicationSpec], now: float, deleted: Collection[str] = ()
    ) -> list[ApplicationGoal]:
        """The goals for applications that are deployed together, while those ``deleted`` are; changes nothing here.

        ``now`` in seconds since the epoch. Raises InvalidCallError for a specification that makes no sense,
        DeployFailedError if a route prefix is taken.
        """
        changing = {*deleted, *(spec.name for spec in specs)}
        for spec in specs:
            _check(spec)
            self._check_prefix(spec, changing)
        _check_each_other(specs)
        for spec in specs:
            if (before := self.applications.get(spec.name)) is not None:
                keep_known(spec, before.spec)
        return [
            ApplicationGoal(spec=spec, generation=generation, deployed_at=now, deployments=deployment_goals(spec))
            for generation, spec in enumerate(specs, self.generation + 1)
        ]

    def accept(self, goal: ApplicationGoal) -> None:
        """Makes an application what was prepared."""
        self.generation = goal.generation
        self.applications[goal.name] = goal

    def delete(self, name: str, *, force: bool = False) -> bool:
        """Says that an application shall go away, with ``force`` without a drain; whether there is one."""
        goal = self.applications.get(name)
        if goal is None:
            return False
        goal.deleting = True
        goal.forced = goal.forced or force
        return True

    def delete_all(self) -> None:
        """Says that everything shall go away."""
        for goal in self.applications.values():
            goal.deleting = True

    def gone(self, name: str) -> None:
        """Forgets an application that has gone away."""
        del self.applications[name]

    def _check_prefix(self, spec: control_pb2.ApplicationSpec, changing: Collection[str]) -> None:
        if not spec.HasField("route_prefix"):
            return
        for other in self.applications.values():
            if other.name not in changing and other.route_prefix == spec.route_prefix and not other.deleting:
                raise _taken(spec, other.name)


def current_generation(goal: ApplicationGoal | None) -> int:
    """The generation of an application; 0: it is not there, or is being deleted."""
    return 0 if goal is None or goal.deleting else goal.generation


def deployment_goals(spec: control_pb2.ApplicationSpec) -> dict[str, DeploymentGoal]:
    """The deployments of an application by name."""
    percent = capacity_of(spec)
    return {
        deployment.name: deployment_goal(spec.name, at_capacity(deployment, percent), spec.environment)
        for deployment in spec.deployments
    }


def deployment_goal(
    application: str, spec: control_pb2.DeploymentSpec, environment: control_pb2.CodeEnvironment
) -> DeploymentGoal:
    """One deployment of an application, in the application's environment."""
    if spec.variables:
        application_wide, environment = environment, control_pb2.CodeEnvironment()
        environment.CopyFrom(application_wide)
        environment.variables.update(spec.variables)
    version = _code_version(spec, environment)
    return DeploymentGoal(application=application, spec=spec, code_version=version, environment=environment)


def _check_each_other(specs: Sequence[control_pb2.ApplicationSpec]) -> None:
    prefixes: dict[str, str] = {}
    names: set[str] = set()
    for spec in specs:
        if spec.name in names:
            raise InvalidCallError(f"there are several applications with the name {spec.name!r}")
        names.add(spec.name)
        if spec.HasField("route_prefix") and prefixes.setdefault(spec.route_prefix, spec.name) != spec.name:
            raise _taken(spec, prefixes[spec.route_prefix])


def _taken(spec: control_pb2.ApplicationSpec, other: str) -> DeployFailedError:
    return DeployFailedError(
        f'Prefix {spec.route_prefix} is being used by application "{other}". '
        f'Failed to deploy application "{spec.name}".'
    )


def _check(spec: control_pb2.ApplicationSpec) -> None:
    if not spec.name:
        raise InvalidCallError("an application needs a name")
    names = [deployment.name for deployment in spec.deployments]
    if len(set(names)) != len(names) or not all(names):
        raise InvalidCallError(f"application {spec.name!r}: deployments need names, each its own; they are {names}")
    if spec.ingress_deployment not in names:
        raise InvalidCallError(
            f"application {spec.name!r} has no deployment {spec.ingress_deployment!r} to be its ingress; it has {names}"
        )
    if not 0 <= capacity_of(spec) <= FULL:
        given = f"{spec.target_capacity:g}"
        raise InvalidCallError(f"application {spec.name!r}: target_capacity must be between 0 and 100, not {given}")
    for deployment in spec.deployments:
        settings = deployment.settings
        where = f"application {spec.name!r}, deployment {deployment.name!r}"
        if deployment.WhichOneof("code") is None:
            raise InvalidCallError(f"{where}: there is no code to run")
        _check_scale(settings, where)


def _check_scale(settings: control_pb2.DeploymentSettings, where: str) -> None:
    if settings.max_ongoing_requests < 1:
        raise InvalidCallError(f"{where}: max_ongoing_requests must be at least 1")
    if not settings.HasField("autoscaling"):
        if settings.num_replicas < 1:
            raise InvalidCallError(f"{where}: num_replicas must be at least 1, unless autoscaling is set")
        return
    scale = settings.autoscaling
    if not scale.min_replicas <= settings.num_replicas <= scale.max_replicas or scale.max_replicas < 1:
        raise InvalidCallError(
            f"{where}: replicas, between min_replicas ({scale.min_replicas}) and max_replicas ({scale.max_replicas}), "
            f"cannot be {settings.num_replicas} at first"
        )
    if not scale.target_ongoing_requests > 0:
        raise InvalidCallError(f"{where}: target_ongoing_requests must be above 0")


def _pickles(deployment: control_pb2.DeploymentSpec) -> tuple[bytes, bytes]:
    return deployment.pickled_code, deployment.init_arguments


def _code_version(deployment: control_pb2.DeploymentSpec, environment: control_pb2.CodeEnvironment) -> str:
    digest = hashlib.sha256()
    parts = (
        deployment.import_path.encode(),
        # Pickles of the same code and arguments may differ: whoever made them knows what of them counts.
        *((deployment.pickled_digest.encode(),) if deployment.pickled_digest else _pickles(deployment)),
        deployment.source_digest.encode(),
        environment.SerializeToString(deterministic=True),
        # Replicas read requests by it: with that of another deploy they would read them wrongly.
        deployment.interface.SerializeToString(deterministic=True),
    )
    for part in parts:
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.hexdigest()[:16]
