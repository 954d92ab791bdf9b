"""From a configuration file to what the controller is told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from fairlead.cli.config_file import located
from fairlead.cli.errors import ConfigFileError, ImportPathError
from fairlead.cli.imports import load_application, look_in
from fairlead.serve import instance_services
from fairlead.serve.autoscaling import put_application_policy
from fairlead.serve.code import SettingError
from fairlead.serve.config import HTTPOptions, gRPCOptions
from fairlead.serve.deploy_schema import ServeApplicationSchema, ServeDeploySchema
from fairlead.serve.deployment import Application
from fairlead.serve.doors import Doors
from fairlead.serve.graph import application_spec
from fairlead.serve.logs import LoggingConfig
from fairlead.serve.tracing_config import TracingConfig
from fairlead.serve.unsupported import check_external_scaler
from fairlead.serve.validation import suggestion
from fairlead.v1 import control_pb2
from fairlead.wire.errors import FairleadError


def specs_of(config: ServeDeploySchema, path: str, app_dir: str, address: str) -> list[control_pb2.ApplicationSpec]:
    """The applications of a file, imported in this process; ``address``: of the instance that they are for.

    Raises ConfigFileError, before anything is deployed.
    """
    specs = [
        _spec(number, application, path, app_dir, address, application.logging_config or config.logging_config)
        for number, application in enumerate(config.applications)
    ]
    if config.target_capacity is not None:
        for spec in specs:
            spec.target_capacity = config.target_capacity
    return specs


def with_options(
    config: ServeDeploySchema, path: str, *, http: Mapping[str, Any], grpc: Mapping[str, Any], gateways: int | None
) -> ServeDeploySchema:
    """What a file says, with the options of a command line, which win.

    Raises ConfigFileError for a host or port where the file opens none, ValueError for options that cannot be together.
    """
    http_options, grpc_options = {**config.http_options, **http}, {**config.grpc_options, **grpc}
    ports = gRPCOptions(**{**grpc_options, "grpc_servicer_functions": ()})  # which need not be imported for this
    doors = Doors.of(config.proxy_location, HTTPOptions(**http_options), ports, False)
    for name, given, door in (("HTTP", http, doors.http), ("gRPC", grpc, doors.grpc)):
        if door is None and not given.keys().isdisjoint(("host", "port")):
            options = f"--{name.lower()}-host, --{name.lower()}-port"
            raise ConfigFileError(f"{path}: it opens no {name} port; leave out {options}, or change the file")
    return config.model_copy(
        update={
            "http_options": http_options,
            "grpc_options": grpc_options,
            "gateways": config.gateways if gateways is None else gateways,
        }
    )


def doors_of(config: ServeDeploySchema, *, insecure: bool = False) -> Doors:
    """How an instance for a file is reached, and how it traces. Its modules may be in the current directory."""
    look_in(".")
    return Doors.of(
        config.proxy_location,
        HTTPOptions(**config.http_options),
        gRPCOptions(**config.grpc_options),
        insecure,
        config.gateways,
        LoggingConfig.of(config.logging_config),
        TracingConfig.given(config.tracing_config),
    )


def _spec(
    number: int, schema: ServeApplicationSchema, path: str, app_dir: str, address: str, logging_config: Any
) -> control_pb2.ApplicationSpec:
    overrides = {deployment.name: deployment.overrides for deployment in schema.deployments}
    at = "import_path"
    try:
        target: Application[Any] = load_application(schema.import_path, app_dir, schema.args)
        at = "name"
        spec = application_spec(
            target,
            name=schema.name,
            route_prefix=schema.route_prefix,
            services=instance_services.kept(address),
            overrides=overrides,
            logging_config=logging_config,
        )
        if schema.external_scaler_enabled:
            check_external_scaler(spec)
        if schema.autoscaling_policy is not None:
            at = "autoscaling_policy"
            put_application_policy(schema.autoscaling_policy, spec)
    except (FairleadError, ImportPathError, TypeError, ValueError) as error:
        where = located(path, "applications", number, *_place(error, overrides, at))
        raise ConfigFileError(f"{where}: application '{schema.name}': {error}") from error
    known = [deployment.name for deployment in spec.deployments]
    for position, name in enumerate(overrides):
        if name not in known:
            where = located(path, "applications", number, "deployments", position)
            raise ConfigFileError(
                f"{where}: application '{schema.name}' has no deployment '{name}'; {suggestion(name, known)}"
            )
    spec.environment.variables.update(schema.runtime_env.get("env_vars", {}))
    if directory := schema.runtime_env.get("working_dir"):
        spec.environment.working_directory = directory
    spec.config = orjson.dumps(schema.model_dump(mode="json", exclude_unset=True))
    return spec


def _place(error: Exception, overrides: Mapping[str, Mapping[str, Any]], at: str) -> tuple[str | int, ...]:
    """What of an application in a file an error is about: a setting that stands there, one of the code, or ``at``."""
    if not isinstance(error, SettingError) or not error.deployment:
        return (at,)
    if error.place[0] in overrides.get(error.deployment, {}):
        return ("deployments", list(overrides).index(error.deployment), *error.place)
    return ("import_path",)
