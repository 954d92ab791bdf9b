"""What a configuration file says: applications, their deployments' settings, and how the instance is reached.

The names are those of Ray Serve's files. Needs pydantic, which the light client does without.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from fairlead.serve.config import AutoscalingPolicy, HTTPOptions, ProxyLocation, gRPCOptions
from fairlead.serve.logs import LoggingConfig
from fairlead.serve.settings import DeploymentConfig
from fairlead.serve.tracing_config import TracingConfig
from fairlead.serve.unsupported import check_controller_options
from fairlead.serve.validation import check_application_name, check_route_prefix, check_variables, suggestion
from fairlead.wire.errors import FairleadError

PROBLEM = "fairlead"
"""The type of pydantic errors whose context says it all: ``problem``, and ``place``, relative to their location."""
FOR_THE_START = ("proxy_location", "http_options", "grpc_options", "gateways", "tracing_config")
"""What of a file counts when an instance is started, and for no deploy to one that runs."""
WITHOUT_EFFECT = (
    "ray_actor_options",
    "placement_group_bundles",
    "placement_group_strategy",
    "placement_group_bundle_label_selector",
    "max_replicas_per_node",
    "gang_scheduling_config",
    "deployment_actors",
)
"""Settings of a deployment that place it in a Ray cluster."""
_RUNTIME_ENV = ("env_vars", "working_dir")


def problem(text: str, *place: str | int) -> PydanticCustomError:
    """An error to raise in a validator; ``place``: the keys and indices that lead to what it is about in the value."""
    return PydanticCustomError(PROBLEM, "{problem}", {"problem": text, "place": place})


def _check_each(given: Mapping[str, Any], known: Iterable[str], make: Callable[[dict[str, Any]], object]) -> None:
    """Finds the key that is wrong: one that is unknown, whose value is refused, or all of them together."""
    names = list(known)
    for key in given:
        if key not in names:
            raise problem(f"unknown key '{key}'; {suggestion(str(key), names)}", key)
    for key, value in given.items():
        try:
            make({key: value})
        except (ValueError, TypeError) as error:
            if not _needs_company(error):
                raise problem(str(error), key, *getattr(error, "unknown", ())[:1]) from error
    try:
        make(dict(given))
    except (ValueError, TypeError) as error:
        raise problem(str(error)) from error


def _needs_company(error: Exception) -> bool:
    """Whether a value may be right beside others: half of a pair of files."""
    return "together" in str(error) or " need " in str(error)


def _options(kind: type[HTTPOptions] | type[gRPCOptions]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    def check(given: dict[str, Any]) -> dict[str, Any]:
        _check_each(given, [one.name for one in dataclasses.fields(kind)], lambda values: kind(**values))
        return given

    return check


def _logging(given: dict[str, Any] | None) -> dict[str, Any] | None:
    known = [one.name for one in dataclasses.fields(LoggingConfig)]
    _check_each(given or {}, known, lambda values: LoggingConfig(**values))
    return given


def _tracing(given: dict[str, Any] | None) -> dict[str, Any] | None:
    known = [one.name for one in dataclasses.fields(TracingConfig)]
    _check_each(given or {}, known, lambda values: TracingConfig(**values))
    return given


def _policy(given: dict[str, Any] | None) -> dict[str, Any] | None:
    if given is not None:
        if "policy_function" not in given:
            raise problem("'policy_function' is missing: the import path of a function")
        known = [one.name for one in dataclasses.fields(AutoscalingPolicy)]
        function = given["policy_function"]
        _check_each(given, known, lambda values: AutoscalingPolicy(**{"policy_function": function, **values}))
    return given


def _name(value: str) -> str:
    try:
        check_application_name(value)
    except FairleadError as error:
        raise problem(error.message) from error
    return value


def _location(value: str | None) -> str | None:
    try:
        ProxyLocation.of(value)
    except ValueError as error:
        raise problem(str(error)) from error
    return value


def _prefix(value: str | None) -> str | None:
    try:
        check_route_prefix(value)
    except (ValueError, TypeError) as error:
        raise problem(str(error)) from error
    return value


def _runtime_env(given: dict[str, Any]) -> dict[str, Any]:
    for key in given:
        if key not in _RUNTIME_ENV:
            raise problem(f"'{key}' has no effect here; {suggestion(key, _RUNTIME_ENV)}", key)
    try:
        check_variables("env_vars", given.get("env_vars", {}))
    except (ValueError, TypeError) as error:
        raise problem(str(error), "env_vars") from error
    return given


def _controller_options(value: Any) -> Any:
    try:
        check_controller_options(value)
    except ValueError as error:
        raise problem(str(error)) from error
    return value


def _import_path(value: str) -> str:
    if not all(value.partition(":")):
        raise problem(f"'{value}' is not an import path: write package.module:application")
    return value


class DeploymentSchema(BaseModel):
    """Settings of one deployment that take the place of those in the code: those of ``@serve.deployment``."""

    model_config = ConfigDict(extra="allow")

    name: str
    """Which deployment."""

    @property
    def overrides(self) -> dict[str, Any]:
        """The settings by name."""
        return dict(self.model_extra or {})

    @model_validator(mode="after")
    def _check(self) -> Self:
        known = [one.name for one in dataclasses.fields(DeploymentConfig)]
        _check_each(self.overrides, known, lambda values: DeploymentConfig().update(values))
        return self


class ServeApplicationSchema(BaseModel):
    """One application."""

    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, AfterValidator(_name)] = "default"
    """Its name; unique."""
    route_prefix: Annotated[str | None, AfterValidator(_prefix)] = "/"
    """Where it is mounted over HTTP; null: nowhere. Unique."""
    import_path: Annotated[str, AfterValidator(_import_path)]
    """``package.module:name`` of an application or of a builder."""
    args: dict[str, Any] = Field(default_factory=dict)
    """For a builder, whose one parameter gets them as a dict, or as the pydantic model that it is annotated with."""
    runtime_env: Annotated[dict[str, Any], AfterValidator(_runtime_env)] = Field(default_factory=dict)
    """``env_vars`` to add to those of its replicas, and their ``working_dir``."""
    deployments: list[DeploymentSchema] = Field(default_factory=list)
    """Settings that take the place of those in the code."""
    logging_config: Annotated[dict[str, Any] | None, AfterValidator(_logging)] = None
    """The fields of ``LoggingConfig``, for deployments that have none of their own."""
    autoscaling_policy: Annotated[dict[str, Any] | None, AfterValidator(_policy)] = None
    """The fields of ``AutoscalingPolicy``: it decides for all deployments that scale by themselves."""
    external_scaler_enabled: bool = False
    """Whether something outside decides how many replicas there are: then no deployment may scale by itself."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        _check_unique("deployment", [one.name for one in self.deployments], "deployments", "name")
        return self


class ServeDeploySchema(BaseModel):
    """A configuration file."""

    model_config = ConfigDict(extra="forbid")

    proxy_location: Annotated[str | None, AfterValidator(_location)] = None
    """``Disabled``: no ports."""
    http_options: Annotated[dict[str, Any], AfterValidator(_options(HTTPOptions))] = Field(default_factory=dict)
    """The fields of ``HTTPOptions``; for the start of an instance."""
    grpc_options: Annotated[dict[str, Any], AfterValidator(_options(gRPCOptions))] = Field(default_factory=dict)
    """The fields of ``gRPCOptions``; for the start of an instance."""
    gateways: int = Field(default=1, ge=1)
    """How many gateway workers share the ports; for the start of an instance. Ray Serve's files do not have it."""
    logging_config: Annotated[dict[str, Any] | None, AfterValidator(_logging)] = None
    """The fields of ``LoggingConfig``, for applications that have none of their own."""
    controller_options: Annotated[Any, AfterValidator(_controller_options)] = None
    """Refused: the environment that an instance is started with says it."""
    tracing_config: Annotated[dict[str, Any] | None, AfterValidator(_tracing)] = None
    """The fields of ``TracingConfig``; for the start of an instance."""
    target_capacity: float | None = Field(default=None, ge=0, le=100)
    """How many of their replicas the file's deployments have, in per cent; None: all."""
    applications: list[ServeApplicationSchema]
    """What shall run."""

    @property
    def without_effect(self) -> list[str]:
        """The settings that are accepted for Ray Serve's sake, and mean nothing on one machine: where they stand."""
        return [
            f"{application.name}/{deployment.name}: {name}"
            for application in self.applications
            for deployment in application.deployments
            for name in WITHOUT_EFFECT
            if _given_in_vain(name, deployment.overrides.get(name))
        ]

    @model_validator(mode="after")
    def _check(self) -> Self:
        _check_unique("application", [one.name for one in self.applications], "applications", "name")
        _check_unique("route prefix", [one.route_prefix for one in self.applications], "applications", "route_prefix")
        return self


def _given_in_vain(name: str, value: Any) -> bool:
    """Whether there is anything in a setting of WITHOUT_EFFECT that indeed has none: environment variables have."""
    return bool(set(value) - {"runtime_env"} if name == "ray_actor_options" and value else value)


def _check_unique(what: str, names: Sequence[str | None], *place: str) -> None:
    """Refuses what is there before; ``place``: the list, and the key in it."""
    for number, name in enumerate(names):
        if name is not None and name in names[:number]:
            raise problem(f"there are several with the {what} '{name}'; each needs its own", place[0], number, place[1])
